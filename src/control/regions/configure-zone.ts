/**
 * ALTER RANGE default | DATABASE | TABLE ... CONFIGURE ZONE, SHOW ZONE CONFIGURATION(S). `gc.ttlseconds` of RANGE default says how far back the
 * virtual cluster can be taken; the rest is kept, backed up and restored. docs/decisions/0120-regions-and-zones.md
 */
import {
  changeZone,
  DEFAULT_ZONE,
  discardZone,
  readZone,
  readZones,
  type SqlClient,
  type ZoneKey,
  type ZoneValues,
} from '../../catalog/index.ts';
import { printZoneTarget, type Statement, type Value } from '../../sql/index.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import type { Asker } from '../privileges/privileges.ts';
import { changeClusterSetting } from '../settings/set-cluster-setting.ts';
import { showClusterSetting } from '../settings/show-cluster-settings.ts';
import { type UseCase, askerOf, columnsOf, done, rowsResult } from '../use-case.ts';
import { type FoundTarget, findTarget, notOwner } from './zone-target.ts';
import { requireConsistent, TTL, type ZoneChanges, zoneChanges, zoneSql } from './zone-variables.ts';

type ConfigureZone = Extract<Statement, { kind: 'configure_zone' }>;
type ShowZoneConfiguration = Extract<Statement, { kind: 'show_zone_configuration' }>;
type ShowZoneConfigurations = Extract<Statement, { kind: 'show_zone_configurations' }>;

const TAG = 'CONFIGURE ZONE 1';

export const configureZone: UseCase<ConfigureZone> = {
  columns: () => undefined,
  refusedInTransaction: 'CONFIGURE ZONE',
  async run(core, statement, context) {
    const { target, variables } = statement;
    const asker = askerOf(core, context);
    const found = await findTarget(asker, { target, current: context.session.database });
    const isDefault = target.kind === 'range';
    if (!isDefault && !found.isOwn) throw notOwner(found.name.toLowerCase());
    const changes = variables === 'discard' ? 'discard' : zoneChanges(variables);
    const rest = isDefault ? withoutTtl(changes) : changes;
    if (rest !== 'discard') {
      requireConsistent(await inSystem(asker, (client) => readZone(client, found.key)), rest);
    }
    // The setting is asked for first: whoever may not change it changes nothing.
    if (isDefault) await changeTtl(core, { variables, changes, context });
    await inSystem({ instance: asker.instance, signal: core.signal }, (client) =>
      rest === 'discard'
        ? discardZone(client, found.key)
        : changeZone(client, found.key, Object.fromEntries(rest)),
    );
    if (rest !== 'discard' && rest.size > 0) tellKept(context, { rest, isDefault });
    const { session } = context;
    loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
      `zone of ${found.name} configured by ${session.user}`,
    );
    return done(TAG);
  },
};

function withoutTtl(changes: ZoneChanges | 'discard'): ZoneChanges | 'discard' {
  return changes === 'discard' ? changes : new Map([...changes].filter(([name]) => name !== TTL));
}

/** Of RANGE default it is kept as the setting of that name. Asked for also where nothing else of the setting changes: it is the same privilege. */
async function changeTtl(
  core: Core,
  options: {
    readonly variables: ConfigureZone['variables'];
    readonly changes: ZoneChanges | 'discard';
    readonly context: ExecuteContext;
  },
): Promise<void> {
  const { variables, changes, context } = options;
  const given: Value | 'default' | undefined =
    variables === 'discard' ? 'default' : variables.find(({ name }) => name === TTL)?.value;
  const seconds = core.settings.ownValues(context.session.virtualClusterId).get(TTL);
  const same: Value | 'default' = seconds === undefined ? 'default' : { kind: 'number', text: seconds };
  const isMeant = changes === 'discard' || changes.has(TTL);
  await changeClusterSetting(core, { name: TTL, value: isMeant ? (given ?? same) : same, context, tag: TAG });
}

/** What is accepted and does nothing yet is said to do nothing. */
function tellKept(
  context: ExecuteContext,
  { rest, isDefault }: { rest: ZoneChanges; isDefault: boolean },
): void {
  const placement = [...rest.keys()].filter((name) => name !== TTL);
  const names = placement.length > 0 ? placement : [...rest.keys()];
  context.onNotice({
    severity: 'NOTICE',
    sqlstate: '00000',
    message: `kept, without effect on a cluster of one node: ${names.join(', ')}`,
    ...(!isDefault && rest.has(TTL)
      ? { hint: `how far back a virtual cluster can be taken is ${TTL} of RANGE default` }
      : {}),
  });
}

const COLUMNS = columnsOf({ target: 'text', raw_config_sql: 'text' });

/** Of the nearest that is configured, with what stands for what it leaves open. */
export const showZoneConfiguration: UseCase<ShowZoneConfiguration> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, { target }, context) {
    const asker = askerOf(core, context);
    const found = await findTarget(asker, { target, current: context.session.database });
    if (target.kind === 'range') await requireSettingShown(core, context);
    const layers = await inSystem(asker, (client) => readLayers(client, found));
    const own = layers.find(({ values }) => Object.keys(values).length > 0);
    const values = Object.assign(ttlOf(core, context), ...layers.map((layer) => layer.values).toReversed());
    const name = own?.name ?? 'RANGE default';
    return rowsResult(COLUMNS, [[name, zoneSql(name, values as ZoneValues)]]);
  },
};

/** RANGE default first. For whoever may see the setting of that. */
export const showZoneConfigurations: UseCase<ShowZoneConfigurations> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, _statement, context) {
    await requireSettingShown(core, context);
    const asker = askerOf(core, context);
    const own = await inSystem(asker, (client) => readZone(client, DEFAULT_ZONE));
    const zones = await inSystem(asker, readZones);
    const rows = [['RANGE default', zoneSql('RANGE default', { ...ttlOf(core, context), ...own })]];
    const databases = [...Map.groupBy(zones, ({ database }) => database)];
    for (const [database, ofDatabase] of databases) {
      const names = await tableNames(asker, { database, oids: ofDatabase.map((zone) => zone.relationOid) });
      for (const { relationOid, values } of ofDatabase) {
        const isDatabase = relationOid === '0';
        const name = isDatabase
          ? printZoneTarget({ kind: 'database', name: database })
          : names.get(relationOid);
        if (name !== undefined) rows.push([name, zoneSql(name, values)]);
      }
    }
    return rowsResult(COLUMNS, rows);
  },
};

async function requireSettingShown(core: Core, context: ExecuteContext): Promise<void> {
  await showClusterSetting.run(
    core,
    { kind: 'show_cluster_setting', name: TTL, forVirtualCluster: undefined },
    context,
  );
}

function ttlOf(core: Core, { session }: ExecuteContext): Record<string, string> {
  return { [TTL]: String(core.settings.integer(session.virtualClusterId, TTL)) };
}

/** Its own and those of what it lies in, the nearest first. */
async function readLayers(
  client: SqlClient,
  { key, name, parents }: FoundTarget,
): Promise<readonly { readonly name: string; readonly values: ZoneValues }[]> {
  const layers: { name: string; values: ZoneValues }[] = [];
  for (const each of [{ key, name }, ...parents] satisfies { key: ZoneKey; name: string }[]) {
    layers.push({ name: each.name, values: await readZone(client, each.key) });
  }
  return layers;
}

/** Of tables that are there. */
async function tableNames(
  asker: Asker,
  { database, oids }: { readonly database: string; readonly oids: readonly string[] },
): Promise<ReadonlyMap<string, string>> {
  const tables = oids.filter((oid) => oid !== '0');
  if (tables.length === 0) return new Map();
  const rows = await asker.instance.withReaderClient({ database, signal: asker.signal }, (client) =>
    client.query(
      `select c.oid, n.nspname as schema, c.relname as name from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = any ($1::pg_catalog.oid[])`,
      [`{${tables.join(',')}}`],
    ),
  );
  return new Map(
    rows.map(({ oid, schema, name }) => [
      oid ?? '',
      printZoneTarget({
        kind: 'table',
        table: { qualifiers: [database, schema ?? ''], name: name ?? '' },
      }),
    ]),
  );
}

function inSystem<T>(
  { instance, signal }: Pick<Asker, 'instance' | 'signal'>,
  use: (client: SqlClient) => Promise<T>,
): Promise<T> {
  return instance.withSystemClient(use, { signal });
}
