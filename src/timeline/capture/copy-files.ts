import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { assert, type Clock, isAppError } from '../../base/index.ts';
import { PAGE_BYTES, parseControlFile } from '../../pg/index.ts';
import { CONTROL_FILE_PATH } from '../data-directory/rules.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { forEachConcurrently, type TaskPool } from '../worker/thread-pool.ts';
import type { ImageBuilder } from './image-builder.ts';
import { countPages } from './page-ranges.ts';
import { type PlannedFile, planCopy } from './slices.ts';
import type { CaptureResult, CaptureTask } from './tasks.ts';

/** Tasks each thread is given ahead, so that it never waits for us. */
const TASKS_AHEAD = 2;
/** The control file is written in one piece; a reading that is not whole so often is damage. */
const CONTROL_READS_MAX = 20;
const CONTROL_READ_WAIT_MS = 5;

export type CapturePool = TaskPool<CaptureTask, CaptureResult>;

/** Copies all files but the control file. Reports bytes as they are done. */
export async function copyFiles(options: {
  readonly pool: CapturePool;
  readonly files: readonly PlannedFile[];
  readonly image: ImageBuilder;
  readonly onCopied: (bytes: number) => void;
}): Promise<void> {
  const { pool, files, image, onCopied } = options;
  await forEachConcurrently(planCopy(files), { concurrency: pool.size * TASKS_AHEAD }, async (slices) => {
    await addCopied({ pool, image }, { kind: 'copy', slices });
    faultPoint('capture.after_first_task');
    onCopied(slices.reduce((sum, { ranges }) => sum + countPages(ranges) * PAGE_BYTES, 0));
  });
}

/** Copies the control file, which must come after all others. */
export async function copyControlFile(options: {
  readonly pool: CapturePool;
  readonly image: ImageBuilder;
  readonly dataDirectory: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { pool, image } = options;
  const bytes = await readControlFile(options);
  const fileNo = image.addFile({ path: CONTROL_FILE_PATH, kind: 'bytes', bytes: bytes.length });
  await addCopied({ pool, image }, { kind: 'content', fileNo, bytes });
}

async function addCopied(
  { pool, image }: { pool: CapturePool; image: ImageBuilder },
  task: CaptureTask,
): Promise<void> {
  const result = await pool.run(task);
  assert(result.kind === 'copied', 'a copy was asked for');
  image.add(result);
}

/** Reads until the file's own checksum says that it was not caught half written. */
async function readControlFile(options: {
  readonly dataDirectory: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}): Promise<Uint8Array> {
  for (let attempt = 1; ; attempt++) {
    const bytes = await readFile(join(options.dataDirectory, CONTROL_FILE_PATH));
    try {
      parseControlFile(bytes);
      return bytes;
    } catch (error) {
      if (!isAppError(error, 'data_corrupt') || attempt === CONTROL_READS_MAX) throw error;
    }
    await options.clock.sleep(CONTROL_READ_WAIT_MS, { signal: options.signal });
  }
}
