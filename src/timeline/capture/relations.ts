/** Which relation each file belongs to, and what SHOW BACKUP lists. */
import { isAppError } from '../../base/index.ts';
import { PAGE_BYTES } from '../../pg/index.ts';
import type { ManifestDatabase, ManifestObject, ManifestRelation } from '../format/manifest.ts';
import { column, Session, type SqlRow } from './session.ts';

const RELATIONS_SQL = `
  SELECT c.oid::text, coalesce(pg_relation_filenode(c.oid), 0)::text AS filenode, c.reltoastrelid::text AS toast,
         coalesce(i.indrelid, t.oid, 0)::text AS owner, c.relkind::text AS kind, c.relpersistence::text AS persistence,
         n.nspname, c.relname, c.relisshared::text AS shared
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    LEFT JOIN pg_class t ON t.reltoastrelid = c.oid AND c.relkind = 't'
   WHERE c.relpersistence <> 't'
   ORDER BY n.nspname, c.relname`;
const SCHEMAS_SQL = `
  SELECT oid::text, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY nspname`;
const TYPES_SQL = `
  SELECT t.oid::text, n.nspname, t.typname
    FROM pg_type t
    JOIN pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_class c ON c.oid = t.typrelid
   WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
     AND (t.typtype IN ('d', 'e', 'r') OR t.typtype = 'c' AND c.relkind = 'c')
   ORDER BY n.nspname, t.typname`;

/** What was counted in the files of one relation, by its main fork. */
export interface RelationCounts {
  readonly pages: number;
  readonly heapTuples: number;
  readonly indexEntries: number;
}

/** Finds counts by database (0 for shared relations) and filenode. */
export type CountsOf = (databaseOid: number, filenode: number) => RelationCounts | undefined;

export interface DatabaseContents {
  readonly map: ManifestDatabase;
  readonly objects: readonly ManifestObject[];
  readonly rows: bigint;
  readonly indexEntries: bigint;
}

export interface DatabaseEntry {
  readonly oid: number;
  readonly name: string;
  readonly isReadable: boolean;
  /** The primary one first. */
  readonly regions: readonly string[];
}

interface ReadOptions {
  readonly socketDirectory: string;
  readonly countsOf: CountsOf;
  readonly signal: AbortSignal;
}

interface Relation {
  readonly oid: number;
  readonly filenode: number;
  readonly toast: number;
  readonly owner: number;
  readonly kind: string;
  readonly persistence: string;
  readonly schema: string;
  readonly name: string;
  readonly counts: RelationCounts;
}

/**
 * Reads the catalog of one database as a role that is no superuser; null when it was dropped meanwhile. A database that the
 * role may not enter is listed without its contents, and its rows as unknown: a backup is complete without knowing names.
 */
export async function readDatabase(
  database: DatabaseEntry,
  options: ReadOptions,
): Promise<DatabaseContents | null> {
  const { oid, name, isReadable } = database;
  const unread = {
    map: { oid, name, relations: [] },
    objects: [databaseObject(database, null)],
    rows: 0n,
    indexEntries: 0n,
  };
  if (!isReadable) return unread;
  try {
    return await readContents(database, options);
  } catch (error) {
    if (isAppError(error, 'object_not_found')) return null;
    if (isAppError(error, 'insufficient_privilege', 'too_many_connections', 'object_state')) return unread;
    throw error;
  }
}

async function readContents(database: DatabaseEntry, options: ReadOptions): Promise<DatabaseContents> {
  const { oid, name } = database;
  await using session = await Session.open({ kind: 'reader', user: 'atoll_reader', database: name }, options);
  const relations = (await session.query(RELATIONS_SQL)).map((row) => relationOf(row, oid, options.countsOf));
  const users = relations.filter(({ schema }) => isUserSchema(schema));
  const schemas = await session.query(SCHEMAS_SQL);
  const types = await session.query(TYPES_SQL);
  const rows = users.reduce((sum, relation) => sum + rowsOf(relation), 0n);
  return {
    map: { oid, name, relations: relations.map(mapEntry) },
    objects: [
      databaseObject(database, rows),
      ...schemas.map((row) => schemaObject(name, row)),
      ...tablesOf(name, relations),
      ...types.map((row) => typeObject(name, row)),
    ],
    rows,
    indexEntries: users.reduce((sum, relation) => sum + BigInt(relation.counts.indexEntries), 0n),
  };
}

function relationOf(row: SqlRow, databaseOid: number, countsOf: CountsOf): Relation {
  const filenode = Number(row.filenode);
  const none = { pages: 0, heapTuples: 0, indexEntries: 0 };
  return {
    oid: Number(row.oid),
    filenode,
    toast: Number(row.toast),
    owner: Number(row.owner),
    kind: column(row, 'kind'),
    persistence: column(row, 'persistence'),
    schema: column(row, 'nspname'),
    name: column(row, 'relname'),
    counts: countsOf(row.shared === 'true' ? 0 : databaseOid, filenode) ?? none,
  };
}

function isUserSchema(schema: string): boolean {
  return !schema.startsWith('pg_') && schema !== 'information_schema';
}

/** Rows of tables and materialized views; other relations have none of their own. */
function rowsOf({ kind, counts }: Relation): bigint {
  return kind === 'r' || kind === 'm' ? BigInt(counts.heapTuples) : 0n;
}

/** Tables, views, sequences: sizes are of everything that belongs to them, toast and indexes included. */
function tablesOf(database: string, relations: readonly Relation[]): ManifestObject[] {
  const owned = new Map<number, number>();
  const add = (oid: number, pages: number) => owned.set(oid, (owned.get(oid) ?? 0) + pages);
  const toastOwners = new Map(
    relations.filter(({ kind }) => kind === 't').map(({ oid, owner }) => [oid, owner]),
  );
  for (const { oid, owner, counts } of relations) {
    // An index of a toast table belongs to the table whose toast that is.
    add(owner === 0 ? oid : (toastOwners.get(owner) ?? owner), counts.pages);
  }
  return relations
    .filter(({ kind, schema }) => 'rpvmfS'.includes(kind) && isUserSchema(schema))
    .map((relation) => ({
      database,
      schema: relation.schema,
      name: relation.name,
      kind: 'table' as const,
      oid: relation.oid,
      sizeBytes: BigInt(owned.get(relation.oid) ?? 0) * BigInt(PAGE_BYTES),
      rows: rowsOf(relation),
    }));
}

/** @param rows in all its tables; null when nobody could look */
function databaseObject({ oid, name, regions }: DatabaseEntry, rows: bigint | null): ManifestObject {
  return {
    database: null,
    schema: null,
    name,
    kind: 'database',
    sizeBytes: null,
    rows,
    oid,
    ...(regions.length === 0 ? {} : { regions: [...regions] }),
  };
}

function schemaObject(database: string, row: SqlRow): ManifestObject {
  const [name, oid] = [column(row, 'nspname'), Number(column(row, 'oid'))];
  return { database, schema: null, name, kind: 'schema', sizeBytes: null, rows: null, oid };
}

function typeObject(database: string, row: SqlRow): ManifestObject {
  const [schema, name] = [column(row, 'nspname'), column(row, 'typname')];
  const oid = Number(column(row, 'oid'));
  return { database, schema, name, kind: 'type', sizeBytes: null, rows: null, oid };
}

function mapEntry(relation: Relation): ManifestRelation {
  const { oid, filenode, toast, owner, kind, persistence, schema, name, counts } = relation;
  const entries = kind === 'i' ? counts.indexEntries : counts.heapTuples;
  return [oid, filenode, toast, owner, kind, persistence, schema, name, counts.pages, entries];
}
