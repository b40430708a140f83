import { join } from 'node:path';
import { CorruptError, isAppError, type Lsn, type Rng, toError } from '../../base/index.ts';
import { type BlobKey, type BlobStore, parseBlobKey } from '../../blob/index.ts';
import { walSegmentStart } from '../../pg/index.ts';
import type { BackupProgress } from '../contract.ts';
import { MANIFEST_NAME } from '../collection/layout.ts';
import { openCollection } from '../collection/open.ts';
import { completed, openManifest } from '../collection/completed.ts';
import { checkFrame, frameChecksum } from '../format/frame.ts';
import { readManifestOutline } from '../format/manifest-file.ts';
import {
  PACK_FOOTER_BYTES,
  PACK_HEADER_BYTES,
  PACK_INDEX_ENTRY_BYTES,
  parsePackFooter,
  parsePackHeader,
  parsePackIndex,
} from '../format/pack.ts';
import { parseWalObjectHeader, WAL_OBJECT_HEADER_BYTES } from '../format/wal-object.ts';
import { ObjectReader } from '../objects/object-reader.ts';
import { readWalSegment } from '../objects/wal-reader.ts';
import { openBases } from '../store/bases.ts';
import { listIncarnations, listWalFolder } from '../store/wal-folder.ts';
import { rest, type RestCell } from '../worker/limiter.ts';
import type { CheckObjectsRequest, DamagedObject, ObjectsCheck } from './contract.ts';

export interface CheckObjectsTools {
  readonly rng: Rng;
  readonly restCell: RestCell;
  readonly onProgress: (progress: BackupProgress) => void;
  readonly signal: AbortSignal;
}

interface StoredObject {
  /** Path in the store's folder. */
  readonly name: string;
  readonly bytes: number;
  readonly bases: readonly string[];
  readonly log: DamagedObject['log'];
}

/** See `VerifyWorker`. */
export async function checkObjects(
  request: CheckObjectsRequest,
  tools: CheckObjectsTools,
): Promise<ObjectsCheck> {
  const { store, after, again, bytesMax } = request;
  const blobs = openCollection({ displayUri: store.directory, directory: store.directory }, tools);
  const { objects: held, damage } = await listObjects(request, { ...tools, blobs });
  const objects = held.toSorted((left, right) => (left.name < right.name ? -1 : 1));
  const found = [...damage];
  const look = async (object: StoredObject) => {
    const reason = await damageOf(object, { ...tools, blobs });
    if (reason === null) return;
    const { name, bases, log } = object;
    if (found.every((known) => known.object !== name)) found.push({ object: name, reason, bases, log });
  };
  for (const object of objects.filter(({ name }) => again.includes(name))) await look(object);
  let [count, bytes, last] = [0, 0, after];
  for (const object of objects) {
    if (after !== null && object.name <= after) continue;
    if (bytes >= bytesMax) break;
    tools.onProgress({ fraction: Math.min(1, bytes / bytesMax), phase: `reading ${object.name}` });
    await look(object);
    [count, bytes, last] = [count + 1, bytes + object.bytes, object.name];
  }
  const isEnd = last === null || last >= (objects.at(-1)?.name ?? '');
  const bytesAll = objects.reduce((sum, object) => sum + object.bytes, 0);
  return { objects: count, bytes, bytesAll, last: isEnd ? null : last, damage: found };
}

type Tools = CheckObjectsTools & { readonly blobs: BlobStore };
type ObjectTools = Pick<Tools, 'blobs' | 'restCell' | 'signal'>;

/** All that the bases need and all closed segments; manifests are read to know, and so checked every time. */
async function listObjects(
  { store, key }: CheckObjectsRequest,
  tools: Tools,
): Promise<{ readonly objects: readonly StoredObject[]; readonly damage: readonly DamagedObject[] }> {
  const { rng, signal, blobs } = tools;
  const damage: DamagedObject[] = [];
  const needed = new Map<string, { bytes: number; bases: string[] }>();
  for await (const subdirectory of completed(openBases(store, { rng }), { order: 'ascending', signal })) {
    try {
      const { chunks, name } = await openManifest(openBases(store, { rng }), { subdirectory, signal });
      const { packs, wal } = await readManifestOutline(chunks, { key, name });
      for (const { path, bytes } of [...packs, ...wal]) {
        const known = needed.get(path) ?? { bytes, bases: [] };
        known.bases.push(subdirectory);
        needed.set(path, known);
      }
    } catch (error) {
      const object = `bases/${subdirectory}/${MANIFEST_NAME}`;
      const isThere = (await blobs.size(parseBlobKey(object), { signal })) !== null;
      if (!isDamage(error)) throw error;
      if (isThere) damage.push({ object, reason: toError(error).message, bases: [subdirectory], log: null });
    }
  }
  const objects = [...needed].map(([path, of]) => ({ name: `bases/${path}`, ...of, log: null }));
  return { objects: [...objects, ...(await listSegments(store.directory, tools))], damage };
}

/** Open segments are read again when they are closed. */
async function listSegments(directory: string, { blobs, signal }: Tools): Promise<readonly StoredObject[]> {
  const segments: StoredObject[] = [];
  for (const incarnation of await listIncarnations({ directory })) {
    const folder = await listWalFolder(join(directory, 'wal', incarnation));
    for (const { name: file, segmentNo, isClosed } of folder.segments) {
      const name = `wal/${incarnation}/${file}`;
      const bytes = isClosed ? await blobs.size(parseBlobKey(name), { signal }) : null;
      if (bytes === null) continue;
      const { segmentBytes } = folder;
      const endLsn = walSegmentStart({ segmentNo: segmentNo + 1n, segmentBytes }) satisfies Lsn;
      segments.push({ name, bytes, bases: [], log: { incarnation, endLsn } });
    }
  }
  return segments;
}

/** What is wrong with an object; null when nothing is, or when nobody needs it any more. */
async function damageOf(object: StoredObject, tools: Tools): Promise<string | null> {
  const key = parseBlobKey(object.name);
  try {
    if (object.name.endsWith('.pack')) await checkPackAlone(key, { ...tools, bytes: object.bytes });
    else await checkSegmentAlone(key, tools);
    return null;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return (await isNeeded(object, tools)) ? toError(error).message : null;
  }
}

/** Retention removes manifests before packs, and segments whenever nobody needs them. */
async function isNeeded({ name, bases }: StoredObject, { blobs, signal }: Tools): Promise<boolean> {
  const witnesses = bases.length === 0 ? [name] : bases.map((base) => `bases/${base}/${MANIFEST_NAME}`);
  for (const witness of witnesses) {
    if ((await blobs.size(parseBlobKey(witness), { signal })) !== null) return true;
  }
  return false;
}

/** A version that no program has written is a flipped bit; and what the disk does not give back is lost. */
function isDamage(error: unknown): boolean {
  return isAppError(error, 'data_corrupt', 'format_unsupported', 'io', 'blob_unavailable');
}

/** Against the checksums that it carries: header, every frame, index, footer, length. */
export async function checkPackAlone(
  key: BlobKey,
  tools: ObjectTools & { readonly bytes: number },
): Promise<void> {
  const { blobs, bytes, restCell, signal } = tools;
  const size = await blobs.size(key, { signal });
  if (size === null) throw new CorruptError(`${key} is missing`);
  if (size !== bytes) throw new CorruptError(`${key} has ${size} bytes, ${bytes} were written`);
  const tail = async (offset: number, length: number) => {
    await using reader = new ObjectReader(blobs, key, { range: { offset, length }, signal });
    return await reader.take(length);
  };
  const place = { packBytes: bytes, name: key };
  const footer = parsePackFooter(await tail(bytes - PACK_FOOTER_BYTES, PACK_FOOTER_BYTES), place);
  const indexBytes = footer.frameCount * PACK_INDEX_ENTRY_BYTES;
  const index = indexBytes === 0 ? new Uint8Array(0) : await tail(footer.indexOffset, indexBytes);
  const frames = parsePackIndex(index, { footer, name: key });
  await using reader = new ObjectReader(blobs, key, { signal });
  const id = parsePackHeader(await reader.take(PACK_HEADER_BYTES), key);
  if (!Buffer.from(id).equals(footer.id)) throw new CorruptError(`${key} begins and ends as two packs`);
  for (const { length, crc } of frames) {
    const begunMs = performance.now();
    const frame = await reader.take(length);
    checkFrame(frame, key);
    if (frameChecksum(frame) !== crc)
      throw new CorruptError(`a frame of ${key} is not the one that was written`);
    rest(restCell, { workedMs: performance.now() - begunMs });
  }
}

/** A log object, in the same way. @throws CorruptError */
export async function checkSegmentAlone(
  key: BlobKey,
  { blobs, restCell, signal }: ObjectTools,
): Promise<void> {
  const begunMs = performance.now();
  await using reader = new ObjectReader(blobs, key, { signal });
  const header = parseWalObjectHeader(await reader.take(WAL_OBJECT_HEADER_BYTES), key);
  await readWalSegment(blobs, { key, header }, { write: () => undefined, signal });
  rest(restCell, { workedMs: performance.now() - begunMs });
}
