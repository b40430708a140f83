/** Looks for damage in one database of a copy: its tables, its indexes, and what its visibility maps promise. */
import { isAppError, toError } from '../../base/index.ts';
import type { InternalClient } from '../../instance/index.ts';

/** Of one relation; more tell nobody more. */
const FINDINGS_OF_RELATION_MAX = 3;

export interface DatabaseCheck {
  readonly tables: number;
  readonly indexes: number;
  /** What is damaged, a sentence each. */
  readonly findings: readonly string[];
  /** What could not be checked, and is no sign of damage: a function in an index's expression that fails, for instance. */
  readonly unchecked: readonly string[];
}

interface Relation {
  readonly oid: string;
  readonly name: string;
  readonly kind: string;
}

interface Check {
  /** For sequences, too, which have no visibility map. */
  readonly isForSequences: boolean;
  /** One row with `finding` for each thing that is wrong; $1 is the relation. */
  readonly sql: string;
}

const TABLE_CHECKS: readonly Check[] = [
  {
    isForSequences: true,
    sql: `SELECT pg_catalog.format('block %s, item %s: %s', blkno, offnum, msg) AS finding
      FROM pg_atoll_check.verify_heapam($1::oid::regclass, check_toast => true)`,
  },
  {
    isForSequences: false,
    sql: `SELECT pg_catalog.format('row %s is not visible to all, as its visibility map says', t_ctid) AS finding
      FROM pg_atoll_check.pg_check_visible($1::oid::regclass)`,
  },
  {
    isForSequences: false,
    sql: `SELECT pg_catalog.format('row %s is not frozen, as its visibility map says', t_ctid) AS finding
      FROM pg_atoll_check.pg_check_frozen($1::oid::regclass)`,
  },
];

const INDEX_CHECK = `SELECT NULL AS finding
  FROM pg_atoll_check.bt_index_check(index => $1::oid::regclass, heapallindexed => true, checkunique => true)`;

/** Temporary tables of sessions that are over have entries in the catalog and no files. */
const TABLES = `SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relkind AS kind
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
  WHERE (c.relkind = 'S' OR c.relkind IN ('r', 'm', 't') AND a.amname = 'heap') AND c.relpersistence <> 't' ORDER BY c.oid`;
const INDEXES = `SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relkind AS kind
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_am a ON a.oid = c.relam
    JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
  WHERE c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid AND i.indisready AND c.relpersistence <> 't' ORDER BY c.oid`;

/** @throws AppError when the server cannot be asked any more */
export async function checkDatabase(
  client: InternalClient,
  { onRelation }: { onRelation: (name: string) => void },
): Promise<DatabaseCheck> {
  const found = { findings: [] as string[], unchecked: [] as string[] };
  const tables = (await client.query(TABLES)).map(relationOf);
  const indexes = (await client.query(INDEXES)).map(relationOf);
  for (const table of tables) {
    onRelation(table.name);
    for (const { sql } of TABLE_CHECKS.filter((check) => check.isForSequences || table.kind !== 'S')) {
      await checkRelation(client, { relation: table, what: 'table', sql, found });
    }
  }
  for (const index of indexes) {
    onRelation(index.name);
    await checkRelation(client, { relation: index, what: 'index', sql: INDEX_CHECK, found });
  }
  return { tables: tables.length, indexes: indexes.length, ...found };
}

async function checkRelation(
  client: InternalClient,
  options: {
    relation: Relation;
    what: 'table' | 'index';
    sql: string;
    found: { findings: string[]; unchecked: string[] };
  },
): Promise<void> {
  const { relation, what, sql, found } = options;
  const name = `${relation.kind === 'S' ? 'sequence' : what} ${relation.name}`;
  try {
    const rows = await client.query(`${sql} LIMIT ${FINDINGS_OF_RELATION_MAX}`, [relation.oid]);
    for (const { finding } of rows) if (finding !== null) found.findings.push(`${name}: ${finding}`);
  } catch (error) {
    if (isAppError(error)) throw error;
    const sqlstate = sqlstateOf(error);
    // Lack of resources and a server that stops say nothing about the data.
    if (/^(?:08|53|57|58)/.test(sqlstate)) throw error;
    const sentence = `${name}: ${toError(error).message}`;
    if (sqlstate.startsWith('XX')) found.findings.push(sentence);
    else found.unchecked.push(sentence);
  }
}

function sqlstateOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : '';
}

function relationOf(row: Readonly<Record<string, string | null>>): Relation {
  return { oid: row['oid'] ?? '', name: row['name'] ?? '', kind: row['kind'] ?? '' };
}
