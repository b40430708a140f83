/** The scheduler on a clock of its own: months in milliseconds, and every order in which a daemon can die. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  AppError,
  type IncarnationId,
  type JobId,
  type Logger,
  type Timestamp,
  type VirtualClusterId,
  parseTimestamp,
  timestampToMs,
} from '../base/index.ts';
import {
  JobIdSource,
  type JobRecord,
  type JobState,
  type ScheduledRun,
  type ScheduleId,
  type ScheduleRecord,
} from '../catalog/index.ts';
import { ManualClock } from '../../test/harness/manual-clock.ts';
import { MemoryScheduleStore } from '../../test/harness/memory-schedule-store.ts';
import { type HistoryKeeper, type SchedulerPolicy, Scheduler } from './scheduler.ts';
import { WAITS_FOR_FULL } from './schedule-state.ts';

const SIGNAL = new AbortController().signal;
const VC = 3 as VirtualClusterId;
const INCARNATION = '11111111-1111-4111-8111-111111111111' as IncarnationId;
const OTHER_INCARNATION = '22222222-2222-4222-8222-222222222222' as IncarnationId;
const START = parseTimestamp('2026-01-31 12:00:00+00');
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

const silent: Logger = { log() {}, info() {}, warning() {}, error() {}, for: () => silent };
const iso = (time: Timestamp) => new Date(timestampToMs(time)).toISOString().slice(0, 16);

/** A scheduler whose runs are jobs that the test ends. */
class Rig {
  readonly clock = new ManualClock(START);
  readonly ids = new JobIdSource({ clock: this.clock, nodeId: 1 });
  readonly jobs = new Map<JobId, JobRecord>();
  readonly store = new MemoryScheduleStore(this.jobs);
  readonly protectedSince = new Map<ScheduleId, Timestamp>();
  protectedUntil: Timestamp | undefined;
  isHistoryGone = false;
  policy: SchedulerPolicy = {
    isEnabled: true,
    paceUs: 60_000_000n,
    startsMax: 5,
    isHistoryProtected: true,
  };
  /** What a run meets that is begun now. */
  refusal: AppError | undefined;
  /** The daemon dies as soon as the job is recorded. */
  diesAfterStart = false;
  scheduler = this.#newScheduler();

  readonly #history: HistoryKeeper = {
    protect: async ({ scheduleId, since, expiresAt }) => {
      if (this.isHistoryGone) return false;
      this.protectedSince.set(scheduleId, since);
      this.protectedUntil = expiresAt;
      return true;
    },
    release: async ({ scheduleId }) => {
      this.protectedSince.delete(scheduleId);
    },
  };

  #newScheduler(): Scheduler {
    const { clock, ids } = this;
    return new Scheduler({
      clock,
      ids,
      logger: silent,
      startRun: async ({ run }) => this.#start(run),
      history: {
        protect: (options) => this.#history.protect(options),
        release: (options) => this.#history.release(options),
      },
    });
  }

  async attach(incarnation: IncarnationId = INCARNATION): Promise<void> {
    await this.scheduler.attach(
      {
        virtualClusterId: VC,
        virtualClusterName: 'main',
        incarnation,
        store: this.store,
        policy: () => this.policy,
      },
      { signal: SIGNAL },
    );
  }

  /** As a new daemon on the same records. */
  async restart(incarnation?: IncarnationId): Promise<void> {
    await this.scheduler.detach(VC);
    this.diesAfterStart = false;
    this.scheduler = this.#newScheduler();
    await this.attach(incarnation);
  }

  async #start(run: ScheduledRun): Promise<JobId> {
    if (this.refusal !== undefined) throw this.refusal;
    const id = this.ids.next();
    const now = this.clock.now();
    this.jobs.set(id, {
      id,
      type: 'BACKUP',
      description: '',
      user: 'root',
      payload: {},
      schedule: run,
      state: { kind: 'running' },
      runningStatus: null,
      created: now,
      started: now,
      finished: null,
      modified: now,
      fractionCompleted: 0,
      coordinatorId: 1,
      progress: {},
      attempt: 1,
      incarnation: INCARNATION,
    });
    if (this.diesAfterStart) throw new AppError('connection_failure', 'the daemon died');
    return id;
  }

  /** Ends the runs that are under way. */
  end(state: JobState): void {
    for (const job of this.running()) {
      this.jobs.set(job.id, { ...job, state, finished: this.clock.now() });
    }
    this.scheduler.notify(VC);
  }

  running(): readonly JobRecord[] {
    return [...this.jobs.values()].filter((job) => job.finished === null);
  }

  add(change: Partial<ScheduleRecord> = {}): ScheduleRecord {
    const schedule: ScheduleRecord = {
      id: this.ids.next() as bigint as ScheduleId,
      label: 'nightly',
      owner: 'root',
      database: 'defaultdb',
      created: this.clock.now(),
      recurrence: '@daily',
      nextRun: this.clock.now(),
      message: null,
      onPreviousRunning: 'wait',
      onExecutionFailure: 'reschedule',
      backupType: 'full',
      statement: "BACKUP INTO 'nodelocal://1/a'",
      partnerId: null,
      waitsForFullAfter: null,
      updatesLastBackupMetric: false,
      ignoreExistingBackups: false,
      firstRun: null,
      incarnation: INCARNATION,
      ...change,
    };
    this.store.schedules.set(schedule.id, schedule);
    return schedule;
  }

  get(schedule: ScheduleRecord): ScheduleRecord {
    const found = this.store.schedules.get(schedule.id);
    assert.ok(found !== undefined);
    return found;
  }

  async round(): Promise<void> {
    await this.scheduler.roundOfAll({ signal: SIGNAL });
  }

  /** Time goes on in steps; every run succeeds within the step it began in. */
  async live(options: { days: number; stepMs: number }): Promise<void> {
    for (let ms = 0; ms < options.days * DAY_MS; ms += options.stepMs) {
      await this.round();
      this.end({ kind: 'succeeded' });
      await this.round();
      this.clock.advance(options.stepMs);
    }
  }

  startedAt(schedule: ScheduleRecord): readonly string[] {
    return [...this.jobs.values()]
      .filter((job) => job.schedule?.scheduleId === schedule.id)
      .map((job) => iso(job.created));
  }
}

async function rig(): Promise<Rig> {
  const made = new Rig();
  await made.attach();
  return made;
}

describe('the scheduler', () => {
  it('runs what is due, once each time, over months', async () => {
    const test = await rig();
    const daily = test.add({ nextRun: parseTimestamp('2026-02-01 00:00:00+00') });
    const monthly = test.add({ recurrence: '0 3 1 * *', nextRun: parseTimestamp('2026-02-01 03:00:00+00') });
    await test.live({ days: 220, stepMs: 20 * MINUTE_MS });
    const days = test.startedAt(daily);
    assert.equal(days.length, 220);
    assert.deepEqual(new Set(days).size, 220);
    // Also on the days on which clocks elsewhere change.
    assert.ok(days.every((time) => time.endsWith('T00:00')));
    assert.ok(days.includes('2026-03-29T00:00') && days.includes('2026-03-08T00:00'));
    assert.deepEqual(
      test.startedAt(monthly),
      [2, 3, 4, 5, 6, 7, 8, 9].map((month) => `2026-0${month}-01T03:00`),
    );
  });

  it('starts at the time it is due, whatever the pace', async () => {
    const test = await rig();
    test.policy = { ...test.policy, paceUs: 3_600_000_000n };
    const schedule = test.add({
      recurrence: '*/7 * * * *',
      nextRun: parseTimestamp('2026-01-31 12:07:00+00'),
    });
    test.scheduler.notify(VC);
    const stop = new AbortController();
    const running = test.scheduler.run({ signal: stop.signal });
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    for (let second = 0; second < 900; second += 1) {
      for (let turns = 0; turns < 10; turns += 1) await turn();
      test.end({ kind: 'succeeded' });
      test.clock.advance(1000);
    }
    stop.abort();
    await running;
    assert.deepEqual(test.startedAt(schedule), ['2026-01-31T12:07', '2026-01-31T12:14']);
  });

  it('asks nothing while nothing is due', async () => {
    const test = await rig();
    test.add({ nextRun: parseTimestamp('2026-02-01 00:00:00+00') });
    await test.round();
    const before = test.store.queries;
    for (let minute = 0; minute < 11 * 60; minute += 1) {
      test.clock.advance(MINUTE_MS);
      await test.round();
    }
    assert.equal(test.store.queries, before);
  });

  it('runs once for all the times it missed, and then at the next', async () => {
    const test = await rig();
    const schedule = test.add({ recurrence: '@hourly', nextRun: parseTimestamp('2026-01-31 13:00:00+00') });
    await test.scheduler.detach(VC);
    test.clock.advance(50 * HOUR_MS + 17 * MINUTE_MS);
    await test.restart();
    await test.round();
    await test.round();
    const [job, ...others] = test.jobs.values();
    assert.equal(others.length, 0);
    assert.equal(job?.schedule?.scheduledFor, parseTimestamp('2026-01-31 13:00:00+00'));
    assert.equal(iso(test.get(schedule).nextRun ?? START), '2026-02-02T15:00');
  });

  it('does not run a time again that a dead daemon had started', async () => {
    const test = await rig();
    const schedule = test.add();
    test.diesAfterStart = true;
    await test.round();
    // As it is found: the job is there, and the schedule has not moved on.
    test.store.schedules.set(schedule.id, schedule);
    await test.restart();
    await test.round();
    assert.equal(test.jobs.size, 1);
    assert.equal(iso(test.get(schedule).nextRun ?? START), '2026-02-01T00:00');
  });

  it('hears of an end that came while no daemon ran', async () => {
    const test = await rig();
    const schedule = test.add({ onExecutionFailure: 'pause' });
    await test.round();
    await test.scheduler.detach(VC);
    test.end({ kind: 'failed', error: 'the bucket is gone' });
    await test.restart();
    await test.round();
    assert.equal(test.get(schedule).nextRun, null);
    assert.match(test.get(schedule).message ?? '', /^paused: job \d+ ended as failed: the bucket is gone$/);
    assert.equal(test.scheduler.counts(VC)?.failed, 1);
    await test.restart();
    await test.round();
    assert.equal(test.scheduler.counts(VC)?.failed, 0, 'an end is settled once');
  });

  describe('while the previous run goes on', () => {
    for (const backupType of ['full', 'incremental'] as const) {
      it(`waits, and runs once when it is over (${backupType})`, async () => {
        const test = await rig();
        const onPreviousRunning = backupType === 'full' ? 'wait' : 'start';
        const schedule = test.add({ recurrence: '@hourly', backupType, onPreviousRunning });
        await test.round();
        for (let hour = 0; hour < 5; hour += 1) {
          test.clock.advance(HOUR_MS);
          await test.round();
          assert.equal(test.scheduler.counts(VC)?.waitingInRound, 1);
        }
        assert.equal(test.jobs.size, 1);
        assert.equal(test.get(schedule).message, 'delayed due to 1 already running');
        test.end({ kind: 'succeeded' });
        await test.round();
        assert.equal(test.jobs.size, 2);
        assert.equal(test.get(schedule).message, null);
        await test.round();
        assert.equal(test.jobs.size, 2);
        assert.equal(test.scheduler.counts(VC)?.waitingInRound, 0);
      });
    }

    it('skips to the next time', async () => {
      const test = await rig();
      const schedule = test.add({ recurrence: '@hourly', onPreviousRunning: 'skip' });
      await test.round();
      test.clock.advance(HOUR_MS);
      await test.round();
      assert.equal(test.scheduler.counts(VC)?.skippedInRound, 1);
      assert.equal(test.get(schedule).message, 'rescheduled due to 1 already running');
      test.end({ kind: 'succeeded' });
      await test.round();
      assert.equal(test.jobs.size, 1);
      test.clock.advance(HOUR_MS);
      await test.round();
      assert.equal(test.jobs.size, 2);
    });

    it('starts beside it', async () => {
      const test = await rig();
      test.add({ recurrence: '@hourly', onPreviousRunning: 'start' });
      await test.round();
      test.clock.advance(HOUR_MS);
      await test.round();
      assert.equal(test.running().length, 2);
    });
  });

  describe('when the destination fails', () => {
    const refusal = new AppError('blob_unavailable', 'the bucket does not answer');

    it('retries after a minute, each time, until it succeeds', async () => {
      const test = await rig();
      const schedule = test.add({ onExecutionFailure: 'retry' });
      test.refusal = refusal;
      await test.round();
      for (let minute = 0; minute < 10; minute += 1) {
        assert.equal(test.get(schedule).message, 'retrying: the bucket does not answer');
        test.clock.advance(MINUTE_MS);
        await test.round();
      }
      assert.equal(test.scheduler.counts(VC)?.failed, 11);
      test.refusal = undefined;
      test.clock.advance(MINUTE_MS);
      await test.round();
      test.end({ kind: 'succeeded' });
      await test.round();
      assert.equal(test.jobs.size, 1);
      assert.equal(test.get(schedule).message, null);
      assert.equal(iso(test.get(schedule).nextRun ?? START), '2026-02-01T00:00');
    });

    it('goes on at the next time, the others undisturbed', async () => {
      const test = await rig();
      const schedule = test.add();
      test.refusal = refusal;
      await test.round();
      assert.equal(test.get(schedule).message, 'rescheduled: the bucket does not answer');
      assert.equal(iso(test.get(schedule).nextRun ?? START), '2026-02-01T00:00');
      test.refusal = undefined;
      const other = test.add();
      test.scheduler.notify(VC);
      await test.round();
      assert.equal(test.startedAt(other).length, 1);
      assert.equal(test.startedAt(schedule).length, 0);
    });

    it('pauses until somebody resumes it', async () => {
      const test = await rig();
      const schedule = test.add({ onExecutionFailure: 'pause' });
      test.refusal = refusal;
      await test.round();
      test.refusal = undefined;
      await test.live({ days: 3, stepMs: HOUR_MS });
      assert.equal(test.jobs.size, 0);
      assert.equal(test.get(schedule).message, 'paused: the bucket does not answer');
    });

    it('takes a canceled run for a failed one', async () => {
      const test = await rig();
      const schedule = test.add({ onExecutionFailure: 'retry' });
      await test.round();
      test.end({ kind: 'canceled' });
      await test.round();
      assert.match(test.get(schedule).message ?? '', /^retrying: job \d+ ended as canceled$/);
    });
  });

  describe('with a pair', () => {
    async function pair() {
      const test = await rig();
      const full = test.add({ recurrence: '@weekly' });
      const incremental = test.add({
        backupType: 'incremental',
        nextRun: null,
        message: WAITS_FOR_FULL,
        waitsForFullAfter: test.ids.next(),
        partnerId: full.id,
      });
      test.store.schedules.set(full.id, { ...full, partnerId: incremental.id });
      return { test, full, incremental };
    }

    it('lets the incremental one go when the first full one has succeeded', async () => {
      const { test, incremental } = await pair();
      await test.round();
      assert.equal(test.get(incremental).nextRun, null);
      test.end({ kind: 'failed', error: 'no room' });
      await test.round();
      assert.equal(test.get(incremental).nextRun, null);
      await test.live({ days: 9, stepMs: HOUR_MS });
      assert.deepEqual(test.startedAt(incremental)[0], '2026-02-02T00:00');
    });

    it('protects history since the newest success of either', async () => {
      const { test, full, incremental } = await pair();
      await test.live({ days: 3, stepMs: HOUR_MS });
      assert.deepEqual([...test.protectedSince.keys()], [full.id]);
      assert.equal(iso(test.protectedSince.get(full.id) ?? START), '2026-02-03T00:00');
      assert.ok((test.protectedUntil ?? 0n) > test.clock.now() + 86_400_000_000n);
      test.isHistoryGone = true;
      await test.live({ days: 2, stepMs: HOUR_MS });
      assert.equal(iso(test.protectedSince.get(full.id) ?? START), '2026-02-03T00:00', 'held on');
      assert.deepEqual(test.scheduler.held(VC), { count: 1, since: test.protectedSince.get(full.id) });
      await test.scheduler.releaseHistory(VC, { scheduleIds: [full.id, incremental.id], signal: SIGNAL });
      assert.equal(test.protectedSince.size, 0);
    });

    it('protects nothing where that is switched off', async () => {
      const { test } = await pair();
      test.policy = { ...test.policy, isHistoryProtected: false };
      await test.live({ days: 2, stepMs: HOUR_MS });
      assert.equal(test.protectedSince.size, 0);
    });
  });

  it('starts no more than the setting says in one round', async () => {
    const test = await rig();
    test.policy = { ...test.policy, startsMax: 2 };
    for (let count = 0; count < 5; count += 1) test.add();
    const counts: number[] = [];
    for (let round = 0; round < 4; round += 1) {
      await test.round();
      counts.push(test.jobs.size);
      test.clock.advance(MINUTE_MS);
    }
    assert.deepEqual(counts, [2, 4, 5, 5]);
    test.policy = { ...test.policy, startsMax: 0 };
    for (let count = 0; count < 50; count += 1) test.add();
    test.scheduler.notify(VC);
    await test.round();
    assert.equal(test.jobs.size, 55);
  });

  it('starts nothing while it is switched off, and hears of ends all the same', async () => {
    const test = await rig();
    const schedule = test.add({ updatesLastBackupMetric: true });
    await test.round();
    test.policy = { ...test.policy, isEnabled: false };
    test.end({ kind: 'succeeded' });
    await test.round();
    assert.equal(test.scheduler.counts(VC)?.lastCompletedUs, START);
    test.clock.advance(3 * DAY_MS);
    test.scheduler.notify(VC);
    await test.round();
    assert.equal(test.startedAt(schedule).length, 1);
    test.policy = { ...test.policy, isEnabled: true };
    test.scheduler.notify(VC);
    await test.round();
    assert.equal(test.startedAt(schedule).length, 2);
  });

  it('moves the metric only for schedules that say so', async () => {
    const test = await rig();
    test.add();
    await test.round();
    test.end({ kind: 'succeeded' });
    await test.round();
    assert.equal(test.scheduler.counts(VC)?.succeeded, 1);
    assert.equal(test.scheduler.counts(VC)?.lastCompletedUs, 0n);
  });

  it('pauses schedules of another incarnation with the reason', async () => {
    const test = await rig();
    const schedule = test.add();
    await test.restart(OTHER_INCARNATION);
    await test.round();
    assert.equal(test.jobs.size, 0);
    assert.match(
      test.get(schedule).message ?? '',
      /^paused: the virtual cluster was restored or failed over/,
    );
    assert.equal(test.get(schedule).incarnation, OTHER_INCARNATION);
  });

  it('lets an incremental one go again after a restore only by a full backup of the new life', async () => {
    const test = await rig();
    const full = test.add({ recurrence: '@weekly' });
    const incremental = test.add({
      backupType: 'incremental',
      nextRun: null,
      partnerId: full.id,
      waitsForFullAfter: 1n,
    });
    test.store.schedules.set(full.id, { ...full, partnerId: incremental.id });
    await test.round();
    // It ended, and nobody had taken note of it when the copy was made.
    test.end({ kind: 'succeeded' });
    await test.restart(OTHER_INCARNATION);
    await test.round();
    assert.equal(test.get(incremental).nextRun, null);
    test.clock.advance(MINUTE_MS);
    test.store.schedules.set(full.id, { ...test.get(full), nextRun: test.clock.now() });
    test.scheduler.notify(VC);
    await test.round();
    test.end({ kind: 'succeeded' });
    await test.round();
    assert.notEqual(test.get(incremental).nextRun, null);
  });

  it('goes on after a round that failed', async () => {
    const test = await rig();
    test.add();
    test.store.isBroken = true;
    await test.round();
    assert.equal(test.scheduler.counts(VC)?.errors, 1);
    test.store.isBroken = false;
    await test.round();
    assert.equal(test.jobs.size, 0, 'not at once');
    test.clock.advance(5000);
    await test.round();
    assert.equal(test.jobs.size, 1);
  });

  it('puts a schedule to rest that it cannot read, and goes on with the others', async () => {
    const test = await rig();
    const broken = test.add({ recurrence: 'whenever' });
    const sound = test.add();
    await test.round();
    assert.equal(test.get(broken).nextRun, null);
    assert.match(test.get(broken).message ?? '', /^paused: invalid crontab/);
    assert.equal(test.startedAt(sound).length, 1);
    assert.equal(test.scheduler.counts(VC)?.malformed, 1);
  });
});
