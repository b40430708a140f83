/** Decides what an incremental base reads of each file, and what it leaves where the older base has it. */
import { required } from '../../base/index.ts';
import { firstBlockOf, PAGE_BYTES, parseRelationPath, type RelationFile } from '../../pg/index.ts';
import type { DataFile } from '../data-directory/list-files.ts';
import type { OlderBase } from './older-base.ts';
import { eachRange, type PageRanges, rangesOfPages, unionOfRanges } from './page-ranges.ts';
import type { PlannedFile } from './slices.ts';

/** A pack of which a smaller part would still be used is given up: what is left of it is read anew. */
const PACK_LIVE_SHARE_MIN = 0.25;

/** What changed since the older base began. */
export interface PageChanges {
  /** Blocks of the relation's main fork from `beginBlock` up to, not including, `endBlock`; ascending. */
  changedBlocks(
    relation: Pick<RelationFile, 'databaseOid' | 'filenode'>,
    range: { readonly beginBlock: number; readonly endBlock: number },
  ): Iterable<number>;
}

/**
 * Every page that changed, or that the older base does not have, is read; so are all other files, and all forks but the main
 * one: a change of the heap clears bits of the visibility map without naming its page in the log, the free space map is hardly
 * logged at all, and init forks are tiny.
 */
export function planIncremental(
  files: readonly DataFile[],
  { older, changes }: { readonly older: OlderBase; readonly changes: PageChanges },
): readonly PlannedFile[] {
  const planned = files.map((file) => ({ ...file, changed: changedPages(file, { older, changes }) }));
  return readSparsePacksAnew(planned, older);
}

/** Null when the whole file is to be read. */
function changedPages(
  file: DataFile,
  { older, changes }: { older: OlderBase; changes: PageChanges },
): PageRanges | null {
  const relation = parseRelationPath(file.path);
  const olderPages = older.pagesOf(file.path);
  if (relation === null || relation.fork !== 'main' || olderPages === null) return null;
  const pages = file.bytes / PAGE_BYTES;
  const firstBlock = firstBlockOf(relation);
  const range = { beginBlock: firstBlock, endBlock: firstBlock + pages };
  const logged = rangesOfPages(inFile(changes.changedBlocks(relation, range), firstBlock));
  // Pages that were appended and never written to are not in the log.
  return olderPages < pages ? unionOfRanges(logged, Uint32Array.of(olderPages, pages - olderPages)) : logged;
}

function* inFile(blocks: Iterable<number>, firstBlock: number): Iterable<number> {
  for (const block of blocks) yield block - firstBlock;
}

/** Packs that would be kept for little are kept for nothing, so that they can be deleted with the last base that needs them. */
function readSparsePacksAnew(files: readonly PlannedFile[], older: OlderBase): readonly PlannedFile[] {
  const live = new Float64Array(older.packs.length);
  for (const file of files) {
    for (const { pack, count } of keptRuns(file, older)) live[pack] = (live[pack] ?? 0) + count;
  }
  const units = older.unitsByPack();
  const isSparse = live.map((count, pack) =>
    count > 0 && count < required(units[pack], 'units of a pack') * PACK_LIVE_SHARE_MIN ? 1 : 0,
  );
  if (!isSparse.includes(1)) return files;
  return files.map((file) => {
    if (file.changed === null) return file;
    const fields: number[] = [];
    for (const { start, count, pack } of keptRuns(file, older)) {
      if (isSparse[pack] === 1) fields.push(start, count);
    }
    return { ...file, changed: unionOfRanges(file.changed, Uint32Array.from(fields)) };
  });
}

/** Parts of a file that stay where the older base has them. */
function* keptRuns({ path, bytes, changed }: PlannedFile, older: OlderBase) {
  if (changed === null) return;
  for (const range of gapsOf(changed, bytes / PAGE_BYTES)) {
    for (const { start, count, frame } of older.runsOf(path, range)) {
      yield { start, count, pack: older.packOf(frame) };
    }
  }
}

function* gapsOf(
  ranges: PageRanges,
  pages: number,
): Iterable<{ readonly from: number; readonly end: number }> {
  let from = 0;
  for (const { first, count } of eachRange(ranges)) {
    if (first > from) yield { from, end: first };
    from = first + count;
  }
  if (from < pages) yield { from, end: pages };
}
