/** A file that takes room on the disk of the store so that it can be given back when there is none. */
import { open, rm, stat } from 'node:fs/promises';
import { errnoOf, type Rng } from '../base/index.ts';
import { throwIfCancelled } from './waiting.ts';

const PIECE_BYTES = 1024 * 1024;

export class Ballast {
  readonly #path: string;
  readonly #rng: Rng;

  constructor(options: { path: string; rng: Rng }) {
    this.#path = options.path;
    this.#rng = options.rng;
  }

  /** What it takes now; 0 when it is not there. */
  async bytes(): Promise<bigint> {
    try {
      return (await stat(this.#path, { bigint: true })).size;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return 0n;
      throw error;
    }
  }

  /** Makes it as large as this, or removes it again when it cannot be. Random: file systems that compress or leave out zeroes exist. */
  async make(bytes: bigint, { signal }: { signal: AbortSignal }): Promise<void> {
    try {
      await using file = await open(this.#path, 'a', 0o600);
      const piece = this.#rng.bytes(PIECE_BYTES);
      for (let held = (await file.stat({ bigint: true })).size; held < bytes; ) {
        throwIfCancelled(signal);
        const left = bytes - held;
        const length = left < BigInt(PIECE_BYTES) ? Number(left) : PIECE_BYTES;
        const { bytesWritten } = await file.write(piece, 0, length);
        held += BigInt(bytesWritten);
      }
      await file.datasync();
    } catch (error) {
      await this.remove();
      throw error;
    }
  }

  /** Harmless when it is not there. */
  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}
