import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';

/** What a table holds, independent of row order and of the plan that read it. */
export interface TableDigest {
  readonly table: string;
  readonly rows: number;
  readonly hash: string;
}

async function userTables(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(`
    SELECT format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    ORDER BY 1`);
  return rows.map((row) => row.name);
}

/** Digests of every user table, read by sequential scans. */
export async function digestTables(client: pg.Client): Promise<TableDigest[]> {
  const digests: TableDigest[] = [];
  await client.query(
    'BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off',
  );
  for (const table of await userTables(client)) {
    const { rows } = await client.query<{ rows: string; hash: string | null }>(
      `SELECT count(*) AS rows, sum(hashtextextended(t::text, 0)::numeric)::text AS hash FROM ${table} t`,
    );
    digests.push({ table, rows: Number(rows[0]?.rows), hash: rows[0]?.hash ?? '' });
  }
  await client.query('COMMIT');
  return digests;
}

/** `count(*)` of every user table with the plans Postgres chooses: index-only scans believe the visibility map. */
export async function countWithDefaultPlans(client: pg.Client): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const table of await userTables(client)) {
    const { rows } = await client.query<{ rows: string }>(`SELECT count(*) AS rows FROM ${table}`);
    counts.set(table, Number(rows[0]?.rows));
  }
  return counts;
}

/** Whoever is in doubt must be ended before: a check of an index waits for those who have changed its table. */
const LOCK_PATIENCE = '60s';

/**
 * Looks for damage that queries may hide, as superuser on the private socket: B-trees against their heaps, heap pages,
 * and the visibility map. Gives one line per finding; none is what we want.
 */
export async function findDamage(options: {
  store: string;
  virtualClusterId: number;
  database: string;
}): Promise<string[]> {
  const client = new pg.Client({
    host: join(options.store, 'run', String(options.virtualClusterId)),
    user: 'atoll',
    database: options.database,
  });
  await client.connect();
  try {
    return await damageSeenBy(client);
  } finally {
    await client.end();
  }
}

/** As `findDamage`, by a superuser of any server that has the extensions. */
export async function damageSeenBy(client: pg.Client): Promise<string[]> {
  await client.query(`SET lock_timeout = '${LOCK_PATIENCE}'`);
  await client.query('CREATE EXTENSION IF NOT EXISTS amcheck; CREATE EXTENSION IF NOT EXISTS pg_visibility');
  const { rows } = await client.query<{ finding: string }>(`
      SELECT c.oid::regclass::text || ' block ' || v.blkno || ': ' || v.msg AS finding
      FROM pg_class c CROSS JOIN LATERAL verify_heapam(c.oid, check_toast => true) v
      WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence = 'p'
      UNION ALL
      SELECT c.oid::regclass::text || ' wrongly all-visible ' || v.t_ctid::text
      FROM pg_class c CROSS JOIN LATERAL pg_check_visible(c.oid) v(t_ctid)
      WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence = 'p'
      UNION ALL
      SELECT c.oid::regclass::text || ' wrongly all-frozen ' || v.t_ctid::text
      FROM pg_class c CROSS JOIN LATERAL pg_check_frozen(c.oid) v(t_ctid)
      WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence = 'p'`);
  const findings = rows.map((row) => row.finding);
  const indexes = await client.query<{ oid: string; name: string }>(`
      SELECT c.oid::text, c.oid::regclass::text AS name
      FROM pg_class c JOIN pg_am a ON a.oid = c.relam JOIN pg_index i ON i.indexrelid = c.oid
      WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisvalid`);
  for (const { oid, name } of indexes.rows) {
    try {
      await client.query('SELECT bt_index_parent_check($1::oid::regclass, true, true)', [oid]);
    } catch (error) {
      findings.push(`index ${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return findings;
}

/** Everything below a folder, files only, as paths relative to it. */
export async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}
