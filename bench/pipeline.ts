import { createReadStream } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';

const compress = promisify(zstdCompress);
const CHUNK_BYTES = 512 * 1024;
const IN_FLIGHT = 4;

/**
 * The least that any backup must do: read every file, compress with zstd 1, write, sync. What capture is held against.
 * Gives the bytes read.
 */
export async function barePipeline(options: { source: string; target: string }): Promise<number> {
  await using output = await open(options.target, 'w');
  const pending: Promise<Uint8Array>[] = [];
  let bytes = 0;
  const drain = async (leave: number) => {
    while (pending.length > leave) {
      const packed = await pending.shift();
      if (packed !== undefined) await output.write(packed);
    }
  };
  for (const entry of await readdir(options.source, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || path.includes('/pg_wal/') || (await stat(path)).size === 0) continue;
    for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) {
      const data = chunk as Buffer;
      bytes += data.length;
      pending.push(compress(data, { params: { [constants.ZSTD_c_compressionLevel]: 1 } }));
      await drain(IN_FLIGHT);
    }
  }
  await drain(0);
  await output.sync();
  return bytes;
}

/** The least that any restore must do: write the bytes and sync them. Gives milliseconds. */
export async function rawWrite(options: { target: string; bytes: number }): Promise<number> {
  const begin = performance.now();
  await using output = await open(options.target, 'w');
  const chunk = Buffer.alloc(1 << 20, 0x5a);
  for (let written = 0; written < options.bytes; written += chunk.length) await output.write(chunk);
  await output.sync();
  return performance.now() - begin;
}
