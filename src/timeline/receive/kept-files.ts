/** What earlier attempts at an image have left and what of it can be gone on with: read again, byte for byte. */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, readSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CancelledError, RESTORE_PROGRESS_FILE } from '../../base/index.ts';
import { firstBlockOf, PAGE_BYTES, PageBuffer, parseRelationPath } from '../../pg/index.ts';
import { openDataFile } from '../data-directory/open-file.ts';
import { type Arrived, type ArrivedFile, type ImageStart, mayBeKept } from './receive-progress.ts';

const READ_PAGES = 128;

export type KeptAttempts = Extract<Arrived, { kind: 'some' }>['attempts'];

export interface KeptFiles {
  readonly attempts: KeptAttempts;
  readonly files: ReadonlyMap<string, ArrivedFile>;
  readonly bytes: number;
  /** All of them are as of here or later; null when there are none. */
  readonly since: ImageStart | null;
}

export const NOTHING_KEPT: KeptFiles = { attempts: [], files: new Map(), bytes: 0, since: null };

/**
 * The files that are what came, and hold no page that is torn or damaged: such a one may have been caught while it was written, or on its way,
 * and no manifest was there yet to tell. `hasChecksums` says whether pages of the source tell that at all.
 */
export async function soundFiles(
  directory: string,
  options: { attempts: KeptAttempts; hasChecksums: boolean; signal: AbortSignal },
): Promise<KeptFiles> {
  const { attempts, hasChecksums, signal } = options;
  const timelineId = attempts.at(-1)?.start.timelineId;
  const pages = new PageBuffer({ pagesMax: READ_PAGES });
  const files = new Map<string, ArrivedFile>();
  const sound: { start: ImageStart; files: ArrivedFile[] }[] = [];
  let bytes = 0;
  for (const { start, files: claimed } of attempts) {
    if (start.timelineId !== timelineId) continue;
    const kept: ArrivedFile[] = [];
    for (const file of claimed) {
      if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
      if (files.has(file.path) || !isSound(directory, { file, pages, hasChecksums })) continue;
      files.set(file.path, file);
      kept.push(file);
      bytes += file.bytes;
      // Reading is not waited for: whoever cancels is to be heard.
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (kept.length > 0) sound.push({ start, files: kept });
  }
  return { attempts: sound, files, bytes, since: oldest(sound) };
}

function oldest(attempts: KeptAttempts): ImageStart | null {
  const [first = null, ...others] = attempts.map(({ start }) => start);
  return others.reduce(
    (before, start) => (before !== null && start.startLsn < before.startLsn ? start : before),
    first,
  );
}

function isSound(
  directory: string,
  { file, pages, hasChecksums }: { file: ArrivedFile; pages: PageBuffer; hasChecksums: boolean },
): boolean {
  const { path, bytes, checksum } = file;
  const relation = parseRelationPath(path);
  if (relation === null || !mayBeKept(file)) return false;
  const descriptor = openDataFile(directory, path);
  if (descriptor === null) return false;
  try {
    if (fstatSync(descriptor).size !== bytes) return false;
    const hash = createHash('sha256');
    for (let at = 0; at < bytes; ) {
      const want = Math.min(pages.bytes.length, bytes - at);
      const count = readSync(descriptor, pages.bytes, 0, want, at);
      if (count % PAGE_BYTES !== 0 || count === 0) return false;
      hash.update(pages.bytes.subarray(0, count));
      const firstBlock = firstBlockOf(relation) + at / PAGE_BYTES;
      if (hasChecksums && pages.firstBadPage({ count: count / PAGE_BYTES, firstBlock }) !== -1) return false;
      at += count;
    }
    return hash.digest('hex') === checksum;
  } finally {
    closeSync(descriptor);
  }
}

/** What is not kept may hold anything. Folders stay. */
export async function removeOthers(
  directory: string,
  files: ReadonlyMap<string, ArrivedFile>,
): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name).slice(directory.length + 1);
    if (entry.isDirectory() || path === RESTORE_PROGRESS_FILE || files.has(path)) continue;
    await rm(join(directory, path));
  }
}
