import { assertNever, InputError } from '../base/index.ts';
import type { ColumnType } from '../control/index.ts';
import { TYPE_OID } from '../pg/index.ts';

/** Midnight of 2000-01-01 in UTC, where Postgres counts from, in microseconds since 1970. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;
const INT64_MAX = 0x7fff_ffff_ffff_ffffn;
const INT64_MIN = -0x8000_0000_0000_0000n;

/** A value in Postgres's text form, in its binary form. @throws InputError `parameter_invalid` when it is none */
export function encodeBinary(type: ColumnType, text: string): Buffer {
  switch (type) {
    case 'int8':
      return int64(BigInt(text));
    case 'text':
      return Buffer.from(text);
    case 'bool':
      return Buffer.from([text.startsWith('t') ? 1 : 0]);
    case 'float8':
      return float64(text);
    case 'numeric':
      return encodeNumeric(text);
    case 'timestamptz':
      return int64(timestamptzUs(text));
    case 'interval':
      return encodeInterval(text);
    case 'bytea':
      return Buffer.from(text.slice('\\x'.length), 'hex');
    case 'jsonb':
      return Buffer.concat([Buffer.from([1]), Buffer.from(text)]);
    default:
      return assertNever(type);
  }
}

function notOf(type: string, text: string): InputError {
  return new InputError('parameter_invalid', `invalid input syntax for type ${type}: "${text}"`);
}

function int64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return bytes;
}

function float64(text: string): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(Number(text));
  return bytes;
}

/** Reads `2024-04-18 10:07:45.000001+00`, any offset, years before Christ, and the infinities. */
function timestamptzUs(text: string): bigint {
  if (text === 'infinity') return INT64_MAX;
  if (text === '-infinity') return INT64_MIN;
  const match =
    /^(\d{4,6})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:Z|([+-])(\d\d)(?::?(\d\d))?(?::?(\d\d))?)( BC)?$/.exec(
      text,
    );
  if (match === null) throw notOf('timestamptz', text);
  const [, year, month, day, hour, minute, second, fraction = '', sign, ...offset] = match;
  const date = new Date(0);
  const astronomicalYear = match[12] === undefined ? Number(year) : 1 - Number(year);
  date.setUTCFullYear(astronomicalYear, Number(month) - 1, Number(day));
  date.setUTCHours(Number(hour), Number(minute), Number(second));
  const [hours, minutes, seconds] = offset.map((part) =>
    BigInt(part === undefined || part === ' BC' ? 0 : part),
  );
  const offsetSeconds = (hours ?? 0n) * 3600n + (minutes ?? 0n) * 60n + (seconds ?? 0n);
  const localUs = BigInt(date.getTime()) * 1000n + BigInt(fraction.padEnd(6, '0'));
  const utcUs = localUs - (sign === '-' ? -offsetSeconds : offsetSeconds) * 1_000_000n;
  return utcUs - POSTGRES_EPOCH_US;
}

const MONTHS_PER_UNIT: Readonly<Record<string, number>> = { year: 12, mon: 1 };

/** Reads what `IntervalStyle = postgres` prints: `1 year 2 mons -3 days +04:05:06.789`. */
function encodeInterval(text: string): Buffer {
  const bytes = Buffer.alloc(16);
  if (text === 'infinity' || text === '-infinity') {
    const isPositive = text === 'infinity';
    bytes.writeBigInt64BE(isPositive ? INT64_MAX : INT64_MIN, 0);
    bytes.writeInt32BE(isPositive ? 0x7fff_ffff : -0x8000_0000, 8);
    bytes.writeInt32BE(isPositive ? 0x7fff_ffff : -0x8000_0000, 12);
    return bytes;
  }
  const match = /^((?:[+-]?\d+ (?:year|mon|day)s? ?)*)(?:([+-])?(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?$/.exec(
    text,
  );
  if (match === null || text === '') throw notOf('interval', text);
  let months = 0;
  let days = 0;
  for (const [, count, unit] of (match[1] ?? '').matchAll(/([+-]?\d+) (year|mon|day)/g)) {
    if (unit === 'day') days += Number(count);
    else months += Number(count) * (MONTHS_PER_UNIT[unit ?? ''] ?? 0);
  }
  const seconds = BigInt(match[3] ?? 0) * 3600n + BigInt(match[4] ?? 0) * 60n + BigInt(match[5] ?? 0);
  const us = seconds * 1_000_000n + BigInt((match[6] ?? '').padEnd(6, '0'));
  bytes.writeBigInt64BE(match[2] === '-' ? -us : us, 0);
  bytes.writeInt32BE(days, 8);
  bytes.writeInt32BE(months, 12);
  return bytes;
}

const NUMERIC_SIGN = {
  positive: 0x0000,
  negative: 0x4000,
  nan: 0xc000,
  infinity: 0xd000,
  minusInfinity: 0xf000,
};

/** Base-10000 digits with the weight of the first, as numeric_send writes them. */
function encodeNumeric(text: string): Buffer {
  if (text === 'NaN') return numericBytes({ digits: [], weight: 0, sign: NUMERIC_SIGN.nan, scale: 0 });
  if (text === 'Infinity' || text === '-Infinity') {
    const sign = text === 'Infinity' ? NUMERIC_SIGN.infinity : NUMERIC_SIGN.minusInfinity;
    // The scale means nothing here; Postgres sends this one.
    return numericBytes({ digits: [], weight: 0, sign, scale: 32 });
  }
  const match = /^([+-])?(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?$/i.exec(text);
  if (match === null || `${match[2]}${match[3] ?? ''}` === '') throw notOf('numeric', text);
  const exponent = Number(match[4] ?? 0);
  const shifted = shiftPoint({ whole: match[2] ?? '', fraction: match[3] ?? '', exponent });
  const whole = shifted.whole.padStart(Math.ceil(shifted.whole.length / 4) * 4, '0');
  const fraction = shifted.fraction.padEnd(Math.ceil(shifted.fraction.length / 4) * 4, '0');
  const digits = ((whole + fraction).match(/.{4}/g) ?? []).map(Number);
  let weight = whole.length / 4 - 1;
  while (digits[0] === 0) {
    digits.shift();
    weight -= 1;
  }
  while (digits.at(-1) === 0) digits.pop();
  if (digits.length === 0) weight = 0;
  const isNegative = match[1] === '-' && digits.length > 0;
  const sign = isNegative ? NUMERIC_SIGN.negative : NUMERIC_SIGN.positive;
  return numericBytes({ digits, weight, sign, scale: shifted.fraction.length });
}

/** Moves the decimal point by `exponent` places. */
function shiftPoint(number: { whole: string; fraction: string; exponent: number }): {
  whole: string;
  fraction: string;
} {
  const { whole, fraction, exponent } = number;
  if (exponent >= 0) {
    const padded = fraction.padEnd(exponent, '0');
    return { whole: whole + padded.slice(0, exponent), fraction: padded.slice(exponent) };
  }
  const padded = whole.padStart(-exponent, '0');
  return { whole: padded.slice(0, padded.length + exponent), fraction: padded.slice(exponent) + fraction };
}

function numericBytes(number: { digits: number[]; weight: number; sign: number; scale: number }): Buffer {
  const bytes = Buffer.alloc(8 + number.digits.length * 2);
  bytes.writeUInt16BE(number.digits.length, 0);
  bytes.writeInt16BE(number.weight, 2);
  bytes.writeUInt16BE(number.sign, 4);
  bytes.writeUInt16BE(number.scale, 6);
  number.digits.forEach((digit, at) => bytes.writeUInt16BE(digit, 8 + at * 2));
  return bytes;
}

/**
 * A parameter's binary form, as text, by the type the client declared. An undeclared one counts as text, whose binary
 * form is itself. @throws InputError `feature_not_supported` for types that none of our statements takes
 */
export function decodeBinaryParameter(oid: number, bytes: Buffer): string {
  switch (oid) {
    case 0:
    case TYPE_OID.text:
    case TYPE_OID.varchar:
    case TYPE_OID.unknown:
      return bytes.toString();
    case TYPE_OID.int8:
      return sized(bytes, 8).readBigInt64BE().toString();
    case TYPE_OID.int4:
      return sized(bytes, 4).readInt32BE().toString();
    case TYPE_OID.int2:
      return sized(bytes, 2).readInt16BE().toString();
    case TYPE_OID.bool:
      return sized(bytes, 1).readUInt8() === 0 ? 'f' : 't';
    case TYPE_OID.float8:
      return String(sized(bytes, 8).readDoubleBE());
    case TYPE_OID.float4:
      return String(sized(bytes, 4).readFloatBE());
    default:
      throw new InputError('feature_not_supported', `no binary parameters of the type with OID ${oid}`, {
        hint: 'send the parameter as text',
      });
  }
}

function sized(bytes: Buffer, length: number): Buffer {
  if (bytes.length !== length) {
    throw new InputError(
      'parameter_invalid',
      `incorrect binary data format: ${bytes.length} bytes, not ${length}`,
    );
  }
  return bytes;
}
