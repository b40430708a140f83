import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  AppError,
  type IncarnationId,
  type Logger,
  type VirtualClusterId,
  type VirtualClusterName,
  isAppError,
} from '../base/index.ts';
import { JobIdSource, type JobRecord, type JsonObject, isTerminal } from '../catalog/index.ts';
import { JobRunner } from './job-runner.ts';
import type { JobContext, JobDomain, JobType } from './job-type.ts';
import { type TransactionOutcome, transactionPayload } from './transaction.ts';
import { ManualClock } from '../../test/harness/manual-clock.ts';
import { MemoryJobStore } from '../../test/harness/memory-job-store.ts';

const SIGNAL = new AbortController().signal;
const VC = 3 as VirtualClusterId;
const INCARNATION = '11111111-1111-4111-8111-111111111111' as IncarnationId;
const OTHER_INCARNATION = '22222222-2222-4222-8222-222222222222' as IncarnationId;

function keepingIn(lines: string[]): Logger {
  const keep = (message: string) => void lines.push(message);
  const logger: Logger = {
    log: (_severity, message) => keep(message),
    info: keep,
    warning: keep,
    error: keep,
    for: () => logger,
  };
  return logger;
}

/** A job type whose attempts are scripted by the test. */
function scripted(options: {
  run?: (context: JobContext) => Promise<JsonObject>;
  revert?: (context: JobContext) => Promise<void>;
  onExhausted?: 'pause' | 'fail';
}): JobType {
  return {
    name: 'TEST',
    attemptsMax: 3,
    onExhausted: options.onExhausted ?? 'fail',
    run: options.run ?? (() => Promise.resolve({})),
    revert: options.revert ?? (() => Promise.resolve()),
  };
}

/** Work that lasts until it is told to stop. */
function untilAborted(context: JobContext): Promise<JsonObject> {
  return new Promise((_resolve, reject) => {
    context.signal.addEventListener('abort', () => reject(new Error('the worker was killed')), {
      once: true,
    });
  });
}

function setUp(type: JobType, shared: { store?: MemoryJobStore; clock?: ManualClock } = {}) {
  const store = shared.store ?? new MemoryJobStore();
  const clock = shared.clock ?? new ManualClock();
  const logged: string[] = [];
  const runner = new JobRunner({
    types: [type],
    ids: new JobIdSource({ clock, nodeId: 1 }),
    clock,
    logger: keepingIn(logged),
    nodeId: 1,
  });
  const domain: JobDomain = {
    virtualClusterId: VC,
    virtualClusterName: 'main' as VirtualClusterName,
    incarnation: INCARNATION,
    store,
    outcomeOf: () => Promise.resolve('committed'),
    pausePoints: () => new Set(),
    retryDelays: () => ({ initialDelayUs: 30_000_000n, maxDelayUs: 3_600_000_000n }),
  };
  const create = () =>
    runner.create(VC, { type: 'TEST', description: 'a test', user: 'root', payload: {} }, wait);
  const until = (job: JobRecord, predicate: (record: JobRecord) => boolean) =>
    runner.waitFor({ virtualClusterId: VC, jobId: job.id }, { until: predicate, signal: SIGNAL });
  return { store, clock, runner, domain, create, until, logged };
}

const wait = { signal: SIGNAL };
const isOver = (record: JobRecord) => isTerminal(record.state);
const isKind = (kind: string) => (record: JobRecord) => record.state.kind === kind;

/** Lets everything that can go on without time passing go on. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe('the job runner', () => {
  it('runs a job and records every state before the next one', async () => {
    const { store, runner, domain, create, until } = setUp(
      scripted({ run: (context) => Promise.resolve({ attempt: context.job.attempt, rows: '5' }) }),
    );
    await runner.attach(domain, wait);
    const job = await create();
    const done = await until(job, isOver);
    assert.equal(done.state.kind, 'succeeded');
    assert.deepEqual(done.progress, { attempt: 1, rows: '5' });
    assert.equal(done.fractionCompleted, 1);
    assert.notEqual(done.started, null);
    assert.notEqual(done.finished, null);
    assert.deepEqual(
      store.history.map((record) => [record.state.kind, record.attempt]),
      [
        ['pending', 0],
        ['running', 0],
        ['running', 1],
        ['succeeded', 1],
      ],
    );
    await runner.shutdown();
  });

  describe('of a job that a transaction has asked for', () => {
    /** What is told of transaction 700; `run` is counted. */
    function setUpAwaiting(shared: Parameters<typeof setUp>[1] = {}) {
      const told: { outcome: TransactionOutcome; runs: number } = { outcome: 'in progress', runs: 0 };
      const test = setUp(
        scripted({
          run: () => {
            told.runs += 1;
            return Promise.resolve({});
          },
        }),
        shared,
      );
      const domain: JobDomain = {
        ...test.domain,
        outcomeOf: (transactionId) => {
          assert.equal(transactionId, '700');
          return Promise.resolve(told.outcome);
        },
      };
      const payload = transactionPayload('700');
      const ask = () =>
        test.runner.create(VC, { type: 'TEST', description: 'a test', user: 'root', payload }, wait);
      /** Long enough for it to be asked about again. */
      const later = async () => {
        await settle();
        test.clock.advance(1_000_000);
        await settle();
      };
      return { ...test, domain, told, ask, later };
    }

    it('begins it when that has committed, and not before, whoever resumes it and however often the daemon restarts', async () => {
      const first = setUpAwaiting();
      await first.runner.attach(first.domain, wait);
      const job = await first.ask();
      await first.later();
      const reference = { virtualClusterId: VC, jobId: job.id };
      await first.runner.control(reference, 'pause', wait);
      await first.until(job, isKind('paused'));
      await first.runner.control(reference, 'resume', wait);
      await first.later();
      assert.equal(first.told.runs, 0);
      await first.runner.shutdown();

      const second = setUpAwaiting(first);
      await second.runner.attach(second.domain, wait);
      await second.later();
      assert.equal(second.told.runs, 0);
      second.told.outcome = 'committed';
      await second.later();
      assert.equal((await second.until(job, isOver)).state.kind, 'succeeded');
      assert.equal(second.told.runs, 1);
      await second.runner.shutdown();
    });

    for (const outcome of ['aborted', null] as const) {
      it(`ends it without a run when that is ${outcome ?? 'forgotten'}`, async () => {
        const { runner, domain, told, ask, later, until } = setUpAwaiting();
        await runner.attach(domain, wait);
        const job = await ask();
        told.outcome = outcome;
        await later();
        assert.equal((await until(job, isOver)).state.kind, 'canceled');
        assert.equal(told.runs, 0);
        await runner.shutdown();
      });
    }

    it('can be cancelled before that has ended', async () => {
      const { runner, domain, told, ask, later, until } = setUpAwaiting();
      await runner.attach(domain, wait);
      const job = await ask();
      await later();
      await runner.control({ virtualClusterId: VC, jobId: job.id }, 'cancel', wait);
      await until(job, isKind('canceled'));
      told.outcome = 'committed';
      await later();
      assert.equal(told.runs, 0);
      await runner.shutdown();
    });
  });

  it('retries transient errors with growing delays, then fails with the newest error', async () => {
    let attempts = 0;
    const reverted: number[] = [];
    const { clock, runner, domain, create, until } = setUp(
      scripted({
        run: () => {
          attempts += 1;
          return Promise.reject(new AppError('blob_unavailable', `storage is away (${attempts})`));
        },
        revert: (context) => {
          reverted.push(context.job.attempt);
          return Promise.resolve();
        },
      }),
    );
    await runner.attach(domain, wait);
    const job = await create();
    const first = await until(job, isKind('retry-running'));
    assert.ok(first.state.kind === 'retry-running');
    assert.equal(first.state.retryAt - clock.now(), 30_000_000n);
    clock.advance(29_999);
    await settle();
    assert.equal(attempts, 1);
    clock.advance(1);
    await settle();
    assert.equal(attempts, 2);
    clock.advance(60_000);
    const failed = await until(job, isOver);
    assert.deepEqual(failed.state, { kind: 'failed', error: 'storage is away (3)' });
    assert.equal(reverted.length, 1);
    await runner.shutdown();
  });

  it('pauses at the checkpoint, and resumes from it', async () => {
    const { runner, domain, create, until } = setUp(
      scripted({
        async run(context) {
          if (context.job.progress['checkpoint'] === 'half') return { resumed: true };
          await context.save({ checkpoint: 'half' });
          return untilAborted(context);
        },
      }),
    );
    await runner.attach(domain, wait);
    const job = await create();
    await until(job, (record) => record.progress['checkpoint'] === 'half');
    const reference = { virtualClusterId: VC, jobId: job.id };
    const asked = await runner.control(reference, 'pause', wait);
    assert.equal(asked.state.kind, 'pause-requested');
    await until(job, isKind('paused'));
    assert.equal((await runner.control(reference, 'pause', wait)).state.kind, 'paused');
    await runner.control(reference, 'resume', wait);
    const done = await until(job, isOver);
    assert.equal(done.state.kind, 'succeeded');
    assert.deepEqual(done.progress, { checkpoint: 'half', resumed: true });
    assert.equal(done.attempt, 2);
    await assert.rejects(runner.control(reference, 'cancel', wait), { code: 'object_state' });
    await runner.shutdown();
  });

  it('cancels running and paused jobs, and cleans up after both', async () => {
    let reverts = 0;
    const { runner, domain, create, until } = setUp(
      scripted({
        run: untilAborted,
        revert: () => {
          reverts += 1;
          return Promise.resolve();
        },
      }),
    );
    await runner.attach(domain, wait);
    const running = await create();
    await until(running, (record) => record.attempt === 1);
    await runner.control({ virtualClusterId: VC, jobId: running.id }, 'cancel', wait);
    assert.deepEqual((await until(running, isOver)).state, { kind: 'canceled' });

    const paused = await create();
    await until(paused, (record) => record.attempt === 1);
    await runner.control({ virtualClusterId: VC, jobId: paused.id }, 'pause', wait);
    await until(paused, isKind('paused'));
    await runner.control({ virtualClusterId: VC, jobId: paused.id }, 'cancel', wait);
    assert.deepEqual((await until(paused, isOver)).state, { kind: 'canceled' });
    assert.equal(reverts, 2);
    await runner.shutdown();
  });

  it('interrupts a wait for a retry', async () => {
    const { runner, domain, create, until } = setUp(
      scripted({ run: () => Promise.reject(new AppError('blob_unavailable', 'away')) }),
    );
    await runner.attach(domain, wait);
    const job = await create();
    await until(job, isKind('retry-running'));
    await runner.control({ virtualClusterId: VC, jobId: job.id }, 'cancel', wait);
    assert.equal((await until(job, isOver)).state.kind, 'canceled');
    await runner.shutdown();
  });

  it('leaves running jobs running when its domain stops, and takes them up under a new attempt', async () => {
    const attempts: number[] = [];
    const type = scripted({
      run: (context) => {
        attempts.push(context.job.attempt);
        return attempts.length === 1 ? untilAborted(context) : Promise.resolve({});
      },
    });
    const { store, clock, runner, domain, create, until } = setUp(type);
    await runner.attach(domain, wait);
    const job = await create();
    await until(job, (record) => record.attempt === 1);
    await settle();
    const waiting = until(job, isOver);
    const refused = assert.rejects(waiting, { code: 'cannot_connect_now' });
    await runner.detach(VC);
    await refused;
    assert.equal(store.records.get(job.id)?.state.kind, 'running');

    const next = setUp(type, { store, clock });
    await next.runner.attach(next.domain, wait);
    assert.equal((await next.until(job, isOver)).state.kind, 'succeeded');
    assert.deepEqual(attempts, [1, 2]);
    const later = await next.create();
    assert.ok(later.id > job.id);
    await next.runner.shutdown();
  });

  it('closes jobs of another incarnation without running them', async () => {
    let hasRun = false;
    const type = scripted({
      run: () => {
        hasRun = true;
        return Promise.resolve({});
      },
    });
    const { store, clock, runner, domain, create } = setUp(type);
    await runner.attach(domain, wait);
    const job = await create();
    await runner.shutdown();
    store.records.set(job.id, { ...job, state: { kind: 'paused', error: undefined, reason: undefined } });
    hasRun = false;
    const next = setUp(type, { store, clock });
    await next.runner.attach({ ...next.domain, incarnation: OTHER_INCARNATION }, wait);
    const closed = store.records.get(job.id);
    assert.ok(closed?.state.kind === 'failed');
    assert.match(closed.state.error, /not finished when the data of this virtual cluster was replaced/);
    assert.notEqual(closed.finished, null);
    assert.equal(hasRun, false);
    await next.runner.shutdown();
  });

  it('writes progress at most once a second, never backwards', async () => {
    let report: JobContext['report'] = () => {};
    const { store, clock, runner, domain, create, until } = setUp(
      scripted({
        run: (context) => {
          report = (shown) => context.report(shown);
          return untilAborted(context);
        },
      }),
    );
    await runner.attach(domain, wait);
    const job = await create();
    await until(job, (record) => record.attempt === 1);
    await settle();
    const before = store.history.length;
    for (let step = 1; step <= 100; step += 1)
      report({ fraction: step / 200, runningStatus: `step ${step}` });
    await settle();
    assert.equal(store.history.length, before + 1);
    report({ fraction: 0.1, runningStatus: 'counting again' });
    clock.advance(1000);
    await settle();
    assert.equal(store.history.length, before + 2);
    assert.equal(store.records.get(job.id)?.fractionCompleted, 0.5);
    assert.equal(store.records.get(job.id)?.runningStatus, 'counting again');
    await runner.shutdown();
    report({ fraction: 0.9, runningStatus: 'too late' });
    await settle();
    assert.equal(store.history.length, before + 2);
  });

  it('keeps trying to record what was reached while the database is away', async () => {
    const finish = Promise.withResolvers<JsonObject>();
    const { store, clock, runner, domain, create, until } = setUp(scripted({ run: () => finish.promise }));
    await runner.attach(domain, wait);
    const job = await create();
    await until(job, (record) => record.attempt === 1);
    store.isBroken = true;
    finish.resolve({ rows: '7' });
    await settle();
    assert.equal(store.records.get(job.id)?.state.kind, 'running');
    store.isBroken = false;
    clock.advance(1000);
    assert.deepEqual((await until(job, isOver)).progress, { rows: '7' });
    await runner.shutdown();
  });

  it('waits longer and longer for a database that stays away, and says so once', async () => {
    const finish = Promise.withResolvers<JsonObject>();
    const { store, clock, runner, domain, create, logged } = setUp(scripted({ run: () => finish.promise }));
    await runner.attach(domain, wait);
    const job = await create();
    const told: (string | null)[] = [];
    const over = runner.waitFor(
      { virtualClusterId: VC, jobId: job.id },
      { until: isOver, onStall: (reason) => told.push(reason), signal: SIGNAL },
    );
    await settle();
    store.isBroken = true;
    const begun = { tries: store.refused, lines: logged.length };
    finish.resolve({});
    for (let second = 0; second < 3600; second += 1) {
      await settle();
      clock.advance(1000);
    }
    // At 0, 1, 3 and 7 s, then every 15 s.
    assert.equal(store.refused - begun.tries, 4 + Math.floor(3599 / 15));
    assert.deepEqual(told, ['the store is away']);
    assert.equal(logged.length - begun.lines, 1);
    const late: (string | null)[] = [];
    const alsoOver = runner.waitFor(
      { virtualClusterId: VC, jobId: job.id },
      { until: isOver, onStall: (reason) => late.push(reason), signal: SIGNAL },
    );
    await settle();
    assert.deepEqual(late, ['the store is away'], 'who comes later is told too');
    store.isBroken = false;
    clock.advance(15_000);
    assert.equal((await over).state.kind, 'succeeded');
    await alsoOver;
    assert.deepEqual(told, ['the store is away', null]);
    assert.deepEqual(logged.slice(begun.lines).filter((line) => /record can/.test(line)).length, 2);
    await runner.shutdown();
  });

  it('calls a full disk by its code, whoever met it', async () => {
    for (const code of ['ENOSPC', 'EDQUOT', '53100']) {
      const thrown = Object.assign(new Error('No space left on device'), { code });
      const lost = new AppError('connection_failure', 'the session was lost', { cause: thrown });
      for (const error of [thrown, lost]) {
        const { runner, domain, create, until } = setUp(scripted({ run: () => Promise.reject(error) }));
        await runner.attach(domain, wait);
        const ended = await until(await create(), isOver);
        assert.equal(ended.state.kind, 'failed');
        assert.equal(ended.progress['errorCode'], 'disk_full');
        assert.ok(ended.progress['errorHint']);
        await runner.shutdown();
      }
    }
  });

  it('gives a clean-up several tries, then asks for a person', async () => {
    let tries = 0;
    const { clock, runner, domain, create, until } = setUp(
      scripted({
        run: () => Promise.reject(new AppError('data_corrupt', 'checksum mismatch')),
        revert: () => {
          tries += 1;
          return Promise.reject(new AppError('blob_unavailable', 'away'));
        },
      }),
    );
    await runner.attach(domain, wait);
    const job = await create();
    for (let round = 0; round < 6; round += 1) {
      await settle();
      clock.advance(3_600_000);
    }
    const over = await until(job, isOver);
    assert.deepEqual(over.state, {
      kind: 'revert-failed',
      error: 'checksum mismatch; what it left was not taken back: away',
    });
    assert.equal(tries, 5);
    await runner.shutdown();
  });

  it('bounds how many jobs work at once', async () => {
    let working = 0;
    const { runner, domain, create } = setUp(
      scripted({
        run: (context) => {
          working += 1;
          return untilAborted(context);
        },
      }),
    );
    await runner.attach(domain, wait);
    for (let count = 0; count < 12; count += 1) await create();
    await settle();
    assert.equal(working, 8);
    await runner.shutdown();
  });

  it('stops waiting when the client goes away, while the job goes on', async () => {
    const finish = Promise.withResolvers<JsonObject>();
    const { runner, domain, create, until } = setUp(scripted({ run: () => finish.promise }));
    await runner.attach(domain, wait);
    const job = await create();
    const client = new AbortController();
    const waiting = runner.waitFor(
      { virtualClusterId: VC, jobId: job.id },
      { until: isOver, signal: client.signal },
    );
    client.abort();
    await assert.rejects(waiting, (error) => isAppError(error, 'cancelled'));
    finish.resolve({});
    assert.equal((await until(job, isOver)).state.kind, 'succeeded');
    await runner.shutdown();
  });
});
