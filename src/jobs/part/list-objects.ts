/** What there is of a part at its moment, as the catalogs of the recovered copy tell: rows of SHOW BACKUP. */
import { required } from '../../base/index.ts';
import { readDatabaseRegions } from '../../catalog/index.ts';
import type { InternalClient, Row } from '../../instance/index.ts';
import type { BackupObject, RelationPattern } from '../../timeline/index.ts';
import type { PartTarget } from './part-target.ts';
import type { ServedPart } from './with-part.ts';

const TENANTS = `n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'`;

/** Nobody counts rows for it: they are left to who knows them. */
export async function listObjects(
  { withReader }: Pick<ServedPart, 'withReader'>,
  target: PartTarget,
): Promise<readonly BackupObject[]> {
  if (target.kind === 'tables') {
    const { database, relations } = target;
    return withReader(database, async (client) => {
      const found: BackupObject[] = [];
      for (const pattern of relations) found.push(...(await listTables(client, { database, pattern })));
      const tables = [
        ...new Map(found.map((table) => [JSON.stringify([table.schema, table.name]), table])).values(),
      ];
      const schemas = [...new Set(tables.flatMap(({ schema }) => schema ?? []))];
      return [
        await databaseRow(client, database),
        ...schemas.map((name) => schemaRow(database, name)),
        ...tables,
      ];
    });
  }
  const objects: BackupObject[] = [];
  for (const database of target.names) {
    objects.push(...(await withReader(database, (client) => listDatabase(client, database))));
  }
  return objects;
}

async function listDatabase(client: InternalClient, database: string): Promise<readonly BackupObject[]> {
  const schemas = await client.query(
    `SELECT n.nspname AS name FROM pg_catalog.pg_namespace n WHERE ${TENANTS} ORDER BY n.nspname`,
  );
  const types = await client.query(
    `SELECT n.nspname AS schema, t.typname AS name FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
      WHERE ${TENANTS} AND (t.typtype IN ('e', 'd', 'r')
        OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
      ORDER BY n.nspname, t.typname`,
  );
  const tables = await listTables(client, { database, pattern: { schema: null, name: null } });
  return [
    await databaseRow(client, database),
    ...schemas.map((row) => schemaRow(database, text(row, 'name'))),
    ...types.map(
      (row): BackupObject => ({
        database,
        schema: text(row, 'schema'),
        name: text(row, 'name'),
        kind: 'type',
        sizeBytes: null,
        rows: null,
      }),
    ),
    ...tables,
  ];
}

async function listTables(
  client: InternalClient,
  { database, pattern }: { database: string; pattern: RelationPattern },
): Promise<readonly BackupObject[]> {
  const rows = await client.query(
    `SELECT n.nspname AS schema, c.relname AS name, pg_catalog.pg_table_size(c.oid)::text AS bytes
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND c.relpersistence <> 't' AND ${TENANTS}
        AND ($1::text IS NULL OR n.nspname = $1) AND ($2::text IS NULL OR c.relname = $2)
      ORDER BY n.nspname, c.relname`,
    [pattern.schema, pattern.name],
  );
  return rows.map((row) => ({
    database,
    schema: text(row, 'schema'),
    name: text(row, 'name'),
    kind: 'table',
    sizeBytes: BigInt(text(row, 'bytes')),
    rows: null,
  }));
}

async function databaseRow(client: InternalClient, name: string): Promise<BackupObject> {
  const regions = (await readDatabaseRegions(client)).get(name);
  return {
    database: null,
    schema: null,
    name,
    kind: 'database',
    sizeBytes: null,
    rows: null,
    ...(regions === undefined ? {} : { regions }),
  };
}

function schemaRow(database: string, name: string): BackupObject {
  return { database, schema: null, name, kind: 'schema', sizeBytes: null, rows: null };
}

function text(row: Row, column: string): string {
  return required(row[column], `${column} of an object`);
}
