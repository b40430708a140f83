/** Zones of one virtual cluster that are configured, in its `system` database. By number, so that they follow a rename. */
import { type SqlClient, textOf } from './database.ts';

/** Of range `default`, which stands for everything; of a database; of a table. Numbers as Postgres prints them, `0` for none. */
export interface ZoneKey {
  readonly databaseOid: string;
  readonly relationOid: string;
}

/** Values by variable, as they are printed. */
export type ZoneValues = Readonly<Record<string, string>>;

export const DEFAULT_ZONE: ZoneKey = { databaseOid: '0', relationOid: '0' };

export async function readZone(
  client: SqlClient,
  { databaseOid, relationOid }: ZoneKey,
): Promise<ZoneValues> {
  const [row] = await client.query(
    'select variables::text as variables from public.zones where database_oid = $1::oid and relation_oid = $2::oid',
    [databaseOid, relationOid],
  );
  return row === undefined ? {} : valuesOf(textOf(row, 'variables'));
}

/** All of databases that are there, with their names; tables may be gone. Databases before their tables. */
export async function readZones(
  client: SqlClient,
): Promise<readonly (ZoneKey & { readonly database: string; readonly values: ZoneValues })[]> {
  const rows = await client.query(
    `select z.database_oid, z.relation_oid, z.variables::text as variables, d.datname as database
      from public.zones z join pg_catalog.pg_database d on d.oid = z.database_oid
      order by d.datname, z.relation_oid`,
  );
  return rows.map((row) => ({
    databaseOid: textOf(row, 'database_oid'),
    relationOid: textOf(row, 'relation_oid'),
    database: textOf(row, 'database'),
    values: valuesOf(textOf(row, 'variables')),
  }));
}

/** Changes some variables; null takes one away. In one statement. */
export async function changeZone(
  client: SqlClient,
  { databaseOid, relationOid }: ZoneKey,
  changes: Readonly<Record<string, string | null>>,
): Promise<void> {
  // What is null is stripped, so that a zone without variables is known by being empty.
  await client.query(
    `insert into public.zones (database_oid, relation_oid, variables)
        values ($1::oid, $2::oid, pg_catalog.jsonb_strip_nulls($3::jsonb))
      on conflict (database_oid, relation_oid)
        do update set variables = pg_catalog.jsonb_strip_nulls(zones.variables || $3::jsonb)`,
    [databaseOid, relationOid, JSON.stringify(changes)],
  );
  await client.query("delete from public.zones where variables = '{}'::jsonb");
}

/** Takes all of it back. */
export async function discardZone(client: SqlClient, { databaseOid, relationOid }: ZoneKey): Promise<void> {
  await client.query('delete from public.zones where database_oid = $1::oid and relation_oid = $2::oid', [
    databaseOid,
    relationOid,
  ]);
}

function valuesOf(json: string): ZoneValues {
  return JSON.parse(json) as ZoneValues; // What `changeZone` wrote.
}
