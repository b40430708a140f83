/** The SQL side of a capture: what Postgres must know and tell so that files copied while it runs make a base. */
import { AppError, type Clock, type Lsn, parseLsn, type Timestamp } from '../../base/index.ts';
import type { CaptureSource } from '../contract.ts';
import type { ManifestHeader } from '../format/manifest.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { regionsOf } from '../../logical-copy/index.ts';
import type { DatabaseEntry } from './relations.ts';
import { column, Session } from './session.ts';

const FLUSH_WAIT_MS_MAX = 60_000;
const FLUSH_POLL_MS = 5;
const FOLLOWER_POLL_MS = 50;
const REPLAYED_US =
  '(extract(epoch FROM coalesce(pg_last_xact_replay_timestamp(), clock_timestamp())) * 1000000)::int8::text';

export type EngineFacts = ManifestHeader['engine'];

export interface BackupStart {
  readonly startLsn: Lsn;
  readonly timelineId: number;
  readonly startTime: Timestamp;
  readonly engine: EngineFacts;
}

export interface BackupStop {
  readonly stopLsn: Lsn;
  readonly backupLabel: string;
}

/** The moment that the backup is of; see docs/decisions/0005-time-of-a-backup.md. */
export interface BackupTarget {
  readonly targetLsn: Lsn;
  readonly endTime: Timestamp;
  /** The log is durable up to here, and a record begins between `targetLsn` and here. */
  readonly walEndLsn: Lsn;
}

/** The session that keeps the backup open and the log from being removed. Ending it gives up both. */
export class BackupSession implements AsyncDisposable {
  readonly #session: Session;
  /** Nothing can be written then, and time is that of what was replayed. */
  #isFollower = false;

  static async open(
    source: CaptureSource,
    options: { readonly signal: AbortSignal },
  ): Promise<BackupSession> {
    const { socketDirectory, login = { user: 'atoll', database: 'system' } } = source;
    return new BackupSession(
      await Session.open({ kind: 'superuser', ...login }, { ...options, socketDirectory }),
    );
  }

  private constructor(session: Session) {
    this.#session = session;
  }

  /**
   * Checks that this is the instance that is meant, keeps its log from now on, and begins the backup.
   * @throws AppError `object_state` when it is another, or cannot be backed up
   */
  async start(source: CaptureSource, { label }: { readonly label: string }): Promise<BackupStart> {
    const engine = await this.#requireSource(source);
    await this.#session.query('SELECT pg_create_physical_replication_slot($1, true, true)', [
      slotName(label),
    ]);
    faultPoint('capture.after_slot');
    const { lsn, tli, us } = this.#isFollower
      ? await this.#startOfFollower(label)
      : await this.#session.one(
          `SELECT lsn::text, (pg_split_walfile_name(pg_walfile_name(lsn))).timeline_id::text AS tli,
              (extract(epoch FROM clock_timestamp()) * 1000000)::int8::text AS us
         FROM pg_backup_start($1, true) AS lsn`,
          [label],
        );
    faultPoint('capture.after_start');
    requireOwnLog(source, parseLsn(lsn ?? ''));
    return {
      startLsn: parseLsn(lsn ?? ''),
      timelineId: Number(tli),
      startTime: BigInt(us ?? '') as Timestamp,
      engine,
    };
  }

  /** A backup of a follower begins at its last restart point, which its control file tells. */
  async #startOfFollower(label: string): Promise<Readonly<Record<string, string | null>>> {
    const { lsn } = await this.#session.one('SELECT lsn::text FROM pg_backup_start($1, true) AS lsn', [
      label,
    ]);
    const row = await this.#session.one(
      `SELECT timeline_id::text AS tli, ${REPLAYED_US} AS us FROM pg_control_checkpoint()`,
    );
    return { ...row, lsn: lsn ?? null };
  }

  /** Checks that this is the instance that is meant, and tells which timeline of Postgres it writes. @throws as `start` */
  async present(source: CaptureSource): Promise<Pick<BackupStart, 'engine' | 'timelineId'>> {
    const engine = await this.#requireSource(source);
    const { tli } = await this.#session.one('SELECT timeline_id::text AS tli FROM pg_control_checkpoint()');
    return { engine, timelineId: Number(tli) };
  }

  async stop(): Promise<BackupStop> {
    const row = await this.#session.one(
      'SELECT lsn::text, labelfile, spcmapfile FROM pg_backup_stop(wait_for_archive => false)',
    );
    if (column(row, 'spcmapfile').trim() !== '') {
      throw new AppError('object_state', 'a tablespace was created while the backup ran', {
        hint: 'drop the tablespace and try again',
      });
    }
    return { stopLsn: parseLsn(column(row, 'lsn')), backupLabel: column(row, 'labelfile') };
  }

  /** Chooses the moment that is restored, and waits until the log that ends recovery there is durable. */
  async target(options: { readonly clock: Clock; readonly signal: AbortSignal }): Promise<BackupTarget> {
    if (this.#isFollower) return this.#targetOfFollower(options);
    const { clock, signal } = options;
    const moment = await this.#session.one(
      `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8::text AS us,
              pg_current_wal_insert_lsn()::text AS lsn`,
    );
    // Recovery ends *before* a record at or after its target, so there must be one.
    const { lsn } = await this.#session.one(
      `SELECT pg_logical_emit_message(false, 'atoll', 'end of backup', true)::text AS lsn`,
    );
    const walEndLsn = parseLsn(lsn ?? '');
    const deadlineMs = clock.monotonicMs() + FLUSH_WAIT_MS_MAX;
    while ((await this.#flushedLsn()) < walEndLsn) {
      if (clock.monotonicMs() > deadlineMs) {
        throw new AppError('timed_out', 'the log did not become durable in time');
      }
      await clock.sleep(FLUSH_POLL_MS, { signal });
    }
    return {
      targetLsn: parseLsn(column(moment, 'lsn')),
      endTime: BigInt(column(moment, 'us')) as Timestamp,
      walEndLsn,
    };
  }

  /** The newest commit that was replayed, once something was received behind it: a source has at least its heartbeat to send. */
  async #targetOfFollower({
    clock,
    signal,
  }: {
    readonly clock: Clock;
    readonly signal: AbortSignal;
  }): Promise<BackupTarget> {
    const moment = await this.#session.one(
      `SELECT ${REPLAYED_US} AS us, pg_last_wal_replay_lsn()::text AS lsn`,
    );
    const targetLsn = parseLsn(column(moment, 'lsn'));
    const deadlineMs = clock.monotonicMs() + FLUSH_WAIT_MS_MAX;
    for (;;) {
      const { lsn } = await this.#session.one('SELECT pg_last_wal_replay_lsn()::text AS lsn');
      const walEndLsn = parseLsn(lsn ?? '');
      if (walEndLsn > targetLsn) {
        return { targetLsn, endTime: BigInt(column(moment, 'us')) as Timestamp, walEndLsn };
      }
      if (clock.monotonicMs() > deadlineMs) throw new AppError('timed_out', 'the source sends no log');
      await clock.sleep(FOLLOWER_POLL_MS, { signal });
    }
  }

  /** Databases whose relations are worth a place in the map: those that tenants use, templates of their own included. */
  async databases(): Promise<readonly DatabaseEntry[]> {
    const rows = await this.#session.query(
      // In data of a plain server nobody reads definitions before it is one of ours.
      `SELECT oid::text, datname, coalesce(datallowconn AND has_database_privilege(
                (SELECT r.oid FROM pg_roles r WHERE r.rolname = 'atoll_reader'), oid, 'CONNECT'), false)::text AS readable,
              coalesce((SELECT to_jsonb(s.setconfig)::text FROM pg_db_role_setting s
                WHERE s.setdatabase = d.oid AND s.setrole = 0), '[]') AS settings
         FROM pg_database d
        WHERE datname NOT IN ('template0', 'template1', 'system')
        ORDER BY datname`,
    );
    return rows.map((row) => ({
      oid: Number(row.oid),
      name: column(row, 'datname'),
      isReadable: row.readable === 'true',
      regions: regionsOf(JSON.parse(column(row, 'settings')) as string[]), // Made by the query.
    }));
  }

  async collations(): Promise<ManifestHeader['collations']> {
    const rows = await this.#session.query(
      `SELECT datname, datlocprovider::text AS provider, coalesce(datlocale, datcollate) AS locale, datcollversion
         FROM pg_database ORDER BY datname`,
    );
    return rows.map((row) => ({
      database: column(row, 'datname'),
      provider: column(row, 'provider'),
      locale: row.locale ?? null,
      version: row.datcollversion ?? null,
    }));
  }

  /** Whether the server summarises log: that of a follower does not. */
  async summarises(): Promise<boolean> {
    const { setting } = await this.#session.one(`SELECT current_setting('summarize_wal', true) AS setting`);
    return setting === 'on';
  }

  /** How far the timeline's log is summarised; null when none of it is. */
  async summarisedTo({ timelineId }: { readonly timelineId: number }): Promise<Lsn | null> {
    const { lsn } = await this.#session.one(
      'SELECT max(end_lsn)::text AS lsn FROM pg_available_wal_summaries() WHERE tli = $1::int8',
      [timelineId],
    );
    return lsn == null ? null : parseLsn(lsn);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]();
  }

  async #flushedLsn(): Promise<Lsn> {
    const { lsn } = await this.#session.one('SELECT pg_current_wal_flush_lsn()::text AS lsn');
    return parseLsn(lsn ?? '');
  }

  async #requireSource(source: CaptureSource): Promise<EngineFacts> {
    const row = await this.#session.one(
      `SELECT s.system_identifier::text, s.catalog_version_no::text, pg_is_in_recovery()::text AS recovering,
              current_setting('server_version_num') AS version, current_setting('data_checksums') AS checksums,
              i.database_block_size::text AS block, i.wal_block_size::text AS wal_block,
              i.bytes_per_wal_segment::text AS wal_segment
         FROM pg_control_system() s, pg_control_init() i`,
    );
    const refuse = (reason: string, hint: string) =>
      new AppError(
        'object_state',
        `virtual cluster "${source.virtualClusterName}" cannot be backed up: ${reason}`,
        { hint },
      );
    const versionNumber = Number(row.version);
    const major = Math.trunc(versionNumber / 10_000);
    if (
      BigInt(column(row, 'system_identifier')) !== source.systemIdentifier ||
      major !== source.engineMajor
    ) {
      throw refuse(
        'its instance is not the one on record',
        'restart the node, and look for a second one on this store',
      );
    }
    this.#isFollower = row.recovering === 'true';
    if (this.#isFollower && source.isFollower !== true) {
      throw refuse('it is in recovery', 'back up its primary');
    }
    if (row.checksums !== 'on') throw refuse('it has no data checksums', 'enable them with pg_checksums');
    return {
      major,
      versionNumber,
      catalogVersion: Number(row.catalog_version_no),
      architecture: process.arch,
      endianness: 'little',
      blockBytes: Number(row.block),
      walBlockBytes: Number(row.wal_block),
      walSegmentBytes: Number(row.wal_segment),
    };
  }
}

/** A follower may still have its last restart point in the log of the life before. @throws AppError `object_state` */
function requireOwnLog({ isFollower, forkLsn, virtualClusterName }: CaptureSource, startLsn: Lsn): void {
  if (isFollower !== true || forkLsn == null || startLsn >= forkLsn) return;
  throw new AppError(
    'object_state',
    `virtual cluster "${virtualClusterName}" has no checkpoint of its present life yet`,
    {
      hint: 'its source makes one before long',
    },
  );
}

/** A slot's name has lower-case letters, digits and underscores. It is temporary: it ends with the session. */
function slotName(label: string): string {
  return label
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '_')
    .slice(0, 63);
}
