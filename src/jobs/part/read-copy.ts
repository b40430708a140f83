/** What the catalogs of a recovered copy say: which databases and relations there are, and in which files they lie. */
import { required } from '../../base/index.ts';
import type { InternalClient, Row } from '../../instance/index.ts';
import type { CopyDatabase } from '../../logical-copy/index.ts';
import { type MappedRelation, parseRelationMap } from '../../pg/index.ts';
import type { RelationPattern, WantedFork } from '../../timeline/index.ts';

/** `FirstNormalObjectId`, and the catalog that large objects lie in, with its index. */
const FIRST_NORMAL_OID = 16_384;
const LARGE_OBJECT_OIDS = '2613, 2683';

const TENANTS = `n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'`;

/** A relation with a file of its own. */
export interface CopiedRelation {
  readonly oid: string;
  readonly fork: WantedFork;
}

/** Null when there is no such database, or it is ours or Postgres's. */
export async function readDatabaseOid(system: InternalClient, name: string): Promise<number | null> {
  const [row] = await system.query(
    `SELECT oid FROM pg_catalog.pg_database
      WHERE datname = $1 AND datconnlimit <> -2 AND datname NOT IN ('system', 'template0', 'template1')`,
    [name],
  );
  return row === undefined ? null : Number(row['oid']);
}

/** All but ours and Postgres's, as `readDatabaseOid` finds them. */
export async function readDatabaseNames(system: InternalClient): Promise<readonly string[]> {
  const rows = await system.query(
    `SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND datconnlimit <> -2
        AND datname NOT IN ('system', 'template0', 'template1') ORDER BY datname`,
  );
  return rows.map((row) => required(row['datname'], 'name of a database'));
}

/** What CREATE DATABASE must be told; what is in the database, and what else is said of it, goes with its objects. */
export async function readDefinition(system: InternalClient, name: string): Promise<CopyDatabase> {
  const [row] = await system.query(
    `SELECT pg_catalog.pg_encoding_to_char(encoding) AS encoding, datlocprovider::text AS provider, datcollate AS collate,
        datctype AS ctype, datlocale AS locale, daticurules AS rules,
        coalesce((SELECT pg_catalog.to_jsonb(s.setconfig)::text FROM pg_catalog.pg_db_role_setting s
          WHERE s.setdatabase = d.oid AND s.setrole = 0), '[]') AS settings
      FROM pg_catalog.pg_database d WHERE datname = $1`,
    [name],
  );
  const text = (column: string) => required(row?.[column], `${column} of database ${name}`);
  return {
    name,
    encoding: text('encoding'),
    provider: text('provider'),
    collate: text('collate'),
    ctype: text('ctype'),
    locale: row?.['locale'] ?? null,
    icuRules: row?.['rules'] ?? null,
    hasPublicSchema: true,
    settings: JSON.parse(text('settings')) as string[], // Made by the query.
    comment: null,
  };
}

/** Files of the catalogs without which nobody can log in to the database. @throws CorruptError */
export async function readMappedRelations(
  system: InternalClient,
  databaseOid: number,
): Promise<readonly MappedRelation[]> {
  const path = `base/${databaseOid}/pg_filenode.map`;
  const [row] = await system.query(
    `SELECT pg_catalog.encode(pg_catalog.pg_read_binary_file($1), 'hex') AS map`,
    [path],
  );
  return parseRelationMap(Buffer.from(required(row?.['map'], 'content of a relation map'), 'hex'), path);
}

/** Relations of the catalogs that belong to the database alone, large objects left out. */
export async function readCatalogRelations(
  client: InternalClient,
  databaseOid: number,
): Promise<readonly CopiedRelation[]> {
  return readRelations(client, {
    databaseOid,
    where: `NOT c.relisshared AND c.oid < ${FIRST_NORMAL_OID} AND c.oid NOT IN (${LARGE_OBJECT_OIDS})`,
  });
}

/** Everything in the database. */
export async function readAllRelations(
  client: InternalClient,
  databaseOid: number,
): Promise<readonly CopiedRelation[]> {
  return readRelations(client, { databaseOid, where: 'NOT c.relisshared' });
}

/** Tables, views and sequences that a pattern names. */
export async function readNamed(
  client: InternalClient,
  { schema, name }: RelationPattern,
): Promise<readonly string[]> {
  const rows = await client.query(
    `SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND c.relpersistence <> 't' AND ${TENANTS}
        AND ($1::text IS NULL OR n.nspname = $1) AND ($2::text IS NULL OR c.relname = $2)`,
    [schema, name],
  );
  return rows.map((row) => required(row['oid'], 'oid of a relation'));
}

/** Relations with all that belongs to them: partitions, toast, indexes. Sequences come all, as they do in the guess. */
export async function readWithParts(
  client: InternalClient,
  options: { databaseOid: number; oids: readonly string[] },
): Promise<readonly CopiedRelation[]> {
  const { databaseOid, oids } = options;
  return readRelations(client, {
    databaseOid,
    parameters: [`{${oids.join(',')}}`],
    with: `WITH RECURSIVE tree AS (
        SELECT oid FROM pg_catalog.pg_class WHERE oid = ANY ($1::oid[]) OR relkind = 'S'
        UNION SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
          JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid AND p.relispartition
      ), whole AS (
        SELECT oid FROM tree UNION SELECT t.reltoastrelid FROM tree JOIN pg_catalog.pg_class t USING (oid)
          WHERE t.reltoastrelid <> 0
      )`,
    where: `c.oid IN (SELECT oid FROM whole)
      OR c.oid IN (SELECT x.indexrelid FROM pg_catalog.pg_index x JOIN whole ON whole.oid = x.indrelid)`,
  });
}

async function readRelations(
  client: InternalClient,
  options: { databaseOid: number; with?: string; where: string; parameters?: readonly string[] },
): Promise<readonly CopiedRelation[]> {
  const { databaseOid, where, parameters = [] } = options;
  const rows = await client.query(
    `${options.with ?? ''} SELECT c.oid, pg_catalog.pg_relation_filenode(c.oid) AS filenode, c.relpersistence AS persistence
      FROM pg_catalog.pg_class c WHERE c.relpersistence <> 't' AND (${where}) AND pg_catalog.pg_relation_filenode(c.oid) <> 0`,
    parameters,
  );
  return rows.map((row) => relationOf(row, databaseOid));
}

function relationOf(row: Row, databaseOid: number): CopiedRelation {
  const filenode = Number(required(row['filenode'], 'file of a relation'));
  const fork = row['persistence'] === 'u' ? 'init' : 'main';
  return { oid: required(row['oid'], 'oid of a relation'), fork: { databaseOid, filenode, fork } };
}
