/** What a vault says of the life of a data directory: `incarnation.json`, described in docs/formats/vault.md. */
import { z } from 'zod';
import { AppError, assert, CorruptError, formatLsn, parseIncarnationId, parseLsn } from '../../base/index.ts';
import { crc32c } from '../../pg/index.ts';
import type { IncarnationRecord } from '../store-contract.ts';

const FORMAT = 'atoll-incarnation';
export const INCARNATION_RECORD_VERSION = 1;
/** Timelines of one incarnation are few: each is a promotion. */
export const INCARNATION_RECORD_BYTES_MAX = 1024 * 1024;

const incarnation = z.string().transform((text) => parseIncarnationId(text));
const lsn = z.string().transform((text) => parseLsn(text));
const bodySchema = z.strictObject({
  incarnation,
  parentIncarnation: incarnation.nullable(),
  forkLsn: lsn.nullable(),
  systemIdentifier: z
    .string()
    .regex(/^\d{1,20}$/)
    .transform((text) => BigInt(text)),
  engineMajor: z.int().positive(),
  timelines: z.array(z.strictObject({ timelineId: z.int().positive(), beginLsn: lsn })),
});
const outerSchema = z.strictObject({
  format: z.literal(FORMAT),
  version: z.int().positive(),
  checksum: z.string(),
  body: z.unknown(),
});

export function encodeIncarnationRecord(record: IncarnationRecord): string {
  const body = {
    incarnation: record.incarnation,
    parentIncarnation: record.parentIncarnation,
    forkLsn: record.forkLsn === null ? null : formatLsn(record.forkLsn),
    systemIdentifier: String(record.systemIdentifier),
    engineMajor: record.engineMajor,
    timelines: record.timelines.map(({ timelineId, beginLsn }) => ({
      timelineId,
      beginLsn: formatLsn(beginLsn),
    })),
  };
  assert(isAscending(record.timelines), 'timelines are in order');
  const version = INCARNATION_RECORD_VERSION;
  return `${JSON.stringify({ format: FORMAT, version, checksum: checksumOf(body), body }, null, 2)}\n`;
}

/** @throws CorruptError, AppError `format_unsupported` */
export function parseIncarnationRecord(text: string, name: string): IncarnationRecord {
  const outer = outerSchema.safeParse(parseJson(text, name));
  if (!outer.success)
    throw new CorruptError(`${name} is no record of an incarnation`, { cause: outer.error });
  const { version, checksum, body } = outer.data;
  if (version > INCARNATION_RECORD_VERSION) {
    throw new AppError(
      'format_unsupported',
      `${name} is of version ${version}, newer than ${INCARNATION_RECORD_VERSION}`,
      {
        hint: 'start the release of Atoll that wrote it, or a later one',
      },
    );
  }
  if (checksum !== checksumOf(body)) throw new CorruptError(`checksum mismatch in ${name}`);
  const record = parseBody(body, name);
  if (!isAscending(record.timelines)) throw new CorruptError(`${name} has timelines out of order`);
  return record;
}

function parseBody(body: unknown, name: string): IncarnationRecord {
  try {
    return bodySchema.parse(body);
  } catch (error) {
    throw new CorruptError(`${name} has unexpected content`, { cause: error });
  }
}

function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CorruptError(`${name} is not JSON`, { cause: error });
  }
}

function isAscending(timelines: IncarnationRecord['timelines']): boolean {
  return timelines.every(({ timelineId, beginLsn }, index) => {
    const before = timelines[index - 1];
    return before === undefined || (before.timelineId < timelineId && before.beginLsn <= beginLsn);
  });
}

/** JSON keeps the order of keys, so the text of a body that was read equals the text that was written. */
function checksumOf(body: unknown): string {
  const text = JSON.stringify(body) ?? '';
  return `crc32c:${crc32c(new TextEncoder().encode(text)).toString(16).padStart(8, '0')}`;
}
