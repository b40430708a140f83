/** What of a copy a dump of definitions does not tell: where rows are, how to read them, values of sequences, large objects. */
import { createHash } from 'node:crypto';
import { CATALOG, keyOf, type ObjectKey } from './catalog.ts';
import { readBinaryTypes } from './binary-types.ts';
import type { CopyDatabase, CopySequence, CopyTable } from './contract.ts';
import { isExcluded, isMarked } from './exclusion.ts';
import { column, type CopySession, numberColumn, type SqlRow } from './session.ts';

/** Ids of the pieces that make objects. */
type EntryIds = ReadonlyMap<ObjectKey, number>;

/** Tables that hold rows: ordinary ones and partitions that are not parted further. */
export async function readTables(session: CopySession, entries: EntryIds): Promise<readonly CopyTable[]> {
  const isBinary = await readBinaryTypes(session);
  const rows = await session.query(
    `select c.oid::text as oid, n.nspname, c.relname, c.relfilenode::text as filenode, c.relpersistence::text as persistence,
        (select d.oid from pg_database d where d.datname = current_database())::text as database,
        (pg_relation_size(c.oid) / current_setting('block_size')::int8)::text as pages,
        pg_table_size(c.oid)::text as bytes, (${isExcluded('c.oid')})::text as excluded, (select count(*) from pg_index i where i.indrelid = c.oid)::text as indexes,
        coalesce((select jsonb_agg(jsonb_build_array(a.attname, a.atttypid::int8, a.attnum, a.atttypmod, a.attmissingval::text)
          order by a.attnum) from pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''), '[]')::text as columns
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and c.oid >= 16384 order by pg_table_size(c.oid) desc, c.oid`,
  );
  return rows.flatMap((row) => {
    const entry = entries.get(keyOf(CATALOG.relation, numberColumn(row, 'oid')));
    return entry === undefined ? [] : [tableOf(row, { entry, isBinary })];
  });
}

/** Of a column: name, OID of its type, and what else decides how its values read. */
type Column = readonly [string, number, ...unknown[]];

function tableOf(row: SqlRow, options: { entry: number; isBinary: (type: number) => boolean }): CopyTable {
  const text = column(row, 'columns');
  const columns = JSON.parse(text) as readonly Column[]; // Made by the query.
  const isLeftOut = column(row, 'excluded') === 'true';
  return {
    entry: options.entry,
    oid: numberColumn(row, 'oid'),
    databaseOid: numberColumn(row, 'database'),
    filenode: numberColumn(row, 'filenode'),
    isLogged: column(row, 'persistence') === 'p',
    schema: column(row, 'nspname'),
    name: column(row, 'relname'),
    columns: columns.map(([name]) => name),
    format: columns.every(([, type]) => options.isBinary(type)) ? 'binary' : 'text',
    pages: isLeftOut ? 0 : numberColumn(row, 'pages'),
    bytes: isLeftOut ? 0 : numberColumn(row, 'bytes'),
    ...(isLeftOut ? { isExcluded: true } : {}),
    indexes: numberColumn(row, 'indexes'),
    shape: createHash('sha256')
      .update(`${column(row, 'filenode')} ${text}`)
      .digest('hex')
      .slice(0, 32),
  };
}

/** Entries of tables, partitioned ones too, that bear the mark. */
export async function readMarked(session: CopySession, entries: EntryIds): Promise<readonly number[]> {
  const rows = await session.query(
    `select c.oid::text as oid from pg_class c where c.relkind in ('r', 'p') and c.oid >= 16384 and ${isMarked('c.oid')} order by c.oid`,
  );
  return rows.flatMap((row) => entries.get(keyOf(CATALOG.relation, numberColumn(row, 'oid'))) ?? []);
}

export async function readSequences(
  session: CopySession,
  entries: EntryIds,
): Promise<readonly CopySequence[]> {
  const rows = await session.query(
    `select c.oid::text as oid, n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as path
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'S' and c.oid >= 16384 order by c.oid`,
  );
  const sequences: CopySequence[] = [];
  for (const row of rows) {
    const entry = entries.get(keyOf(CATALOG.relation, numberColumn(row, 'oid')));
    if (entry === undefined) continue;
    const value = await session.one(
      `select last_value::text as value, is_called::text as called from ${column(row, 'path')}`,
    );
    sequences.push({
      entry,
      schema: column(row, 'nspname'),
      name: column(row, 'relname'),
      lastValue: column(value, 'value'),
      isCalled: column(value, 'called') === 'true',
    });
  }
  return sequences;
}

/** Materialized views that hold rows, each after those that it reads: the dump's order is one in which they can be made. */
export async function readPopulated(
  session: CopySession,
  { byKey, order }: { byKey: EntryIds; order: readonly number[] },
): Promise<readonly number[]> {
  const rows = await session.query(
    "select oid::text as oid from pg_class where relkind = 'm' and relispopulated and oid >= 16384",
  );
  const populated = rows.flatMap((row) => byKey.get(keyOf(CATALOG.relation, numberColumn(row, 'oid'))) ?? []);
  return populated.sort((left, right) => order.indexOf(left) - order.indexOf(right));
}

export async function readLargeObjects(session: CopySession): Promise<readonly number[]> {
  const rows = await session.query('select oid::text as oid from pg_largeobject_metadata order by oid');
  return rows.map((row) => numberColumn(row, 'oid'));
}

export async function readDatabase(session: CopySession): Promise<CopyDatabase> {
  const row = await session.one(
    `select d.datname, pg_encoding_to_char(d.encoding) as encoding, d.datlocprovider::text as provider, d.datcollate, d.datctype,
        d.datlocale, d.daticurules, nullif(greatest(d.datconnlimit, -1), -1)::text as connection_limit, shobj_description(d.oid, 'pg_database') as comment,
        exists (select from pg_namespace where nspname = 'public') as has_public,
        coalesce((select to_jsonb(s.setconfig)::text from pg_db_role_setting s where s.setdatabase = d.oid and s.setrole = 0), '[]') as settings
      from pg_database d where d.datname = current_database()`,
  );
  const limit = row['connection_limit'] ?? null;
  return {
    name: column(row, 'datname'),
    hasPublicSchema: column(row, 'has_public') === 't',
    ...(limit === null ? {} : { connectionLimit: Number(limit) }),
    encoding: column(row, 'encoding'),
    provider: column(row, 'provider'),
    collate: column(row, 'datcollate'),
    ctype: column(row, 'datctype'),
    locale: row['datlocale'] ?? null,
    icuRules: row['daticurules'] ?? null,
    settings: JSON.parse(column(row, 'settings')) as string[], // Made by the query.
    comment: row['comment'] ?? null,
  };
}
