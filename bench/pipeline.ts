import { createReadStream } from 'node:fs';
import { type FileHandle, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';

const compress = promisify(zstdCompress);
const expand = promisify(zstdDecompress);
const CHUNK_BYTES = 512 * 1024;
const IN_FLIGHT = 4;

/** What the bare pipeline has packed: the file, and how long each of its pieces is. */
export interface BarePack {
  readonly path: string;
  readonly pieces: readonly number[];
}

/**
 * The least that any backup must do: read every file, compress with zstd 1, write, sync. What capture is held against.
 */
export async function barePipeline(options: { source: string; target: string }): Promise<BarePack> {
  await using output = await open(options.target, 'w');
  const pieces: number[] = [];
  const write = async (packed: Uint8Array) => {
    pieces.push(packed.length);
    await output.write(packed);
  };
  await inOrder(packedPieces(options.source), write);
  await output.sync();
  return { path: options.target, pieces };
}

/** In an object, because a generator would wait for a bare promise. */
interface Underway {
  readonly piece: Promise<Uint8Array>;
}

async function* packedPieces(source: string): AsyncGenerator<Underway> {
  for (const entry of await readdir(source, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || path.includes('/pg_wal/') || (await stat(path)).size === 0) continue;
    for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) {
      yield { piece: compress(chunk as Buffer, { params: { [constants.ZSTD_c_compressionLevel]: 1 } }) };
    }
  }
}

/** The least that any restore must do: read, expand, write, sync. What a restore is held against. */
export async function bareUnpack(pack: BarePack, { target }: { target: string }): Promise<void> {
  await using input = await open(pack.path);
  await using output = await open(target, 'w');
  await inOrder(expandedPieces(input, pack.pieces), async (piece) => {
    await output.write(piece);
  });
  await output.sync();
}

async function* expandedPieces(input: FileHandle, pieces: readonly number[]): AsyncGenerator<Underway> {
  for (const length of pieces) {
    const packed = Buffer.allocUnsafe(length);
    await input.read(packed, 0, length, null);
    yield { piece: expand(packed) };
  }
}

/** Several pieces are worked on at once, and leave in the order in which they came. */
async function inOrder(
  pieces: AsyncIterable<Underway>,
  write: (piece: Uint8Array) => Promise<void>,
): Promise<void> {
  const pending: Promise<Uint8Array>[] = [];
  const drain = async (leave: number) => {
    while (pending.length > leave) {
      const piece = await pending.shift();
      if (piece !== undefined) await write(piece);
    }
  };
  for await (const { piece } of pieces) {
    pending.push(piece);
    await drain(IN_FLIGHT);
  }
  await drain(0);
}

/**
 * Has the machine's memory and disk in the same state before each contender: a virtual machine pays for memory that it has not used for a
 * while, and for room that was just given back.
 */
export async function levelGround(options: { target: string; bytes: number }): Promise<void> {
  {
    await using output = await open(options.target, 'w');
    const chunk = Buffer.alloc(1 << 20, 0x5a);
    for (let written = 0; written < options.bytes; written += chunk.length) await output.write(chunk);
    await output.sync();
  }
  await rm(options.target);
}
