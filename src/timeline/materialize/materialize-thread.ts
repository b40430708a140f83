/** Entry of the threads that write a data directory. */
import { randomBytes } from 'node:crypto';
import { workerData } from 'node:worker_threads';
import { PageBuffer } from '../../pg/index.ts';
import { openCollection } from '../collection/open.ts';
import { FRAME_PAGES_MAX } from '../format/frame.ts';
import { readWalObject } from '../objects/wal-reader.ts';
import { walObjectRawBytes } from '../format/wal-object.ts';
import { rest } from '../worker/limiter.ts';
import { type Answer, serveTasks } from '../worker/thread-server.ts';
import { TargetFiles } from './target-files.ts';
import { readVaultSegment } from './read-vault-segment.ts';
import type { MaterializeResultOfTask, MaterializeTask, MaterializeThreadData } from './tasks.ts';
import { writeRange, type WriteTools } from './write-range.ts';

/** Tasks under way in a thread: the next range is on its way while this one is written. */
const TASKS_AT_ONCE = 2;
/** A log segment is filled up with zeroes in pieces of this size. */
const ZEROES = new Uint8Array(1024 * 1024);

const data = workerData as MaterializeThreadData; // Given by the materialization that started us.
/** The pool ends threads by terminating them; nothing here is cancelled one by one. */
const { signal } = new AbortController();
const rng = { bytes: (length: number) => new Uint8Array(randomBytes(length)) };
let frameBegunMs = performance.now();

const tools: WriteTools = {
  ...data,
  store: openCollection(data.collection, { rng }),
  pages: new PageBuffer({ pagesMax: FRAME_PAGES_MAX }),
  beforeFrame() {
    frameBegunMs = performance.now();
  },
  afterFrame() {
    rest(data.restCell, { workedMs: performance.now() - frameBegunMs });
  },
  signal,
};

serveTasks(run, { atOnce: TASKS_AT_ONCE });

async function run(task: MaterializeTask): Promise<Answer<MaterializeResultOfTask>> {
  if (task.kind === 'changes') {
    // Only rewinds ask for it, and those whose log has no summaries.
    const { readChangesOfSpan } = await import('./changes-of-span.ts');
    return { result: { writtenBytes: 0, changes: await readChangesOfSpan(task, { signal }) } };
  }
  if (task.kind === 'range') return { result: { writtenBytes: await writeRange(task, tools) } };
  using files = new TargetFiles({ directory: data.targetDirectory });
  const { path } = task;
  const isCheck = task.kind === 'vault' && task.isCheck === true;
  const write = (bytes: Uint8Array, position: number) => {
    if (!isCheck) files.write(path, bytes, { position });
  };
  let end: number;
  if (task.kind === 'wal') {
    await readWalObject(tools.store, task.wal, { write, signal });
    end = walObjectRawBytes(task.wal.header);
  } else {
    end = await readVaultSegment(task, { rng, write, signal });
  }
  const { segmentBytes } = task.kind === 'wal' ? task.wal.header : task.segment;
  for (let position = end; position < segmentBytes; position += ZEROES.length) {
    write(ZEROES.subarray(0, segmentBytes - position), position);
  }
  return { result: { writtenBytes: files.writtenBytes } };
}
