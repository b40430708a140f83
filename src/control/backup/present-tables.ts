/** Which relations a database has, of those that somebody names: asked before a job is made that would fail of them. */
import { InputError } from '../../base/index.ts';
import { RELATION_KINDS } from '../privileges/object-carriers.ts';
import type { Asker } from '../privileges/privileges.ts';

export interface NamedRelation {
  readonly schema: string;
  readonly name: string;
}

/** Looked for in this order; more names are looked for in pieces. */
const NAMES_AT_ONCE_MAX = 1000;

/** @throws InputError `table_not_found` for the first that is none */
export async function requireTables(
  asker: Asker,
  { database, tables }: { database: string; tables: readonly NamedRelation[] },
): Promise<void> {
  const present = await presentOf(asker, { database, tables, kinds: RELATION_KINDS });
  const missing = tables.find((table) => !present.has(keyOf(table)));
  if (missing === undefined) return;
  throw new InputError('table_not_found', `relation "${missing.schema}.${missing.name}" does not exist`);
}

/** For patterns that take all of a schema. @throws InputError `table_not_found` for the first schema that is not there */
export async function requireSchemas(
  asker: Asker,
  { database, schemas }: { database: string; schemas: readonly string[] },
): Promise<void> {
  if (schemas.length === 0) return;
  const rows = await asker.instance.withReaderClient({ database, signal: asker.signal }, (client) =>
    client.query('select nspname from pg_catalog.pg_namespace'),
  );
  const present = new Set(rows.map(({ nspname }) => nspname));
  const missing = schemas.find((schema) => !present.has(schema));
  if (missing === undefined) return;
  throw new InputError(
    'table_not_found',
    `"${missing}.*" names nothing: there is no schema "${missing}" in database "${database}", and no database of that name`,
    { hint: 'a backup of it would hold nothing; name an existing schema or database' },
  );
}

/** Relations of all kinds share their names. @throws InputError `table_exists` for the first that is there */
export async function requireNoTables(
  asker: Asker,
  { database, tables }: { database: string; tables: readonly NamedRelation[] },
): Promise<void> {
  const present = await presentOf(asker, {
    database,
    tables,
    kinds: "('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I')",
  });
  const taken = tables.find((table) => present.has(keyOf(table)));
  if (taken === undefined) return;
  throw new InputError(
    'table_exists',
    `relation "${taken.schema}.${taken.name}" already exists in database "${database}"`,
    { hint: 'drop or rename it, or restore into another database with into_db' },
  );
}

async function presentOf(
  asker: Asker,
  { database, tables, kinds }: { database: string; tables: readonly NamedRelation[]; kinds: string },
): Promise<ReadonlySet<string>> {
  const present = new Set<string>();
  for (let from = 0; from < tables.length; from += NAMES_AT_ONCE_MAX) {
    const asked = tables.slice(from, from + NAMES_AT_ONCE_MAX);
    const rows = await asker.instance.withReaderClient({ database, signal: asker.signal }, (client) =>
      client.query(
        `select n.nspname as schema, c.relname as name from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where c.relkind in ${kinds} and c.relpersistence <> 't'
            and (n.nspname, c.relname) in (select w ->> 0, w ->> 1 from pg_catalog.jsonb_array_elements($1::jsonb) w)`,
        [JSON.stringify(asked.map(({ schema, name }) => [schema, name]))],
      ),
    );
    for (const { schema, name } of rows) present.add(keyOf({ schema: schema ?? '', name: name ?? '' }));
  }
  return present;
}

function keyOf({ schema, name }: NamedRelation): string {
  return JSON.stringify([schema, name]);
}
