import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError } from '../../base/index.ts';
import {
  type BlobStore,
  BlobStoreInPieces,
  memoryBlobStore,
  parseBlobKey,
  readBlob,
} from '../../blob/index.ts';
import { putFixturePack } from '../objects/fixture-base.ts';
import { createRestCell } from '../worker/limiter.ts';
import { checkPackAlone } from './check-objects.ts';

const { signal } = new AbortController();
const key = parseBlobKey('data/1-0.pack');

/** A pack of so many frames, none of them as another. */
async function packOf(frames: number): Promise<Uint8Array> {
  const store = memoryBlobStore({ displayUri: 'memory://written' });
  const { bytes } = await putFixturePack(store, { key, frames, signal });
  return readBlob(store, key, { bytesMax: bytes, signal });
}

async function storeOf(content: Uint8Array, pieceBytes: number): Promise<BlobStore> {
  const inner = memoryBlobStore({ displayUri: 'memory://pieces' });
  await inner.put(key, content, { signal });
  return new BlobStoreInPieces(inner, { pieceBytes });
}

describe('a pack that is checked by what it carries itself', () => {
  const check = async (content: Uint8Array, { pieceBytes, bytes }: { pieceBytes: number; bytes: number }) =>
    checkPackAlone(key, {
      blobs: await storeOf(content, pieceBytes),
      bytes,
      restCell: createRestCell(),
      signal,
    });

  it('is sound in whatever pieces it arrives', async () => {
    for (const frames of [0, 1, 40]) {
      const content = await packOf(frames);
      for (const pieceBytes of [1, 7, 64, 1024, content.length]) {
        await check(content, { pieceBytes, bytes: content.length });
      }
    }
  });

  it('is damaged with any byte changed, and with any length but its own', async () => {
    const content = await packOf(3);
    const isDamage = (error: unknown) => isAppError(error, 'data_corrupt', 'format_unsupported');
    for (const [at, byte] of content.entries()) {
      const changed = check(content.with(at, byte ^ 1), { pieceBytes: 64, bytes: content.length });
      await assert.rejects(changed, isDamage, `byte ${at}`);
    }
    for (const other of [content.subarray(0, -1), Buffer.concat([content, new Uint8Array(1)])]) {
      await assert.rejects(check(other, { pieceBytes: 64, bytes: content.length }), isDamage);
      await assert.rejects(check(other, { pieceBytes: 64, bytes: other.length }), isDamage);
    }
  });
});
