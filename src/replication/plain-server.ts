/**
 * A plain PostgreSQL server as the source of a stream: there is no producer at the other side, so everything is asked of Postgres itself, by a
 * role that has REPLICATION and nothing else. docs/decisions/0077-moving-in.md
 */
import {
  AppError,
  formatLsn,
  type IncarnationId,
  InputError,
  isAppError,
  parseLsn,
  required,
} from '../base/index.ts';
import type { ServerFacts } from './server-facts.ts';
import { type Preflight, inspectServer } from './plain-server-checks.ts';
import type { SourceAddress } from './source-address.ts';
import { SourceClient } from './source-client.ts';
import type { StreamSource } from './source-connection.ts';
import type { StreamAnswer, StreamReport, StreamTerms } from './stream-terms.ts';

/** Our sessions there change nothing but their slot, and resolve names to Postgres's own objects. */
const OPTIONS =
  '-csearch_path=pg_catalog -cstatement_timeout=0 -cdefault_transaction_read_only=off -cdatestyle=ISO -ctimezone=UTC';
const HINTS = {
  '53400': 'at the source: ALTER SYSTEM SET max_replication_slots to more than there are, and restart it',
  '28000': 'pg_hba.conf of the source must let the role in, for the database and for "replication"',
  '28P01': 'check user and password of the connection string',
};
const DROP_ATTEMPTS_MAX = 20;

/** What is known of a server that can be followed. */
export interface PlainStream {
  readonly terms: StreamTerms;
  /** What whoever asked should know, each with what to do about it. */
  readonly warnings: Preflight['warnings'];
}

export interface BeginOptions {
  /** Of the engine that will follow. */
  readonly own: ServerFacts & { readonly extensions: ReadonlySet<string> };
  /** Whether this node can sort as a locale of its system's library says; its version, where it has one. */
  readonly probeLocale: (
    locale: string,
  ) => Promise<{ readonly isPresent: boolean; readonly version: string | null }>;
  /** Of the life that begins with the first image. */
  readonly incarnation: IncarnationId;
  readonly release: string;
  readonly signal: AbortSignal;
}

/**
 * Checks that the server can be followed, and changes nothing there: `reserveLog` does, when it is recorded.
 * @throws InputError `object_state`, `feature_not_supported`, `insufficient_privilege`, `object_exists`; AppError `connection_failure`
 */
export async function inspectPlainServer(
  address: SourceAddress,
  options: BeginOptions,
): Promise<PlainStream> {
  const { signal, incarnation, own, release } = options;
  const open = (database: string) =>
    SourceClient.open(address, { options: startupOptions(address), database, hints: HINTS, signal });
  await using client = await open(address.database);
  const { systemIdentifier, warnings } = await inspectServer(client, { ...options, open });
  const { timelineId, history } = await readTimeline(address, { signal });
  // Where a slot that is made now would begin, or a little behind.
  const [checkpoint] = await client.query(
    'SELECT redo_lsn::text AS lsn FROM pg_catalog.pg_control_checkpoint()',
  );
  const terms: StreamTerms = {
    version: 1,
    // There is no producer.
    streamId: '0',
    clusterId: '',
    virtualClusterName: 'system',
    systemIdentifier,
    engineMajor: Math.trunc(own.versionNumber / 10_000),
    release,
    timelineId,
    // Nothing is known of lives before.
    lineage: [{ incarnation, parentIncarnation: null, forkLsn: null }],
    slot: `atoll_${incarnation.replaceAll('-', '_')}`,
    reservedLsn: parseLsn(required(checkpoint?.['lsn'], 'position of the checkpoint')),
    history,
  };
  return { terms, warnings };
}

/**
 * Lets the server keep its log from now on. The slot bears a name that was recorded before, so that whoever comes after a daemon that dies here finds
 * it. May run twice. @throws AppError `connection_failure`; InputError `limit_exceeded`, and what else the other side refuses
 */
export async function reserveLog(
  address: SourceAddress,
  { terms, signal }: { terms: StreamTerms; signal: AbortSignal },
): Promise<void> {
  await using client = await SourceClient.open(address, {
    options: startupOptions(address),
    hints: HINTS,
    signal,
  });
  await client.query(
    `SELECT pg_catalog.pg_create_physical_replication_slot($1, true)
      WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1)`,
    [terms.slot],
  );
}

/** What only a replication connection tells; that there can be one is found out here, too. */
async function readTimeline(
  address: SourceAddress,
  { signal }: { signal: AbortSignal },
): Promise<{ timelineId: number; history: string }> {
  await using connection = await SourceClient.open(address, {
    options: address.options,
    isReplication: true,
    hints: HINTS,
    signal,
  });
  const [system] = await connection.query('IDENTIFY_SYSTEM');
  const timelineId = Number(required(system?.['timeline'], 'timeline of the source'));
  if (timelineId === 1) return { timelineId, history: '' };
  const [file] = await connection.query(`TIMELINE_HISTORY ${timelineId}`);
  return { timelineId, history: required(file?.['content'], 'history of the timeline') };
}

export class PlainServer implements StreamSource {
  readonly #client: SourceClient;
  readonly #terms: StreamTerms;
  /** Where nothing was written since the last report. */
  #idleLsn: string | null = null;

  /** @throws AppError `connection_failure`, and what the other side refuses */
  static async open(
    address: SourceAddress,
    { terms, signal }: { terms: StreamTerms; signal: AbortSignal },
  ): Promise<PlainServer> {
    const options = startupOptions(address);
    return new PlainServer(await SourceClient.open(address, { options, hints: HINTS, signal }), terms);
  }

  private constructor(client: SourceClient, terms: StreamTerms) {
    this.#client = client;
    this.#terms = terms;
  }

  /**
   * Looks whether it is still what is followed, and lets its time go on where nothing is written.
   * @throws AppError `object_state` when it is not, or keeps no log any more; `connection_failure` when that may pass
   */
  async report(_streamId: string, report: StreamReport): Promise<StreamAnswer> {
    if (report.drain?.isWanted === true) throw notDrainable();
    const { lineage } = this.#terms;
    const incarnation = required(lineage[0], 'life of the source').incarnation;
    const lsn = await this.#look();
    // As often as not, which is about once a second.
    const isIdle = lsn === this.#idleLsn;
    this.#idleLsn = isIdle ? null : lsn;
    if (isIdle) await this.#client.query('SELECT pg_catalog.pg_current_xact_id()');
    return { incarnation, lsn: parseLsn(lsn) };
  }

  async dropStream(): Promise<void> {
    const { slot } = this.#terms;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#client.query(
          `SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`,
          [slot],
        );
        return;
      } catch (error) {
        // Its sender notices only now that nobody listens.
        if (!isAppError(error, 'object_in_use') || attempt === DROP_ATTEMPTS_MAX) throw error;
        await this.#client.query('SELECT pg_catalog.pg_sleep(0.1)');
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }

  /** End of its log. */
  async #look(): Promise<string> {
    const { systemIdentifier, timelineId, slot } = this.#terms;
    const [row] = await this.#client.query(
      `SELECT s.system_identifier::text AS system, r.is_standby::text AS is_standby, p.wal_status,
          CASE WHEN NOT r.is_standby THEN pg_catalog.pg_current_wal_insert_lsn()::text END AS lsn,
          CASE WHEN NOT r.is_standby THEN
            (pg_catalog.pg_split_walfile_name(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()))).timeline_id::text END AS timeline
         FROM pg_catalog.pg_control_system() s
           CROSS JOIN (SELECT pg_catalog.pg_is_in_recovery() AS is_standby) r
           LEFT JOIN pg_catalog.pg_replication_slots p ON p.slot_name = $1`,
      [slot],
    );
    const { system = null, is_standby: isStandby, wal_status: kept = null, lsn = null, timeline } = row ?? {};
    const { title } = this.#client;
    if (BigInt.asUintN(64, BigInt(system ?? 0)) !== systemIdentifier) {
      throw over(`the server at ${title} is another one than was followed`);
    }
    if (isStandby === 'true') {
      throw new AppError('connection_failure', `the server at ${title} is a standby now`, {
        hint: 'the connection string must lead to the primary',
      });
    }
    if (Number(timeline) !== timelineId) {
      throw over(
        `the source was promoted: it writes timeline ${timeline ?? 'unknown'}, and timeline ${timelineId} is followed`,
      );
    }
    if (kept === null) throw over(`the slot ${slot} was dropped at the source`);
    if (kept === 'lost') {
      throw over(
        `the source removed log that is needed here: slot ${slot} is lost`,
        'max_slot_wal_keep_size of the source limits what is kept; drop the virtual cluster and make it again, or fail over to what there is',
      );
    }
    return required(lsn, 'end of the log');
  }
}

function startupOptions({ options }: SourceAddress): string {
  return options === '' ? OPTIONS : `${options} ${OPTIONS}`;
}

function over(
  message: string,
  hint = 'drop the virtual cluster and make it again, or fail over to what there is',
): AppError {
  return new AppError('object_state', message, { hint });
}

/** What cannot be asked of a plain server. */
export function notDrainable(): InputError {
  return new InputError(
    'feature_not_supported',
    'a plain PostgreSQL server cannot be put out of service from here',
    {
      hint: 'let nobody write there, or stop it in order, which sends the last of its log; then COMPLETE REPLICATION TO LATEST',
    },
  );
}

/** Which slot has to be dropped by hand where nobody could be told. */
export function slotLeft({ slot, reservedLsn }: StreamTerms): string {
  return `SELECT pg_drop_replication_slot('${slot}'); it keeps log since ${formatLsn(reservedLsn)}`;
}
