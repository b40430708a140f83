/** Publishes one timeline until it is told to stop: two loops that fail and recover apart, for a long copy of a base must not hold up the log. */
import { type Clock, isAppError, type Logger, type Rng, type Semaphore, toError } from '../../base/index.ts';
import { openCollection } from '../collection/open.ts';
import { readPins, removePin } from '../retention/pins.ts';
import { openBases } from '../store/bases.ts';
import type { VaultStatus } from '../store-contract.ts';
import type { ContinuousState, ContinuousStatus, ContinuousTarget } from './contract.ts';
import { type HeldBase, listHeldBases } from './held-bases.ts';
import { linesFrom } from './held-log.ts';
import { BASE_PIN, baseToSend, pruneCollection, sendBase } from './publish-bases.ts';
import { isLogDue, LOOK_MS } from './pace.ts';
import { type LogProgress, LOG_PIN, publishLog } from './publish-log.ts';
import { basesInUse, openSession, type Present, presentOf, type Session, timeOfLines } from './session.ts';

/** A timeline of which nothing can be restored from there is looked at more often. */
const BASE_INTERVAL_MS = { first: 500, later: 5000 };
const PRUNE_INTERVAL_MS = 600_000;
const RETRY_MS = { first: 1000, max: 30_000 };

export interface PublisherOptions {
  readonly target: ContinuousTarget;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly places: Semaphore;
  readonly logger: Logger;
  readonly onChange: () => void;
}

type Part = 'collection' | 'log' | 'bases';

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #ending = new AbortController();
  readonly #running: Promise<void>;
  readonly #failing = new Map<Part, string>();
  #isGivenUp = false;
  #vault: VaultStatus | null = null;
  #session: Session | null = null;
  #local: readonly HeldBase[] = [];
  #progress: LogProgress | null = null;
  #window: Pick<ContinuousStatus, 'restorableFrom' | 'restorableThrough'> = NOTHING;
  #sentAtMs = Number.NEGATIVE_INFINITY;
  #prunedAtMs = Number.NEGATIVE_INFINITY;
  #sentBytes = 0n;
  #sentBases = 0;
  #failures = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#running = this.#run().catch((error: unknown) => {
      if (!this.#signal.aborted) throw error;
    });
  }

  get target(): ContinuousTarget {
    return this.#options.target;
  }

  note(vault: VaultStatus): void {
    this.#vault = vault;
  }

  /** Ends under way; what was sent stays, and what is kept for the collection, too, unless it is `released`. */
  async stop({ isReleased }: { readonly isReleased: boolean }): Promise<void> {
    this.#ending.abort();
    await this.#running;
    if (!isReleased) return;
    for (const id of [LOG_PIN, BASE_PIN]) await removePin(this.target.store, id);
  }

  status(): ContinuousStatus {
    const { virtualClusterId } = this.target;
    const isRestorable = this.#window.restorableThrough !== null;
    return {
      virtualClusterId,
      state: this.#state(),
      incarnation: this.#progress?.incarnation ?? null,
      publishedLsn: isRestorable ? (this.#progress?.lsn ?? null) : null,
      ...this.#window,
      backlogBytes: this.#backlogBytes(),
      publishedBytes: this.#sentBytes,
      publishedBases: this.#sentBases,
      failures: this.#failures,
    };
  }

  get #signal(): AbortSignal {
    return this.#ending.signal;
  }

  get #tools() {
    const { clock, rng, places } = this.#options;
    return { clock, rng, places, signal: this.#signal };
  }

  #state(): ContinuousState {
    const [reason] = this.#failing.values();
    if (reason !== undefined) return { kind: 'failing', reason, isGivenUp: this.#isGivenUp };
    return { kind: this.#window.restorableThrough === null ? 'beginning' : 'publishing' };
  }

  #backlogBytes(): bigint {
    const [progress, vault] = [this.#progress, this.#vault];
    if (progress === null) return 0n;
    if (vault === null || vault.incarnation !== progress.incarnation) return progress.backlogBytes;
    return vault.durableLsn > progress.lsn ? vault.durableLsn - progress.lsn : 0n;
  }

  async #run(): Promise<void> {
    await this.#repeat(
      'collection',
      () => 0,
      async () => {
        const { target, rng, logger } = this.#options;
        const blobs = openCollection(target.collection, { rng });
        this.#session = await openSession(target, {
          blobs,
          onDamagedBase: (subdirectory, { message }) =>
            logger.error(
              `continuous backup: base ${subdirectory} in the collection cannot be used, others are: ${message}`,
            ),
          signal: this.#signal,
        });
        return 'done';
      },
    );
    await Promise.all([
      this.#repeat(
        'log',
        () => LOOK_MS,
        () => this.#sendLog(),
      ),
      this.#repeat(
        'bases',
        () => this.#baseIntervalMs(),
        () => this.#sendBases(),
      ),
    ]);
  }

  #baseIntervalMs(): number {
    return this.#window.restorableThrough === null ? BASE_INTERVAL_MS.first : BASE_INTERVAL_MS.later;
  }

  /** Again and again, later after each failure in a row, until it is done or publishing ends. */
  async #repeat(part: Part, intervalMs: () => number, step: () => Promise<'done' | 'again'>): Promise<void> {
    const { clock } = this.#options;
    let retryMs = RETRY_MS.first;
    while (!this.#signal.aborted) {
      let waitMs = intervalMs();
      try {
        if ((await step()) === 'done') return this.#recovered(part);
        this.#recovered(part);
        retryMs = RETRY_MS.first;
      } catch (error) {
        if (this.#signal.aborted) return;
        await this.#failed(part, error);
        waitMs = retryMs;
        retryMs = Math.min(2 * retryMs, RETRY_MS.max);
      }
      await clock.sleep(waitMs, { signal: this.#signal }).catch(() => undefined);
    }
  }

  #recovered(part: Part): void {
    if (!this.#failing.delete(part)) return;
    this.#isGivenUp = false;
    this.#options.logger.info(`continuous backup: goes on (${part})`);
    this.#options.onChange();
  }

  /** Told once for each reason. */
  async #failed(part: Part, error: unknown): Promise<void> {
    const { logger, onChange } = this.#options;
    // A bug is told with where it comes from, a fact of life by its message.
    const reason = isAppError(error) ? error.message : (toError(error).stack ?? toError(error).message);
    this.#failures++;
    if (this.#failing.get(part) !== reason)
      logger.warning(`continuous backup: cannot go on (${part}), will try again: ${reason}`);
    this.#failing.set(part, reason);
    await this.#giveUpWhenTooMuch();
    onChange();
  }

  /** A collection that cannot be reached must not fill the disk: beyond the limit, retention goes on without it. */
  async #giveUpWhenTooMuch(): Promise<void> {
    const { target, logger } = this.#options;
    const pin = (await readPins(target.store)).find(({ id }) => id === LOG_PIN);
    const vault = this.#vault;
    if (pin === undefined || vault === null || vault.incarnation !== pin.incarnation) return;
    const waiting = vault.durableLsn - pin.fromLsn;
    const isExpired = pin.expiresAt <= this.#options.clock.now();
    if (waiting <= target.backlogBytesMax && !isExpired) return;
    for (const id of [LOG_PIN, BASE_PIN]) await removePin(target.store, id);
    if (this.#session !== null) this.#session.pinned = null;
    this.#isGivenUp = true;
    logger.error(
      `continuous backup: ${waiting} bytes of log could not be sent and are no longer kept for it; what is collected before it goes on will be missing there`,
    );
  }

  async #present(): Promise<Present | null> {
    return this.#vault === null ? null : presentOf(this.target.store, this.#vault);
  }

  async #sendLog(): Promise<'again'> {
    const session = this.#session;
    const vault = this.#vault;
    if (session === null || vault === null || !this.#isDue(vault)) return 'again';
    this.#sentAtMs = this.#options.clock.monotonicMs();
    const present = await this.#present();
    if (present === null) return 'again';
    await this.#readLocal();
    const progress = await publishLog(session, { present, local: this.#local, tools: this.#tools });
    if (progress === null) return 'again';
    this.#sentBytes += BigInt(progress.sentBytes);
    this.#progress = progress;
    this.#look(session, present);
    return 'again';
  }

  /** When it has waited long enough, or there is much of it, or another life has begun. */
  #isDue(vault: VaultStatus): boolean {
    const progress = this.#progress;
    const sinceMs = this.#options.clock.monotonicMs() - this.#sentAtMs;
    const isKnown = progress !== null && progress.incarnation === vault.incarnation;
    return isLogDue({ sinceMs, waitingBytes: isKnown ? vault.durableLsn - progress.lsn : null });
  }

  async #sendBases(): Promise<'again'> {
    const session = this.#session;
    const present = await this.#present();
    if (session === null || present === null) return 'again';
    await this.#readLocal();
    const base = baseToSend(session, { present, local: this.#local });
    const nowMs = this.#options.clock.monotonicMs();
    if (base !== undefined) {
      const { store, virtualClusterName } = this.target;
      const onCopied = (bytes: number) => (this.#sentBytes += BigInt(bytes));
      await sendBase(session, { base, from: openBases(store, this.#options), onCopied, tools: this.#tools });
      this.#sentBases++;
      this.#options.logger.info(
        `continuous backup: base ${base.subdirectory} of ${virtualClusterName} is there`,
      );
    } else if (nowMs - this.#prunedAtMs < PRUNE_INTERVAL_MS) return 'again';
    this.#look(session, present);
    await pruneCollection(session, { present, tools: this.#tools });
    this.#prunedAtMs = nowMs;
    this.#look(session, present);
    return 'again';
  }

  /** Damaged ones are none. */
  async #readLocal(): Promise<void> {
    const { store, key } = this.target;
    const blobs = openBases(store, this.#options);
    this.#local = await listHeldBases(blobs, {
      key,
      signal: this.#signal,
      known: this.#local,
      onDamagedBase: () => undefined, // Told by who reads the timeline itself again.
    });
  }

  #look(session: Session, present: Present): void {
    const [first] = basesInUse(session, present);
    const before = this.#window;
    if (first === undefined) this.#window = NOTHING;
    else {
      const lines = linesFrom(first, { stretches: present.stretches, segmentBytes: first.segmentBytes });
      const through = timeOfLines(session.held, lines);
      const restorableThrough = through === null || through < first.endTime ? first.endTime : through;
      this.#window = { restorableFrom: first.endTime, restorableThrough };
    }
    if (before.restorableThrough !== this.#window.restorableThrough) this.#options.onChange();
  }
}

const NOTHING = { restorableFrom: null, restorableThrough: null } as const;
