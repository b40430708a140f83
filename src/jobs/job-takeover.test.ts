/** What a daemon does with a job that another one left behind in each of its states when it died. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type {
  IncarnationId,
  JobId,
  Logger,
  Timestamp,
  VirtualClusterId,
  VirtualClusterName,
} from '../base/index.ts';
import { JobIdSource, type JobRecord, type JobState, type JobStatus } from '../catalog/index.ts';
import { ManualClock } from '../../test/harness/manual-clock.ts';
import { MemoryJobStore } from '../../test/harness/memory-job-store.ts';
import { JobRunner } from './job-runner.ts';

const wait = { signal: new AbortController().signal };
const VC = 3 as VirtualClusterId;
const INCARNATION = '11111111-1111-4111-8111-111111111111' as IncarnationId;
const ID = 42n as JobId;
const silent: Logger = { log() {}, info() {}, warning() {}, error() {}, for: () => silent };
const FAILED = { kind: 'failed', error: 'no room' } as const;

const clockStart = new ManualClock().now();
const SOON = (clockStart + 5_000_000n) as Timestamp;

const LEFT: Readonly<Record<JobStatus, JobState>> = {
  pending: { kind: 'pending' },
  running: { kind: 'running' },
  'retry-running': { kind: 'retry-running', retryAt: SOON, error: 'busy' },
  'pause-requested': { kind: 'pause-requested', reason: 'night' },
  paused: { kind: 'paused', error: undefined, reason: 'night' },
  'cancel-requested': { kind: 'cancel-requested' },
  reverting: { kind: 'reverting', outcome: FAILED },
  'retry-reverting': { kind: 'retry-reverting', retryAt: SOON, outcome: { kind: 'canceled' } },
  'revert-failed': { kind: 'revert-failed', error: 'stuck' },
  succeeded: { kind: 'succeeded' },
  failed: FAILED,
  canceled: { kind: 'canceled' },
};

interface Expected {
  readonly state: JobState;
  readonly ran: number;
  readonly reverted: number;
}

/** Forgetting a state does not compile. */
const EXPECTED: Readonly<Record<JobStatus, Expected>> = {
  pending: { state: { kind: 'succeeded' }, ran: 1, reverted: 0 },
  running: { state: { kind: 'succeeded' }, ran: 1, reverted: 0 },
  'retry-running': { state: { kind: 'succeeded' }, ran: 1, reverted: 0 },
  'pause-requested': { state: { kind: 'paused', error: undefined, reason: 'night' }, ran: 0, reverted: 0 },
  paused: { state: LEFT.paused, ran: 0, reverted: 0 },
  'cancel-requested': { state: { kind: 'canceled' }, ran: 0, reverted: 1 },
  reverting: { state: FAILED, ran: 0, reverted: 1 },
  'retry-reverting': { state: { kind: 'canceled' }, ran: 0, reverted: 1 },
  'revert-failed': { state: LEFT['revert-failed'], ran: 0, reverted: 0 },
  succeeded: { state: { kind: 'succeeded' }, ran: 0, reverted: 0 },
  failed: { state: FAILED, ran: 0, reverted: 0 },
  canceled: { state: { kind: 'canceled' }, ran: 0, reverted: 0 },
};

function leftBehind(state: JobState): JobRecord {
  return {
    id: ID,
    type: 'TEST',
    description: 'a test',
    user: 'root',
    payload: {},
    state,
    runningStatus: null,
    created: clockStart,
    started: clockStart,
    finished: null,
    modified: clockStart,
    fractionCompleted: 0.5,
    coordinatorId: 1,
    progress: { saved: 'by the first attempt' },
    attempt: 1,
    incarnation: INCARNATION,
  };
}

describe('a job left behind', () => {
  for (const [status, expected] of Object.entries(EXPECTED)) {
    it(`as ${status} ends as ${expected.state.kind}`, async () => {
      const clock = new ManualClock();
      const store = new MemoryJobStore();
      store.records.set(ID, leftBehind(LEFT[status as JobStatus]));
      const attempts: number[] = [];
      let reverted = 0;
      const runner = new JobRunner({
        types: [
          {
            name: 'TEST',
            attemptsMax: 3,
            onExhausted: 'fail',
            run: ({ job }) => {
              assert.equal(job.progress['saved'], 'by the first attempt');
              attempts.push(job.attempt);
              return Promise.resolve({});
            },
            revert: () => {
              reverted += 1;
              return Promise.resolve();
            },
          },
        ],
        ids: new JobIdSource({ clock, nodeId: 1 }),
        clock,
        logger: silent,
        nodeId: 1,
      });
      await runner.attach(
        {
          virtualClusterId: VC,
          virtualClusterName: 'main' as VirtualClusterName,
          incarnation: INCARNATION,
          store,
          outcomeOf: () => Promise.resolve('committed'),
          pausePoints: () => new Set(),
          retryDelays: () => ({ initialDelayUs: 1n, maxDelayUs: 1n }),
        },
        wait,
      );
      for (let turn = 0; turn < 40; turn += 1) {
        await new Promise((resolve) => setImmediate(resolve));
        clock.advance(1000);
      }
      assert.deepEqual(store.records.get(ID)?.state, expected.state);
      assert.equal(attempts.length, expected.ran);
      // No number of an attempt is used twice: names of objects are made from it.
      assert.ok(attempts.every((attempt) => attempt === 2));
      assert.equal(reverted, expected.reverted);
      await runner.shutdown();
    });
  }
});
