/**
 * Limits that all processes of a node share, and what each has used of them: a small SQLite file, because workers, their threads and the daemon
 * have nothing else in common, and a change has to reach those that are at work. It is made anew by each daemon and never synced.
 */
import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Timestamp } from '../../base/index.ts';
import { type RateLimit, takeFrom } from './bucket.ts';

/** What waits for another process's update, which takes microseconds. */
const BUSY_MS_MAX = 10_000;

/** For whom, in which kind of storage, and in which direction. */
export interface RateScope {
  readonly virtualClusterId: number;
  readonly provider: RateProvider;
  readonly direction: 'read' | 'write';
}

export type RateProvider = 's3' | 'gs' | 'azure' | 'nodelocal' | 'userfile';

export type TakeOutcome =
  | { readonly kind: 'unlimited' }
  | { readonly kind: 'taken' }
  | { readonly kind: 'wait'; readonly waitMs: number };

/** Begins with no limits. */
export async function createRateTable(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  for (const suffix of ['', '-journal']) await rm(`${path}${suffix}`, { force: true });
  using database = openTable(path);
  database.exec(
    `create table bucket (scope text primary key, rate text not null, burst text not null, tokens text, at text) without rowid`,
  );
}

/** What is under way goes on at the new rate; what was taken stays taken. */
export function setRateLimit(path: string, scope: RateScope, { rateBytes, burstBytes }: RateLimit): void {
  using database = openTable(path);
  database
    .prepare(
      `insert into bucket (scope, rate, burst) values (?, ?, ?)
        on conflict (scope) do update set rate = excluded.rate, burst = excluded.burst`,
    )
    .run(nameOf(scope), String(rateBytes), String(burstBytes));
}

/** Takes bytes for a transfer that is about to begin, or has just ended. */
export function takeBytes(
  path: string,
  { scope, bytes, now }: { readonly scope: RateScope; readonly bytes: bigint; readonly now: Timestamp },
): TakeOutcome {
  using database = openTable(path);
  database.exec('begin immediate');
  const row = database
    .prepare('select rate, burst, tokens, at from bucket where scope = ?')
    .get(nameOf(scope));
  const limit = { rateBytes: numberIn(row, 'rate') ?? 0n, burstBytes: numberIn(row, 'burst') ?? 0n };
  if (limit.rateBytes === 0n) {
    database.exec('rollback');
    return { kind: 'unlimited' };
  }
  const [tokens, at] = [numberIn(row, 'tokens'), numberIn(row, 'at')];
  const before = tokens === null || at === null ? null : { tokens, at: at as Timestamp };
  const taken = takeFrom(before, { limit, bytes, now });
  database
    .prepare('update bucket set tokens = ?, at = ? where scope = ?')
    .run(String(taken.bucket.tokens), String(taken.bucket.at), nameOf(scope));
  database.exec('commit');
  return taken.kind === 'taken' ? { kind: 'taken' } : { kind: 'wait', waitMs: taken.waitMs };
}

function nameOf({ virtualClusterId, provider, direction }: RateScope): string {
  return `${virtualClusterId}/${provider}/${direction}`;
}

/** Numbers are kept as text: SQLite's would come back rounded, and larger ones not at all. */
function numberIn(row: Record<string, unknown> | undefined, name: string): bigint | null {
  const value = row?.[name];
  return typeof value === 'string' ? BigInt(value) : null;
}

/** Nothing in it outlives the node, so nothing waits for the disk. */
function openTable(path: string): DatabaseSync & Disposable {
  const database = new DatabaseSync(path, { timeout: BUSY_MS_MAX });
  database.exec('pragma synchronous = off; pragma journal_mode = memory');
  return database;
}
