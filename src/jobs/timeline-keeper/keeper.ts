/**
 * Keeps the time machine of every virtual cluster of this node going: captures bases when they are due, and removes what nobody needs
 * any more. It has no record of its own: what is due is read off the store, so it may be ended and begun anew at any time.
 */
import {
  type Clock,
  isAppError,
  type Logger,
  type Lsn,
  toError,
  type VirtualClusterId,
} from '../../base/index.ts';
import type { DamageRecord } from '../../catalog/index.ts';
import {
  type BaseSummary,
  baseSubdirectoryAfter,
  basesLeadingTo,
  type CaptureSource,
  type ClusterKey,
  type TimelineReader,
  type TimelineRetention,
  type TimelineStoreLocation,
  type TimelineWorker,
  type VaultHost,
  type VaultStatus,
} from '../../timeline/index.ts';
import { heedDamage } from '../timeline-check/heed-damage.ts';
import type { CaptureTurns } from './capture-turns.ts';
import { type BasePolicy, type CaptureDecision, decideCapture } from './policy.ts';

/** Between two rounds. */
export const KEEPER_ROUND_MS = 5000;
/** From the call to what was called for: those that begin together are looked at together, and their first clients come first. */
export const KEEPER_CALL_MS = 500;
/** What nobody needs is looked for after every capture, and every so many rounds: five minutes. */
export const ROUNDS_PER_COLLECTION = 60;
const BACKOFF_MS_MIN = 30_000;
const BACKOFF_MS_MAX = 3_600_000;

/** A virtual cluster that serves, and what its settings say. */
export interface KeptTimeline {
  readonly virtualClusterId: VirtualClusterId;
  readonly name: string;
  readonly store: TimelineStoreLocation;
  readonly source: CaptureSource;
  readonly policy: BasePolicy;
  /** `gc.ttlseconds`. */
  readonly windowUs: bigint;
  readonly bytesMax: bigint;
  readonly packBytesMax: number;
}

export interface TimelineKeeperOptions {
  readonly worker: Pick<TimelineWorker, 'captureBase'>;
  readonly reader: Pick<TimelineReader, 'bases' | 'incarnations'>;
  readonly retention: Pick<TimelineRetention, 'collect'>;
  readonly vault: Pick<VaultHost, 'status'>;
  /** Of all who capture into these stores. */
  readonly turns: CaptureTurns;
  readonly clusterId: string;
  readonly key: ClusterKey;
  readonly release: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Those that serve now and have their time machine switched on. */
  readonly kept: () => readonly KeptTimeline[];
  /** What is known to be damaged; nothing when left out. */
  readonly damage?: (virtualClusterId: VirtualClusterId) => readonly DamageRecord[];
  /** Room on the disk of the stores, and how much of it shall stay free. */
  readonly disk: () => Promise<{ readonly freeBytes: bigint; readonly freeBytesMin: bigint }>;
}

interface Failure {
  readonly count: number;
  readonly retryAtMs: number;
}

export class TimelineKeeper {
  readonly #options: TimelineKeeperOptions;
  readonly #failures = new Map<VirtualClusterId, Failure>();
  /** Whose last capture failed: what failed on top of a base may fail because of it. */
  readonly #mistrusted = new Set<VirtualClusterId>();
  #captures = 0;
  #isShortOfRoom = false;
  /** For whom it was called since it looked last. */
  readonly #calledFor = new Set<VirtualClusterId>();
  #called = new AbortController();

  constructor(options: TimelineKeeperOptions) {
    this.#options = options;
  }

  /** This one begins to be kept, or its data has become another life: it is looked at soon, not only when the round comes. */
  call(virtualClusterId: VirtualClusterId): void {
    this.#calledFor.add(virtualClusterId);
    this.#called.abort();
  }

  /** Runs until the signal aborts. */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { logger } = this.#options;
    for (let round = 1; !signal.aborted; round++) {
      try {
        await this.#betweenRounds(signal);
        await this.round({ collects: round % ROUNDS_PER_COLLECTION === 0, signal });
      } catch (error) {
        if (!signal.aborted) logger.error('keeping timelines failed, will try again', error);
      }
    }
  }

  /** Looks at those for whom it is called. Those of the last moment are left to the round. */
  async #betweenRounds(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const roundAtMs = clock.monotonicMs() + KEEPER_ROUND_MS;
    const leftMs = () => Math.max(0, roundAtMs - clock.monotonicMs());
    while (leftMs() > 0) {
      await this.#untilCalled(leftMs(), signal);
      await clock.sleep(Math.min(KEEPER_CALL_MS, leftMs()), { signal });
      const ids = new Set(this.#calledFor);
      this.#calledFor.clear();
      if (leftMs() > 0) await this.#look({ collects: false, isMeant: (id) => ids.has(id), signal });
    }
  }

  async #untilCalled(msMax: number, signal: AbortSignal): Promise<void> {
    if (this.#calledFor.size > 0) return;
    this.#called = new AbortController();
    const called = this.#called.signal;
    try {
      await this.#options.clock.sleep(msMax, { signal: AbortSignal.any([signal, called]) });
    } catch (error) {
      if (signal.aborted || !called.aborted) throw error;
    }
  }

  /** One virtual cluster after the other, so one capture at a time. What fails with one holds up no other. */
  async round({
    collects,
    signal,
  }: {
    readonly collects: boolean;
    readonly signal: AbortSignal;
  }): Promise<void> {
    await this.#look({ collects, isMeant: () => true, signal });
  }

  async #look(options: {
    readonly collects: boolean;
    readonly isMeant: (virtualClusterId: VirtualClusterId) => boolean;
    readonly signal: AbortSignal;
  }): Promise<void> {
    const { signal } = options;
    const room = await this.#room();
    for (const kept of this.#options.kept()) {
      if (signal.aborted) return;
      const { virtualClusterId } = kept;
      if (!options.isMeant(virtualClusterId)) continue;
      // Who else captures there needs all of the log, and makes what may be due here.
      const { turns } = this.#options;
      if (turns.isTaken(virtualClusterId)) continue;
      await this.#unlessBackingOff(kept, () =>
        turns.run(virtualClusterId, () => this.#keep(kept, { ...options, room }), { signal }),
      );
    }
  }

  async #keep(
    kept: KeptTimeline,
    { collects, room, signal }: { collects: boolean; room: Room; signal: AbortSignal },
  ): Promise<void> {
    // In want of room what is not needed goes first.
    const gives = this.#mustGiveWay(kept, room);
    if (gives) await this.#collect(kept, { gives, signal });
    const hasCaptured = room !== 'none' && (await this.#captureIfDue(kept, signal));
    if (hasCaptured || (collects && !gives)) await this.#collect(kept, { gives, signal });
  }

  async #unlessBackingOff(
    { virtualClusterId, name }: KeptTimeline,
    keep: () => Promise<void>,
  ): Promise<void> {
    const { clock, logger } = this.#options;
    const failure = this.#failures.get(virtualClusterId);
    if (failure !== undefined && clock.monotonicMs() < failure.retryAtMs) return;
    try {
      await keep();
      this.#failures.delete(virtualClusterId);
    } catch (error) {
      if (isAppError(error, 'cancelled')) return;
      const scoped = logger.for({ virtualClusterId, virtualClusterName: name });
      if (!this.#isKept(virtualClusterId)) {
        return scoped.info(`the timeline was left alone: ${toError(error).message}`);
      }
      const count = (failure?.count ?? 0) + 1;
      const delayMs = Math.min(BACKOFF_MS_MIN * 2 ** (count - 1), BACKOFF_MS_MAX);
      this.#failures.set(virtualClusterId, { count, retryAtMs: clock.monotonicMs() + delayMs });
      const next = `tried again in ${delayMs / 1000} s`;
      scoped.error(`the timeline could not be kept, ${next}`, toError(error));
    }
  }

  /** What fails while a service is being stopped has no other cause. */
  #isKept(virtualClusterId: VirtualClusterId): boolean {
    return this.#options.kept().some((kept) => kept.virtualClusterId === virtualClusterId);
  }

  /** @returns whether a base was captured */
  async #captureIfDue(kept: KeptTimeline, signal: AbortSignal): Promise<boolean> {
    const { vault, reader, key, clock } = this.#options;
    const { virtualClusterId, store, source, policy } = kept;
    const status = vault.status(virtualClusterId);
    // Without log a base leads nowhere but to itself; and what the vault receives must be what is captured.
    if (status === undefined || status.incarnation !== source.incarnation) return false;
    if (status.state.kind === 'waiting') return false;
    const bases = await reader.bases(store, { key, signal });
    const lineage = await this.#lineage(kept, { bases, status });
    const wanted = decideCapture({
      lineage,
      present: status,
      durableLsn: status.durableLsn,
      vaultState: status.state,
      now: clock.now(),
      policy,
    });
    const damage = this.#options.damage?.(virtualClusterId) ?? [];
    const decision = heedDamage(wanted, { newest: lineage.at(-1), damage });
    if (decision.kind === 'none') return false;
    await this.#capture(kept, { decision, bases, signal });
    return true;
  }

  async #lineage(
    { store }: KeptTimeline,
    { bases, status }: { bases: readonly BaseSummary[]; status: VaultStatus },
  ): Promise<readonly BaseSummary[]> {
    const incarnations = await this.#options.reader.incarnations(store);
    const { incarnation, timelineId, durableLsn } = status;
    const isKnown = incarnations.some((record) => record.incarnation === incarnation);
    if (!isKnown) return [];
    // One base may already be consistent only beyond what the vault has made durable.
    const newestLsn = bases.reduce(
      (newest, { stopLsn }) => (stopLsn > newest ? stopLsn : newest),
      durableLsn,
    );
    return basesLeadingTo({ incarnation, timelineId, lsn: (newestLsn + 1n) as Lsn }, { bases, incarnations });
  }

  async #capture(
    kept: KeptTimeline,
    options: {
      decision: Exclude<CaptureDecision, { kind: 'none' }>;
      bases: readonly BaseSummary[];
      signal: AbortSignal;
    },
  ): Promise<void> {
    const { worker, reader, clock, clusterId, key, release } = this.#options;
    const { virtualClusterId, name, store, source, packBytesMax } = kept;
    const { decision, bases, signal } = options;
    const isTrusted = !this.#mistrusted.has(virtualClusterId);
    const onto = decision.kind === 'incremental' && isTrusted ? decision.onto : null;
    this.#mistrusted.add(virtualClusterId);
    const now = clock.now();
    const newest = bases.at(-1)?.subdirectory ?? null;
    const result = await worker.captureBase(
      {
        source,
        store,
        subdirectory: baseSubdirectoryAfter({ now, newest }),
        clusterId,
        key,
        jobId: `keeper-${now}-${this.#captures++}`,
        attempt: 1,
        packBytesMax,
        release,
        onto,
        incarnations: await reader.incarnations(store),
      },
      { onProgress: () => undefined, signal },
    );
    this.#mistrusted.delete(virtualClusterId);
    const { base, pagesRead, fullReason } = result;
    const kind = onto === null || fullReason !== null ? 'full' : 'incremental';
    const why = fullReason === null ? decision.reason : `${decision.reason}; full because ${fullReason}`;
    this.#options.logger
      .for({ virtualClusterId, virtualClusterName: name })
      .info(
        `captured base ${base.subdirectory}, ${kind}: ${pagesRead} pages read, ${base.storedBytes} bytes stored (${why})`,
      );
  }

  /** On a disk that gets full every window gives way, and where the log has used up its own share, that one's. */
  #mustGiveWay({ virtualClusterId }: KeptTimeline, room: Room): boolean {
    return room !== 'enough' || this.#options.vault.status(virtualClusterId)?.state.kind === 'out_of_room';
  }

  async #collect(
    kept: KeptTimeline,
    { gives, signal }: { gives: boolean; signal: AbortSignal },
  ): Promise<void> {
    const { virtualClusterId, name, store, source, windowUs, bytesMax } = kept;
    const { retention, key, clock, logger } = this.#options;
    const request = {
      store,
      key,
      now: clock.now(),
      windowUs,
      current: source.incarnation,
      // Down to the newest base and the log since.
      bytesMax: gives ? 0n : bytesMax,
      damaged: (this.#options.damage?.(virtualClusterId) ?? []).flatMap(({ bases }) => bases),
    };
    const { removals, freedBytes, horizon } = await retention.collect(request, { signal });
    if (removals.length === 0) return;
    const isShortened = horizon > request.now - windowUs;
    const scoped = logger.for({ virtualClusterId, virtualClusterName: name });
    const what = `removed ${freedBytes} bytes of the timeline that nobody needs any more`;
    if (isShortened) scoped.warning(`${what}; its window is shorter than asked for, for want of room`);
    else scoped.info(what);
  }

  async #room(): Promise<Room> {
    const { freeBytes, freeBytesMin } = await this.#options.disk();
    const room: Room =
      freeBytes < freeBytesMin ? 'none' : freeBytes < freeBytesMin * 2n ? 'little' : 'enough';
    const isShort = room !== 'enough';
    if (isShort && !this.#isShortOfRoom) {
      this.#options.logger.warning(
        `${freeBytes} bytes are free on the disk of the store: timelines give way${room === 'none' ? ', no base is captured' : ''}`,
      );
    }
    this.#isShortOfRoom = isShort;
    return room;
  }
}

/** With little room windows become shorter; with none, nothing is captured either. */
type Room = 'enough' | 'little' | 'none';
