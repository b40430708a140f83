/** `AS OF SYSTEM TIME`: which moment, or which position of the log, a statement means. */
import {
  InputError,
  type Lsn,
  type Timestamp,
  formatTimestamp,
  parseIncarnationId,
  parseLsn,
} from '../../base/index.ts';
import type { IncarnationId } from '../../base/index.ts';
import type { Value } from '../../sql/index.ts';
import { textValue } from '../values.ts';

export type SystemTime =
  | { readonly kind: 'time'; readonly time: Timestamp }
  /** `incarnation@position`: what SHOW TIMELINE prints, for moments that a rewind has left behind. */
  | { readonly kind: 'lsn'; readonly incarnation: IncarnationId; readonly lsn: Lsn };

const HINT = `write an interval such as '-10s', a time such as '2024-01-09 16:15:45.29+00', or nanoseconds since 1970`;

const POSITION_HINT =
  'a position belongs to a life of the data: write it as incarnation@0/16B3748, as SHOW TIMELINE lists them; or write a time';

const US_BY_UNIT: ReadonlyMap<string, bigint> = new Map(
  [
    [1n, 'us µs microsecond microseconds'],
    [1_000n, 'ms millisecond milliseconds'],
    [1_000_000n, 's sec secs second seconds'],
    [60_000_000n, 'm min mins minute minutes'],
    [3_600_000_000n, 'h hr hrs hour hours'],
    [86_400_000_000n, 'd day days'],
    [604_800_000_000n, 'w week weeks'],
  ].flatMap(([us, words]) =>
    String(words)
      .split(' ')
      .map((word) => [word, us as bigint] as const),
  ),
);

/**
 * Reads every form: an interval before now, a time, nanoseconds since 1970 as a number or in a string, with or without the logical part
 * behind the point, and `incarnation@position`.
 * @throws InputError `timestamp_malformed`; `parameter_invalid` for a moment that is still to come
 */
export function systemTime(value: Value, { now }: { readonly now: Timestamp }): SystemTime {
  const text = textValue(value, 'AS OF SYSTEM TIME').trim();
  const position = /^([0-9a-f-]{36})@([0-9a-f]{1,8}\/[0-9a-f]{1,8})$/i.exec(text);
  if (position !== null) {
    const incarnation = parseIncarnationId((position[1] ?? '').toLowerCase());
    return { kind: 'lsn', incarnation, lsn: parseLsn(position[2] ?? '') };
  }
  const time = nanosecondsOf(text) ?? intervalBefore(text, now) ?? timeOf(text);
  if (time === undefined) {
    throw new InputError('timestamp_malformed', `AS OF SYSTEM TIME: not a time: ${JSON.stringify(text)}`, {
      hint: isLikePosition(text) ? POSITION_HINT : HINT,
    });
  }
  if (time > now) {
    const message = `AS OF SYSTEM TIME: cannot specify timestamp in the future (${formatTimestamp(time)} > ${formatTimestamp(now)})`;
    throw new InputError('parameter_invalid', message, { hint: HINT });
  }
  return { kind: 'time', time };
}

function isLikePosition(text: string): boolean {
  return /@|^[0-9a-f]{1,8}\/[0-9a-f]{1,8}$/i.test(text);
}

/**
 * The moment of a failover, in every form but a position; `+5h` is a moment to come. @throws InputError `timestamp_malformed`
 */
export function failoverTime(value: Value, { now }: { readonly now: Timestamp }): Timestamp {
  const text = textValue(value, 'SYSTEM TIME').trim();
  const time = nanosecondsOf(text) ?? intervalBefore(text, now) ?? timeOf(text);
  if (time !== undefined) return time;
  throw new InputError('timestamp_malformed', `SYSTEM TIME: not a time: ${JSON.stringify(text)}`, {
    hint: HINT,
  });
}

/** The fraction counts events within one nanosecond, finer than any clock of ours. */
function nanosecondsOf(text: string): Timestamp | undefined {
  const match = /^(\d{12,19})(?:\.\d{1,10})?$/.exec(text);
  return match === null ? undefined : ((BigInt(match[1] ?? '') / 1000n) as Timestamp);
}

/** `-10s`, `-1h30m`, `-1.5 hours`, `-00:05:00`; `0s` is now. */
function intervalBefore(text: string, now: Timestamp): Timestamp | undefined {
  const us = clockInterval(text) ?? unitInterval(text);
  return us === undefined ? undefined : ((now + us) as Timestamp);
}

function clockInterval(text: string): bigint | undefined {
  const match = /^([-+]?)(\d{1,6}):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,6}))?)?$/.exec(text);
  if (match === null) return undefined;
  const [, sign, hours = '0', minutes = '0', seconds = '0', fraction = ''] = match;
  const whole = (BigInt(hours) * 60n + BigInt(minutes)) * 60n + BigInt(seconds);
  const us = whole * 1_000_000n + BigInt(fraction.padEnd(6, '0'));
  return sign === '-' ? -us : us;
}

function unitInterval(text: string): bigint | undefined {
  const match = /^([-+]?)((?:\s*\d{1,9}(?:\.\d{1,9})?\s*[a-zµ]+)+)$/i.exec(text);
  if (match === null) return undefined;
  let us = 0n;
  for (const [, whole = '0', fraction = '', word = ''] of (match[2] ?? '').matchAll(
    /(\d+)(?:\.(\d+))?\s*([a-zµ]+)/gi,
  )) {
    const unit = US_BY_UNIT.get(word.toLowerCase());
    if (unit === undefined) return undefined;
    const scale = 10n ** BigInt(fraction.length);
    us += ((BigInt(whole) * scale + BigInt(fraction === '' ? '0' : fraction)) * unit) / scale;
  }
  return match[1] === '-' ? -us : us;
}

/** A date, perhaps with a time of day, perhaps with an offset from UTC; without one it is UTC. */
function timeOf(text: string): Timestamp | undefined {
  const match =
    /^(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\s*(?:(Z|UTC)|([-+])(\d\d)(?::?(\d\d))?)?$/i.exec(
      text,
    );
  if (match === null) return undefined;
  const [, year, month, day, hour = '00', minute = '00', second = '00', fraction = ''] = match;
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}Z`;
  const ms = Date.parse(iso);
  // The 30th of February is a day of March to some.
  if (Number.isNaN(ms) || new Date(ms).toISOString().slice(0, 19) !== iso.slice(0, 19)) return undefined;
  const [sign, offsetHours = '0', offsetMinutes = '0'] = match.slice(9);
  const offsetUs = (BigInt(offsetHours) * 60n + BigInt(offsetMinutes)) * 60_000_000n;
  const us = BigInt(ms) * 1000n + BigInt(fraction.slice(0, 6).padEnd(6, '0'));
  return (sign === '-' ? us + offsetUs : us - offsetUs) as Timestamp;
}
