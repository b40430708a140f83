/**
 * Starts what is due, and tells schedules how their runs ended. A virtual cluster without anything due costs no query: its next time is
 * kept in memory, and looked up again when something changes.
 *
 * A run is a job that names its schedule and the time it was due for. Whoever dies between making the job and moving the schedule on
 * finds that job again, so a time is run once; a job's end is settled in the same transaction as what follows from it.
 */
import type { Clock, IncarnationId, JobId, Logger, Timestamp, VirtualClusterId } from '../base/index.ts';
import { KeyedMutex, timestampToMs, toError } from '../base/index.ts';
import type {
  JobIdSource,
  ScheduledRun,
  ScheduleId,
  ScheduleRecord,
  ScheduleStore,
  UnsettledRun,
} from '../catalog/index.ts';
import { type ScheduleEvent, nextSchedule } from './schedule-state.ts';

/** The virtual cluster that keeps schedules: while it serves, they run. */
export interface ScheduleDomain {
  readonly virtualClusterId: VirtualClusterId;
  readonly virtualClusterName: string;
  readonly incarnation: IncarnationId;
  readonly store: ScheduleStore;
  /** Read anew for every round. */
  readonly policy: () => SchedulerPolicy;
}

export interface SchedulerPolicy {
  /** When off, nothing is started; ends of runs are settled all the same. */
  readonly isEnabled: boolean;
  /** How long what is due and cannot start yet waits for another look, should nothing change before. */
  readonly paceUs: bigint;
  /** Runs started in one round; 0 for no limit. */
  readonly startsMax: number;
  readonly isHistoryProtected: boolean;
}

/** Keeps what the next run of a schedule needs from being collected. Calls may repeat. */
export interface HistoryKeeper {
  /**
   * From now on nothing since `since` goes, until `expiresAt`; replaces what this schedule held before. False when that could not be done:
   * what was held before is held on.
   */
  protect(options: {
    virtualClusterId: VirtualClusterId;
    scheduleId: ScheduleId;
    since: Timestamp;
    expiresAt: Timestamp;
    signal: AbortSignal;
  }): Promise<boolean>;
  release(options: {
    virtualClusterId: VirtualClusterId;
    scheduleId: ScheduleId;
    signal: AbortSignal;
  }): Promise<void>;
}

/** Since the daemon started. */
export interface SchedulerCounts {
  started: number;
  succeeded: number;
  failed: number;
  /** Runs that could not begin, and rounds that failed. */
  errors: number;
  /** Schedules whose crontab or statement this program cannot read. */
  malformed: number;
  /** Of the newest round. */
  jobsStartedInRound: number;
  skippedInRound: number;
  waitingInRound: number;
  /** Microseconds since 1970 of the newest success of a schedule that says so; 0 before. */
  lastCompletedUs: bigint;
}

export interface SchedulerOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ids: JobIdSource;
  /** Begins a run. @throws AppError when it cannot */
  readonly startRun: (options: {
    virtualClusterId: VirtualClusterId;
    schedule: ScheduleRecord;
    run: ScheduledRun;
    signal: AbortSignal;
  }) => Promise<JobId>;
  readonly history?: HistoryKeeper;
}

interface Attached {
  readonly domain: ScheduleDomain;
  readonly detached: AbortController;
  readonly counts: SchedulerCounts;
  /** Since when each schedule holds history. */
  readonly held: Map<ScheduleId, Timestamp>;
  /** When the next round is worth its while. */
  nextRoundAt: Timestamp;
}

/** Runs settled in one round. */
const SETTLED_MAX = 100;
const STARTS_UNLIMITED = 1000;
/** A round that failed is tried again after this. */
const ROUND_RETRY_US = 5_000_000n;
/** Wall clocks step: nobody sleeps longer than this without looking at it. */
const SLEEP_MS_MAX = 60_000;

const DAY_US = 86_400_000_000n;
const IN_THE_PAST = 0n as Timestamp;

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #attached = new Map<VirtualClusterId, Attached>();
  /** Orders rounds with what users change. */
  readonly #locks = new KeyedMutex<VirtualClusterId>();
  #awake = new AbortController();

  constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  /**
   * Takes up the schedules of a virtual cluster that has begun to serve. Those that belong to another incarnation are paused: their
   * chain of backups is not this one's, and somebody has to decide. Harmless when attached.
   */
  async attach(domain: ScheduleDomain, wait: { signal: AbortSignal }): Promise<void> {
    if (this.#attached.has(domain.virtualClusterId)) return;
    this.#options.ids.noteUsed(await domain.store.newestId(wait));
    await this.#pauseForeign(domain, wait);
    this.#attached.set(domain.virtualClusterId, {
      domain,
      detached: new AbortController(),
      counts: {
        started: 0,
        succeeded: 0,
        failed: 0,
        errors: 0,
        malformed: 0,
        jobsStartedInRound: 0,
        skippedInRound: 0,
        waitingInRound: 0,
        lastCompletedUs: 0n,
      },
      held: new Map(),
      nextRoundAt: IN_THE_PAST,
    });
    this.#wake();
  }

  /** No round of it goes on when this returns. Harmless when not attached. */
  async detach(virtualClusterId: VirtualClusterId): Promise<void> {
    const attached = this.#attached.get(virtualClusterId);
    if (attached === undefined) return;
    this.#attached.delete(virtualClusterId);
    attached.detached.abort();
    await this.#locks.run(virtualClusterId, () => Promise.resolve());
  }

  /** Changes schedules while no round looks at them; the next round sees the result at once. */
  async change<T>(virtualClusterId: VirtualClusterId, task: () => Promise<T>): Promise<T> {
    try {
      return await this.#locks.run(virtualClusterId, task);
    } finally {
      this.notify(virtualClusterId);
    }
  }

  /** Something of this virtual cluster changed: a schedule, a setting, or a job of a schedule ended. */
  notify(virtualClusterId: VirtualClusterId): void {
    const attached = this.#attached.get(virtualClusterId);
    if (attached === undefined) return;
    attached.nextRoundAt = IN_THE_PAST;
    this.#wake();
  }

  /** What the runs of these schedules needed may be collected. */
  async releaseHistory(
    virtualClusterId: VirtualClusterId,
    options: { scheduleIds: readonly ScheduleId[]; signal: AbortSignal },
  ): Promise<void> {
    const { signal } = options;
    for (const scheduleId of options.scheduleIds) {
      await this.#options.history?.release({ virtualClusterId, scheduleId, signal });
      this.#attached.get(virtualClusterId)?.held.delete(scheduleId);
    }
  }

  /** How many schedules hold history, and since when the one that holds most does. */
  held(virtualClusterId: VirtualClusterId): {
    readonly count: number;
    readonly since: Timestamp | undefined;
  } {
    const times = [...(this.#attached.get(virtualClusterId)?.held.values() ?? [])];
    const since = times.reduce<Timestamp | undefined>(
      (oldest, time) => (oldest === undefined || time < oldest ? time : oldest),
      undefined,
    );
    return { count: times.length, since };
  }

  counts(virtualClusterId: VirtualClusterId): SchedulerCounts | undefined {
    return this.#attached.get(virtualClusterId)?.counts;
  }

  /** Until the signal aborts. */
  async run({ signal }: { signal: AbortSignal }): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      this.#awake = new AbortController();
      await this.roundOfAll({ signal });
      const sleepMs = this.#msToNextRound();
      const woken = AbortSignal.any([signal, this.#awake.signal]);
      await clock.sleep(sleepMs, { signal: woken }).catch((error: unknown) => {
        if (!woken.aborted) throw error;
      });
    }
  }

  /** One round of every virtual cluster for which it is time. They do not hold each other up: what fails with one is logged. */
  async roundOfAll({ signal }: { signal: AbortSignal }): Promise<void> {
    for (const attached of this.#attached.values()) {
      if (signal.aborted) return;
      if (attached.nextRoundAt <= this.#options.clock.now()) await this.#roundLogged(attached, signal);
    }
  }

  async #roundLogged(attached: Attached, signal: AbortSignal): Promise<void> {
    const { virtualClusterId } = attached.domain;
    const both = AbortSignal.any([signal, attached.detached.signal]);
    try {
      await this.#locks.run(virtualClusterId, async () => {
        if (!both.aborted) await this.#round(attached, both);
      });
    } catch (error) {
      if (both.aborted) return;
      attached.counts.errors += 1;
      attached.nextRoundAt = (this.#options.clock.now() + ROUND_RETRY_US) as Timestamp;
      this.#loggerOf(attached).warning('a round of schedules failed, will try again', toError(error));
    }
  }

  async #round(attached: Attached, signal: AbortSignal): Promise<void> {
    const { domain, counts } = attached;
    const policy = domain.policy();
    // Set before looking: what changes meanwhile asks for another round.
    attached.nextRoundAt = (this.#options.clock.now() + DAY_US) as Timestamp;
    counts.jobsStartedInRound = 0;
    counts.skippedInRound = 0;
    counts.waitingInRound = 0;
    const settled = await domain.store.unsettled({ countMax: SETTLED_MAX, signal });
    for (const run of settled) await this.#settle(attached, run, signal);
    if (policy.isEnabled) await this.#startDue(attached, { policy, signal });
    const next = policy.isEnabled ? await domain.store.nextDue({ signal }) : null;
    const now = this.#options.clock.now();
    const nextRoundAt = settled.length === SETTLED_MAX ? IN_THE_PAST : roundAfter({ next, now, policy });
    if (nextRoundAt < attached.nextRoundAt) attached.nextRoundAt = nextRoundAt;
  }

  async #startDue(
    attached: Attached,
    { policy, signal }: { policy: SchedulerPolicy; signal: AbortSignal },
  ): Promise<void> {
    const { store } = attached.domain;
    const now = this.#options.clock.now();
    const startsMax = policy.startsMax === 0 ? STARTS_UNLIMITED : policy.startsMax;
    const due = await store.due({ now, countMax: STARTS_UNLIMITED, signal });
    for (const { schedule, jobsRunning } of due) {
      if (attached.counts.jobsStartedInRound >= startsMax || signal.aborted) return;
      await this.#startOne(attached, { schedule, jobsRunning, signal });
    }
  }

  async #startOne(
    attached: Attached,
    options: { schedule: ScheduleRecord; jobsRunning: number; signal: AbortSignal },
  ): Promise<void> {
    const { schedule, jobsRunning, signal } = options;
    const { counts, domain } = attached;
    if (schedule.nextRun === null) return;
    const run = { scheduleId: schedule.id, scheduledFor: schedule.nextRun };
    // Made by a daemon that died before it could say so.
    const isStarted = (await domain.store.findRun(run, { signal })) !== undefined;
    const policy = schedule.backupType === 'full' ? schedule.onPreviousRunning : 'wait';
    if (!isStarted && jobsRunning > 0 && policy !== 'start') {
      if (policy === 'wait') counts.waitingInRound += 1;
      else counts.skippedInRound += 1;
      return this.#apply(attached, schedule, {
        event: { kind: 'previous_running', count: jobsRunning, then: policy },
        signal,
      });
    }
    const event = isStarted
      ? ({ kind: 'run_started' } as const)
      : await this.#begin(attached, { schedule, run, signal });
    await this.#apply(attached, schedule, { event, signal });
  }

  async #begin(
    attached: Attached,
    options: { schedule: ScheduleRecord; run: ScheduledRun; signal: AbortSignal },
  ): Promise<ScheduleEvent> {
    const { schedule } = options;
    const { counts, domain } = attached;
    try {
      const jobId = await this.#options.startRun({ virtualClusterId: domain.virtualClusterId, ...options });
      counts.started += 1;
      counts.jobsStartedInRound += 1;
      this.#loggerOf(attached).info(`schedule ${schedule.id} started job ${jobId}`);
      return { kind: 'run_started' };
    } catch (error) {
      if (options.signal.aborted) throw error;
      counts.errors += 1;
      counts.failed += 1;
      this.#loggerOf(attached).warning(`schedule ${schedule.id} could not start its run`, toError(error));
      return { kind: 'run_failed', error: toError(error).message };
    }
  }

  async #settle(attached: Attached, run: UnsettledRun, signal: AbortSignal): Promise<void> {
    const { store } = attached.domain;
    const [listed] = await store.list({ ids: [run.scheduleId], signal });
    if (listed === undefined) return store.change({ settle: run.jobId }, { signal });
    const { schedule } = listed;
    const isSuccess = run.status === 'succeeded';
    const update = isSuccess
      ? await this.#afterSuccess(attached, { schedule, run, signal })
      : [this.#next(attached, schedule, failureOf(run))];
    await store.change({ update, settle: run.jobId }, { signal });
    if (isSuccess) attached.counts.succeeded += 1;
    else attached.counts.failed += 1;
  }

  /** The schedule, and the one that has waited for its success. */
  async #afterSuccess(
    attached: Attached,
    options: { schedule: ScheduleRecord; run: UnsettledRun; signal: AbortSignal },
  ): Promise<readonly ScheduleRecord[]> {
    const { schedule, run, signal } = options;
    const { domain, counts } = attached;
    if (schedule.updatesLastBackupMetric && run.finished > counts.lastCompletedUs) {
      counts.lastCompletedUs = run.finished;
    }
    const partner =
      schedule.partnerId === null
        ? undefined
        : (await domain.store.list({ ids: [schedule.partnerId], signal }))[0]?.schedule;
    const full = schedule.backupType === 'full' ? schedule : (partner ?? schedule);
    const { history } = this.#options;
    if (history !== undefined && domain.policy().isHistoryProtected) {
      const isHeld = await history.protect({
        virtualClusterId: domain.virtualClusterId,
        scheduleId: full.id,
        since: run.scheduledFor,
        expiresAt: this.#heldUntil([schedule, partner]),
        signal,
      });
      if (isHeld) attached.held.set(full.id, run.scheduledFor);
    }
    const next = this.#next(attached, schedule, { kind: 'run_succeeded' });
    if (schedule.backupType === 'incremental' || partner === undefined) return [next];
    return [next, this.#next(attached, partner, { kind: 'full_succeeded', jobId: run.jobId })];
  }

  /**
   * Long enough for the next run to come late by as much as it is away, and a day more. A schedule that rests for months must not hold
   * history for ever: that would take the room of everything else.
   */
  #heldUntil(schedules: readonly (ScheduleRecord | undefined)[]): Timestamp {
    const now = this.#options.clock.now();
    const away = schedules.map((schedule) => (schedule?.nextRun ?? now) - now).filter((us) => us > 0n);
    const longest = away.reduce((most, us) => (us > most ? us : most), 0n);
    return (now + 2n * longest + DAY_US) as Timestamp;
  }

  async #apply(
    attached: Attached,
    schedule: ScheduleRecord,
    { event, signal }: { event: ScheduleEvent; signal: AbortSignal },
  ): Promise<void> {
    const next = this.#next(attached, schedule, event);
    if (next.nextRun === schedule.nextRun && next.message === schedule.message) return;
    await attached.domain.store.change({ update: [next] }, { signal });
  }

  /** A record that cannot be read rests until somebody looks at it; the others go on. */
  #next(attached: Attached, schedule: ScheduleRecord, event: ScheduleEvent): ScheduleRecord {
    try {
      return nextSchedule(schedule, event, this.#options.clock.now());
    } catch (error) {
      attached.counts.malformed += 1;
      this.#loggerOf(attached).error(`schedule ${schedule.id} cannot be read`, error);
      return { ...schedule, nextRun: null, message: `paused: ${toError(error).message}` };
    }
  }

  async #pauseForeign(domain: ScheduleDomain, wait: { signal: AbortSignal }): Promise<void> {
    const all = await domain.store.list(wait);
    const foreign = all.filter(({ schedule }) => schedule.incarnation !== domain.incarnation);
    if (foreign.length === 0) return;
    const reason =
      'paused: the virtual cluster was restored or failed over; resume it when no other cluster writes to its collection';
    const update = foreign.map(({ schedule }) => ({
      ...schedule,
      nextRun: null,
      message: reason,
      incarnation: domain.incarnation,
      // Only a full backup of this life, by a full schedule that somebody resumed, is one to append to.
      waitsForFullAfter: schedule.backupType === 'incremental' ? this.#options.ids.next() : null,
    }));
    await domain.store.change({ update }, wait);
  }

  #msToNextRound(): number {
    const now = this.#options.clock.now();
    let ms = SLEEP_MS_MAX;
    for (const { nextRoundAt } of this.#attached.values()) {
      ms = Math.min(ms, Math.max(0, timestampToMs(nextRoundAt) - timestampToMs(now) + 1));
    }
    return ms;
  }

  #wake(): void {
    this.#awake.abort();
  }

  #loggerOf({ domain }: Attached): Logger {
    const { virtualClusterId, virtualClusterName } = domain;
    return this.#options.logger.for({ virtualClusterId, virtualClusterName });
  }
}

/** When it is worth looking again, should nothing change: what is due and could not start gets another chance after the pace. */
function roundAfter(options: { next: Timestamp | null; now: Timestamp; policy: SchedulerPolicy }): Timestamp {
  const { next, now, policy } = options;
  if (next === null) return (now + DAY_US) as Timestamp;
  return next > now ? next : ((now + policy.paceUs) as Timestamp);
}

function failureOf(run: UnsettledRun): ScheduleEvent {
  const reason = run.error === null ? '' : `: ${run.error}`;
  return { kind: 'run_failed', error: `job ${run.jobId} ended as ${run.status}${reason}` };
}
