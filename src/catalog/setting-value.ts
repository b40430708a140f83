/**
 * Types of cluster settings: how a value is read from what a user wrote, how it is stored, and how it is printed. The stored form
 * is the printed one, and reading what was printed gives the same value.
 */
import { InputError, assertNever } from '../base/index.ts';

export type SettingType =
  | { readonly kind: 'bool' }
  | { readonly kind: 'int'; readonly min: bigint; readonly max: bigint }
  | { readonly kind: 'float'; readonly min: number; readonly max: number }
  | { readonly kind: 'string'; readonly lengthMax: number; readonly pattern?: RegExp }
  | { readonly kind: 'enum'; readonly values: readonly string[] }
  /** Whole bytes. */
  | {
      readonly kind: 'byte_size';
      readonly min: bigint;
      readonly max: bigint;
      /** 0 says that there is none; what is written otherwise is at least so much. Values stored before this bound was are read as they are. */
      readonly minUnlessZero?: bigint;
    }
  /** Whole microseconds. */
  | { readonly kind: 'duration'; readonly minUs: bigint; readonly maxUs: bigint };

/** A decoded value: boolean, integer (also bytes and microseconds), float, or text. */
export type SettingValue = boolean | bigint | number | string;

/** What a user wrote after `=`: its text, and whether it stood there as a string, a number, or a bare word. */
export interface SettingInput {
  readonly text: string;
  readonly form: 'string' | 'number' | 'word';
}

const KIB = 1024n;
const BYTE_UNITS: readonly (readonly [name: string, bytes: bigint])[] = [
  ['PiB', KIB ** 5n],
  ['TiB', KIB ** 4n],
  ['GiB', KIB ** 3n],
  ['MiB', KIB ** 2n],
  ['KiB', KIB],
];
const DECIMAL_BYTE_UNITS: readonly (readonly [name: string, bytes: bigint])[] = [
  ['PB', 1000n ** 5n],
  ['TB', 1000n ** 4n],
  ['GB', 1000n ** 3n],
  ['MB', 1000n ** 2n],
  ['KB', 1000n],
];

const BYTES_BY_UNIT: ReadonlyMap<string, bigint> = new Map([
  ['', 1n],
  ['b', 1n],
  ...[...BYTE_UNITS, ...DECIMAL_BYTE_UNITS].map(([name, bytes]) => [name.toLowerCase(), bytes] as const),
]);

const MICROSECOND = 1n;
const SECOND_US = 1_000_000n;
const MINUTE_US = 60n * SECOND_US;
const HOUR_US = 60n * MINUTE_US;
const DAY_US = 24n * HOUR_US;

const US_BY_UNIT: ReadonlyMap<string, bigint> = new Map(
  (
    [
      [MICROSECOND, 'us', 'µs', 'microsecond', 'microseconds'],
      [1000n, 'ms', 'millisecond', 'milliseconds'],
      [SECOND_US, 's', 'sec', 'secs', 'second', 'seconds'],
      [MINUTE_US, 'm', 'min', 'mins', 'minute', 'minutes'],
      [HOUR_US, 'h', 'hr', 'hrs', 'hour', 'hours'],
      [DAY_US, 'd', 'day', 'days'],
    ] as const
  ).flatMap(([us, ...names]) => names.map((name) => [name, us] as const)),
);

/**
 * Reads a value as it was written in a statement, checks its bounds, and gives the form to store.
 * @throws InputError `parameter_invalid`, saying what would be accepted
 */
export function parseSettingInput(type: SettingType, input: SettingInput): string {
  const value = readValue(type, input);
  if (value === undefined) {
    throw new InputError('parameter_invalid', `could not parse "${input.text}" as type ${typeName(type)}`, {
      hint: `write ${exampleOf(type)}`,
    });
  }
  const problem = boundsProblem(type, value) ?? tooLittle(type, value);
  if (problem !== undefined) {
    throw new InputError('parameter_invalid', problem, { hint: 'write a value within these bounds' });
  }
  return printSettingValue(type, value);
}

/** Reads the stored form. @throws InputError `parameter_invalid` when it was not written by `parseSettingInput` */
export function decodeSettingValue(type: SettingType, stored: string): SettingValue {
  const value = readValue(type, { text: stored, form: 'string' });
  if (value === undefined || boundsProblem(type, value) !== undefined) {
    throw new InputError('parameter_invalid', `stored value "${stored}" is not of type ${typeName(type)}`);
  }
  return value;
}

/** The printed and stored form: `true`, `42`, `0.5`, `128 MiB`, `5m0s`, text. */
export function printSettingValue(type: SettingType, value: SettingValue): string {
  if (type.kind === 'byte_size' && typeof value === 'bigint') return printByteSize(value);
  if (type.kind === 'duration' && typeof value === 'bigint') return printDuration(value);
  return String(value);
}

/** One letter per type, as the `setting_type` column shows it. */
export function settingTypeLetter(type: SettingType): string {
  const letters = { bool: 'b', int: 'i', float: 'f', string: 's', enum: 'e', byte_size: 'z', duration: 'd' };
  return letters[type.kind];
}

/** The largest binary unit that divides the size: `128 MiB`, `0 B`, `1500 B`. */
export function printByteSize(bytes: bigint): string {
  const unit = BYTE_UNITS.find(([, size]) => bytes !== 0n && bytes % size === 0n);
  return unit === undefined ? `${bytes} B` : `${bytes / unit[1]} ${unit[0]}`;
}

/** `336h0m0s`, `5m0s`, `3s`, `1.5s`, `200ms`, `7µs`, `0s`. */
export function printDuration(us: bigint): string {
  if (us < 0n) return `-${printDuration(-us)}`;
  if (us === 0n) return '0s';
  if (us < 1000n) return `${us}µs`;
  if (us < SECOND_US) return `${printThousandths(us, 1000n)}ms`;
  const seconds = `${printThousandths(us % MINUTE_US, SECOND_US)}s`;
  if (us < MINUTE_US) return seconds;
  const minutes = `${(us % HOUR_US) / MINUTE_US}m${seconds}`;
  return us < HOUR_US ? minutes : `${us / HOUR_US}h${minutes}`;
}

/** `00:05:00`, `336:00:00`, `00:00:00.2`: a duration as Postgres prints an interval of hours, minutes and seconds. */
export function printInterval(us: bigint): string {
  if (us < 0n) return `-${printInterval(-us)}`;
  const pad = (value: bigint) => value.toString().padStart(2, '0');
  const fraction = us % SECOND_US;
  const tail = fraction === 0n ? '' : `.${fraction.toString().padStart(6, '0').replace(/0+$/, '')}`;
  return `${pad(us / HOUR_US)}:${pad((us % HOUR_US) / MINUTE_US)}:${pad((us % MINUTE_US) / SECOND_US)}${tail}`;
}

function readValue(type: SettingType, input: SettingInput): SettingValue | undefined {
  const text = type.kind === 'string' ? input.text : input.text.trim();
  switch (type.kind) {
    case 'bool':
      return readBoolean(text);
    case 'int':
      return /^[-+]?\d{1,19}$/.test(text) ? BigInt(text.replace(/^\+/, '')) : undefined;
    case 'float':
      return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : undefined;
    case 'string':
      return input.form === 'number' ? undefined : text;
    case 'enum':
      return type.values.find((value) => value.toLowerCase() === text.toLowerCase());
    case 'byte_size':
      return parseByteSize(text);
    case 'duration':
      return parseDuration(text);
    default:
      return assertNever(type);
  }
}

function readBoolean(text: string): boolean | undefined {
  const word = text.toLowerCase();
  if (['true', 't', 'yes', 'on', '1'].includes(word)) return true;
  if (['false', 'f', 'no', 'off', '0'].includes(word)) return false;
  return undefined;
}

function boundsProblem(type: SettingType, value: SettingValue): string | undefined {
  switch (type.kind) {
    case 'int':
    case 'float':
      return typeof value !== 'boolean' && typeof value !== 'string' && (value < type.min || value > type.max)
        ? `value ${value} is outside ${type.min} to ${type.max}`
        : undefined;
    case 'byte_size':
      return typeof value === 'bigint' && (value < type.min || value > type.max)
        ? `size ${printByteSize(value)} is outside ${printByteSize(type.min)} to ${printByteSize(type.max)}`
        : undefined;
    case 'duration':
      return typeof value === 'bigint' && (value < type.minUs || value > type.maxUs)
        ? `duration ${printDuration(value)} is outside ${printDuration(type.minUs)} to ${printDuration(type.maxUs)}`
        : undefined;
    case 'string':
      return stringProblem(type, String(value));
    case 'bool':
    case 'enum':
      return undefined;
    default:
      return assertNever(type);
  }
}

function tooLittle(type: SettingType, value: SettingValue): string | undefined {
  if (type.kind !== 'byte_size' || type.minUnlessZero === undefined || typeof value !== 'bigint')
    return undefined;
  return value !== 0n && value < type.minUnlessZero
    ? `size ${printByteSize(value)} is neither 0 nor within ${printByteSize(type.minUnlessZero)} to ${printByteSize(type.max)}`
    : undefined;
}

function stringProblem(type: SettingType & { kind: 'string' }, value: string): string | undefined {
  if (value.length > type.lengthMax) return `value is longer than ${type.lengthMax} characters`;
  if (value.includes('\0')) return 'value contains a zero byte';
  if (type.pattern !== undefined && !type.pattern.test(value))
    return `value ${JSON.stringify(value)} is not accepted`;
  return undefined;
}

function parseByteSize(text: string): bigint | undefined {
  const match = /^(-?)(\d{1,19})(?:\.(\d{1,9}))?\s*([a-z]*)$/i.exec(text);
  const unit = BYTES_BY_UNIT.get((match?.[4] ?? '?').toLowerCase());
  if (match === null || unit === undefined) return undefined;
  return decimalOf({ sign: match[1], whole: match[2], fraction: match[3], unit });
}

/** Reads `4h0m0s`, `1.5s`, `10 minutes`, `00:05:00` and a bare `0`. */
function parseDuration(text: string): bigint | undefined {
  const clock = /^(-?)(\d{1,9}):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,6}))?)?$/.exec(text);
  if (clock !== null) {
    const us =
      BigInt(clock[2] ?? 0) * HOUR_US +
      BigInt(clock[3] ?? 0) * MINUTE_US +
      BigInt(clock[4] ?? 0) * SECOND_US +
      BigInt((clock[5] ?? '').padEnd(6, '0'));
    return clock[1] === '-' ? -us : us;
  }
  if (text === '0') return 0n;
  const whole = /^(-?)((?:\d{1,12}(?:\.\d{1,9})?\s*[a-zµ]+\s*)+)$/i.exec(text);
  if (whole === null) return undefined;
  let us = 0n;
  for (const part of (whole[2] ?? '').matchAll(/(\d+)(?:\.(\d+))?\s*([a-zµ]+)/gi)) {
    const unit = US_BY_UNIT.get((part[3] ?? '').toLowerCase());
    if (unit === undefined) return undefined;
    us += decimalOf({ sign: '', whole: part[1], fraction: part[2], unit });
  }
  return whole[1] === '-' ? -us : us;
}

/** `sign whole.fraction × unit`, what is smaller than one cut off. */
function decimalOf(parts: {
  sign: string | undefined;
  whole: string | undefined;
  fraction: string | undefined;
  unit: bigint;
}): bigint {
  const fraction = parts.fraction ?? '';
  const scale = 10n ** BigInt(fraction.length);
  const scaled = BigInt(parts.whole ?? '0') * scale + BigInt(fraction === '' ? '0' : fraction);
  const value = (scaled * parts.unit) / scale;
  return parts.sign === '-' ? -value : value;
}

/** `us` in units of `unit`, with as many decimals as needed. */
function printThousandths(us: bigint, unit: bigint): string {
  const digits = unit.toString().length - 1;
  const fraction = (us % unit).toString().padStart(digits, '0').replace(/0+$/, '');
  return fraction === '' ? `${us / unit}` : `${us / unit}.${fraction}`;
}

function typeName(type: SettingType): string {
  return type.kind === 'byte_size' ? 'byte size' : type.kind;
}

function exampleOf(type: SettingType): string {
  switch (type.kind) {
    case 'bool':
      return 'true or false';
    case 'int':
      return `a whole number from ${type.min} to ${type.max}`;
    case 'float':
      return `a number from ${type.min} to ${type.max}`;
    case 'string':
      return 'a string in single quotes';
    case 'enum':
      return `one of ${type.values.map((value) => `'${value}'`).join(', ')}`;
    case 'byte_size':
      return `a size such as '128 MiB'`;
    case 'duration':
      return `a duration such as '5m' or '1h30m'`;
    default:
      return assertNever(type);
  }
}
