/** Reading what CREATE SCHEDULE and ALTER BACKUP SCHEDULE are given. */
import { InputError, type Timestamp, formatTimestamp, parseTimestamp } from '../../base/index.ts';
import type { OnExecutionFailure, OnPreviousRunning, ScheduleRecord } from '../../catalog/index.ts';
import { type Crontab, parseCrontab, shortestIntervalUs } from '../../jobs/index.ts';
import type { Option, ScheduledBackup, Value } from '../../sql/index.ts';
import type { BackupStatement } from './scheduled-backup.ts';
import { isFlagOn, textValue } from '../values.ts';

const HOUR_US = 3_600_000_000n;
const DAY_US = 24n * HOUR_US;

/** When each half runs; without an incremental half every run is a full backup. */
export interface Recurrence {
  readonly full: Crontab;
  readonly incremental: Crontab | undefined;
}

/** @throws InputError `parameter_invalid` */
export function recurrenceOf(options: {
  recurring: Value;
  fullBackup: Value | 'always' | undefined;
}): Recurrence {
  const recurring = parseCrontab(textValue(options.recurring, 'RECURRING'));
  const { fullBackup } = options;
  if (fullBackup === 'always') return { full: recurring, incremental: undefined };
  if (fullBackup !== undefined) {
    return { full: parseCrontab(textValue(fullBackup, 'FULL BACKUP')), incremental: recurring };
  }
  const interval = shortestIntervalUs(recurring);
  if (interval <= HOUR_US) return { full: parseCrontab('@daily'), incremental: recurring };
  if (interval <= DAY_US) return { full: parseCrontab('@weekly'), incremental: recurring };
  return { full: recurring, incremental: undefined };
}

/** A value of `first_run`; undefined when it was not given. @throws InputError `parameter_invalid` */
export function firstRunOf(options: readonly Option[], now: Timestamp): Timestamp | undefined {
  const text = optionText(options, 'first_run');
  if (text === undefined) return undefined;
  if (text.toLowerCase() === 'now') return now;
  const time = parseTime(text);
  if (time < now) {
    throw new InputError(
      'parameter_invalid',
      `first_run ${formatTimestamp(time)} is in the past: it is ${formatTimestamp(now)}`,
      { hint: "give a time to come, or 'now'" },
    );
  }
  return time;
}

/** Accepts a date alone, blanks around it, and zones as offsets. */
function parseTime(text: string): Timestamp {
  const match =
    /^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(?::(\d\d))?(?:\.(\d{1,6}))?)?\s*(?:(Z|UTC)|([+-])(\d\d)(?::?(\d\d))?)?$/i.exec(
      text.trim(),
    );
  if (match === null) {
    throw new InputError('parameter_invalid', `first_run ${JSON.stringify(text)} is no time`, {
      hint: "write it as '2026-12-31 23:00:00+00', or 'now'",
    });
  }
  const [, day, minute = '00:00', second = '00', fraction = '0', , sign, hours = '0', minutes = '0'] = match;
  const local = parseTimestamp(`${day} ${minute}:${second}.${fraction}+00`);
  const offsetUs = (BigInt(hours) * 60n + BigInt(minutes)) * 60_000_000n;
  return (sign === '-' ? local + offsetUs : local - offsetUs) as Timestamp;
}

const ON_FAILURE: Readonly<Record<string, OnExecutionFailure>> = {
  retry: 'retry',
  reschedule: 'reschedule',
  pause: 'pause',
};
const ON_PREVIOUS: Readonly<Record<string, OnPreviousRunning>> = {
  start: 'start',
  skip: 'skip',
  wait: 'wait',
};

/** @throws InputError `parameter_invalid` */
export function onFailureOf(options: readonly Option[]): OnExecutionFailure | undefined {
  return choiceOf(options, 'on_execution_failure', ON_FAILURE);
}

/** @throws InputError `parameter_invalid` */
export function onPreviousOf(options: readonly Option[]): OnPreviousRunning | undefined {
  return choiceOf(options, 'on_previous_running', ON_PREVIOUS);
}

function choiceOf<T>(
  options: readonly Option[],
  name: string,
  choices: Readonly<Record<string, T>>,
): T | undefined {
  const text = optionText(options, name)?.toLowerCase();
  if (text === undefined) return undefined;
  const choice = Object.hasOwn(choices, text) ? choices[text] : undefined;
  if (choice !== undefined) return choice;
  throw new InputError('parameter_invalid', `"${text}" is not a valid value of ${name}`, {
    hint: `it is one of ${Object.keys(choices).join(', ')}`,
  });
}

function optionText(options: readonly Option[], name: string): string | undefined {
  const value = options.find((option) => option.name === name)?.value;
  if (value === undefined || !('kind' in value)) return undefined;
  return textValue(value, name);
}

/** Runs return at once. @throws InputError `parameter_invalid` */
export function requireDetached(options: readonly Option[]): void {
  const isGiven = options.some(({ name }) => name === 'detached');
  if (!isGiven || isFlagOn(options, 'detached')) return;
  throw new InputError('parameter_invalid', 'a scheduled backup is always detached', {
    hint: 'leave DETACHED out',
  });
}

/** The statements of the two halves. */
export function statementsOf(backup: ScheduledBackup): {
  readonly full: BackupStatement;
  readonly incremental: BackupStatement;
} {
  const options: readonly Option[] = [
    ...backup.options.filter(({ name }) => name !== 'detached'),
    { name: 'detached', value: undefined },
  ];
  const full: BackupStatement = {
    kind: 'backup',
    targets: backup.targets,
    appendTo: undefined,
    destination: backup.destination,
    asOf: undefined,
    options,
  };
  return { full, incremental: { ...full, appendTo: { kind: 'latest' } } };
}

/** As SHOW SCHEDULES says it. */
export function statusOf(schedule: ScheduleRecord): 'ACTIVE' | 'PAUSED' {
  return schedule.nextRun === null ? 'PAUSED' : 'ACTIVE';
}
