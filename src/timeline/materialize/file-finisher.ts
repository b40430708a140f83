import { join } from 'node:path';
import { required } from '../../base/index.ts';
import type { FileTable } from '../format/manifest-tables.ts';
import { finishFile, type Lasting, type Owner } from './target-directory.ts';

/** Files being made durable at once: their waits for the disk overlap. */
const LANES_MAX = 16;

/**
 * Makes files complete and durable as soon as all of their content was written, while others are still being written: the disk works while
 * the CPUs do.
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
    while (this.#lanes.size > 0) await Promise.all(this.#lanes);
    if (this.#failure !== null) throw this.#failure.error;
  }

  /** Gives up what is still waiting; afterwards no file is touched any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#queue.length = 0;
    while (this.#lanes.size > 0) await Promise.all(this.#lanes);
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
