/** A pack of a backup that was copied from a timeline store, and the checkpoint that lets a later attempt go on using it. */
import { z } from 'zod';
import { isAppError } from '../../base/index.ts';
import { type BlobStore, parseBlobKey, readBlob } from '../../blob/index.ts';
import { checkpointFolder, checkpointKey } from '../collection/layout.ts';
import { FRAME_TAG_BYTES, PACK_ID_BYTES } from '../format/pack.ts';
import { beginMac, type ClusterKey, MAC_BYTES, macsEqual } from '../../keys/index.ts';
import type { SourceName } from './plan-publish.ts';

/** A checkpoint of the largest pack there can be, with the smallest frames, is far smaller. */
const CHECKPOINT_BYTES_MAX = 256 * 1024 * 1024;

export interface CopiedFrame {
  /** Where it was copied from. */
  readonly source: SourceName;
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
  readonly tag: Uint8Array;
}

export interface CopiedPack {
  /** In the collection. */
  readonly path: string;
  readonly id: string;
  readonly bytes: number;
  readonly frames: readonly CopiedFrame[];
}

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));
const count = z.int().nonnegative();

const packSchema = z.strictObject({
  path: z.string(),
  id: hex(PACK_ID_BYTES),
  bytes: z.int().positive(),
  /** Source, offset, length, checksum, tag. */
  frames: z.array(
    z.tuple([z.string().regex(/^[0-9a-f]{32}\/\d+$/), count, count, count, hex(FRAME_TAG_BYTES)]),
  ),
});

interface Place {
  readonly store: BlobStore;
  readonly subdirectory: string;
  readonly key: ClusterKey;
  readonly signal: AbortSignal;
}

/** Durable when it returns: what the pack holds need not be copied again. */
export async function writeCheckpoint({ store, key, ...place }: Place, pack: CopiedPack): Promise<void> {
  const frames = pack.frames.map(({ source, offset, length, crc, tag }) => [
    source,
    offset,
    length,
    crc,
    Buffer.from(tag).toString('hex'),
  ]);
  const json = Buffer.from(JSON.stringify({ ...pack, frames }));
  const bytes = Buffer.concat([macOf(key, json), json]);
  await store.put(checkpointKey({ ...place, packPath: pack.path }), bytes, place);
}

/** Packs that earlier attempts have completed. What cannot be read, or is not ours, is passed over: it is copied again. */
export async function readCheckpoints(place: Place): Promise<readonly CopiedPack[]> {
  const { store, subdirectory, signal } = place;
  const packs: CopiedPack[] = [];
  for await (const entry of store.list(checkpointFolder(subdirectory), { deep: false, signal })) {
    if (entry.kind !== 'blob') continue;
    const bytes = await readBlob(store, entry.key, { bytesMax: CHECKPOINT_BYTES_MAX, signal });
    const pack = parseCheckpoint(bytes, place);
    if (pack !== null && (await isThere(pack, place))) packs.push(pack);
  }
  return packs;
}

/** They have served when there is a manifest. Deleting is tidying: nothing depends on it. */
export async function removeCheckpoints({ store, subdirectory, signal }: Place): Promise<void> {
  try {
    const entries = await Array.fromAsync(store.list(checkpointFolder(subdirectory), { deep: true, signal }));
    for (const { key } of entries) await store.delete(key, { signal });
  } catch (error) {
    if (isAppError(error, 'cancelled')) throw error;
    // Storage may be told to refuse deletion.
    if (!isAppError(error)) throw error;
  }
}

async function isThere({ path, bytes }: CopiedPack, { store, signal }: Place): Promise<boolean> {
  return (await store.size(parseBlobKey(path), { signal })) === bytes;
}

function parseCheckpoint(bytes: Uint8Array, { key, subdirectory }: Place): CopiedPack | null {
  const json = bytes.subarray(MAC_BYTES);
  if (!macsEqual(macOf(key, json), bytes.subarray(0, MAC_BYTES))) return null;
  const { frames, ...pack } = packSchema.parse(JSON.parse(Buffer.from(json).toString('utf8')));
  if (!pack.path.startsWith(`${subdirectory}/`)) return null;
  return {
    ...pack,
    frames: frames.map(([source, offset, length, crc, tag]) => ({
      source: source as SourceName, // As the schema says.
      offset,
      length,
      crc,
      tag: Buffer.from(tag, 'hex'),
    })),
  };
}

function macOf(key: ClusterKey, json: Uint8Array): Buffer {
  return beginMac({ key, purpose: 'checkpoint mac' }).update(json).digest();
}
