/** Carries an instance's log into the node's, with a bounded rate, and keeps its file small. Its words may quote data: all are marked. */
import { copyFile, type FileHandle, open, rename, stat, truncate } from 'node:fs/promises';
import { StringDecoder } from 'node:string_decoder';
import { type Clock, errnoOf, type Logger, Mutex, sensitive } from '../base/index.ts';
import { LogLines, type PostgresLogEntry } from './log-lines.ts';

const CHUNK_BYTES_MAX = 256 * 1024;
/** Further behind than this, the middle is left out: it stays in the file. */
const BACKLOG_BYTES_MAX = 1024 * 1024;
/** Entries of one instance: so many at once, and then so many each second. */
const ENTRIES_BURST_MAX = 200;
const ENTRIES_PER_SECOND_MAX = 20;
/** A file larger than this becomes `.1`, which becomes `.2`, which goes. */
const ROTATE_BYTES = 16 * 1024 * 1024;
const TAIL_BYTES_MAX = 16 * 1024;
/** How much of it an error shows. */
export const TAIL_LINES_MAX = 12;

export class LogForwarder {
  readonly #path: string;
  readonly #clock: Clock;
  #logger: Logger;
  readonly #lines = new LogLines();
  readonly #polling = new Mutex();
  readonly #rotateBytes: number;
  #decoder = new StringDecoder('utf8');
  #position: number;
  #allowance = ENTRIES_BURST_MAX;
  #refilledAtMs: number;
  #suppressed = 0;

  private constructor(options: LogForwarderOptions, position: number) {
    this.#path = options.path;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#rotateBytes = options.rotateBytes ?? ROTATE_BYTES;
    this.#position = position;
    this.#refilledAtMs = options.clock.monotonicMs();
  }

  /** Begins at the present end of the file: what an earlier daemon forwarded is not repeated. */
  static async open(options: LogForwarderOptions): Promise<LogForwarder> {
    return new LogForwarder(options, await sizeOf(options.path));
  }

  /** Logs under another scope from now on: the virtual cluster has another name. */
  useLogger(logger: Logger): void {
    this.#logger = logger;
  }

  /** Forwards what has been written since the last call. */
  async poll(): Promise<void> {
    await this.#polling.run(() => this.#poll());
  }

  async #poll(): Promise<void> {
    const size = await sizeOf(this.#path);
    if (size < this.#position) this.#position = 0; // Somebody else cut it.
    if (size > this.#position) await this.#forward(size);
    else this.#emit(this.#lines.flush());
    if (size > this.#rotateBytes && this.#position >= size) await this.#rotate();
  }

  async #forward(size: number): Promise<void> {
    const file = await open(this.#path, 'r');
    try {
      if (size - this.#position > BACKLOG_BYTES_MAX) {
        const begin = size - BACKLOG_BYTES_MAX;
        this.#logger.warning(`left out ${begin - this.#position} bytes of ${this.#path}`);
        this.#position = begin;
        this.#decoder = new StringDecoder('utf8');
      }
      while (this.#position < size) {
        const bytes = await readAt(file, this.#position, Math.min(CHUNK_BYTES_MAX, size - this.#position));
        if (bytes.length === 0) return;
        this.#position += bytes.length;
        this.#emit(this.#lines.push(this.#decoder.write(bytes)));
      }
    } finally {
      await file.close();
    }
  }

  #emit(entries: readonly PostgresLogEntry[]): void {
    this.#refill();
    for (const { severity, source, message } of entries) {
      if (this.#allowance < 1) {
        this.#suppressed += 1;
        continue;
      }
      this.#allowance -= 1;
      this.#logger.log(severity, `${source}${source === '' ? '' : ': '}${sensitive(message)}`);
    }
  }

  #refill(): void {
    const nowMs = this.#clock.monotonicMs();
    const earned = ((nowMs - this.#refilledAtMs) / 1000) * ENTRIES_PER_SECOND_MAX;
    this.#refilledAtMs = nowMs;
    this.#allowance = Math.min(ENTRIES_BURST_MAX, this.#allowance + earned);
    if (this.#suppressed === 0 || this.#allowance < 1) return;
    this.#logger.warning(`left out ${this.#suppressed} entries of ${this.#path}: too many at once`);
    this.#suppressed = 0;
  }

  /** The server keeps writing to the same file: it is copied and cut. What it writes in between is lost to the copy. */
  async #rotate(): Promise<void> {
    await rename(`${this.#path}.1`, `${this.#path}.2`).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    await copyFile(this.#path, `${this.#path}.1`);
    await truncate(this.#path, 0);
    this.#position = 0;
  }
}

export interface LogForwarderOptions {
  readonly path: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly rotateBytes?: number;
}

/** Where the log ends now; 0 when there is none. */
export async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0;
    throw error;
  }
}

/** What was last written after `from`, as it was written. */
export async function rawLogTail(path: string, options: { from: number }): Promise<string> {
  const size = await sizeOf(path);
  const begin = Math.max(Math.min(options.from, size), size - TAIL_BYTES_MAX);
  if (size === begin) return '';
  const file = await open(path, 'r');
  try {
    const bytes = await readAt(file, begin, size - begin);
    return Buffer.from(bytes).toString('utf8');
  } finally {
    await file.close();
  }
}

async function readAt(file: FileHandle, position: number, bytes: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, position);
  return buffer.subarray(0, bytesRead);
}
