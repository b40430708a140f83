/** Regions of the databases of one virtual cluster, primary first. docs/decisions/0120-regions-and-zones.md */
import { REGIONS_SETTING, regionsOf, regionsText } from '../logical-copy/index.ts';
import { type SqlClient, textOf } from './database.ts';

/** Of the databases that have any, by name, in the order of names. */
export async function readDatabaseRegions(
  client: SqlClient,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const rows = await client.query(
    `select d.datname as name, c.setting from pg_catalog.pg_database d
        join pg_catalog.pg_db_role_setting s on s.setdatabase = d.oid and s.setrole = 0
        cross join lateral pg_catalog.unnest(s.setconfig) c (setting)
      where pg_catalog.starts_with(c.setting, $1) order by d.datname`,
    [`${REGIONS_SETTING}=`],
  );
  return new Map(rows.map((row) => [textOf(row, 'name'), regionsOf([textOf(row, 'setting')])]));
}

/** None takes them away. In the transaction that goes on, if one does. */
export async function writeDatabaseRegions(
  client: SqlClient,
  { database, regions }: { readonly database: string; readonly regions: readonly string[] },
): Promise<void> {
  const [row] = await client.query(
    `select pg_catalog.format('alter database %I ', $1::text) || case when $2 = '' then 'reset ${REGIONS_SETTING}'
        else pg_catalog.format('set ${REGIONS_SETTING} to %L', $2::text) end as sql`,
    [database, regionsText(regions)],
  );
  await client.query(textOf(row ?? {}, 'sql'));
}
