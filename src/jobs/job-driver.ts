/** Takes one job from where its record says it is to where it rests: paused or over. */
import type { Clock, Logger } from '../base/index.ts';
import {
  AppError,
  assert,
  Mutex,
  type Semaphore,
  type Timestamp,
  timestampToMs,
  toError,
} from '../base/index.ts';
import { type JobRecord, type JobState, isTerminal, modifiedNext } from '../catalog/index.ts';
import { failurePoint, faultPoint } from '../timeline/index.ts';
import { type Failure, type JobEvent, nextJobState } from './job-state.ts';
import { PausePointError, recordError, withDiskFullNamed } from './job-error.ts';
import type { JobContext, JobDomain, JobType } from './job-type.ts';
import { ProgressWriter } from './progress-writer.ts';
import { type RetryPolicy, failureOf } from './retry.ts';
import { awaitedTransaction, COMMITTED } from './transaction.ts';

/** Between two questions whether a transaction has committed: doubled each time up to the maximum. */
const COMMIT_PROBE_MS = 20;
const COMMIT_PROBE_MS_MAX = 1000;
/** How often the clean-up after a job is tried. */
const REVERT_ATTEMPTS_MAX = 5;
/**
 * Between two tries to write a job's record while its virtual cluster's database does not answer: doubled each time up to the
 * maximum. A disk that is full stays so for hours; one that was freed is noticed soon.
 */
const PERSIST_RETRY_MS = 1000;
const PERSIST_RETRY_MS_MAX = 15_000;
/** How long one try to write it may take. */
const WRITE_MS_MAX = 30_000;

export interface JobDriverOptions {
  readonly record: JobRecord;
  readonly type: JobType;
  readonly domain: JobDomain;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Bounds how many jobs work at the same time. */
  readonly places: Semaphore;
  /** Aborts when the domain stops serving: work ends, and the record stays as it is for the next time. */
  readonly detached: AbortSignal;
  readonly onChange: (record: JobRecord, before: JobRecord) => void;
  /** Why the record cannot be written, each time that changes; null when it can be again. */
  readonly onStall: (reason: string | null) => void;
}

export class JobDriver {
  readonly #options: JobDriverOptions;
  /** Every change of the record goes through it. */
  readonly #changes = new Mutex();
  #record: JobRecord;
  /** Aborted when what is going on now (work, or waiting for a retry) has to end because somebody asked. */
  #interrupt = new AbortController();
  #revertAttempts = 0;
  #stall: string | null = null;

  constructor(options: JobDriverOptions) {
    this.#options = options;
    this.#record = options.record;
  }

  get record(): JobRecord {
    return this.#record;
  }

  /** Why the record cannot be written at present: the job waits for that. Null when nothing is known against it. */
  get stall(): string | null {
    return this.#stall;
  }

  /** Records that the job shall pause or be cancelled, then interrupts it. @throws InputError `object_state` */
  async ask(
    event: JobEvent & { kind: 'pause_asked' | 'cancel_asked' },
    wait: { signal: AbortSignal },
  ): Promise<JobRecord> {
    await this.#changes.run(async () => {
      await this.#write({ state: nextJobState(this.#record.state, event) }, wait.signal);
    });
    this.#interrupt.abort();
    return this.#record;
  }

  /** Durable when it returns; the work is not disturbed. */
  async changeOwner(user: string, wait: { signal: AbortSignal }): Promise<void> {
    await this.#changes.run(() => this.#write({ user }, wait.signal));
  }

  /** Runs until the job rests or its domain is detached. Never throws for what happens to the job. */
  async drive(): Promise<void> {
    while (!this.#options.detached.aborted && !isAtRest(this.#record.state)) {
      try {
        await this.#advance(this.#record.state);
      } catch (error) {
        if (!this.#options.detached.aborted) throw error;
      }
    }
  }

  async #advance(state: JobState): Promise<void> {
    switch (state.kind) {
      case 'pending':
        if (!(await this.#untilCommitted())) return;
        return this.#apply({ from: state.kind, event: { kind: 'begun' } });
      case 'running':
        // Whoever resumes a job that was paused too soon has not committed its transaction.
        return (await this.#untilCommitted()) ? this.#work() : undefined;
      case 'retry-running':
      case 'retry-reverting':
        if (await this.#waitUntil(state.retryAt)) {
          await this.#apply({ from: state.kind, event: { kind: 'retry_due' } });
        }
        return;
      case 'pause-requested':
      case 'cancel-requested':
        return this.#apply({ from: state.kind, event: { kind: 'work_stopped' } });
      case 'reverting':
        return this.#revert();
      default:
        return;
    }
  }

  async #work(): Promise<void> {
    const { type } = this.#options;
    const interrupt = this.#newInterrupt();
    const outcome = await this.#carryOut(interrupt, async (context) => {
      const result = await type.run(context);
      return { event: { kind: 'work_done' } as const, result };
    });
    if (outcome === 'interrupted') {
      // The state may still be `running` when only the domain was detached; then the record stays.
      if (!this.#options.detached.aborted) await this.#apply({ event: { kind: 'work_stopped' } });
      return;
    }
    if ('result' in outcome) {
      const progress = { ...this.#record.progress, ...outcome.result };
      const done = { progress, fractionCompleted: 1, runningStatus: null };
      return this.#apply({ event: outcome.event, change: done });
    }
    const thrown = withDiskFullNamed(outcome.thrown);
    const failure = this.#failureOf(thrown);
    this.#log(`attempt ${this.#record.attempt} failed, will ${failure.then}`, thrown);
    const progress = { ...this.#record.progress, ...recordError(thrown) };
    await this.#apply({ event: { kind: 'work_failed', failure }, change: { progress, runningStatus: null } });
  }

  /** What to do about an error of the work, unless an operator holds the job there. */
  #failureOf(thrown: unknown): Failure {
    const { type, clock, domain } = this.#options;
    if (thrown instanceof PausePointError) return { then: 'pause', error: thrown.message };
    const failure = failureOf(thrown, {
      policy: this.#policy(),
      attempt: this.#record.attempt,
      now: clock.now(),
    });
    const point = type.pausePointOfFailure;
    if (failure.then !== 'fail' || point === undefined || !domain.pausePoints().has(point)) return failure;
    return { then: 'pause', error: `${failure.error} (${new PausePointError(point).message})` };
  }

  async #revert(): Promise<void> {
    const { type, clock } = this.#options;
    this.#revertAttempts += 1;
    const outcome = await this.#carryOut(this.#newInterrupt(), async (context) => {
      failurePoint('job.clean_up_fails');
      await type.revert(context);
      return { event: { kind: 'revert_done' } as const };
    });
    if (outcome === 'interrupted') return;
    if ('event' in outcome) return this.#apply({ event: outcome.event, change: { runningStatus: null } });
    const failure = failureOf(outcome.thrown, {
      policy: { ...this.#policy(), attemptsMax: REVERT_ATTEMPTS_MAX, onExhausted: 'fail' },
      attempt: this.#revertAttempts,
      now: clock.now(),
    });
    this.#log('clean-up failed', outcome.thrown);
    assert(failure.then !== 'pause', 'a clean-up is never paused');
    // What a person has to do now is told by what the clean-up met, no longer by what the work did.
    const progress = { ...this.#record.progress, ...recordError(outcome.thrown) };
    const change = failure.then === 'fail' ? { progress } : {};
    await this.#apply({ event: { kind: 'revert_failed', failure }, change });
  }

  /** Lets the job's own code run in its place, and tells how that ended. */
  async #carryOut<T>(
    interrupt: AbortController,
    use: (context: JobContext) => Promise<T>,
  ): Promise<T | 'interrupted' | { readonly thrown: unknown }> {
    const { places, detached, clock, type } = this.#options;
    const signal = AbortSignal.any([interrupt.signal, detached]);
    const progress = new ProgressWriter({ clock, write: (shown) => this.#writeShown(shown) });
    try {
      const attempt = async () => {
        await this.#beginAttempt();
        return await use(this.#contextFor({ signal, progress }));
      };
      return await (type.isLasting === true ? attempt() : places.run(attempt, { signal }));
    } catch (thrown) {
      return signal.aborted ? 'interrupted' : { thrown };
    } finally {
      await progress.end();
    }
  }

  #contextFor(options: { signal: AbortSignal; progress: ProgressWriter }): JobContext {
    const { domain, logger } = this.#options;
    return {
      job: this.#record,
      domain,
      signal: options.signal,
      logger,
      report: (shown) => options.progress.report(shown),
      pauseAt: (point) => {
        if (domain.pausePoints().has(point)) throw new PausePointError(point);
      },
      save: async (progress) => {
        await this.#changes.run(() =>
          this.#write({ progress: { ...this.#record.progress, ...progress } }, options.signal),
        );
      },
    };
  }

  /** The number of the attempt is durable before anything is done under it. */
  async #beginAttempt(): Promise<void> {
    const started = this.#record.started ?? this.#options.clock.now();
    await this.#changes.run(() => this.#persist({ attempt: this.#record.attempt + 1, started }));
  }

  /** Applies an event of our own; with `from`, only while the state is still that one. */
  async #apply(options: {
    from?: JobState['kind'];
    event: JobEvent;
    change?: Partial<JobRecord>;
  }): Promise<void> {
    await this.#changes.run(async () => {
      if (options.from !== undefined && this.#record.state.kind !== options.from) return;
      await this.#persist({
        ...options.change,
        state: nextJobState(this.#record.state, options.event),
      });
    });
  }

  /** A failure to show progress is none of the job; the next report tries again. */
  async #writeShown(shown: { fraction: number; runningStatus: string }): Promise<void> {
    const fractionCompleted = Math.max(this.#record.fractionCompleted, shown.fraction);
    try {
      await this.#changes.run(() =>
        this.#write({ fractionCompleted, runningStatus: shown.runningStatus }, this.#options.detached),
      );
    } catch (error) {
      if (!this.#options.detached.aborted) this.#noteStall(error);
    }
  }

  /** Writes until it succeeds: a state that was reached must not be forgotten while the domain serves. */
  async #persist(change: Partial<JobRecord>): Promise<void> {
    const { clock, detached } = this.#options;
    for (let delayMs = PERSIST_RETRY_MS; ; delayMs = Math.min(2 * delayMs, PERSIST_RETRY_MS_MAX)) {
      try {
        return await this.#write(change, new AbortController().signal);
      } catch (error) {
        if (detached.aborted) throw error;
        this.#noteStall(error);
        await clock.sleep(delayMs, { signal: detached });
      }
    }
  }

  /** Told and logged when it changes, not at every try: it may last for hours. */
  #noteStall(error: unknown): void {
    const reason = toError(error).message;
    if (reason === this.#stall) return;
    this.#stall = reason;
    this.#log('its record cannot be written, will try until it can', error);
    this.#options.onStall(reason);
  }

  #noteWritten(): void {
    if (this.#stall === null) return;
    this.#stall = null;
    const { type, logger, onStall } = this.#options;
    logger.info(`${type.name} job ${this.#record.id}: its record can be written again`);
    onStall(null);
  }

  async #write(change: Partial<JobRecord>, signal: AbortSignal): Promise<void> {
    const { domain, clock, onChange } = this.#options;
    const modified = modifiedNext(this.#record, clock.now());
    const state = change.state ?? this.#record.state;
    const record: JobRecord = {
      ...this.#record,
      ...change,
      modified,
      finished: isTerminal(state) ? modified : null,
    };
    await this.#inTime(signal, (wait) => domain.store.update(record, wait));
    if (record.state.kind !== this.#record.state.kind) faultPoint(`job.${record.state.kind}`);
    const before = this.#record;
    this.#record = record;
    this.#noteWritten();
    onChange(record, before);
  }

  /** A server that hangs is no better than one that is away: it is given up, and asked again by who must. @throws AppError `timed_out` */
  async #inTime(signal: AbortSignal, write: (wait: { signal: AbortSignal }) => Promise<void>): Promise<void> {
    const { clock } = this.#options;
    const written = new AbortController();
    const late = new AbortController();
    const timer = clock.sleep(WRITE_MS_MAX, { signal: written.signal }).then(
      () => late.abort(),
      () => undefined,
    );
    try {
      await write({ signal: AbortSignal.any([signal, late.signal]) });
    } catch (error) {
      if (!late.signal.aborted || signal.aborted) throw error;
      const seconds = WRITE_MS_MAX / 1000;
      throw new AppError('timed_out', `the database of the virtual cluster did not answer for ${seconds} s`, {
        cause: error,
      });
    } finally {
      written.abort();
      await timer;
    }
  }

  /** Waits for the transaction that has asked for the job. False when it was rolled back, or somebody asked something of the job meanwhile. */
  async #untilCommitted(): Promise<boolean> {
    const transaction = awaitedTransaction(this.#record);
    if (transaction === null) return true;
    const { clock, detached, domain } = this.#options;
    const signal = AbortSignal.any([this.#newInterrupt().signal, detached]);
    try {
      for (let delayMs = COMMIT_PROBE_MS; ; delayMs = Math.min(2 * delayMs, COMMIT_PROBE_MS_MAX)) {
        const outcome = await domain.outcomeOf(transaction, { signal }).catch((error: unknown) => {
          if (!signal.aborted) this.#noteStall(error);
          return 'in progress' as const;
        });
        if (outcome === 'committed') {
          await this.#changes.run(() =>
            this.#persist({ progress: { ...this.#record.progress, ...COMMITTED } }),
          );
          return true;
        }
        if (outcome !== 'in progress') {
          const change = { runningStatus: 'the transaction that asked for it was rolled back' };
          await this.#apply({ from: this.#record.state.kind, event: { kind: 'cancel_asked' }, change });
          return false;
        }
        await clock.sleep(delayMs, { signal });
      }
    } catch (error) {
      if (signal.aborted) return false;
      throw error;
    }
  }

  /** False when interrupted before. */
  async #waitUntil(time: Timestamp): Promise<boolean> {
    const { clock, detached } = this.#options;
    const interrupt = this.#newInterrupt();
    const signal = AbortSignal.any([interrupt.signal, detached]);
    try {
      for (;;) {
        const ms = timestampToMs(time) - timestampToMs(clock.now());
        if (ms <= 0) return true;
        await clock.sleep(Math.min(ms, 60_000), { signal });
      }
    } catch (error) {
      if (signal.aborted) return false;
      throw error;
    }
  }

  /** What was asked between two steps counts for the next one too: the state then already says so. */
  #newInterrupt(): AbortController {
    this.#interrupt = new AbortController();
    const { kind } = this.#record.state;
    if (kind === 'pause-requested' || kind === 'cancel-requested') this.#interrupt.abort();
    return this.#interrupt;
  }

  #policy(): RetryPolicy {
    const { type, domain } = this.#options;
    const delays = domain.retryDelays();
    const { attemptsMax, onExhausted, retryDelayUsMax = delays.maxDelayUs } = type;
    const maxDelayUs = retryDelayUsMax < delays.maxDelayUs ? retryDelayUsMax : delays.maxDelayUs;
    return { ...delays, maxDelayUs, attemptsMax, onExhausted };
  }

  #log(message: string, cause: unknown): void {
    const { type, logger } = this.#options;
    logger.warning(`${type.name} job ${this.#record.id}: ${message}`, toError(cause));
  }
}

/** Paused and finished jobs wait for nobody but a user. */
function isAtRest(state: JobState): boolean {
  return state.kind === 'paused' || isTerminal(state);
}
