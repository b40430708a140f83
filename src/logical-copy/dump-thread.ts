/**
 * Runs pg_dump, compiled to WebAssembly, in a thread of its own: it wants its socket to answer while it waits, so the thread sleeps until the
 * other one has the answer.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { DumpThreadData, FromDumpThread, ToDumpThread } from './dump-messages.ts';
import { FrameGatherer } from './frame-gatherer.ts';

/** The part of a PGlite that the package uses. It goes on without waiting for what these return. */
interface Served {
  query(): Promise<{ rows: { search_path: string }[] }>;
  exec(): Promise<void>;
  execProtocolRawStream(bytes: Uint8Array, options: { onRawData: (bytes: Uint8Array) => void }): void;
}

interface DumpModule {
  pgDump(options: { pg: Served; args: string[] }): Promise<unknown>;
}

// The package's own types name those of PGlite, which is not needed to run it.
const PACKAGE: string = '@electric-sql/pglite-tools/pg_dump';
const data = workerData as DumpThreadData; // Given by dump-schema.ts.
const replies = new Int32Array(data.replies);
const gatherer = new FrameGatherer();
let repliesTaken = 0;

const served: Served = {
  query: () => Promise.resolve({ rows: [{ search_path: '' }] }),
  exec: () => Promise.resolve(),
  execProtocolRawStream(bytes, { onRawData }) {
    // The memory behind `bytes` is the program's own and changes as soon as it goes on.
    const frames = gatherer.add(Uint8Array.from(bytes));
    if (frames === null) return;
    tell({ kind: 'frames', bytes: frames });
    onRawData(nextReply());
  },
};

function nextReply(): Uint8Array {
  // Woken late for a reply that was taken without sleeping, it sleeps again.
  while (Atomics.load(replies, 0) === repliesTaken) Atomics.wait(replies, 0, repliesTaken);
  repliesTaken += 1;
  const received: { message: ToDumpThread } | undefined = receiveMessageOnPort(data.port);
  if (received === undefined) throw new Error('woken without a reply');
  return received.message.bytes;
}

function tell(message: FromDumpThread): void {
  parentPort?.postMessage(message);
}

/**
 * The package takes lines for psql's commands out of the dump, wherever they stand, also within a function's body. The text before that is
 * the dump; this thread does nothing else that calls `replace` with that pattern.
 */
function captureUntouched(): { text: string | null } {
  const captured: { text: string | null } = { text: null };
  // Reflect keeps the method's own binding out of the way.
  const original: unknown = Reflect.get(String.prototype, 'replace');
  Reflect.set(String.prototype, 'replace', function (this: string, ...parameters: unknown[]): string {
    const [pattern] = parameters;
    if (pattern instanceof RegExp && pattern.source.includes('restrict')) captured.text = String(this);
    return Reflect.apply(original as (...all: unknown[]) => string, this, parameters);
  });
  return captured;
}

async function main(): Promise<void> {
  const program = (await import(PACKAGE)) as DumpModule;
  const captured = captureUntouched();
  await program.pgDump({ pg: served, args: [...data.parameters] });
  if (captured.text === null) throw new Error('pg_dump left no dump');
  tell({ kind: 'done', text: captured.text });
}

main().catch((error: unknown) => {
  tell({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
});
