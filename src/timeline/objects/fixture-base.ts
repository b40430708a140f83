/** A base as it lies in a store, every object of it sound, for tests. */
import { randomFillSync } from 'node:crypto';
import { type BlobKey, type BlobStore, parseBlobKey } from '../../blob/index.ts';
import { manifestKey } from '../collection/layout.ts';
import {
  FIXTURE_KEY,
  FIXTURE_PACK_ID,
  FIXTURE_WAL,
  FIXTURE_WAL_HEADER,
  fixtureManifest,
} from '../format/fixtures.ts';
import type { Manifest } from '../format/manifest.ts';
import { encodeManifest } from '../format/manifest-file.ts';
import { packTagKey } from '../format/pack.ts';
import type { ExpectedPack } from './pack-check.ts';
import { PackWriter, type WrittenFrame } from './pack-writer.ts';
import type { ExpectedWal } from './wal-reader.ts';
import { writeWalObject } from './wal-writer.ts';

export interface FixtureBase {
  readonly manifest: Manifest;
  readonly manifestName: BlobKey;
  readonly pack: ExpectedPack;
  readonly wal: ExpectedWal;
}

/** A pack of so many frames, none of them as another. */
export async function putFixturePack(
  store: BlobStore,
  { key, frames, signal }: { readonly key: BlobKey; readonly frames: number; readonly signal: AbortSignal },
): Promise<ExpectedPack> {
  const tagKey = packTagKey({ key: FIXTURE_KEY, id: FIXTURE_PACK_ID });
  await using writer = await PackWriter.open({ store, key, id: FIXTURE_PACK_ID, tagKey, signal });
  const written: WrittenFrame[] = [];
  for (let frame = 0; frame < frames; frame++) {
    // Some shrink and some do not.
    const content =
      frame % 2 === 0 ? Buffer.from(`frame ${frame}`) : randomFillSync(Buffer.alloc(20 + (frame % 50)));
    written.push(await writer.addBytes(content));
  }
  const { id, bytes } = await writer.close();
  const column = (value: (frame: WrittenFrame) => number) => Uint32Array.from(written, value);
  return {
    key,
    id,
    bytes,
    tagKey,
    frames: {
      offsets: column(({ offset }) => offset),
      lengths: column(({ length }) => length),
      crcs: column(({ crc }) => crc),
      tags: Buffer.concat(written.map(({ tag }) => tag)),
    },
  };
}

/** One pack, one log object, and the manifest that names them. */
export async function putFixtureBase(
  store: BlobStore,
  { frames, signal }: { readonly frames: number; readonly signal: AbortSignal },
): Promise<FixtureBase> {
  const base = fixtureManifest();
  const [packOf, walOf] = [base.packs[0], base.wal[0]];
  if (packOf === undefined || walOf === undefined) throw new Error('the fixture has a pack and log');
  const pack = await putFixturePack(store, { key: parseBlobKey(packOf.path), frames, signal });
  const key = parseBlobKey(walOf.path);
  const read = ({ offset, length }: { offset: number; length: number }) =>
    FIXTURE_WAL.subarray(offset, offset + length);
  const wal = await writeWalObject({ store, key, header: FIXTURE_WAL_HEADER, read, signal });
  const manifest: Manifest = {
    ...base,
    packs: [{ ...packOf, bytes: pack.bytes }],
    wal: [{ ...walOf, ...wal }],
    runs: { ...base.runs, frames: base.runs.frames.map((frame) => frame % frames) },
    frames: { packs: new Uint32Array(frames), ...pack.frames, tags: new Uint8Array(pack.frames.tags) },
  };
  const manifestName = manifestKey(manifest.header.subdirectory);
  await store.put(manifestName, Buffer.concat(encodeManifest(manifest, { key: FIXTURE_KEY })), { signal });
  return { manifest, manifestName, pack, wal: { key, ...wal, header: FIXTURE_WAL_HEADER } };
}
