/** Receives the log of one virtual cluster: connects, goes on where the vault ends, makes durable, acknowledges, and tries again. */
import { realpath, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AppError,
  type Clock,
  errnoOf,
  formatLsn,
  isAppError,
  type Logger,
  type Lsn,
  parseLsn,
  type Rng,
  type Timestamp,
  toError,
} from '../../base/index.ts';
import {
  formatTimelineHistoryName,
  isWalSegmentBytes,
  parseTimelineHistory,
  rootTimelineHistory,
  type TimelineHistory,
  walSegmentNoOf,
  walSegmentStart,
} from '../../pg/index.ts';
import type { VaultSource, VaultState, VaultStatus } from '../store-contract.ts';
import { walDirectory } from '../store/layout.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { makeFolderDurably, writeDurably } from './files.ts';
import { Intake } from './intake.ts';
import { ReceivedLog, type ReceivedLogOptions } from './received-log.ts';
import { ReplicationConnection, ReplicationError, type StreamEvent } from './replication-connection.ts';
import type { SegmentCloser } from './segment-closer.ts';
import { storedBytesBelow } from './stored-bytes.ts';

export const VAULT_SLOT = 'atoll_vault';

/** Bytes that arrive are synced at the latest after this, */
const SYNC_MS = 100;
/** or when so many have come together. */
const SYNC_BYTES = 1024 * 1024;
/** Beyond, nothing more is taken from the socket until a sync is through. */
const UNSYNCED_BYTES_MAX = 8 * 1024 * 1024;
/** Between two signs of life, each of which the server answers. */
export const PING_MS = 1000;
/** Idleness is written down every so many signs of life. */
const PINGS_PER_SETTLEMENT = 60;
/** The folder is looked at again every so many signs of life: retention removes from it. */
const PINGS_PER_LOOK = 10;
const RETRY_MS = { first: 100, max: 2000 };
/** What stays free on the file system, for the rest of the store to end its work with. */
const FREE_BYTES_MIN = 64n * 1024n * 1024n;

/** How long a server may take to answer when reception is ended. */
const DRAIN_MS_MAX = 5000;
const DRAIN_ANSWERS = 2;
/** The private socket of an instance. */
const SOCKET_NAME = '.s.PGSQL.5432';
const NOWHERE = 0n as Lsn;

/** `requested WAL segment has already been removed`, and a slot that was invalidated. */
const SQLSTATE = { undefinedFile: '58P01', notInPrerequisiteState: '55000' } as const;

type StreamEnd = Extract<StreamEvent, { kind: 'timeline_end' | 'server_stop' }>;

export interface ReceiverOptions {
  readonly source: VaultSource;
  readonly closer: SegmentCloser;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  /** The state, or what is durable, has changed. */
  readonly onChange: () => void;
}

/** The answer to a sign of life: so far the sender had come when its clock showed that. */
interface Answer {
  readonly endLsn: Lsn;
  readonly sentAt: Timestamp;
}

/** A connection that streams into a log. */
interface Stream {
  readonly connection: ReplicationConnection;
  readonly log: ReceivedLog;
}

export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  readonly #begun = Promise.withResolvers<void>();
  /** Tasks beside the stream; nothing is closed before they have ended. */
  #tasks: Promise<void> = Promise.resolve();
  #state: VaultState = { kind: 'waiting', reason: 'it has not been reached yet' };
  #log: ReceivedLog | null = null;
  #stream: Stream | null = null;
  #receivedBytes = 0n;
  readonly #intake: Intake;
  #storedBytes = 0n;
  #isInRecovery = false;
  /** What a task beside the stream failed with; the stream ends with it. */
  #failure: unknown = null;
  #isSyncing = false;
  #syncNow = new AbortController();
  #pings = 0;
  #answer: Answer | null = null;
  /** The answer that the newest sign of life was sent behind. */
  #answerBefore: Answer | null = null;
  #onAnswer: (() => void) | null = null;
  #mustRemakeSlot = false;
  #mustSkip = false;

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.#intake = new Intake(options.clock);
    this.#running = this.#run();
  }

  get source(): VaultSource {
    return this.#options.source;
  }

  /** Since this began. */
  get receivedBytes(): bigint {
    return this.#receivedBytes;
  }

  /** Resolves when reception is under way, or it is known why not. */
  async begun(): Promise<void> {
    await this.#begun.promise;
  }

  status(): VaultStatus {
    const log = this.#log;
    const { virtualClusterId, incarnation } = this.#options.source;
    return {
      virtualClusterId,
      incarnation,
      timelineId: log?.timelineId ?? 0,
      state: this.#shownState(),
      durableLsn: log?.durableLsn ?? NOWHERE,
      oldestLsn: log?.oldestLsn ?? NOWHERE,
      restorableThrough: log?.durableTime ?? null,
      storedBytes: this.#storedBytes,
      receivedBytes: this.#receivedBytes,
      clockStepsBack: log?.clockSteps ?? 0,
      intake: this.#intake.figures,
    };
  }

  /** To be called about once in `PING_MS`: asks the server for a sign of life, and looks after what changes slowly. */
  tick(): void {
    const stream = this.#stream;
    if (stream === null) return;
    this.#pings += 1;
    this.#answerBefore = this.#answer;
    this.#acknowledge(stream, { isReplyWanted: true });
    if (this.#pings % PINGS_PER_LOOK === 0) this.#beside(() => this.#lookAgain(stream.log));
    if (this.#pings % PINGS_PER_SETTLEMENT === 0) this.#beside(() => stream.log.settleIdle());
  }

  /** Makes durable what is there now rather than soon. */
  hurry(): void {
    if (this.#stream !== null) this.#syncSoon(this.#stream);
    this.#syncNow.abort();
  }

  /** Ends reception; what the server had sent until now is durable afterwards, unless it does not answer. */
  async stop(): Promise<void> {
    await this.#drain();
    this.#stopping.abort();
    this.#syncNow.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stopping;
    let retryMs: number = RETRY_MS.first;
    while (!signal.aborted) {
      try {
        await this.#receive(() => {
          retryMs = RETRY_MS.first;
        });
        this.#setState({ kind: 'waiting', reason: 'the instance was stopped' });
      } catch (error) {
        await this.#fail(this.#failure ?? error);
      }
      this.#failure = null;
      this.#begun.resolve();
      await clock.sleep(retryMs, { signal }).catch(() => undefined);
      retryMs = Math.min(retryMs * 2, RETRY_MS.max);
    }
    await this.#closeLog();
    this.#begun.resolve();
  }

  /** One connection, from logging in to its end. */
  async #receive(onStreaming: () => void): Promise<void> {
    const { source } = this.#options;
    const { signal } = this.#stopping;
    this.#log ??= await ReceivedLog.open(this.#logOptions());
    await this.#requireRoom();
    const socketPath = join(source.socketDirectory, SOCKET_NAME);
    using connection = await ReplicationConnection.open({
      socketPath,
      ...(source.login === undefined ? {} : { user: source.login.user }),
      applicationName: 'atoll vault',
      signal,
    });
    await this.#requireInstance(connection);
    const serverTimelineId = await this.#identify(connection);
    const reservedLsn = await this.#reserve(connection);
    this.#isInRecovery = (await show(connection, 'in_hot_standby')) === 'on';
    for (;;) {
      const log = await this.#place(connection, { serverTimelineId, reservedLsn });
      const end = await this.#follow({ connection, log }, onStreaming);
      if (end.kind === 'server_stop') return;
      await this.#nextTimeline(connection, { log, ...end });
    }
  }

  async #follow(stream: Stream, onStreaming: () => void): Promise<StreamEnd> {
    const { connection, log } = stream;
    const events = connection.stream({ slot: VAULT_SLOT, lsn: log.endLsn, timelineId: log.timelineId });
    try {
      for await (const event of events) {
        switch (event.kind) {
          case 'begun':
            this.#stream = stream;
            this.#setState({ kind: 'receiving' });
            onStreaming();
            this.#begun.resolve();
            this.tick();
            break;
          case 'log':
            await this.#takeLog(stream, event);
            break;
          case 'keepalive':
            await this.#takeKeepalive(stream, event);
            break;
          case 'timeline_end':
          case 'server_stop':
            return event;
        }
      }
    } catch (error) {
      // The log that comes next was removed, or the slot given up: the next attempt begins otherwise.
      const sqlstate = error instanceof ReplicationError ? error.serverSqlstate : '';
      this.#mustSkip ||= sqlstate === SQLSTATE.undefinedFile;
      this.#mustRemakeSlot ||= sqlstate === SQLSTATE.notInPrerequisiteState;
      throw error;
    } finally {
      this.#stream = null;
      this.#answer = null;
      this.#onAnswer?.();
      await this.#tasks;
    }
    throw new AppError('internal', 'a stream of log ended without saying why');
  }

  async #takeLog(stream: Stream, { lsn, bytes }: Extract<StreamEvent, { kind: 'log' }>): Promise<void> {
    const { log } = stream;
    this.#answer = null;
    await this.#intake.arriving(log, () => log.append(lsn, bytes));
    this.#receivedBytes += BigInt(bytes.length);
    this.#storedBytes += BigInt(bytes.length);
    if (this.#storedBytes >= this.#options.source.bytesMax) await this.#requireRoom();
    this.#syncSoon(stream);
    if (log.unsyncedBytes >= SYNC_BYTES) this.#syncNow.abort();
    if (log.unsyncedBytes >= UNSYNCED_BYTES_MAX) await this.#sync(stream);
  }

  /**
   * What nothing came behind was idle. Two answers of the sender that agree prove it for the time of the first: the second sign of life went
   * out behind the first answer, and between the two the sender has looked at the log. See docs/decisions/0021-idle-time.md.
   */
  async #takeKeepalive(
    stream: Stream,
    { sentLsn, sentAt, isReplyWanted }: Extract<StreamEvent, { kind: 'keepalive' }>,
  ): Promise<void> {
    const { log } = stream;
    if (isReplyWanted) {
      await this.#sync(stream);
      return;
    }
    this.#onAnswer?.();
    const { endLsn } = log;
    const isAll = log.isWhole && log.syncedLsn === endLsn && sentLsn === endLsn && !this.#isInRecovery;
    const before = this.#answer;
    if (isAll && before !== null && before.endLsn === endLsn && before === this.#answerBefore) {
      log.noteIdle(before.sentAt);
      this.#options.onChange();
    }
    this.#answer = isAll ? { endLsn, sentAt } : null;
  }

  /** Sees that everything is synced before long. */
  #syncSoon(stream: Stream): void {
    if (this.#isSyncing) return;
    this.#isSyncing = true;
    this.#beside(async () => {
      try {
        while (stream.log.unsyncedBytes > 0 && this.#stream === stream) {
          // What came together while the last sync was on its way goes at once.
          if (stream.log.unsyncedBytes < SYNC_BYTES) await this.#pauseBeforeSync();
          await this.#sync(stream);
        }
      } finally {
        this.#isSyncing = false;
      }
    });
  }

  async #pauseBeforeSync(): Promise<void> {
    const { signal } = this.#syncNow;
    await this.#options.clock.sleep(SYNC_MS, { signal }).catch(() => undefined);
    this.#syncNow = new AbortController();
  }

  async #sync(stream: Stream): Promise<void> {
    await this.#intake.flushing(stream.log, () => stream.log.sync());
    this.#acknowledge(stream, { isReplyWanted: false });
    this.#options.onChange();
  }

  #acknowledge({ connection, log }: Stream, { isReplyWanted }: { isReplyWanted: boolean }): void {
    const now = this.#options.clock.now();
    connection.sendStatus({ writtenLsn: log.endLsn, durableLsn: log.syncedLsn, now, isReplyWanted });
  }

  /** Work beside the stream, one after the other; what fails ends the stream. */
  #beside(work: () => Promise<void>): void {
    const stream = this.#stream;
    this.#tasks = this.#tasks.then(work).catch((error: unknown) => {
      this.#failure ??= error;
      stream?.connection[Symbol.dispose]();
    });
  }

  /** Waits until what the server had flushed when this was called has come: before a second answer it looks for more. */
  async #drain(): Promise<void> {
    const waiting = new AbortController();
    const signal = AbortSignal.any([waiting.signal, this.#stopping.signal]);
    const patience = this.#options.clock.sleep(DRAIN_MS_MAX, { signal }).catch(() => undefined);
    for (let answers = 0; answers < DRAIN_ANSWERS && this.#stream !== null; answers++) {
      const answered = Promise.withResolvers<void>();
      this.#onAnswer = answered.resolve;
      this.#acknowledge(this.#stream, { isReplyWanted: true });
      await Promise.race([answered.promise, patience]);
    }
    waiting.abort();
    this.#onAnswer = null;
  }

  /** Where to go on, or to begin. */
  async #place(
    connection: ReplicationConnection,
    { serverTimelineId, reservedLsn }: { serverTimelineId: number; reservedLsn: Lsn },
  ): Promise<ReceivedLog> {
    const log = this.#log;
    if (log === null || this.#mustSkip) {
      return this.#begin(connection, { timelineId: serverTimelineId, reservedLsn });
    }
    if (log.timelineId === serverTimelineId) return log;
    const history = await this.#history(connection, serverTimelineId);
    const at = history.findIndex(({ timelineId }) => timelineId === log.timelineId);
    const [own, next] = at === -1 ? [] : history.slice(at);
    if (own?.endLsn === null || own === undefined || next === undefined) {
      throw new AppError(
        'object_state',
        `timeline ${serverTimelineId} of the instance does not come from timeline ${log.timelineId} of the vault`,
        { hint: 'the data directory was exchanged behind the back of Atoll: restore the virtual cluster' },
      );
    }
    const switchLsn = next.beginLsn;
    // The end of the old one is still to be had.
    if (log.endLsn < switchLsn) return log;
    await this.#nextTimeline(connection, { log, nextTimelineId: next.timelineId, switchLsn });
    return this.#place(connection, { serverTimelineId, reservedLsn });
  }

  /** Begins where the incarnation left its parent, else, and where that is gone, with what is reserved. */
  async #begin(
    connection: ReplicationConnection,
    { timelineId, reservedLsn }: { timelineId: number; reservedLsn: Lsn },
  ): Promise<ReceivedLog> {
    const { source, logger } = this.#options;
    const segmentBytes = parseSegmentBytes(await show(connection, 'wal_segment_size'));
    const history = await this.#history(connection, timelineId).catch((error: unknown) => {
      // A copy that became a system of its own keeps no log of the former one, and no history.
      if (error instanceof ReplicationError && error.serverSqlstate === SQLSTATE.undefinedFile) return null;
      throw error;
    });
    const fromLsn = this.#mustSkip || source.forkLsn === null ? reservedLsn : source.forkLsn;
    const segmentNo = walSegmentNoOf({ lsn: fromLsn, segmentBytes });
    const beginLsn = walSegmentStart({ segmentNo, segmentBytes });
    const former = this.#log;
    if (former !== null) {
      logger.error(
        `the log from ${formatLsn(former.endLsn)} to ${formatLsn(beginLsn)} is lost: nothing can be restored across it until a new base is captured`,
      );
    }
    await this.#closeLog();
    const switchLsn = history?.at(-1)?.beginLsn ?? NOWHERE;
    const timelineBeginLsn = switchLsn === NOWHERE ? beginLsn : switchLsn;
    const begin = { timelineId, timelineBeginLsn, segmentBytes, beginLsn };
    const log = await ReceivedLog.begin(this.#logOptions(), begin);
    this.#log = log;
    this.#mustSkip = false;
    return log;
  }

  async #nextTimeline(
    connection: ReplicationConnection,
    next: { readonly log: ReceivedLog; readonly nextTimelineId: number; readonly switchLsn: Lsn },
  ): Promise<void> {
    const { log, nextTimelineId, switchLsn } = next;
    const { segmentBytes, timelineId } = log;
    await this.#history(connection, nextTimelineId);
    await log.endTimeline(switchLsn);
    await log[Symbol.asyncDispose]();
    faultPoint('vault.after_timeline_end');
    const segmentNo = walSegmentNoOf({ lsn: switchLsn, segmentBytes });
    const beginLsn = walSegmentStart({ segmentNo, segmentBytes });
    const begin = { timelineId: nextTimelineId, timelineBeginLsn: switchLsn, segmentBytes, beginLsn };
    this.#log = await ReceivedLog.begin(this.#logOptions(), { ...begin, continues: log });
    this.#isInRecovery = (await show(connection, 'in_hot_standby')) === 'on';
    this.#options.logger.info(
      `timeline ${nextTimelineId} goes on from ${timelineId} at ${formatLsn(switchLsn)}`,
    );
  }

  /** Fetches and keeps the history of a timeline. */
  async #history(connection: ReplicationConnection, timelineId: number): Promise<TimelineHistory> {
    if (timelineId === 1) return rootTimelineHistory(1);
    const { store, incarnation } = this.#options.source;
    const [row] = await connection.command(`TIMELINE_HISTORY ${timelineId}`);
    const text = row?.[1] ?? '';
    const history = parseTimelineHistory({ text, timelineId });
    const directory = walDirectory(store, incarnation);
    await makeFolderDurably(directory);
    await writeDurably(join(directory, formatTimelineHistoryName(timelineId)), text);
    return history;
  }

  /** The socket may by now belong to another incarnation of the virtual cluster. */
  async #requireInstance(connection: ReplicationConnection): Promise<void> {
    const { dataDirectory } = this.#options.source;
    const served = await show(connection, 'data_directory');
    if (served === dataDirectory) return;
    const [left, right] = await Promise.all(
      [served, dataDirectory].map((path) => realpath(path).catch(() => path)),
    );
    if (left !== right)
      throw new AppError('object_state', 'another incarnation of the virtual cluster is served');
  }

  async #identify(connection: ReplicationConnection): Promise<number> {
    const [row] = await connection.command('IDENTIFY_SYSTEM');
    const [systemIdentifier, timelineId] = row ?? [];
    if (systemIdentifier !== String(this.#options.source.systemIdentifier)) {
      throw new AppError('object_state', 'the instance is of another system than its record', {
        hint: 'restart the node, and look for a second one on this store',
      });
    }
    return Number(timelineId);
  }

  /** Sees that there is a slot, which keeps what is not yet in the vault; gives where it begins. */
  async #reserve(connection: ReplicationConnection): Promise<Lsn> {
    let reservedLsn = await readSlot(connection);
    const isLost = reservedLsn === 'lost' || this.#mustRemakeSlot;
    if (isLost) {
      this.#options.logger.warning(
        'the instance gave up the slot of the vault: it kept more log than max_slot_wal_keep_size allows, or for too long',
      );
    }
    // What was acknowledged to it, be it long gone, is where a slot begins: only a new one tells what is there.
    const isUseless = isLost || this.#mustSkip;
    if (reservedLsn !== 'none' && isUseless) await connection.command(`DROP_REPLICATION_SLOT ${VAULT_SLOT}`);
    if (reservedLsn === 'none' || isUseless) {
      await connection.command(`CREATE_REPLICATION_SLOT ${VAULT_SLOT} PHYSICAL RESERVE_WAL`);
      faultPoint('vault.after_slot');
      reservedLsn = await readSlot(connection);
    }
    this.#mustRemakeSlot = false;
    if (typeof reservedLsn === 'string')
      throw new AppError('object_state', 'the slot of the vault is of another kind');
    return reservedLsn;
  }

  async #requireRoom(): Promise<void> {
    const { store, bytesMax } = this.#options.source;
    this.#storedBytes = await storedBytesBelow(join(store.directory, 'wal'));
    if (this.#storedBytes >= bytesMax) {
      throw new AppError(
        'limit_exceeded',
        `the log takes ${this.#storedBytes} bytes, its limit is ${bytesMax}`,
      );
    }
    await makeFolderDurably(store.directory);
    const { bavail, bsize } = await statfs(store.directory, { bigint: true });
    if (bavail * bsize < FREE_BYTES_MIN) {
      throw new AppError(
        'disk_full',
        `fewer than ${FREE_BYTES_MIN} bytes are free on the file system of the store`,
      );
    }
  }

  async #lookAgain(log: ReceivedLog): Promise<void> {
    await log.lookAgain();
    await this.#requireRoom();
    this.#options.onChange();
  }

  /** Decides what a failure means for the next attempt. */
  async #fail(error: unknown): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    const { logger } = this.#options;
    const isOfDisk = isAppError(error, 'disk_full', 'limit_exceeded') || isFull(error);
    const isHarmless = error instanceof ReplicationError;
    if (
      !isHarmless &&
      !isAppError(error, 'connection_failure', 'object_state', 'disk_full', 'limit_exceeded')
    ) {
      // What is there is proved anew before it goes on.
      await this.#closeLog().catch((cause: unknown) =>
        logger.error('the log in the vault cannot be closed', cause),
      );
    }
    if (isAppError(error, 'data_corrupt') && this.#state.kind === 'receiving') {
      logger.error('the log that the instance sends is damaged', error);
    }
    const reason = toError(error).message;
    this.#setState(isOfDisk ? { kind: 'out_of_room', reason } : { kind: 'waiting', reason });
  }

  async #closeLog(): Promise<void> {
    const log = this.#log;
    this.#log = null;
    await log?.[Symbol.asyncDispose]();
  }

  #shownState(): VaultState {
    const gap = this.#log?.gaps.at(-1);
    return this.#state.kind === 'receiving' && gap !== undefined ? { kind: 'gap', ...gap } : this.#state;
  }

  /** Only changes are worth a line. */
  #setState(state: VaultState): void {
    const { logger, onChange } = this.#options;
    const before = this.#state;
    this.#state = state;
    onChange();
    if (before.kind === state.kind) return;
    if (state.kind === 'receiving')
      logger.info(`the vault receives the log from ${formatLsn(this.#log?.endLsn ?? NOWHERE)} on`);
    if (state.kind === 'waiting') logger.info(`the vault waits for the instance: ${state.reason}`);
    if (state.kind === 'out_of_room')
      logger.error(`the vault has stopped receiving the log: ${state.reason}`);
  }

  #logOptions(): ReceivedLogOptions {
    const { source, closer, rng, logger } = this.#options;
    const { incarnation, parentIncarnation = null, forkLsn, systemIdentifier, engineMajor } = source;
    return {
      store: source.store,
      identity: { incarnation, parentIncarnation, forkLsn, systemIdentifier, engineMajor },
      closer,
      rng,
      logger,
      onSaved: (bytes) => {
        this.#storedBytes -= BigInt(bytes);
        this.#options.onChange();
      },
      signal: this.#stopping.signal,
    };
  }
}

/** A parameter of the server. */
async function show(connection: ReplicationConnection, name: string): Promise<string> {
  const [row] = await connection.command(`SHOW ${name}`);
  return row?.[0] ?? '';
}

async function readSlot(connection: ReplicationConnection): Promise<Lsn | 'none' | 'lost'> {
  const [row] = await connection.command(`READ_REPLICATION_SLOT ${VAULT_SLOT}`);
  const [kind, restartLsn] = row ?? [];
  if (kind === null || kind === undefined) return 'none';
  return restartLsn === null || restartLsn === undefined ? 'lost' : parseLsn(restartLsn);
}

/** `16MB`, `1GB`. */
function parseSegmentBytes(text: string): number {
  const match = /^(\d+)(MB|GB)$/.exec(text);
  const bytes = Number(match?.[1]) * (match?.[2] === 'GB' ? 1024 : 1) * 1024 * 1024;
  if (!isWalSegmentBytes(bytes))
    throw new AppError('protocol_violation', `not a size of segments: "${text}"`);
  return bytes;
}

function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(errnoOf(error) ?? '');
}
