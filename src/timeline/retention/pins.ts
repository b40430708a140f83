/** Claims on bases and log, each a small file of its own: docs/formats/timeline-store.md. */
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import {
  AppError,
  type Clock,
  CorruptError,
  errnoOf,
  formatLsn,
  InputError,
  parseIncarnationId,
  parseLsn,
  type Timestamp,
  tryFileLock,
} from '../../base/index.ts';
import type { Pin, TimelineStoreLocation } from '../store-contract.ts';
import { pinsDirectory } from '../store/layout.ts';
import { removeDurably, syncFolder, writeDurably } from '../vault/files.ts';

const PIN_ID = /^[a-z0-9-]{1,64}$/;
const PIN_SUFFIX = '.pin';
const OWNER_LENGTH_MAX = 200;
/** Beside the folder, which may not be there yet. */
const LOCK_NAME = 'pins-lock';
const LOCK_RETRY_MS = 20;

const lsn = z.string().transform((text) => parseLsn(text));
const pinSchema = z.strictObject({
  id: z.string().regex(PIN_ID),
  owner: z.string().min(1).max(OWNER_LENGTH_MAX),
  incarnation: z.string().transform((text) => parseIncarnationId(text)),
  fromLsn: lsn,
  throughLsn: lsn.nullable(),
  expiresAt: z
    .string()
    .regex(/^-?\d{1,19}$/)
    .transform((text) => BigInt(text) as Timestamp),
});

/**
 * Makes a claim last, or replaces the one of the same id: renewing is claiming again. While something is being removed it waits: what is
 * claimed is there when this returns, or was gone before.
 * @throws InputError `name_invalid`; AppError `object_not_found` when the timeline was removed
 */
export async function putPin(
  store: TimelineStoreLocation,
  pin: Pin,
  { clock }: { readonly clock: Pick<Clock, 'sleep'> },
): Promise<void> {
  const path = pinPath(store, pin.id);
  await whilePinsStand(store, { clock, signal: new AbortController().signal }, async () => {
    const directory = pinsDirectory(store);
    await mkdir(directory, { mode: 0o700 }).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
    await syncFolder(store.directory);
    await writeDurably(path, encodePin(pin));
  });
}

/** Runs `use` while nobody else claims or removes anything. @throws AppError `object_not_found` when there is no such timeline */
export async function whilePinsStand<T>(
  store: TimelineStoreLocation,
  { clock, signal }: { readonly clock: Pick<Clock, 'sleep'>; readonly signal: AbortSignal },
  use: () => Promise<T>,
): Promise<T> {
  const path = join(store.directory, LOCK_NAME);
  for (;;) {
    // A folder that is gone must not come back with a lock in it.
    await stat(store.directory).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
      throw new AppError(
        'object_not_found',
        `the timeline of virtual cluster ${store.virtualClusterId} is gone`,
      );
    });
    const lock = tryFileLock(path);
    if (lock === null) {
      await clock.sleep(LOCK_RETRY_MS, { signal });
      continue;
    }
    try {
      return await use();
    } finally {
      lock.release();
    }
  }
}

/** Harmless when there is none. @throws InputError `name_invalid` */
export async function removePin(store: TimelineStoreLocation, id: string): Promise<void> {
  const path = pinPath(store, id);
  if ((await namesIn(pinsDirectory(store))).includes(`${id}${PIN_SUFFIX}`)) await removeDurably(path);
}

/**
 * All claims, expired ones too, by id.
 * @throws CorruptError when one cannot be read: whoever deletes must not guess what it protects
 */
export async function readPins(store: TimelineStoreLocation): Promise<readonly Pin[]> {
  const names = (await namesIn(pinsDirectory(store))).filter((name) => name.endsWith(PIN_SUFFIX)).toSorted();
  const pins: Pin[] = [];
  for (const name of names) {
    const path = join(pinsDirectory(store), name);
    try {
      const pin = decodePin(await readFile(path, 'utf8'), path);
      if (`${pin.id}${PIN_SUFFIX}` !== name) throw new CorruptError(`${path} holds the pin ${pin.id}`);
      pins.push(pin);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error; // Let go of meanwhile.
    }
  }
  return pins;
}

export function encodePin(pin: Pin): string {
  const { id, owner, incarnation, expiresAt, throughLsn } = pin;
  const line = `atoll-pin 1 ${JSON.stringify({
    id,
    owner,
    incarnation,
    fromLsn: formatLsn(pin.fromLsn),
    throughLsn: throughLsn === null ? null : formatLsn(throughLsn),
    expiresAt: String(expiresAt),
  })}\n`;
  return `${line}${checksumOf(line)}\n`;
}

/** @throws CorruptError, AppError `format_unsupported` */
export function decodePin(text: string, name: string): Pin {
  const match = /^(atoll-pin (\d+) (.*)\n)([0-9a-f]{8})\n$/.exec(text);
  const [, line = '', version, json = '', checksum] = match ?? [];
  if (checksum === undefined || checksumOf(line) !== checksum) throw new CorruptError(`${name} is damaged`);
  if (version !== '1') {
    throw new AppError('format_unsupported', `${name} is of format version ${version}, supported is 1`, {
      hint: 'use the release that wrote it, or a newer one',
    });
  }
  try {
    return pinSchema.parse(JSON.parse(json));
  } catch (error) {
    throw new CorruptError(`${name} is damaged`, { cause: error });
  }
}

function pinPath(store: TimelineStoreLocation, id: string): string {
  if (!PIN_ID.test(id)) throw new InputError('name_invalid', `not the id of a pin: ${JSON.stringify(id)}`);
  return join(pinsDirectory(store), `${id}${PIN_SUFFIX}`);
}

function checksumOf(line: string): string {
  return crc32(line).toString(16).padStart(8, '0');
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
