import { required } from '../../base/index.ts';
import { parseBlobKey } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { CONTROL_FILE_PATH } from '../data-directory/rules.ts';
import type { Manifest } from '../format/manifest.ts';
import { FILE_KIND } from '../format/manifest-tables.ts';
import { FRAME_TAG_BYTES, packTagKey } from '../format/pack.ts';
import type { RangeTask } from './tasks.ts';

/** A task ends when it has read so much, or so many frames, which may expand a lot. */
const RANGE_BYTES_MAX = 4 * 1024 * 1024;
const RANGE_FRAMES_MAX = 64;
/** So much between two frames is read along rather than asking the storage twice. */
export const GAP_BYTES_MAX = 64 * 1024;

/** A task, and which files it writes how many targets of: rows of the manifest's files. */
export interface PlannedRange {
  readonly task: RangeTask;
  readonly targetsOfFile: ReadonlyMap<number, number>;
}

/** A part of a file: pages, or bytes. */
export interface Slice {
  readonly start: number;
  readonly count: number;
}

export interface PlanOptions {
  readonly key: ClusterKey;
  /** Which parts of a run are to be written, ascending; without it, all of every run. Asked for the same run more than once. */
  readonly wanted?: (run: Slice & { readonly file: number }) => readonly Slice[];
  readonly isInPlace?: boolean;
  readonly isCheck?: boolean;
}

export interface Plan {
  /** How many targets each file of the manifest has. */
  targetCounts(): Uint32Array;
  /** In the order of packs and offsets, so that storage is read from front to back. */
  ranges(): Iterable<PlannedRange>;
  /** Those of the control file, which is written last. */
  controlRanges(): Iterable<PlannedRange>;
}

/** Turns "which frame holds this part of a file" around: where does this frame go. */
export function planMaterialize(manifest: Manifest, options: PlanOptions): Plan {
  const { files } = manifest;
  const controlRow = files.paths.indexOf(CONTROL_FILE_PATH);
  const targets = targetsByFrame(manifest);
  const order = framesInOrder(manifest);
  const isControl = (run: number) => targets.fileOfRun[run] === controlRow;
  const slicesOf = (run: number) => wantedSlices(run, { manifest, targets, ...options });
  const common = { manifest, targets, order, slicesOf, ...options };
  return {
    ranges: () => cutRanges({ ...common, wants: (run) => !isControl(run) }),
    controlRanges: () => cutRanges({ ...common, wants: isControl }),
    targetCounts() {
      const counts = new Uint32Array(files.paths.length);
      for (const [run, file] of targets.fileOfRun.entries()) {
        counts[file] = (counts[file] ?? 0) + slicesOf(run).length;
      }
      return counts;
    },
  };
}

/** Parts of a run, where in its frame each begins among them. */
type FrameSlice = Slice & { readonly run: number; readonly index: number };

function wantedSlices(
  run: number,
  { manifest, targets, wanted }: { manifest: Manifest; targets: Targets } & PlanOptions,
): readonly FrameSlice[] {
  const { runs } = manifest;
  const start = runs.starts[run] ?? 0;
  const count = runs.counts[run] ?? 0;
  const index = runs.indexes[run] ?? 0;
  if (wanted === undefined) return [{ run, start, count, index }];
  const slices = wanted({ file: targets.fileOfRun[run] ?? 0, start, count });
  return slices.map((slice) => ({ ...slice, run, index: index + slice.start - start }));
}

interface Targets {
  readonly fileOfRun: Uint32Array;
  /** Runs, those of one frame together; frame f has `runs[first[f]]` up to `runs[first[f + 1]]`. */
  readonly runs: Uint32Array;
  readonly first: Uint32Array;
}

function targetsByFrame({ files, runs, frames }: Manifest): Targets {
  const runCount = runs.starts.length;
  const fileOfRun = new Uint32Array(runCount);
  for (let row = 0; row < files.paths.length; row++) {
    const begin = files.firstRuns[row] ?? 0;
    fileOfRun.fill(row, begin, begin + (files.runCounts[row] ?? 0));
  }
  const first = new Uint32Array(frames.packs.length + 1);
  for (const frame of runs.frames) first[frame + 1] = (first[frame + 1] ?? 0) + 1;
  for (let frame = 1; frame < first.length; frame++)
    first[frame] = (first[frame] ?? 0) + (first[frame - 1] ?? 0);
  const next = first.slice();
  const sorted = new Uint32Array(runCount);
  for (const [run, frame] of runs.frames.entries()) {
    const at = next[frame] ?? 0;
    sorted[at] = run;
    next[frame] = at + 1;
  }
  return { fileOfRun, runs: sorted, first };
}

/** Frame numbers by pack and offset. */
function framesInOrder({ frames }: Manifest): Uint32Array {
  const { packs, offsets } = frames;
  return Uint32Array.from(packs.keys()).sort(
    (left, right) => (packs[left] ?? 0) - (packs[right] ?? 0) || (offsets[left] ?? 0) - (offsets[right] ?? 0),
  );
}

interface CutOptions {
  readonly manifest: Manifest;
  readonly key: ClusterKey;
  readonly targets: Targets;
  readonly order: Uint32Array;
  readonly wants: (run: number) => boolean;
  readonly slicesOf: (run: number) => readonly FrameSlice[];
  readonly isInPlace?: boolean;
  readonly isCheck?: boolean;
}

function* cutRanges(options: CutOptions): Iterable<PlannedRange> {
  const { frames } = options.manifest;
  let members: { readonly frame: number; readonly slices: readonly FrameSlice[] }[] = [];
  let begin = 0;
  let end = 0;
  let pack = -1;
  for (const frame of options.order) {
    const slices = slicesOfFrame(frame, options);
    if (slices.length === 0) continue;
    const offset = frames.offsets[frame] ?? 0;
    const isNext = frames.packs[frame] === pack && offset - end <= GAP_BYTES_MAX;
    const isFull = end - begin >= RANGE_BYTES_MAX || members.length >= RANGE_FRAMES_MAX;
    if (members.length > 0 && (!isNext || isFull)) {
      yield rangeOf(members, options);
      members = [];
    }
    if (members.length === 0) begin = offset;
    members.push({ frame, slices });
    end = offset + (frames.lengths[frame] ?? 0);
    pack = frames.packs[frame] ?? 0;
  }
  if (members.length > 0) yield rangeOf(members, options);
}

function slicesOfFrame(frame: number, { targets, wants, slicesOf }: CutOptions): readonly FrameSlice[] {
  const runs = Array.from(targets.runs.subarray(targets.first[frame], targets.first[frame + 1]));
  return runs.filter(wants).flatMap(slicesOf);
}

function rangeOf(
  members: readonly { readonly frame: number; readonly slices: readonly FrameSlice[] }[],
  { manifest, key, targets, isInPlace = false, isCheck = false }: CutOptions,
): PlannedRange {
  const { files, frames, packs } = manifest;
  const value = (column: Uint32Array | Uint16Array, row: number) => required(column[row], 'row of a table');
  const firstFrame = required(members[0], 'frames of a range').frame;
  const lastFrame = required(members.at(-1), 'frames of a range').frame;
  const pack = required(packs[value(frames.packs, firstFrame)], 'pack of a frame');
  const fileNos = new Map<number, number>();
  const targetsOfFile = new Map<number, number>();
  const fileNoOf = (run: number) => {
    const row = value(targets.fileOfRun, run);
    const fileNo = fileNos.get(row) ?? fileNos.size;
    fileNos.set(row, fileNo);
    targetsOfFile.set(row, (targetsOfFile.get(row) ?? 0) + 1);
    return fileNo;
  };
  const allSlices = members.flatMap((member) => member.slices);
  const offset = value(frames.offsets, firstFrame);
  const targetFields = allSlices.flatMap(({ run, start, count, index }) => [
    fileNoOf(run),
    start,
    count,
    index,
  ]);
  const task: RangeTask = {
    kind: 'range',
    key: parseBlobKey(pack.path),
    startLsn: manifest.header.startLsn,
    isInPlace,
    isCheck,
    tagKey: packTagKey({ key, id: Buffer.from(pack.id, 'hex') }),
    offset,
    length: value(frames.offsets, lastFrame) + value(frames.lengths, lastFrame) - offset,
    files: Array.from(fileNos.keys(), (row) => ({
      path: required(files.paths[row], 'path of a file'),
      kind: files.kinds[row] === FILE_KIND.pages ? 'pages' : 'bytes',
    })),
    frames: Uint32Array.from(
      members.flatMap(({ frame, slices: { length } }) => [
        value(frames.offsets, frame),
        value(frames.lengths, frame),
        value(frames.crcs, frame),
        length,
      ]),
    ),
    tags: Uint8Array.from(
      Buffer.concat(
        members.map(({ frame }) =>
          frames.tags.subarray(frame * FRAME_TAG_BYTES, (frame + 1) * FRAME_TAG_BYTES),
        ),
      ),
    ),
    targets: Uint32Array.from(targetFields),
  };
  return { task, targetsOfFile };
}
