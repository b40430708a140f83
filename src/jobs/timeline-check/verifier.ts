/**
 * Reads what the timelines of this node store again and again, a little at a time, so that damage is known of before it is needed; and has
 * restores tried out. One virtual cluster after the other.
 */
import {
  type Clock,
  isAppError,
  type Logger,
  type Timestamp,
  type VirtualClusterId,
} from '../../base/index.ts';
import type { DamageRecord, TimelineVerifyRecord } from '../../catalog/index.ts';
import type { ClusterKey, TimelineStoreLocation, VerifyWorker } from '../../timeline/index.ts';
import { afterPass, firstState, planPass, VERIFIER_ROUND_MS } from './plan-pass.ts';

/** A virtual cluster whose timeline is kept, and what its settings say. */
export interface VerifiedTimeline {
  readonly virtualClusterId: VirtualClusterId;
  readonly name: string;
  readonly created: Timestamp;
  readonly store: TimelineStoreLocation;
  /** Within which everything is read once; 0 for never. */
  readonly verifyIntervalUs: bigint;
  /** Between two restores that are tried out; 0 for never. */
  readonly checkIntervalUs: bigint;
}

export interface TimelineVerifierOptions {
  readonly worker: Pick<VerifyWorker, 'checkObjects'>;
  readonly key: ClusterKey;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly verified: () => readonly VerifiedTimeline[];
  readonly write: (record: TimelineVerifyRecord) => Promise<void>;
  /** Begins a job; without effect while one goes on, or there is nothing to restore yet. */
  readonly beginCheck: (virtualClusterId: VirtualClusterId, wait: { signal: AbortSignal }) => Promise<void>;
  /** Whether there is room for a copy of this virtual cluster. */
  readonly hasRoom: (virtualClusterId: VirtualClusterId, wait: { signal: AbortSignal }) => Promise<boolean>;
  /** As it was when the daemon stopped, and when restores were tried out last. */
  readonly load: () => Promise<{
    readonly known: readonly TimelineVerifyRecord[];
    readonly lastChecks: ReadonlyMap<VirtualClusterId, Timestamp>;
  }>;
}

export class TimelineVerifier {
  readonly #options: TimelineVerifierOptions;
  readonly #states = new Map<VirtualClusterId, TimelineVerifyRecord>();
  #lastChecks = new Map<VirtualClusterId, Timestamp>();
  #isLoaded = false;
  readonly #failing = new Set<VirtualClusterId>();

  constructor(options: TimelineVerifierOptions) {
    this.#options = options;
  }

  /** What is damaged in a timeline, as far as it is known. */
  damage(virtualClusterId: VirtualClusterId): readonly DamageRecord[] {
    return this.#states.get(virtualClusterId)?.damage ?? [];
  }

  /** Runs until the signal aborts. */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { clock, logger } = this.#options;
    while (!signal.aborted) {
      try {
        await this.round({ signal });
      } catch (error) {
        if (!signal.aborted) logger.error('verifying timelines failed, will try again', error);
      }
      await clock.sleep(VERIFIER_ROUND_MS, { signal }).catch(() => undefined); // The loop sees why.
    }
  }

  /** What fails with one holds up no other. */
  async round({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    await this.#load();
    for (const timeline of this.#options.verified()) {
      if (signal.aborted) return;
      const { virtualClusterId: id, name } = timeline;
      try {
        await this.#readIfDue(timeline, signal);
        await this.#checkIfDue(timeline, signal);
        this.#failing.delete(id);
      } catch (error) {
        if (isAppError(error, 'cancelled')) return;
        // Tried again in the next round; told once.
        if (!this.#failing.has(id)) {
          const scope = { virtualClusterId: id, virtualClusterName: name };
          this.#options.logger.for(scope).error('the timeline could not be verified, will try again', error);
        }
        this.#failing.add(id);
      }
    }
  }

  async #load(): Promise<void> {
    if (this.#isLoaded) return;
    const { known, lastChecks } = await this.#options.load();
    for (const state of known) this.#states.set(state.virtualClusterId, state);
    this.#lastChecks = new Map(lastChecks);
    this.#isLoaded = true;
  }

  async #readIfDue(timeline: VerifiedTimeline, signal: AbortSignal): Promise<void> {
    const { worker, key, clock, write } = this.#options;
    const { virtualClusterId: id, store, verifyIntervalUs: intervalUs } = timeline;
    if (intervalUs === 0n) return;
    const before = this.#states.get(id) ?? firstState(id, clock.now());
    this.#states.set(id, before);
    const pass = planPass(before, { now: clock.now(), intervalUs });
    if (pass.kind === 'wait') return;
    const { state, bytesMax } = pass;
    const again = before.damage.map(({ object }) => object);
    const check = await worker.checkObjects(
      { store, key, after: state.after, bytesMax, again },
      { onProgress: () => undefined, signal },
    );
    const after = afterPass(state, { check, now: clock.now() });
    this.#tell(timeline, { before, after });
    this.#states.set(id, after);
    await write(after);
  }

  /** Once for each object, and once that all is well again. */
  #tell(
    { virtualClusterId, name }: VerifiedTimeline,
    { before, after }: { before: TimelineVerifyRecord; after: TimelineVerifyRecord },
  ): void {
    const logger = this.#options.logger.for({ virtualClusterId, virtualClusterName: name });
    const isKnown = ({ object }: DamageRecord) => before.damage.some((known) => known.object === object);
    for (const damaged of after.damage.filter((each) => !isKnown(each))) {
      const needed = damaged.bases.length > 0 ? `; bases ${damaged.bases.join(', ')} need it` : '';
      logger.error(`${damaged.object} of the timeline is damaged: ${damaged.reason}${needed}`);
    }
    if (before.damage.length > 0 && after.damage.length === 0) {
      logger.info('nothing that the timeline needs is damaged any more');
    }
  }

  async #checkIfDue(timeline: VerifiedTimeline, signal: AbortSignal): Promise<void> {
    const { clock, beginCheck, hasRoom } = this.#options;
    const { virtualClusterId: id, created, checkIntervalUs } = timeline;
    const last = this.#lastChecks.get(id) ?? created;
    if (checkIntervalUs === 0n || clock.now() - last < checkIntervalUs) return;
    if (!(await hasRoom(id, { signal }))) return;
    await beginCheck(id, { signal });
    this.#lastChecks.set(id, clock.now());
  }
}
