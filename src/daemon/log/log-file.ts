import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../base/index.ts';

/** A log file of this size is set aside and a new one begun. */
export const LOG_FILE_BYTES_MAX = 16 * 1024 * 1024;
/** So many files are kept beside the current one. */
export const LOG_FILES_KEPT_MAX = 10;

/**
 * `NAME.log` of a folder, appended to, and `NAME.0001.log`, `NAME.0002.log`, ... before it: a higher number is younger. Writes are synchronous, so that the last words of a crash are on disk. A full disk never stops the daemon:
 * what could not be written is counted by `lostCount`, and the next entry is tried again.
 */
export class LogFile {
  readonly #directory: string;
  readonly #name: string;
  readonly #setAside: RegExp;
  readonly #bytesMax: number;
  readonly #filesKeptMax: number;
  #fd: number;
  #bytes: number;
  #lost = 0;

  private constructor(options: Required<LogFileOptions>) {
    this.#directory = options.directory;
    this.#name = options.name;
    this.#setAside = new RegExp(`^${options.name}\\.(\\d{4,})\\.log$`);
    this.#bytesMax = options.bytesMax;
    this.#filesKeptMax = options.filesKeptMax;
    this.#fd = openSync(this.path, 'a', 0o640);
    this.#bytes = fstatSync(this.#fd).size;
  }

  /** Opens the log of a folder, which is made when missing. Throws what the system call throws. */
  static open(options: LogFileOptions): LogFile {
    mkdirSync(options.directory, { recursive: true, mode: 0o750 });
    return new LogFile({ bytesMax: LOG_FILE_BYTES_MAX, filesKeptMax: LOG_FILES_KEPT_MAX, ...options });
  }

  get path(): string {
    return join(this.#directory, `${this.#name}.log`);
  }

  /** Entries that could not be written since this was last asked. */
  takeLostCount(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }

  write(text: string): void {
    const bytes = Buffer.from(text);
    try {
      if (this.#bytes > 0 && this.#bytes + bytes.length > this.#bytesMax) this.#rotate();
      for (let written = 0; written < bytes.length; ) {
        written += writeSync(this.#fd, bytes, written);
      }
      this.#bytes += bytes.length;
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      this.#lost += 1;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #rotate(): void {
    const numbers = readdirSync(this.#directory)
      .map((name) => Number(this.#setAside.exec(name)?.[1] ?? Number.NaN))
      .filter((number) => !Number.isNaN(number))
      .toSorted((a, b) => a - b);
    const next = (numbers.at(-1) ?? 0) + 1;
    renameSync(this.path, this.#pathOf(next));
    const fd = openSync(this.path, 'a', 0o640);
    closeSync(this.#fd);
    this.#fd = fd;
    this.#bytes = 0;
    const excess = numbers.length + 1 - this.#filesKeptMax;
    for (const number of numbers.slice(0, Math.max(excess, 0))) rmSync(this.#pathOf(number), { force: true });
  }

  #pathOf(number: number): string {
    return join(this.#directory, `${this.#name}.${number.toString().padStart(4, '0')}.log`);
  }
}

export interface LogFileOptions {
  readonly directory: string;
  /** Letters and hyphens. */
  readonly name: string;
  readonly bytesMax?: number;
  readonly filesKeptMax?: number;
}
