/** A data directory that no server runs on: what we read from it and do to it. */
import { open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, Lsn, Rng } from '../base/index.ts';
import { CorruptError, errnoOf, parseLsn, RESTORE_PROGRESS_FILE, timestampToMs } from '../base/index.ts';
import {
  type ControlFile,
  MOCK_NONCE_BYTES,
  parseControlFile,
  WAL_LONG_HEADER_BYTES,
  withControlFileIdentity,
  withWalSystemIdentifier,
} from '../pg/index.ts';
import type { Privileges } from './privileges/contract.ts';

/** Configuration is the node's. Files of these names inside a data directory are never read, and deleted. */
const FOREIGN_CONFIGURATION = [
  'postgresql.conf',
  'postgresql.auto.conf',
  'pg_hba.conf',
  'pg_ident.conf',
] as const;
/** Signs that would turn a start into a recovery nobody asked for. */
const RECOVERY_SIGNS = ['recovery.signal', 'standby.signal'] as const;

const WAL_SEGMENT = /^[0-9A-F]{24}$/;

/** @throws like `parseControlFile`, and with an errno when it cannot be read */
export async function readControlFile(dataDirectory: string): Promise<ControlFile> {
  return parseControlFile(await readFile(join(dataDirectory, 'global', 'pg_control')));
}

/**
 * Where a timeline left the one before: the last line of its history file, whose lines are timeline, position and reason.
 * @throws CorruptError when Postgres wrote no such file
 */
export async function readForkLsn(dataDirectory: string, timelineId: number): Promise<Lsn> {
  const name = `${timelineId.toString(16).toUpperCase().padStart(8, '0')}.history`;
  const path = join(dataDirectory, 'pg_wal', name);
  const lines = (await readFile(path, 'utf8')).split('\n').filter((line) => /^\d/.test(line));
  const position = lines.at(-1)?.split('\t')[1];
  if (position === undefined) throw new CorruptError(`${path} does not tell where its timeline begins`);
  return parseLsn(position);
}

/** Whether the directory was promoted: Postgres writes the history of its new timeline before anything on it. */
export async function hasLaterTimeline(dataDirectory: string, timelineId: number): Promise<boolean> {
  const names = await readdir(join(dataDirectory, 'pg_wal'));
  return names.some((name) => {
    const match = /^([0-9A-F]{8})\.history$/.exec(name);
    return match !== null && Number.parseInt(match[1] ?? '', 16) > timelineId;
  });
}

/** Deletes configuration that came with the data. */
export async function removeForeignConfiguration(dataDirectory: string): Promise<void> {
  for (const name of FOREIGN_CONFIGURATION) await rm(join(dataDirectory, name), { force: true });
}

/** Before every start: deletes configuration that came with the data, and signs of a recovery. */
export async function clearForStart(
  dataDirectory: string,
  { privileges }: { readonly privileges: Privileges },
): Promise<void> {
  const names = new Set(await readdir(dataDirectory));
  const present = [...FOREIGN_CONFIGURATION, ...RECOVERY_SIGNS].filter((name) => names.has(name));
  if (present.length > 0) await privileges.removeFiles(dataDirectory, present);
}

/** From now on the directory is not what was written: nobody may go on with writing it. Durable when it returns. */
export async function endRestoreProgress(
  dataDirectory: string,
  { privileges }: { readonly privileges: Privileges },
): Promise<void> {
  if (!(await isPresent(join(dataDirectory, RESTORE_PROGRESS_FILE)))) return;
  await privileges.removeFiles(dataDirectory, [RESTORE_PROGRESS_FILE]);
}

/** Forgets what was counted so far, as a crash does: copies begin with figures of their own. */
export async function removeStatistics(dataDirectory: string): Promise<void> {
  const directory = join(dataDirectory, 'pg_stat');
  for (const name of await readdir(directory)) await rm(join(directory, name));
}

/** A number no other system has: seconds in the upper half as initdb does, chance in the lower. */
export function newSystemIdentifier(options: { clock: Clock; rng: Rng }): bigint {
  const seconds = BigInt(Math.trunc(timestampToMs(options.clock.now()) / 1000));
  return (seconds << 32n) | BigInt(Buffer.from(options.rng.bytes(4)).readUInt32BE());
}

/** Makes a fresh copy of a cleanly stopped data directory a system of its own. Not atomic: before it is published. */
export async function reidentify(options: {
  dataDirectory: string;
  systemIdentifier: bigint;
  rng: Rng;
}): Promise<void> {
  const { dataDirectory, systemIdentifier } = options;
  const control = join(dataDirectory, 'global', 'pg_control');
  const mockNonce = options.rng.bytes(MOCK_NONCE_BYTES);
  await overwrite(control, withControlFileIdentity(await readFile(control), { systemIdentifier, mockNonce }));
  for (const segment of await listWalSegments(dataDirectory)) {
    const path = join(dataDirectory, 'pg_wal', segment);
    const header = withWalSystemIdentifier(
      await readBeginning(path, WAL_LONG_HEADER_BYTES),
      systemIdentifier,
    );
    await overwrite(path, header);
  }
}

/** Removes WAL segments but the one replay would begin in: of a cleanly stopped directory, all the rest is unused. */
export async function trimWal(dataDirectory: string): Promise<void> {
  const control = await readControlFile(dataDirectory);
  const segmentNumber = control.redoLsn / BigInt(control.walSegmentBytes);
  const segmentsPerId = 0x1_0000_0000n / BigInt(control.walSegmentBytes);
  const needed = [BigInt(control.timelineId), segmentNumber / segmentsPerId, segmentNumber % segmentsPerId]
    .map((part) => part.toString(16).toUpperCase().padStart(8, '0'))
    .join('');
  for (const segment of await listWalSegments(dataDirectory)) {
    if (segment !== needed) await rm(join(dataDirectory, 'pg_wal', segment));
  }
}

async function listWalSegments(dataDirectory: string): Promise<string[]> {
  return (await readdir(join(dataDirectory, 'pg_wal'))).filter((name) => WAL_SEGMENT.test(name));
}

async function readBeginning(path: string, bytes: number): Promise<Uint8Array> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(bytes), 0, bytes, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

async function overwrite(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(bytes, 0, bytes.length, 0);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** True when the path is there. */
export async function isPresent(path: string): Promise<boolean> {
  try {
    await (await open(path, 'r')).close();
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
