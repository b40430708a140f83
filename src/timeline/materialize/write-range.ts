import { CorruptError, required } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import { firstBlockOf, PAGE_BYTES, type PageBuffer, parseRelationPath } from '../../pg/index.ts';
import { verifyPages } from '../data-directory/verify-pages.ts';
import { decodeFrame, FRAME_PAGES_MAX, type FrameContent } from '../format/frame.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';
import { checkExpectedFrame } from '../objects/expected-frame.ts';
import { ObjectReader } from '../objects/object-reader.ts';
import { TargetFiles } from './target-files.ts';
import { FRAME_FIELDS, type RangeTask, TARGET_FIELDS } from './tasks.ts';

/** Bits of a frame whose pages are all there. */
const EVERY_PAGE = (1n << BigInt(FRAME_PAGES_MAX)) - 1n;

export interface WriteTools {
  readonly store: BlobStore;
  readonly targetDirectory: string;
  /** Used from a frame's arrival to its end, without a wait between, so that tasks may share it. */
  readonly pages: PageBuffer;
  /** Called when a frame has arrived. */
  readonly beforeFrame: () => void;
  /** Called after every frame: the place to make way for others. */
  readonly afterFrame: () => void;
  readonly signal: AbortSignal;
}

/** Reads the frames of a range, checks them and writes their content. @throws CorruptError naming the pack */
export async function writeRange(task: RangeTask, tools: WriteTools): Promise<number> {
  const { store, signal } = tools;
  const range = { offset: task.offset, length: task.length };
  await using reader = new ObjectReader(store, task.key, { range, signal });
  using files = new TargetFiles({ directory: tools.targetDirectory });
  let target = 0;
  let at = task.offset;
  for (let frame = 0; frame * FRAME_FIELDS < task.frames.length; frame++) {
    const fields = task.frames.subarray(frame * FRAME_FIELDS, (frame + 1) * FRAME_FIELDS);
    const [offset = 0, length = 0, crc = 0, targets = 0] = fields;
    // Frames between two that are wanted are passed over: that is less than asking the storage once more.
    if (offset > at) await reader.take(offset - at);
    const stored = await reader.take(length);
    tools.beforeFrame();
    at = offset + length;
    const tag = task.tags.subarray(frame * FRAME_TAG_BYTES, (frame + 1) * FRAME_TAG_BYTES);
    checkExpectedFrame(stored, { offset, crc, tag }, { name: task.key, tagKey: task.tagKey });
    if (task.isCheck) {
      // It is what was written, when its content was checked: expanding it shows no more.
      tools.afterFrame();
      continue;
    }
    const content = decodeFrame(stored, task.key);
    if (content.kind === 'pages') fillPages(tools.pages, content);
    for (const end = target + targets; target < end; target++) {
      writeTarget(content, { task, target, files, tools });
    }
    tools.afterFrame();
  }
  return files.writtenBytes;
}

function fillPages(pages: PageBuffer, content: FrameContent & { kind: 'pages' }): void {
  let from = 0;
  for (let page = 0; page < content.pageCount; page++) {
    const at = page * PAGE_BYTES;
    if ((content.presence & (1n << BigInt(page))) === 0n) {
      pages.bytes.fill(0, at, at + PAGE_BYTES);
    } else {
      pages.bytes.set(content.presentPages.subarray(from, from + PAGE_BYTES), at);
      from += PAGE_BYTES;
    }
  }
}

function writeTarget(
  content: FrameContent,
  { task, target, files, tools }: { task: RangeTask; target: number; files: TargetFiles; tools: WriteTools },
): void {
  const fields = task.targets.subarray(target * TARGET_FIELDS, (target + 1) * TARGET_FIELDS);
  const [fileNo = 0, start = 0, count = 0, index = 0] = fields;
  const file = required(task.files[fileNo], 'file of a target');
  const length = content.kind === 'pages' ? content.pageCount : content.bytes.length;
  if (content.kind !== file.kind || index + count > length) {
    throw new CorruptError(`a frame of ${task.key} does not fit ${file.path}`);
  }
  if (content.kind === 'bytes') {
    files.write(file.path, content.bytes.subarray(0, count), {
      position: start,
      isPerhapsThere: task.isInPlace,
    });
    return;
  }
  const relation = required(parseRelationPath(file.path), `relation of ${file.path}`);
  const firstBlock = firstBlockOf(relation) + start - index;
  const range = { from: index, count: index + count, firstBlock };
  verifyPages(tools.pages, { ...range, startLsn: task.startLsn, path: `${file.path}, from ${task.key}` });
  const presence = task.isInPlace ? EVERY_PAGE : content.presence;
  const isPerhapsThere = task.isInPlace && relation.fork !== 'main';
  writePresent(presence, { start, count, index, path: file.path, isPerhapsThere, files, pages: tools.pages });
}

/** Writes stretches of pages that are there. What lies between stays a hole, which reads as zeroes. */
function writePresent(
  presence: bigint,
  run: {
    start: number;
    count: number;
    index: number;
    path: string;
    isPerhapsThere: boolean;
    files: TargetFiles;
    pages: PageBuffer;
  },
): void {
  const { start, count, index, path, isPerhapsThere, files, pages } = run;
  const isPresent = (page: number) => page < index + count && (presence & (1n << BigInt(page))) !== 0n;
  for (let page = index; page < index + count; page++) {
    if (!isPresent(page)) continue;
    let end = page + 1;
    while (isPresent(end)) end++;
    const bytes = pages.bytes.subarray(page * PAGE_BYTES, end * PAGE_BYTES);
    files.write(path, bytes, { position: (start + page - index) * PAGE_BYTES, isPerhapsThere });
    page = end;
  }
}
