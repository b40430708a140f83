/** Takes a logical copy out of a running database: everything as of one snapshot. */
import type { Clock, Rng, Timestamp } from '../base/index.ts';
import type {
  CopyDatabase,
  CopyDescription,
  CopyEndpoint,
  CopyRows,
  CopySelection,
  CopyTable,
} from './contract.ts';
import { describeDatabase } from './describe.ts';
import { dumpSchema } from './dump-schema.ts';
import { readDatabase } from './inventory.ts';
import { narrow } from './narrow.ts';
import { readRights } from './rights.ts';
import { column, CopySession, quoted } from './session.ts';

/** Large objects are read in pieces of this size. */
const LARGE_OBJECT_PIECE_BYTES = 512 * 1024;
/** Rows are read in ranges of about this size, so that what fails or is sought is small. */
export const RANGE_PAGES = 256;

/** Somebody who changes definitions makes a copy wait, for no longer than this. */
const LOCK_WAIT_MS_MAX = 30_000;
const LOCK_ATTEMPTS_MAX = 3;

export interface SourceOptions {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly signal: AbortSignal;
  /** How long a lock is waited for that somebody holds who changes definitions, in milliseconds. */
  readonly lockWaitMsMax?: number;
}

/** Pages `from` up to and without `to`; to the end of the table when `to` is null. */
export interface PageRange {
  readonly from: number;
  readonly to: number | null;
}

/** Holds its snapshot until it is disposed of. One reader at a time. */
export class CopySource implements AsyncDisposable, CopyRows {
  readonly #session: CopySession;
  readonly #endpoint: CopyEndpoint;
  readonly #options: SourceOptions;
  /** Position of the log just before the snapshot: what it sees was written before or soon after. */
  readonly lsnBefore: string;
  /**
   * OIDs of tables that transactions may have written to which were open at `lsnBefore`: what they wrote before it and commit later is not to
   * be found in the log after it.
   */
  readonly written: ReadonlySet<number>;
  /** By which further sessions of the same database see the same. */
  readonly snapshot: string;
  readonly takenAt: Timestamp;

  /**
   * The role must be allowed to read what is to be copied.
   * @param options.lock what will be copied; needs no lock where nobody else works
   * @throws AppError `connection_failure`, `database_not_found`, `insufficient_privilege`, `too_many_connections`
   */
  static async open(
    endpoint: CopyEndpoint,
    options: SourceOptions & { readonly lock?: CopySelection },
  ): Promise<CopySource> {
    const session = await CopySession.open(endpoint, options);
    try {
      const lsn = await session.one('select pg_current_wal_lsn()::text as lsn');
      const written = await readWritten(session);
      await beginLocked(session, options);
      const exported = await session.one(
        `select pg_export_snapshot() as snapshot, (extract(epoch from clock_timestamp()) * 1000000)::int8::text as us`,
      );
      return new CopySource({
        session,
        endpoint,
        options,
        lsnBefore: column(lsn, 'lsn'),
        written,
        snapshot: column(exported, 'snapshot'),
        takenAt: BigInt(column(exported, 'us')) as Timestamp,
      });
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(parts: {
    session: CopySession;
    endpoint: CopyEndpoint;
    options: SourceOptions;
    lsnBefore: string;
    written: ReadonlySet<number>;
    snapshot: string;
    takenAt: Timestamp;
  }) {
    this.#session = parts.session;
    this.#endpoint = parts.endpoint;
    this.#options = parts.options;
    this.lsnBefore = parts.lsnBefore;
    this.written = parts.written;
    this.snapshot = parts.snapshot;
    this.takenAt = parts.takenAt;
  }

  /** Another reader of the same, for the time that this one is there. @throws as `open` */
  async another(): Promise<CopySource> {
    const session = await CopySession.open(this.#endpoint, this.#options);
    try {
      await session.query('begin isolation level repeatable read read only');
      // Made by Postgres: digits and hyphens.
      await session.query(`set transaction snapshot '${this.snapshot}'`);
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
    const { lsnBefore, written, snapshot, takenAt } = this;
    const parts = { lsnBefore, written, snapshot, takenAt };
    return new CopySource({ session, endpoint: this.#endpoint, options: this.#options, ...parts });
  }

  /** What is selected, as of the snapshot. @throws AppError `table_not_found` for a name that nothing has */
  async describe(selection: CopySelection): Promise<CopyDescription> {
    const entries = await dumpSchema(this.#endpoint, {
      lockWaitMsMax: LOCK_WAIT_MS_MAX,
      ...this.#options,
      snapshot: this.snapshot,
    });
    return narrow(await describeDatabase(this.#session, entries), selection);
  }

  /** What there is to say of the database itself. */
  database(): Promise<CopyDatabase> {
    return readDatabase(this.#session);
  }

  /** Nobody has made a schema, a type or a relation in the database: there is nothing that could be listed. */
  async isBare(): Promise<boolean> {
    const { made } = await this.#session.one(
      `select (exists (select from pg_namespace n where n.oid >= 16384 and n.nspname !~ '^pg_')
          or exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid >= 16384 and n.nspname !~ '^pg_')
          or exists (select from pg_type t join pg_namespace n on n.oid = t.typnamespace where t.oid >= 16384 and n.nspname !~ '^pg_'))::text as made`,
    );
    return made === 'false';
  }

  /** One COPY file; gives the number of its rows when it is done. */
  copyOut(table: CopyTable, range: PageRange): AsyncGenerator<Uint8Array, bigint> {
    const columns = table.columns.map(quoted).join(', ');
    const from = `${quoted(table.schema)}.${quoted(table.name)}`;
    const upTo = range.to === null ? '' : ` and ctid < '(${range.to},0)'::tid`;
    return this.#session.copyOut(
      `copy (select ${columns} from only ${from} where ctid >= '(${range.from},0)'::tid${upTo}) to stdout (format ${table.format})`,
      `cannot read table ${from}`,
    );
  }

  /** Whose everything is and what others were granted of it, by `relation`, `schema`, `type` or `database` and identity. */
  rights(): Promise<ReadonlyMap<string, { readonly owner: string; readonly privileges: string }>> {
    return readRights(this.#session);
  }

  /** All in one file: nothing of it is kept, so no part of it need be found again. */
  async *rowsOf(table: CopyTable): AsyncGenerator<AsyncIterable<Uint8Array>> {
    const { schema, name, format, isExcluded } = table;
    if (isExcluded === true) return;
    if (table.columns.length === 0) {
      yield this.copyOut(table, { from: 0, to: null });
      return;
    }
    const columns = table.columns.map(quoted).join(', ');
    const from = `${quoted(schema)}.${quoted(name)}`;
    // The table itself, not a query of it: without a plan, and read ahead.
    yield this.#session.copyOut(
      `copy ${from} (${columns}) to stdout (format ${format})`,
      `cannot read table ${from}`,
    );
  }

  async *largeObject(oid: number): AsyncGenerator<Uint8Array> {
    for (let offset = 0n; ; offset += BigInt(LARGE_OBJECT_PIECE_BYTES)) {
      const row = await this.#session.one(
        `select encode(lo_get($1::oid, $2::int8, ${LARGE_OBJECT_PIECE_BYTES}), 'base64') as piece`,
        [oid, String(offset)],
      );
      const piece = Buffer.from(column(row, 'piece'), 'base64');
      if (piece.length > 0) yield piece;
      if (piece.length < LARGE_OBJECT_PIECE_BYTES) return;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]();
  }
}

/** Who writes rows, or a table anew, holds one of these locks until its transaction is over, also when that is prepared. VACUUM does not. */
async function readWritten(session: CopySession): Promise<ReadonlySet<number>> {
  const rows = await session.query(
    `select distinct relation::text as relation from pg_locks where locktype = 'relation' and pid is distinct from pg_backend_pid()
      and database = (select oid from pg_database where datname = current_database())
      and mode in ('RowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`,
  );
  return new Set(rows.map((row) => Number(column(row, 'relation'))));
}

/**
 * Locks tables against TRUNCATE and rewriting before the snapshot is taken: a snapshot that is older than these would see none of the rows.
 * The lock that reading takes anyway, only sooner.
 */
async function beginLocked(
  session: CopySession,
  { lock: selection, lockWaitMsMax = LOCK_WAIT_MS_MAX }: SourceOptions & { readonly lock?: CopySelection },
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const names = selection === undefined ? [] : await readLockable(session, selection);
    await session.query('begin isolation level repeatable read read only');
    if (names.length === 0) return;
    try {
      await session.query(`set local lock_timeout = ${lockWaitMsMax}`);
      await session.query(`lock table ${names.join(', ')} in access share mode`);
      return;
    } catch (error) {
      await session.query('rollback');
      // One of them may have been dropped in between.
      if (attempt === LOCK_ATTEMPTS_MAX) throw error;
    }
  }
}

async function readLockable(session: CopySession, selection: CopySelection): Promise<readonly string[]> {
  const patterns =
    selection.kind === 'database' ? [{ schema: undefined, name: undefined }] : selection.patterns;
  const names = new Set<string>();
  for (const { schema, name } of patterns) {
    const rows = await session.query(
      `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
          and ($1::text is null or n.nspname = $1) and ($2::text is null or c.relname = $2)`,
      [schema ?? null, name ?? null],
    );
    for (const row of rows) names.add(column(row, 'name'));
  }
  return [...names];
}

/** Ranges that cover a table, on a grid, so that those of different copies are the same. */
export function pageRanges({ pages, isExcluded }: CopyTable): PageRange[] {
  if (isExcluded === true) return [];
  const count = Math.max(1, Math.ceil(pages / RANGE_PAGES));
  return Array.from({ length: count }, (_, index) => ({
    from: index * RANGE_PAGES,
    to: index === count - 1 ? null : (index + 1) * RANGE_PAGES,
  }));
}
