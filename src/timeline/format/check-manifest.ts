import { AppError, CorruptError } from '../../base/index.ts';
import {
  PAGE_BYTES,
  parseBackupLabel,
  parseRelationPath,
  walSegmentNoOf,
  walSegmentStart,
} from '../../pg/index.ts';
import { CONTROL_FILE_PATH, isDataPath } from '../data-directory/rules.ts';
import { FRAME_HEADER_BYTES, FRAME_PAGES_MAX } from './frame.ts';
import { copyPaths } from './copy-paths.ts';
import type { Manifest } from './manifest.ts';
import { FILE_KIND, NO_SOURCE } from './manifest-tables.ts';
import { PACK_HEADER_BYTES } from './pack.ts';

/**
 * Checks that a manifest describes a whole data directory and nothing else: every byte of every file comes from exactly
 * one place in a pack, no path leads out, the log is without a gap. Asserted before a manifest is written and asked again
 * whenever one was read. @throws CorruptError
 */
export function checkManifest(manifest: Manifest, name: string): void {
  const fail = (reason: string): never => {
    throw new CorruptError(`${name} is damaged: ${reason}`);
  };
  if (manifest.copies !== undefined) return checkLogical(manifest, fail);
  checkFiles(manifest, fail);
  checkFrames(manifest, fail);
  checkSources(manifest, fail);
  checkWal(manifest, fail);
  checkHistory(manifest, fail);
}

/**
 * Of an image that is not complete: files of pages that are whole, and nothing of which it could be restored. Nobody can take it for a backup:
 * it lacks the control file and the log, which `checkManifest` asks for. @throws CorruptError
 */
export function checkPartialImage(manifest: Manifest, name: string): void {
  const fail = (reason: string): never => {
    throw new CorruptError(`${name} is damaged: ${reason}`);
  };
  if (manifest.copies !== undefined || manifest.wal.length > 0) fail('it is of two kinds');
  if (manifest.files.kinds.some((kind) => kind !== FILE_KIND.pages))
    fail('it has files that are not of pages');
  checkPaths(manifest, fail);
  checkFrames(manifest, fail);
}

/** @throws AppError `object_state` when it is of databases or tables: it holds rows, or, unless a part is wanted, not all files */
export function requireImage(
  { copies, header }: Manifest,
  { name, isPartEnough }: { readonly name: string; readonly isPartEnough: boolean },
): void {
  if (copies === undefined && (isPartEnough || header.selection === undefined)) return;
  throw new AppError('object_state', `${name} is of databases or tables, not of a whole virtual cluster`, {
    hint: 'restore what it holds into a virtual cluster that serves: RESTORE DATABASE ..., RESTORE TABLE ...',
  });
}

type Fail = (reason: string) => never;

/** Of a logical backup: every COPY file that its tables name is there, and nothing else. */
function checkLogical(manifest: Manifest, fail: Fail): void {
  const { files, copies = [], header, wal, databases } = manifest;
  if (header.selection === undefined || wal.length > 0 || databases.length > 0) fail('it is of two kinds');
  const named = copies.flatMap((copy, number) => copyPaths(copy, number)).toSorted(byCodeUnits);
  if (named.length !== files.paths.length || named.some((path, row) => path !== files.paths[row])) {
    fail('its files are not those that its tables name');
  }
  for (const [row, path] of files.paths.entries()) {
    if (files.kinds[row] !== FILE_KIND.bytes) fail(`the kind of ${path} is wrong`);
    checkRuns(manifest, { row, path, isPages: false, fail });
  }
  checkFrames(manifest, fail);
}

function byCodeUnits(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

function checkFiles(manifest: Manifest, fail: Fail): void {
  checkPaths(manifest, fail);
  if (!manifest.files.paths.includes(CONTROL_FILE_PATH)) fail(`it has no ${CONTROL_FILE_PATH}`);
}

function checkPaths(manifest: Manifest, fail: Fail): void {
  const { files } = manifest;
  let previous = '';
  for (const [row, path] of files.paths.entries()) {
    if (!isDataPath(path)) fail(`it names a file that is no data: ${JSON.stringify(path)}`);
    if (row > 0 && path <= previous) fail('its files are not in order');
    previous = path;
    const isPages = files.kinds[row] === FILE_KIND.pages;
    if (isPages ? parseRelationPath(path) === null : files.kinds[row] !== FILE_KIND.bytes) {
      fail(`the kind of ${path} is wrong`);
    }
    checkRuns(manifest, { row, path, isPages, fail });
  }
}

function checkRuns(
  { files, runs, frames }: Manifest,
  { row, path, isPages, fail }: { row: number; path: string; isPages: boolean; fail: Fail },
): void {
  const unitBytes = isPages ? PAGE_BYTES : 1;
  const length = Number(files.lengths[row] ?? 0n);
  const first = files.firstRuns[row] ?? 0;
  const last = first + (files.runCounts[row] ?? 0);
  if (last > runs.starts.length) fail(`the runs of ${path} are out of range`);
  let covered = 0;
  for (let run = first; run < last; run++) {
    const count = runs.counts[run] ?? 0;
    if (runs.starts[run] !== covered || count === 0) fail(`the runs of ${path} have a gap`);
    if ((runs.frames[run] ?? 0) >= frames.packs.length) fail(`a frame of ${path} is out of range`);
    const index = runs.indexes[run] ?? 0;
    if (isPages ? index + count > FRAME_PAGES_MAX : index !== 0) fail(`a run of ${path} is malformed`);
    covered += count;
  }
  if (covered * unitBytes !== length) fail(`the runs of ${path} do not cover it`);
}

function checkFrames({ frames, packs }: Manifest, fail: Fail): void {
  for (let frame = 0; frame < frames.packs.length; frame++) {
    const pack = packs[frames.packs[frame] ?? 0];
    const offset = frames.offsets[frame] ?? 0;
    const length = frames.lengths[frame] ?? 0;
    const isInside = pack !== undefined && offset >= PACK_HEADER_BYTES && offset + length <= pack.bytes;
    if (!isInside || length < FRAME_HEADER_BYTES) fail('a frame lies outside its pack');
  }
}

function checkSources({ frames, sources }: Manifest, fail: Fail): void {
  if (sources === undefined) return;
  const { packIds, packs } = sources;
  if (packs.length !== frames.packs.length) fail('its sources are not those of its frames');
  if (packs.some((pack) => pack !== NO_SOURCE && pack >= packIds.length)) fail('a source is out of range');
}

function checkWal({ header, wal }: Manifest, fail: Fail): void {
  const segmentBytes = header.engine.walSegmentBytes;
  const { startLsn, stopLsn, targetLsn, walEndLsn, logEndLsn } = header;
  const isPastTarget = logEndLsn === undefined ? targetLsn < walEndLsn : logEndLsn === walEndLsn;
  if (startLsn > stopLsn || stopLsn > targetLsn || targetLsn > walEndLsn || !isPastTarget)
    fail('its positions are out of order');
  if (parseBackupLabel(header.backupLabel).startLsn !== startLsn)
    fail('its backup label is of another position');
  let segmentNo = walSegmentNoOf({ lsn: startLsn, segmentBytes });
  let endLsn = walSegmentStart({ segmentNo, segmentBytes });
  for (const object of wal) {
    const isNext = object.segmentNo === segmentNo && object.timelineId === header.timelineId;
    if (!isNext || endLsn !== walSegmentStart({ segmentNo, segmentBytes })) fail('its log has a gap');
    endLsn = object.endLsn;
    segmentNo += 1n;
  }
  if (endLsn !== walEndLsn) fail('its log does not reach its end');
}

/** From the beginning of the history to the backup's own log there is no gap. */
function checkHistory({ header, history }: Manifest, fail: Fail): void {
  if (history === undefined) return;
  const segmentBytes = header.engine.walSegmentBytes;
  const own = walSegmentNoOf({ lsn: header.startLsn, segmentBytes });
  let segmentNo = walSegmentNoOf({ lsn: history.beginLsn, segmentBytes });
  for (const object of history.wal) {
    const isWhole = object.endLsn === walSegmentStart({ segmentNo: segmentNo + 1n, segmentBytes });
    const isNext = object.segmentNo === segmentNo && object.timelineId === header.timelineId;
    if (!isNext || !isWhole) fail('the log of its history has a gap');
    segmentNo += 1n;
  }
  const meetsOwn = history.wal.length === 0 ? segmentNo >= own : segmentNo === own;
  if (!meetsOwn || history.beginLsn > header.targetLsn || history.beginTime > header.endTime) {
    fail('the log of its history has a gap');
  }
}
