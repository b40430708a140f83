import { join } from 'node:path';
import { required } from '../../base/index.ts';
import type { FileTable } from '../format/manifest-tables.ts';
import { finishFile, type Lasting, type Owner, writeOut } from './target-directory.ts';

/** Files being made durable at once: their waits for the disk overlap. */
const LANES_MAX = 16;
/** Files from this length on are written out before they are whole, so many of them at once. */
const WRITTEN_OUT_BYTES_MIN = 4 * 1024 * 1024;
const WRITTEN_OUT_MAX = 2;

/**
 * Makes files complete and durable as soon as all of their content was written, while others are still being written: the disk works while
 * the CPUs do. Large ones are written out as they grow: see docs/decisions/0171-sync-of-a-restore.md.
 */
export class FileFinisher implements AsyncDisposable {
  readonly #directory: string;
  readonly #owner: Owner;
  readonly #files: FileTable;
  /** Targets of each file that are still to be written. */
  readonly #missing: Uint32Array;
  readonly #isFleeting: boolean;
  readonly #onFinished: (path: string) => Promise<void>;
  readonly #queue: { readonly path: string; readonly length: number | null }[] = [];
  readonly #lanes = new Set<Promise<void>>();
  readonly #writingOut = new Map<number, Promise<void>>();
  #failure: { readonly error: unknown } | null = null;

  constructor(
    options: {
      readonly directory: string;
      readonly owner: Owner;
      readonly files: FileTable;
      /** Targets of each file that will be written; those of all runs when left out. */
      readonly targets?: Uint32Array;
      /** Told of every file that is complete. */
      readonly onFinished?: (path: string) => Promise<void>;
    } & Lasting,
  ) {
    this.#isFleeting = options.isFleeting === true;
    this.#directory = options.directory;
    this.#owner = options.owner;
    this.#files = options.files;
    this.#onFinished = options.onFinished ?? (() => Promise.resolve());
    this.#missing = (options.targets ?? options.files.runCounts).slice();
  }

  /** Says that so many more targets of files were written. */
  wrote(targetsOfFile: ReadonlyMap<number, number>): void {
    for (const [row, targets] of targetsOfFile) {
      const missing = (this.#missing[row] ?? 0) - targets;
      this.#missing[row] = missing;
      if (missing === 0) this.#addRow(row);
      else this.#writeOut(row);
    }
  }

  /** Files of nothing have nothing that could be written. */
  addEmptyFiles(isWanted: (row: number) => boolean): void {
    for (const [row, runs] of this.#files.runCounts.entries()) {
      if (runs === 0 && isWanted(row)) this.#addRow(row);
    }
  }

  /** A file of the manifest of which nothing is written, but whose length may have to change. */
  addUnwritten(row: number): void {
    this.#addRow(row);
  }

  /** A file beside those of the manifest, as long as it is. */
  addOther(path: string): void {
    this.#add({ path, length: null });
  }

  /** Waits until all that was added is durable. @throws what the first failure was */
  async settle(): Promise<void> {
    await this.#rest();
    if (this.#failure !== null) throw this.#failure.error;
  }

  /** Gives up what is still waiting; afterwards no file is touched any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#queue.length = 0;
    await this.#rest();
  }

  /** Until nothing is under way. */
  async #rest(): Promise<void> {
    while (this.#lanes.size > 0) await Promise.all(this.#lanes);
    await Promise.all(this.#writingOut.values());
  }

  /** What is under way for a file will be followed by more of it, so one at a time is enough. */
  #writeOut(row: number): void {
    if (this.#isFleeting || this.#writingOut.has(row) || this.#writingOut.size === WRITTEN_OUT_MAX) return;
    if (Number(this.#files.lengths[row] ?? 0n) < WRITTEN_OUT_BYTES_MIN) return;
    const path = required(this.#files.paths[row], 'path of a file');
    const writing = writeOut(join(this.#directory, path))
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#writingOut.delete(row));
    this.#writingOut.set(row, writing);
  }

  #addRow(row: number): void {
    const path = required(this.#files.paths[row], 'path of a file');
    this.#add({ path, length: Number(required(this.#files.lengths[row], 'length of a file')) });
  }

  #add(file: { readonly path: string; readonly length: number | null }): void {
    this.#queue.push(file);
    if (this.#lanes.size === LANES_MAX) return;
    const lane = this.#work().finally(() => this.#lanes.delete(lane));
    this.#lanes.add(lane);
  }

  async #work(): Promise<void> {
    for (let file = this.#queue.shift(); file !== undefined; file = this.#queue.shift()) {
      if (this.#failure !== null) return;
      try {
        const isFleeting = this.#isFleeting;
        await finishFile(join(this.#directory, file.path), {
          length: file.length,
          owner: this.#owner,
          isFleeting,
        });
        await this.#onFinished(file.path);
      } catch (error) {
        this.#failure ??= { error };
      }
    }
  }
}
