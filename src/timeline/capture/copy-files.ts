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
import type { CaptureResult, CaptureTask, Slice } from './tasks.ts';

/** Tasks each thread is given ahead, so that it never waits for us. */
const TASKS_AHEAD = 2;
/** The control file is written in one piece; a reading that is not whole so often is damage. */
const CONTROL_READS_MAX = 20;
const CONTROL_READ_WAIT_MS = 5;

export type CapturePool = TaskPool<CaptureTask, CaptureResult>;

/** Now and then no thread has anything under way, and what was copied so far can be recorded. */
export interface Stops {
  /** So much is copied from one stop to the next. */
  readonly everyBytes: number;
  readonly onStop: () => Promise<void>;
}

/** Copies all files but the control file. Reports bytes as they are done. */
export async function copyFiles(options: {
  readonly pool: CapturePool;
  readonly files: readonly PlannedFile[];
  readonly image: ImageBuilder;
  readonly onCopied: (bytes: number) => void;
  readonly stops: Stops | null;
}): Promise<void> {
  const { pool, files, image, onCopied, stops } = options;
  const tasks = planCopy(files);
  for (;;) {
    const stretch = new Stretch(tasks, { bytesMax: stops?.everyBytes ?? Number.POSITIVE_INFINITY });
    await forEachConcurrently(stretch.tasks(), { concurrency: pool.size * TASKS_AHEAD }, async (slices) => {
      await addCopied({ pool, image }, { kind: 'copy', slices });
      faultPoint('capture.after_first_task');
      onCopied(bytesOf(slices));
    });
    if (stretch.isLast) return;
    await stops?.onStop();
  }
}

/** Tasks of about so many bytes; those that follow are left where they are. */
class Stretch {
  readonly #tasks: Iterator<readonly Slice[], undefined>;
  readonly #bytesMax: number;
  #isLast = false;

  constructor(tasks: Iterator<readonly Slice[], undefined>, { bytesMax }: { readonly bytesMax: number }) {
    this.#tasks = tasks;
    this.#bytesMax = bytesMax;
  }

  /** No task follows. Known once all were taken. */
  get isLast(): boolean {
    return this.#isLast;
  }

  *tasks(): Iterable<readonly Slice[]> {
    for (let bytes = 0; bytes < this.#bytesMax; ) {
      const next = this.#tasks.next();
      if (next.done === true) {
        this.#isLast = true;
        return;
      }
      bytes += bytesOf(next.value);
      yield next.value;
    }
  }
}

function bytesOf(slices: readonly Slice[]): number {
  return slices.reduce((sum, { ranges }) => sum + countPages(ranges) * PAGE_BYTES, 0);
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
