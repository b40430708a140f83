/**
 * Nominal types for the quantities that must never be mixed up. A value gets its brand once, at the edge, in a
 * parse function; inside, brands are carried and never cast.
 */
import { InputError } from './errors.ts';

declare const brand: unique symbol;
export type Branded<T, Name extends string> = T & { readonly [brand]: Name };

/** Byte position in the write-ahead log. Compare with `<`; subtract with `lsnDistanceBytes`. */
export type Lsn = Branded<bigint, 'Lsn'>;
/** Microseconds since 1970 in UTC. */
export type Timestamp = Branded<bigint, 'Timestamp'>;
/** Zero-based 8 KiB page inside one relation fork. */
export type PageNo = Branded<number, 'PageNo'>;
/** Number of a virtual cluster in its physical cluster: 1 is `system`, app virtual clusters begin at 3. */
export type VirtualClusterId = Branded<number, 'VirtualClusterId'>;
/** One life of a data directory, a lower-case UUID. Ancestry is decided by these alone. */
export type IncarnationId = Branded<string, 'IncarnationId'>;
/** Number of a job, unique in its physical cluster. */
export type JobId = Branded<bigint, 'JobId'>;
/** A name that has passed `parseVirtualClusterName`. */
export type VirtualClusterName = Branded<string, 'VirtualClusterName'>;

export const SYSTEM_VIRTUAL_CLUSTER_ID = 1 as VirtualClusterId;
export const FIRST_APP_VIRTUAL_CLUSTER_ID = 3 as VirtualClusterId;
export const SYSTEM_VIRTUAL_CLUSTER_NAME = 'system' as VirtualClusterName;

/** Reads `16/B374D848`. @throws InputError `lsn_malformed` */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9a-f]{1,8})\/([0-9a-f]{1,8})$/i.exec(text);
  if (match === null) throw new InputError('lsn_malformed', `not a log position: "${text}"`);
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** Prints as Postgres does: two hexadecimal halves, upper case, no padding. */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffff_ffffn).toString(16)}`.toUpperCase();
}

/** Bytes from `from` to `to`; negative when `to` lies before `from`. */
export function lsnDistanceBytes(span: { from: Lsn; to: Lsn }): bigint {
  return span.to - span.from;
}

export function timestampFromMs(ms: number): Timestamp {
  return (BigInt(Math.trunc(ms)) * 1000n) as Timestamp;
}

/** Milliseconds since 1970, the microseconds cut off. */
export function timestampToMs(timestamp: Timestamp): number {
  return Number(timestamp / 1000n);
}

/** Prints `2024-04-18 10:07:45.000001+00`, as Postgres does in UTC (trailing zeroes of the fraction cut). */
export function formatTimestamp(timestamp: Timestamp): string {
  const fractionUs = ((timestamp % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const seconds = new Date(Number((timestamp - fractionUs) / 1000n))
    .toISOString()
    .slice(0, 19)
    .replace('T', ' ');
  const fraction = fractionUs === 0n ? '' : `.${fractionUs.toString().padStart(6, '0').replace(/0+$/, '')}`;
  return `${seconds}${fraction}+00`;
}

/** Reads what `formatTimestamp` prints, and the ISO form. @throws InputError `timestamp_malformed` */
export function parseTimestamp(text: string): Timestamp {
  const match = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:Z|\+00(?::?00)?)$/.exec(text);
  const ms = match === null ? Number.NaN : Date.parse(`${match[1]}T${match[2]}Z`);
  if (match === null || Number.isNaN(ms)) {
    throw new InputError('timestamp_malformed', `not a time in UTC: "${text}"`);
  }
  return (BigInt(ms) * 1000n + BigInt((match[3] ?? '').padEnd(6, '0'))) as Timestamp;
}

/** @throws InputError `incarnation_malformed` */
export function parseIncarnationId(text: string): IncarnationId {
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(text)) {
    throw new InputError('incarnation_malformed', `not an incarnation: "${text}"`);
  }
  return text as IncarnationId;
}

/** Longest name a virtual cluster may have, in characters: it names log tags, metric labels and reader clusters. */
export const VIRTUAL_CLUSTER_NAME_LENGTH_MAX = 63;

/**
 * Lower-case letters, digits and inner hyphens, beginning with a letter or digit: what a host name label, a metric label
 * and a connection option can all carry.
 * @throws InputError `virtual_cluster_name_invalid`
 */
export function parseVirtualClusterName(text: string): VirtualClusterName {
  if (text.length > VIRTUAL_CLUSTER_NAME_LENGTH_MAX || !/^[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?$/.test(text)) {
    throw new InputError(
      'virtual_cluster_name_invalid',
      `invalid virtual cluster name: ${JSON.stringify(text)}`,
      {
        hint: `use 1 to ${VIRTUAL_CLUSTER_NAME_LENGTH_MAX} lower-case letters, digits, "-" or "_", beginning and ending with a letter or digit`,
      },
    );
  }
  return text as VirtualClusterName;
}
