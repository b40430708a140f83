/** Everything that reads objects, from a store that hands them out bit by bit, and that fails, and that is left, in the midst of them. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { filesBelow } from '../../test/harness/oracle.ts';
import {
  AppError,
  type ErrorCode,
  isAppError,
  type Timestamp,
  type VirtualClusterId,
} from '../base/index.ts';
import {
  type BlobStore,
  BlobStoreInPieces,
  FaultyBlobStore,
  memoryBlobStore,
  parseBlobKey,
  readBlob,
} from '../blob/index.ts';
import { systemRng } from '../daemon/index.ts';
import { dataKeyOf } from '../keys/index.ts';
import { checkPackAlone, checkSegmentAlone } from './verify/check-objects.ts';
import { sealedBlobStore } from './collection/sealed-store.ts';
import { copyBase } from './continuous/copy-base.ts';
import { fetchTimeline } from './continuous/fetch.ts';
import { readHeldBase } from './continuous/held-bases.ts';
import { pieceKey, type PieceName } from './continuous/layout.ts';
import { encodePiece } from './continuous/piece.ts';
import { readPiece, readPresent, readWindow } from './continuous/window.ts';
import { FIXTURE_KEY, FIXTURE_WAL, FIXTURE_WAL_HEADER } from './format/fixtures.ts';
import {
  readManifest,
  readManifestCopies,
  readManifestHead,
  readManifestKeyId,
  readManifestObjectList,
  readManifestOutline,
} from './format/manifest-file.ts';
import { type FixtureBase, putFixtureBase } from './objects/fixture-base.ts';
import { checkFramesOf, checkPack } from './objects/pack-check.ts';
import { checkWalObject, readWalObject, readWalSegment } from './objects/wal-reader.ts';
import { copyFrames } from './publish/copy-frames.ts';
import type { IncarnationRecord } from './store-contract.ts';
import { createRestCell } from './worker/limiter.ts';

const NEVER = new AbortController().signal;
const key = FIXTURE_KEY;
const rng = systemRng();
const restCell = createRestCell();
const memory = () => memoryBlobStore({ displayUri: 'memory://' });

interface Fixture extends FixtureBase {
  readonly store: BlobStore;
  readonly piece: PieceName;
}

/** What a reader gives must be the same from every store. */
type Reader = (store: BlobStore, fixture: Fixture, signal: AbortSignal) => Promise<unknown>;

const record: IncarnationRecord = {
  incarnation: FIXTURE_WAL_HEADER.incarnation,
  parentIncarnation: null,
  forkLsn: null,
  systemIdentifier: FIXTURE_WAL_HEADER.systemIdentifier,
  engineMajor: 18,
  timelines: [{ timelineId: FIXTURE_WAL_HEADER.timelineId, beginLsn: 0x500000n as PieceName['beginLsn'] }],
};

async function fill(store: BlobStore, { frames }: { readonly frames: number }): Promise<Fixture> {
  const base = await putFixtureBase(store, { frames, signal: NEVER });
  const { incarnation, timelineId, endLsn } = FIXTURE_WAL_HEADER;
  const through = (base.manifest.header.endTime + 1n) as Timestamp;
  const beginLsn = (endLsn - BigInt(FIXTURE_WAL.length)) as PieceName['beginLsn'];
  const piece: PieceName = { incarnation, timelineId, beginLsn, endLsn, through };
  await store.put(pieceKey(piece), encodePiece({ name: piece, record, bytes: FIXTURE_WAL }, { key }), {
    signal: NEVER,
  });
  return { ...base, store, piece };
}

async function contentOf(store: BlobStore): Promise<unknown> {
  const found: [string, string][] = [];
  for await (const entry of store.list('', { deep: true, signal: NEVER })) {
    const bytes = await readBlob(store, entry.key, { bytesMax: 1 << 24, signal: NEVER });
    found.push([entry.key, Buffer.from(bytes).toString('base64')]);
  }
  return found;
}

async function inFolder<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'atoll-pieces-'));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

const collectLog = async (read: (write: (bytes: Uint8Array, offset: number) => void) => Promise<void>) => {
  const log = Buffer.alloc(FIXTURE_WAL.length);
  await read((bytes, offset) => log.set(bytes, offset));
  return log.toString('base64');
};
const manifestChunks = (store: BlobStore, { manifestName: name }: Fixture, signal: AbortSignal) =>
  [store.get(name, { signal }), { key, name }] as const;

const READERS: Readonly<Record<string, Reader>> = {
  async readBlob(store, { pack }, signal) {
    const bytes = await readBlob(store, pack.key, { bytesMax: pack.bytes, signal });
    return Buffer.from(bytes).toString('base64');
  },
  checkPack: (store, { pack }, signal) => checkPack(store, pack, { signal }),
  checkFramesOf: (store, { pack }, signal) => checkFramesOf(store, pack, { signal }),
  checkPackAlone: (store, { pack }, signal) =>
    checkPackAlone(pack.key, { blobs: store, bytes: pack.bytes, restCell, signal }),
  checkSegmentAlone: (store, { wal }, signal) =>
    checkSegmentAlone(wal.key, { blobs: store, restCell, signal }),
  checkWalObject: (store, { wal }, signal) => checkWalObject(store, wal, { signal }),
  readWalObject: (store, { wal }, signal) =>
    collectLog((write) => readWalObject(store, wal, { write, signal })),
  readWalSegment: (store, { wal }, signal) =>
    collectLog((write) => readWalSegment(store, wal, { write, signal })),
  readManifest: (...given) => readManifest(...manifestChunks(...given)),
  readManifestHead: (...given) => readManifestHead(...manifestChunks(...given)),
  readManifestOutline: (...given) => readManifestOutline(...manifestChunks(...given)),
  readManifestCopies: (...given) => readManifestCopies(...manifestChunks(...given)),
  readManifestObjectList: (...given) => readManifestObjectList(...manifestChunks(...given)),
  readManifestKeyId: (...given) => readManifestKeyId(...manifestChunks(...given)),
  async copyFrames(from, { manifest, pack }, signal) {
    const packs = await copyFrames({
      from,
      image: manifest,
      rows: [...pack.frames.offsets.keys()],
      into: memory(),
      subdirectory: '2026/02/03-040506.07',
      attempt: 1,
      key,
      packBytesMax: 1 << 24,
      rng,
      restCell,
      onPack: async () => undefined,
      onCopied: () => undefined,
      signal,
    });
    return packs.flatMap(({ frames }) => frames.map(({ crc, length }) => [crc, length]));
  },
  async copyBase(from, { manifest, store }, signal) {
    const { subdirectory } = manifest.header;
    const base = await readHeldBase(store, { subdirectory, key, signal: NEVER });
    const into = memory();
    const pieces = new BlobStoreInPieces(into, { pieceBytes: 100 });
    try {
      await copyBase(base, {
        from,
        into: pieces,
        key,
        checked: new Set(),
        onCopied: () => undefined,
        signal,
      });
    } finally {
      assert.equal(pieces.openReads, 0);
    }
    return contentOf(into);
  },
  readPiece: (store, { piece }, signal) => readPiece(store, piece, { key, signal }),
  readWindow: (store, _fixture, signal) => readWindow(store, { key, time: null, signal }),
  fetchTimeline: (store, { manifest }, signal) =>
    inFolder(async (directory) => {
      const { subdirectory } = manifest.header;
      const present = await readPresent(store, { key, signal });
      const base = await readHeldBase(store, { subdirectory, key, signal });
      const into = { virtualClusterId: 3 as VirtualClusterId, directory };
      const onFetched = () => undefined;
      await fetchTimeline(store, { present, base, time: null, into, key, onFetched, signal });
      return filesBelow(directory);
    }),
};

/** The same objects, encrypted where they are stored. */
const sealed = (inner: BlobStore) =>
  sealedBlobStore({ inner, dataKey: dataKeyOf(new Uint8Array(32).fill(5)), isSealed: () => true, rng });
const open = (inner: BlobStore) => inner;

/** Every one that a store may fail with; whether another attempt can help is for who asked to say, and so must reach him. */
const FAILURES: readonly ErrorCode[] = [
  'blob_unavailable',
  'io',
  'disk_full',
  'storage_refused',
  'storage_unusable',
  'cancelled',
];

for (const [form, over] of Object.entries({ open, encrypted: sealed })) {
  describe(`objects that are ${form}`, () => {
    for (const [name, reader] of Object.entries(READERS)) {
      it(`are read in pieces by ${name}`, async () => {
        for (const frames of [1, 40]) {
          const inner = memory();
          const fixture = await fill(over(inner), { frames });
          const expected = await reader(fixture.store, fixture, NEVER);
          for (const pieceBytes of [1, 7, 1000]) {
            const pieces = new BlobStoreInPieces(inner, { pieceBytes });
            assert.deepEqual(await reader(over(pieces), fixture, NEVER), expected, `pieces of ${pieceBytes}`);
            assert.equal(pieces.openReads, 0, 'no read is left open');
          }
        }
      });

      it(`end ${name} with what went wrong in the midst of them`, async () => {
        const inner = memory();
        const fixture = await fill(over(inner), { frames: 4 });
        const pieces = new BlobStoreInPieces(inner, { pieceBytes: 150 });
        const sound = new FaultyBlobStore(pieces, {});
        await reader(over(sound), fixture, NEVER);
        assert.ok(sound.operations > 0);
        for (let at = 1; at <= sound.operations; at++) {
          const code = FAILURES[at % FAILURES.length] ?? 'io';
          const ending = new AbortController();
          const failWith = (what: string) => {
            if (code === 'cancelled') ending.abort();
            return new AppError(code, what);
          };
          const faulty = new FaultyBlobStore(pieces, { failAt: [at], failWith });
          const isTold = (error: unknown) =>
            isAppError(error, code) && (code === 'cancelled' || error.message.includes(`operation ${at} `));
          await assert.rejects(reader(over(faulty), fixture, ending.signal), isTold, `${code} at ${at}`);
          assert.equal(pieces.openReads, 0, 'no read is left open');
        }
      });
    }

    it('may have an index that is longer than any piece', async () => {
      const inner = memory();
      const { pack } = await fill(over(inner), { frames: 6000 });
      assert.ok(pack.frames.offsets.length * 12 > 64 * 1024);
      const pieces = new BlobStoreInPieces(inner, { pieceBytes: 60_000 });
      await checkPackAlone(pack.key, { blobs: over(pieces), bytes: pack.bytes, restCell, signal: NEVER });
      assert.equal(pieces.openReads, 0);
    });
  });
}

describe('objects that are missing', () => {
  it('are told by their name, wherever they are looked for', async () => {
    for (const [name, reader] of Object.entries(READERS)) {
      const fixture = await fill(memory(), { frames: 2 });
      const empty = memory();
      await assert.rejects(reader(empty, fixture, NEVER), (error) => {
        assert.ok(
          isAppError(error, 'blob_not_found', 'data_corrupt', 'backup_not_found'),
          `${name}: ${String(error)}`,
        );
        return true;
      });
      assert.equal((await Array.fromAsync(empty.list('', { deep: true, signal: NEVER }))).length, 0);
      assert.equal(await empty.size(parseBlobKey('x'), { signal: NEVER }), null);
    }
  });
});
