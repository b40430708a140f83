/** The definitions of a database's objects, as pg_dump writes them. No client program is needed. */
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { MessageChannel, Worker } from 'node:worker_threads';
import { AppError, CancelledError, type Clock, isAppError, type Rng } from '../base/index.ts';
import { encodeStartup, joinStartupOptions } from '../pg/index.ts';
import type { CopyEndpoint, SchemaEntry } from './contract.ts';
import type { DumpThreadData, FromDumpThread, ToDumpThread } from './dump-messages.ts';
import { parseDump } from './parse-dump.ts';
import { codeOf, COPY_OPTIONS } from './session.ts';

const PROTOCOL = 0x0003_0000;
const READY_FOR_QUERY = 0x5a;
const ERROR_RESPONSE = 0x45;
const HEADER_BYTES = 5;
const SOCKET_FILE = '.s.PGSQL.5432';
/** A dump holds locks on all that it dumps: it may not wait for ever, not even for a slow server. */
const SILENCE_MS_MAX = 120_000;
const MEMORY_MIB_MAX = 1024;
/** Characters of what pg_dump says that are passed on. */
const SAID_MAX = 2000;

export interface DumpOptions {
  /** An exported snapshot of a session in the same database: the definitions of that moment. */
  readonly snapshot: string;
  /** pg_dump locks what it dumps against changes of definition: where somebody changes them, it gives up after this long. */
  readonly lockWaitMsMax: number;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly signal: AbortSignal;
}

/**
 * Dumps the definitions of all objects of a database, in an order in which they can be made.
 * @throws AppError `copy_failed` what pg_dump said, `timed_out`, `connection_failure`, `cancelled`
 */
export async function dumpSchema(
  endpoint: CopyEndpoint,
  options: DumpOptions,
): Promise<readonly SchemaEntry[]> {
  const restrictKey = Buffer.from(options.rng.bytes(16)).toString('hex');
  const parameters = [
    '--schema-only',
    '--verbose',
    '--no-owner',
    '--no-privileges',
    '--no-tablespaces',
    '--no-security-labels',
    '--no-subscriptions',
    '--no-statistics',
    `--restrict-key=${restrictKey}`,
    `--lock-wait-timeout=${options.lockWaitMsMax}`,
    `--snapshot=${options.snapshot}`,
  ];
  return parseDump(await runDump(endpoint, { ...options, parameters }), { restrictKey });
}

async function runDump(
  endpoint: CopyEndpoint,
  options: DumpOptions & { readonly parameters: readonly string[] },
): Promise<string> {
  const { signal } = options;
  if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
  const socket = connect(join(endpoint.socketDirectory, SOCKET_FILE));
  const { port1: ours, port2: theirs } = new MessageChannel();
  const replies = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const data: DumpThreadData = { port: theirs, replies, parameters: options.parameters };
  const thread = new Worker(new URL('./dump-thread.ts', import.meta.url), {
    workerData: data,
    transferList: [theirs],
    env: {},
    resourceLimits: { maxOldGenerationSizeMb: MEMORY_MIB_MAX },
  });
  const finished = Promise.withResolvers<string>();
  finished.promise.catch(() => undefined);
  const watch = watchSilence(options, finished.reject);
  const server = new ServerSide(socket, {
    onReply(bytes) {
      watch.seen();
      ours.postMessage({ bytes } satisfies ToDumpThread);
      const count = new Int32Array(replies);
      Atomics.add(count, 0, 1);
      Atomics.notify(count, 0);
    },
    onEnd: (cause) => finished.reject(lost(endpoint, cause)),
  });
  let hasStarted = false;
  thread.on('message', (message: FromDumpThread) => {
    watch.seen();
    if (message.kind === 'done') finished.resolve(message.text);
    else if (message.kind === 'failed') {
      finished.reject(refusal(endpoint, { output: message.message, sqlstate: server.lastSqlstate }));
    }
    // Its own start-up packet speaks of other names than ours.
    else socket.write(hasStarted ? message.bytes : startupOf(endpoint));
    hasStarted = true;
  });
  thread.once('error', (error) =>
    finished.reject(new AppError('copy_failed', `pg_dump ended: ${error.message}`, { cause: error })),
  );
  const onAbort = () => finished.reject(new CancelledError('cancelled', { cause: signal.reason }));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await finished.promise;
  } finally {
    signal.removeEventListener('abort', onAbort);
    server.close();
    await watch.stop();
    await thread.terminate();
    ours.close();
  }
}

function startupOf({ role, database }: CopyEndpoint): Buffer {
  const settings = Object.entries(COPY_OPTIONS).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  return encodeStartup({
    protocol: PROTOCOL,
    parameters: new Map([
      ['user', role],
      ['database', database],
      ['application_name', 'atoll copy'],
      ['options', joinStartupOptions(settings)],
    ]),
  });
}

/** Gathers what the server sends until it waits for the next command, or refuses the login. */
class ServerSide {
  readonly #socket: Socket;
  readonly #onReply: (bytes: Uint8Array) => void;
  #chunks: Buffer[] = [];
  /** Of the last error that the server told; empty before there is one. */
  lastSqlstate = '';
  #isReady = false;
  #isClosed = false;

  constructor(
    socket: Socket,
    options: { onReply: (bytes: Uint8Array) => void; onEnd: (cause: unknown) => void },
  ) {
    this.#socket = socket;
    this.#onReply = options.onReply;
    const gatherer = new MessageScanner();
    socket.on('data', (chunk) => {
      this.#chunks.push(chunk);
      for (const { type, sqlstate } of gatherer.add(chunk)) {
        if (sqlstate !== null) this.lastSqlstate = sqlstate;
        // Before it was ever ready an error is the last that it says.
        if (type !== READY_FOR_QUERY && (type !== ERROR_RESPONSE || this.#isReady)) continue;
        this.#isReady ||= type === READY_FOR_QUERY;
        const bytes = Buffer.concat(this.#chunks);
        this.#chunks = [];
        this.#onReply(Uint8Array.from(bytes));
      }
    });
    const onEnd = (cause: unknown) => {
      if (!this.#isClosed) options.onEnd(cause);
    };
    socket.on('error', onEnd);
    socket.on('close', () => onEnd(undefined));
  }

  close(): void {
    this.#isClosed = true;
    this.#socket.destroy();
  }
}

interface ScannedMessage {
  readonly type: number;
  /** Of an error, else null. */
  readonly sqlstate: string | null;
}

/** Messages, as their last byte arrives. */
class MessageScanner {
  #header = Buffer.alloc(0);
  #bodyBytesLeft: number | null = null;
  /** Kept of errors alone. */
  #body: Buffer[] = [];

  *add(chunk: Buffer): Generator<ScannedMessage> {
    for (let at = 0; at < chunk.length; ) {
      if (this.#bodyBytesLeft === null) {
        const piece = chunk.subarray(at, at + HEADER_BYTES - this.#header.length);
        this.#header = Buffer.concat([this.#header, piece]);
        at += piece.length;
        if (this.#header.length < HEADER_BYTES) return;
        this.#bodyBytesLeft = this.#header.readUInt32BE(1) - (HEADER_BYTES - 1);
      }
      const taken = Math.min(this.#bodyBytesLeft, chunk.length - at);
      const type = this.#header.readUInt8(0);
      if (type === ERROR_RESPONSE) this.#body.push(chunk.subarray(at, at + taken));
      this.#bodyBytesLeft -= taken;
      at += taken;
      if (this.#bodyBytesLeft > 0) return;
      yield { type, sqlstate: type === ERROR_RESPONSE ? sqlstateOf(Buffer.concat(this.#body)) : null };
      this.#body = [];
      this.#header = Buffer.alloc(0);
      this.#bodyBytesLeft = null;
    }
  }
}

/** Fields of an error: a letter, text, a zero byte; a zero byte more at the end. */
function sqlstateOf(body: Buffer): string {
  const fields = body.toString('latin1').split('\0');
  return fields.find((field) => field.startsWith('C'))?.slice(1) ?? '';
}

/** Ends a dump in which nothing happens. */
function watchSilence(
  { clock }: DumpOptions,
  onSilence: (error: AppError) => void,
): { seen(): void; stop(): Promise<void> } {
  const stopping = new AbortController();
  let seenMs = clock.monotonicMs();
  const watching = (async () => {
    for (;;) {
      const leftMs = seenMs + SILENCE_MS_MAX - clock.monotonicMs();
      if (leftMs <= 0) break;
      await clock.sleep(leftMs, { signal: stopping.signal });
    }
    onSilence(
      new AppError('timed_out', `pg_dump heard and said nothing for ${SILENCE_MS_MAX / 1000} seconds`),
    );
  })().catch((error: unknown) => {
    if (!isAppError(error, 'cancelled')) throw error;
  });
  return {
    seen() {
      seenMs = clock.monotonicMs();
    },
    async stop() {
      stopping.abort();
      await watching;
    },
  };
}

/** Of all that it says of its progress, what it ended with, without the query, which names every table. */
function refusal(
  { database }: CopyEndpoint,
  { output, sqlstate }: { output: string; sqlstate: string },
): AppError {
  const [, said = output.slice(-SAID_MAX)] = /error: ([^]*?)(?:\S+: detail: |$)/.exec(output) ?? [];
  return new AppError(
    codeOf(sqlstate),
    `cannot dump the schema of database "${database}": ${said.slice(0, SAID_MAX).trim()}`,
    {
      hint: 'the copy is consistent or not made at all; try again when no other session changes definitions',
    },
  );
}

function lost({ database }: CopyEndpoint, cause: unknown): AppError {
  return new AppError('connection_failure', `the session that dumps database "${database}" was lost`, {
    cause,
  });
}
