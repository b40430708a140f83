/**
 * How a schedule moves on: pure functions of its record and what happened. The page of this machine is docs/schedule-states.md; the
 * table of every pair is in the test.
 */
import type { JobId, Timestamp } from '../base/index.ts';
import { InputError, assertNever } from '../base/index.ts';
import type { ScheduleRecord } from '../catalog/index.ts';
import { parseCrontab } from './crontab.ts';

/** A run that failed is tried again this much later. */
export const RETRY_AFTER_US = 60_000_000n;

export const WAITS_FOR_FULL = 'Waiting for initial backup to complete';

export type SchedulePhase =
  /** It has a next time. */
  | 'active'
  /** An incremental one that its full one will let go. */
  | 'waiting_for_full'
  | 'paused';

export function phaseOf(schedule: ScheduleRecord): SchedulePhase {
  if (schedule.nextRun !== null) return 'active';
  return schedule.waitsForFullAfter === null ? 'paused' : 'waiting_for_full';
}

export type ScheduleEvent =
  /** A run has begun, as a job. */
  | { readonly kind: 'run_started' }
  | { readonly kind: 'run_succeeded' }
  /** A run could not begin, or ended otherwise than in success. */
  | { readonly kind: 'run_failed'; readonly error: string }
  /** Its time came while earlier runs are going on. */
  | { readonly kind: 'previous_running'; readonly count: number; readonly then: 'wait' | 'skip' }
  /** A full backup is there that an incremental one can append to. */
  | { readonly kind: 'full_succeeded'; readonly jobId: JobId }
  /** It must wait for a full backup whose job is numbered above `after`. */
  | { readonly kind: 'full_needed'; readonly after: bigint }
  | { readonly kind: 'pause_asked'; readonly reason?: string }
  | { readonly kind: 'resume_asked' }
  | { readonly kind: 'run_now_asked' };

/**
 * The record after `event`.
 * @throws InputError `object_state` when somebody asks a paused schedule to run
 */
export function nextSchedule(schedule: ScheduleRecord, event: ScheduleEvent, now: Timestamp): ScheduleRecord {
  const isActive = schedule.nextRun !== null;
  switch (event.kind) {
    case 'run_started':
      return isActive ? { ...schedule, nextRun: nextTime(schedule, now), message: null } : schedule;
    case 'run_succeeded':
      return isActive ? { ...schedule, message: null } : schedule;
    case 'run_failed':
      return isActive ? afterFailure(schedule, event.error, now) : schedule;
    case 'previous_running':
      return isActive ? whilePreviousRuns(schedule, event, now) : schedule;
    case 'full_succeeded':
      return schedule.waitsForFullAfter !== null && event.jobId > schedule.waitsForFullAfter
        ? activated(schedule, now)
        : schedule;
    case 'full_needed':
      // Paused by a person, it stays so.
      return phaseOf(schedule) === 'paused' ? schedule : waiting(schedule, event.after);
    case 'pause_asked':
      // What it waited for no longer lets it go: only RESUME does.
      return { ...schedule, nextRun: null, message: event.reason ?? null, waitsForFullAfter: null };
    case 'resume_asked':
      return isActive ? schedule : activated(schedule, now);
    case 'run_now_asked':
      return runNow(schedule, now);
    default:
      return assertNever(event);
  }
}

function activated(schedule: ScheduleRecord, now: Timestamp): ScheduleRecord {
  return { ...schedule, nextRun: nextTime(schedule, now), message: null, waitsForFullAfter: null };
}

function waiting(schedule: ScheduleRecord, after: bigint): ScheduleRecord {
  return { ...schedule, nextRun: null, message: WAITS_FOR_FULL, waitsForFullAfter: after };
}

function runNow(schedule: ScheduleRecord, now: Timestamp): ScheduleRecord {
  if (schedule.nextRun !== null) return { ...schedule, nextRun: now };
  const waits = phaseOf(schedule) === 'waiting_for_full';
  throw new InputError('object_state', `schedule ${schedule.id} is paused and cannot be executed`, {
    hint: waits ? WAITS_FOR_FULL.toLowerCase() : `RESUME SCHEDULE ${schedule.id} first`,
  });
}

function afterFailure(schedule: ScheduleRecord, error: string, now: Timestamp): ScheduleRecord {
  switch (schedule.onExecutionFailure) {
    case 'retry': {
      const retryAt = (now + RETRY_AFTER_US) as Timestamp;
      const isSooner = schedule.nextRun !== null && schedule.nextRun > now && schedule.nextRun < retryAt;
      return { ...schedule, nextRun: isSooner ? schedule.nextRun : retryAt, message: `retrying: ${error}` };
    }
    case 'reschedule':
      return { ...schedule, nextRun: nextTime(schedule, now), message: `rescheduled: ${error}` };
    case 'pause':
      return { ...schedule, nextRun: null, message: `paused: ${error}` };
    default:
      return assertNever(schedule.onExecutionFailure);
  }
}

/** One that waits stays due: it runs as soon as it can, once. */
function whilePreviousRuns(
  schedule: ScheduleRecord,
  event: { readonly count: number; readonly then: 'wait' | 'skip' },
  now: Timestamp,
): ScheduleRecord {
  const running = `${event.count} already running`;
  return event.then === 'wait'
    ? { ...schedule, message: `delayed due to ${running}` }
    : { ...schedule, nextRun: nextTime(schedule, now), message: `rescheduled due to ${running}` };
}

/** However many times were missed, only the next one to come counts. */
function nextTime(schedule: ScheduleRecord, now: Timestamp): Timestamp | null {
  return parseCrontab(schedule.recurrence).next(now);
}
