/** When a schedule is due: five fields of a crontab, or one of the names for the usual ones; always in UTC. */
import { Cron } from 'croner';
import { InputError, type Timestamp, timestampFromMs, timestampToMs, toError } from '../base/index.ts';

/** A crontab that was read and has a time to come. */
export interface Crontab {
  /** As the user wrote it. */
  readonly text: string;
  /** The first time after `time`, in whole minutes; null when there is none any more. */
  next(time: Timestamp): Timestamp | null;
}

const NAMED: Readonly<Record<string, string>> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
};

const NAMES: ReadonlySet<string> = new Set(
  'sun mon tue wed thu fri sat jan feb mar apr may jun jul aug sep oct nov dec'.split(' '),
);

const LENGTH_MAX = 256;
const HINT =
  "write five fields such as '30 2 * * *', or '@hourly', '@daily', '@weekly', '@monthly', '@yearly'; times are UTC";
/** A day on which both kinds of year have begun; which one does not matter. */
const SAMPLE_FROM = timestampFromMs(Date.UTC(2024, 0, 1));
/** Times looked at to find the shortest distance between two: four weeks of an hourly schedule. */
const SAMPLE_COUNT = 700;

/** @throws InputError `parameter_invalid` */
export function parseCrontab(text: string): Crontab {
  const trimmed = text.trim();
  if (trimmed.length > LENGTH_MAX) throw invalid(trimmed.slice(0, 40), 'it is too long');
  const fields = NAMED[trimmed.toLowerCase()] ?? trimmed;
  const cron = readFields(fields, trimmed);
  const next = (time: Timestamp): Timestamp | null => {
    const date = cron.nextRun(new Date(timestampToMs(time)));
    return date === null ? null : timestampFromMs(date.getTime());
  };
  if (next(SAMPLE_FROM) === null) throw invalid(trimmed, 'it names no day that there is');
  return { text: trimmed, next };
}

/** The shortest time between two runs, in microseconds. */
export function shortestIntervalUs(crontab: Crontab): bigint {
  let shortest: bigint | undefined;
  let before = crontab.next(SAMPLE_FROM);
  for (let count = 0; before !== null && count < SAMPLE_COUNT; count += 1) {
    const after = crontab.next(before);
    if (after === null) break;
    const interval = after - before;
    if (shortest === undefined || interval < shortest) shortest = interval;
    before = after;
  }
  // A day that comes once is longer than whatever it is compared with.
  return shortest ?? 1n << 62n;
}

function readFields(fields: string, shown: string): Cron {
  if (fields.split(/\s+/).length !== 5) throw invalid(shown, 'it does not have five fields');
  // Extensions of one library would bind schedules to it.
  if (!/^[0-9a-z*,/\-\s]+$/i.test(fields)) throw invalid(shown, 'it has a character that no crontab has');
  const stranger = (fields.match(/[a-z]+/gi) ?? []).find((word) => !NAMES.has(word.toLowerCase()));
  if (stranger !== undefined) throw invalid(shown, `"${stranger}" is neither a day nor a month`);
  try {
    return new Cron(fields, { utcOffset: 0, mode: '5-part', paused: true });
  } catch (error) {
    throw invalid(
      shown,
      toError(error)
        .message.replace(/^CronPattern: /, '')
        .toLowerCase(),
    );
  }
}

function invalid(text: string, reason: string): InputError {
  return new InputError('parameter_invalid', `invalid crontab ${JSON.stringify(text)}: ${reason}`, {
    hint: HINT,
  });
}
