/**
 * Small durable records: JSON that names its format, its version and the checksum of its body. `docs/formats/store.md`
 * describes each of them.
 */
import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import { AppError, assert, CorruptError } from '../base/index.ts';
import { crc32c } from '../pg/index.ts';
import { type Owner, writeFileDurably } from './durable-files.ts';

/** Nothing we write comes near; anything larger is not ours. */
const RECORD_BYTES_MAX = 64 * 1024;

/** One kind of record: its name, the newest version this program writes, and what its body must look like. */
export interface RecordFormat<Body> {
  readonly format: string;
  readonly version: number;
  readonly body: z.ZodType<Body>;
}

/** The text of a record. Bodies hold plain JSON values only. */
export function sealRecord<Body>(format: RecordFormat<Body>, body: Body): string {
  const text = `${JSON.stringify(
    { format: format.format, version: format.version, checksum: checksumOf(body), body },
    null,
    2,
  )}\n`;
  assert(text.length <= RECORD_BYTES_MAX, `record ${format.format} is too long`);
  return text;
}

/**
 * Reads what `sealRecord` wrote. `name` is what messages call the record.
 * @throws CorruptError when it is anything else
 * @throws AppError `format_unsupported` when a newer release wrote it
 */
export function openRecord<Body>(format: RecordFormat<Body>, options: { text: string; name: string }): Body {
  const { text, name } = options;
  const outer = parseObject(text, name);
  if (outer['format'] !== format.format)
    throw new CorruptError(`${name} is not a record of ${format.format}`);
  const version = outer['version'];
  if (typeof version !== 'number' || !Number.isInteger(version) || version < 1) {
    throw new CorruptError(`${name} names no version`);
  }
  if (version > format.version) {
    throw new AppError(
      'format_unsupported',
      `${name} is of version ${version}, newer than ${format.version}`,
      {
        hint: 'start the release of Atoll that wrote it, or a later one',
      },
    );
  }
  if (outer['checksum'] !== checksumOf(outer['body'])) throw new CorruptError(`checksum mismatch in ${name}`);
  const body = format.body.safeParse(outer['body']);
  if (!body.success) throw new CorruptError(`${name} has unexpected content`, { cause: body.error });
  return body.data;
}

/** Writes a record atomically, to stay. */
export async function writeRecord<Body>(
  format: RecordFormat<Body>,
  options: { path: string; body: Body; mode: number; owner?: Owner | null },
): Promise<void> {
  await writeFileDurably({ ...options, content: sealRecord(format, options.body) });
}

/** @throws like `openRecord`, and with errno `ENOENT` when there is none */
export async function readRecord<Body>(format: RecordFormat<Body>, path: string): Promise<Body> {
  return openRecord(format, { text: await readFile(path, 'utf8'), name: path });
}

/** JSON keeps the order of keys, so the text of a body that was read equals the text that was written. */
function checksumOf(body: unknown): string {
  const text = JSON.stringify(body) ?? '';
  return `crc32c:${crc32c(new TextEncoder().encode(text)).toString(16).padStart(8, '0')}`;
}

function parseObject(text: string, name: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CorruptError(`${name} is not JSON`, { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CorruptError(`${name} is not a JSON object`);
  }
  return value as Readonly<Record<string, unknown>>;
}
