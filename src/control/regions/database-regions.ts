/** ALTER DATABASE ... PRIMARY REGION, ADD REGION, DROP REGION; SHOW REGIONS. docs/decisions/0120-regions-and-zones.md */
import { inTransaction, readDatabaseRegions, writeDatabaseRegions } from '../../catalog/index.ts';
import type { RegionAction, Statement } from '../../sql/index.ts';
import type { Cell, Column } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import type { Asker } from '../privileges/privileges.ts';
import { requireDatabases } from '../privileges/privilege-targets.ts';
import { type UseCase, askerOf, columnsOf, done, rowsResult } from '../use-case.ts';
import { clusterRegions } from './cluster-regions.ts';
import { changedRegions } from './region-change.ts';
import { requireDatabaseOwner } from './zone-target.ts';

type AlterDatabaseRegions = Extract<Statement, { kind: 'alter_database_regions' }>;
type ShowRegions = Extract<Statement, { kind: 'show_regions' }>;

const TAGS: Readonly<Record<RegionAction['kind'], string>> = {
  set_primary: 'ALTER DATABASE PRIMARY REGION',
  add: 'ALTER DATABASE ADD REGION',
  drop: 'ALTER DATABASE DROP REGION',
};

/** Two changes of regions in one virtual cluster wait for each other: what one reads the other must not change. */
const CHANGES_LOCK = 'select pg_catalog.pg_advisory_xact_lock(7164121)';

export const alterDatabaseRegions: UseCase<AlterDatabaseRegions> = {
  columns: () => undefined,
  refusedInTransaction: 'ALTER DATABASE ... REGION',
  async run(core, { database, action }, context) {
    const asker = askerOf(core, context);
    await requireDatabaseOwner(asker, database);
    const available = clusterRegions(core).map(({ name }) => name);
    await asker.instance.withSystemClient(
      (client) =>
        inTransaction(client, async () => {
          await client.query(CHANGES_LOCK);
          const regions = (await readDatabaseRegions(client)).get(database) ?? [];
          const next = changedRegions({ database, regions, action, available });
          await writeDatabaseRegions(client, { database, regions: next });
        }),
      { signal: core.signal },
    );
    const { session } = context;
    loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
      `${TAGS[action.kind]} ${action.region} of database ${database} by ${session.user}`,
    );
    return done(TAGS[action.kind]);
  },
};

const OF_CLUSTER = columnsOf({ region: 'text', zones: 'text' });
const COLUMNS: Readonly<Record<ShowRegions['from']['kind'], readonly Column[]>> = {
  all: columnsOf({
    region: 'text',
    zones: 'text',
    database_names: 'text',
    primary_region_of: 'text',
    secondary_region_of: 'text',
  }),
  cluster: OF_CLUSTER,
  all_databases: columnsOf({ database_name: 'text', regions: 'text', primary_region: 'text' }),
  database: columnsOf({ database: 'text', region: 'text', primary: 'bool', zones: 'text' }),
};

/** Names are no secret: Postgres shows them to everybody. */
export const showRegions: UseCase<ShowRegions> = {
  columns: ({ from }) => COLUMNS[from.kind],
  refusedInTransaction: undefined,
  async run(core, { from }, context) {
    const asker = askerOf(core, context);
    const columns = COLUMNS[from.kind];
    switch (from.kind) {
      case 'cluster':
        return rowsResult(
          columns,
          clusterRegions(core).map(({ name, zones }) => [name, arrayCell(zones)]),
        );
      case 'database': {
        const name = from.name ?? context.session.database;
        await requireDatabases(asker, [name]);
        return rowsResult(columns, databaseRows(core, name, (await regionsOfAll(asker)).get(name) ?? []));
      }
      case 'all_databases':
        return rowsResult(
          columns,
          Array.from(await regionsOfAll(asker), ([name, regions]) => [
            name,
            arrayCell(regions),
            regions[0] ?? null,
          ]),
        );
      case 'all':
        return rowsResult(columns, regionRows(core, await regionsOfAll(asker)));
    }
  },
};

type Regions = ReadonlyMap<string, readonly string[]>;

function regionsOfAll(asker: Asker): Promise<Regions> {
  return asker.instance.withSystemClient(readDatabaseRegions, asker);
}

function databaseRows(
  core: Core,
  database: string,
  regions: readonly string[],
): readonly (readonly Cell[])[] {
  return regions.map((region, at) => [
    database,
    region,
    at === 0 ? 't' : 'f',
    arrayCell(clusterRegions(core).find(({ name }) => name === region)?.zones ?? []),
  ]);
}

/** Regions of the nodes. */
function regionRows(core: Core, databases: Regions): readonly (readonly Cell[])[] {
  return clusterRegions(core).map(({ name, zones }) => {
    const namesOf = (isMeant: (regions: readonly string[]) => boolean) =>
      arrayCell([...databases].flatMap(([database, regions]) => (isMeant(regions) ? [database] : [])));
    return [
      name,
      arrayCell(zones),
      namesOf((regions) => regions.includes(name)),
      namesOf(([primary]) => primary === name),
      namesOf(([, ...others]) => others.includes(name)),
    ];
  });
}

/** As Postgres prints an array of text. */
function arrayCell(texts: readonly string[]): Cell {
  const items = texts.map((text) =>
    /^[\w-]+$/.test(text) && text.toLowerCase() !== 'null'
      ? text
      : `"${text.replaceAll(/(["\\])/g, '\\$1')}"`,
  );
  return `{${items.join(',')}}`;
}
