import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { IncarnationId, JobId, Timestamp } from '../base/index.ts';
import { isAppError, parseTimestamp } from '../base/index.ts';
import type { OnExecutionFailure, ScheduleId, ScheduleRecord } from '../catalog/index.ts';
import {
  type ScheduleEvent,
  type SchedulePhase,
  nextSchedule,
  phaseOf,
  WAITS_FOR_FULL,
} from './schedule-state.ts';

const NOW = parseTimestamp('2026-11-21 10:00:00+00');
const TOMORROW = parseTimestamp('2026-11-22 00:00:00+00');
const DUE = parseTimestamp('2026-11-21 09:59:00+00');
const IN_A_MINUTE = (NOW + 60_000_000n) as Timestamp;

const active: ScheduleRecord = {
  id: 7n as ScheduleId,
  label: 'nightly',
  owner: 'root',
  database: 'defaultdb',
  created: DUE,
  recurrence: '@daily',
  nextRun: DUE,
  message: 'something before',
  onPreviousRunning: 'wait',
  onExecutionFailure: 'reschedule',
  backupType: 'incremental',
  statement: "BACKUP INTO LATEST IN 'nodelocal://1/a'",
  partnerId: 8n as ScheduleId,
  waitsForFullAfter: null,
  updatesLastBackupMetric: false,
  ignoreExistingBackups: false,
  firstRun: null,
  incarnation: '11111111-1111-4111-8111-111111111111' as IncarnationId,
};

const SCHEDULES: Readonly<Record<SchedulePhase, ScheduleRecord>> = {
  active,
  waiting_for_full: { ...active, nextRun: null, message: WAITS_FOR_FULL, waitsForFullAfter: 50n },
  paused: { ...active, nextRun: null, message: 'by somebody' },
};

const EVENTS = {
  run_started: { kind: 'run_started' },
  run_succeeded: { kind: 'run_succeeded' },
  run_failed: { kind: 'run_failed', error: 'no room' },
  previous_waits: { kind: 'previous_running', count: 1, then: 'wait' },
  previous_skips: { kind: 'previous_running', count: 2, then: 'skip' },
  full_succeeded: { kind: 'full_succeeded', jobId: 51n as JobId },
  older_full_succeeded: { kind: 'full_succeeded', jobId: 49n as JobId },
  full_needed: { kind: 'full_needed', after: 60n },
  pause_asked: { kind: 'pause_asked' },
  resume_asked: { kind: 'resume_asked' },
  run_now_asked: { kind: 'run_now_asked' },
} as const satisfies Record<string, ScheduleEvent>;
type EventName = keyof typeof EVENTS;

interface After {
  readonly phase: SchedulePhase;
  readonly nextRun: Timestamp | null;
  readonly message: string | null;
}
type Expected = After | 'refused';

const WAITING: After = { phase: 'waiting_for_full', nextRun: null, message: WAITS_FOR_FULL };
const PAUSED: After = { phase: 'paused', nextRun: null, message: 'by somebody' };
const PAUSED_ANEW: After = { phase: 'paused', nextRun: null, message: null };
const NEXT: After = { phase: 'active', nextRun: TOMORROW, message: null };

/** Forgetting a cell does not compile. */
const EXPECTED: Readonly<Record<SchedulePhase, Readonly<Record<EventName, Expected>>>> = {
  active: {
    run_started: NEXT,
    run_succeeded: { phase: 'active', nextRun: DUE, message: null },
    run_failed: { phase: 'active', nextRun: TOMORROW, message: 'rescheduled: no room' },
    previous_waits: { phase: 'active', nextRun: DUE, message: 'delayed due to 1 already running' },
    previous_skips: { phase: 'active', nextRun: TOMORROW, message: 'rescheduled due to 2 already running' },
    full_succeeded: { phase: 'active', nextRun: DUE, message: 'something before' },
    older_full_succeeded: { phase: 'active', nextRun: DUE, message: 'something before' },
    full_needed: WAITING,
    pause_asked: PAUSED_ANEW,
    resume_asked: { phase: 'active', nextRun: DUE, message: 'something before' },
    run_now_asked: { phase: 'active', nextRun: NOW, message: 'something before' },
  },
  waiting_for_full: {
    run_started: WAITING,
    run_succeeded: WAITING,
    run_failed: WAITING,
    previous_waits: WAITING,
    previous_skips: WAITING,
    full_succeeded: NEXT,
    older_full_succeeded: WAITING,
    full_needed: WAITING,
    pause_asked: PAUSED_ANEW,
    resume_asked: NEXT,
    run_now_asked: 'refused',
  },
  paused: {
    run_started: PAUSED,
    run_succeeded: PAUSED,
    run_failed: PAUSED,
    previous_waits: PAUSED,
    previous_skips: PAUSED,
    full_succeeded: PAUSED,
    older_full_succeeded: PAUSED,
    full_needed: PAUSED,
    pause_asked: PAUSED_ANEW,
    resume_asked: NEXT,
    run_now_asked: 'refused',
  },
};

function outcomeOf(schedule: ScheduleRecord, event: ScheduleEvent): Expected {
  try {
    const next = nextSchedule(schedule, event, NOW);
    return { phase: phaseOf(next), nextRun: next.nextRun, message: next.message };
  } catch (error) {
    assert.ok(isAppError(error, 'object_state'));
    return 'refused';
  }
}

describe('states of a schedule', () => {
  for (const [phase, row] of Object.entries(EXPECTED)) {
    for (const [event, expected] of Object.entries(row)) {
      it(`${phase} on ${event}`, () => {
        assert.deepEqual(outcomeOf(SCHEDULES[phase as SchedulePhase], EVENTS[event as EventName]), expected);
      });
    }
  }

  const FAILURES: Readonly<Record<OnExecutionFailure, After>> = {
    retry: { phase: 'active', nextRun: IN_A_MINUTE, message: 'retrying: no room' },
    reschedule: { phase: 'active', nextRun: TOMORROW, message: 'rescheduled: no room' },
    pause: { phase: 'paused', nextRun: null, message: 'paused: no room' },
  };
  for (const [onExecutionFailure, expected] of Object.entries(FAILURES)) {
    it(`a failure with on_execution_failure ${onExecutionFailure}`, () => {
      const schedule = { ...active, onExecutionFailure: onExecutionFailure as OnExecutionFailure };
      assert.deepEqual(outcomeOf(schedule, EVENTS.run_failed), expected);
    });
  }

  it('a retry does not push away a time that comes sooner', () => {
    const soon = (NOW + 5_000_000n) as Timestamp;
    const schedule: ScheduleRecord = { ...active, onExecutionFailure: 'retry', nextRun: soon };
    assert.equal(nextSchedule(schedule, EVENTS.run_failed, NOW).nextRun, soon);
  });

  it('what waits again after a move waits for a later full backup', () => {
    const moved = nextSchedule(SCHEDULES.waiting_for_full, EVENTS.full_needed, NOW);
    assert.equal(nextSchedule(moved, EVENTS.full_succeeded, NOW).nextRun, null);
    assert.equal(nextSchedule(moved, { kind: 'full_succeeded', jobId: 61n as JobId }, NOW).nextRun, TOMORROW);
  });
});
