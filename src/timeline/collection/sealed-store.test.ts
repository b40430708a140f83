import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../../base/index.ts';
import {
  type BlobKey,
  type BlobStore,
  BlobStoreInPieces,
  memoryBlobStore,
  parseBlobKey,
  readBlob,
} from '../../blob/index.ts';
import { describeBlobStore } from '../../blob/conformance.ts';
import { systemRng } from '../../daemon/rng.ts';
import { dataKeyOf } from '../../keys/index.ts';
import { CHUNK_BYTES, SEALED_HEADER_BYTES, STORED_CHUNK_BYTES } from '../format/sealed-object.ts';
import { isSealedObject } from './encryption.ts';
import { sealedBlobStore } from './sealed-store.ts';

const { signal } = new AbortController();
const memory = () => memoryBlobStore({ displayUri: 'memory://test' });
const rng = systemRng();
const bytesMax = 64 * CHUNK_BYTES;
const sealed = (inner: BlobStore, secret = 1) =>
  sealedBlobStore({
    inner,
    dataKey: dataKeyOf(new Uint8Array(32).fill(secret)),
    isSealed: (key) => !key.startsWith('open'),
    rng,
  });
const read = (store: BlobStore, key: BlobKey) => readBlob(store, key, { bytesMax, signal });
const pattern = (length: number) =>
  new Uint8Array(length).map((_, index) => (index * 31 + (index >> 8)) % 251);

describeBlobStore('sealed', async () => sealed(memory()));

describe('an encrypted object', () => {
  const key = parseBlobKey('a/object');

  it('shows nothing of its content, and has its length', async () => {
    const inner = memory();
    await sealed(inner).put(key, Buffer.from('the rows of somebody'.repeat(1000)), { signal });
    const stored = Buffer.from(await read(inner, key));
    assert.equal(stored.length, SEALED_HEADER_BYTES + 20_000 + 16);
    assert.ok(!stored.includes('somebody'));
    await sealed(inner).put(parseBlobKey('open/lock'), Buffer.from('7\n'), { signal });
    assert.equal(Buffer.from(await read(inner, parseBlobKey('open/lock'))).toString(), '7\n');
  });

  it('is encrypted with another key each time it is written', async () => {
    const [first, second] = [memory(), memory()];
    for (const inner of [first, second]) await sealed(inner).put(key, new Uint8Array(100), { signal });
    const [one, two] = [Buffer.from(await read(first, key)), Buffer.from(await read(second, key))];
    const body = (bytes: Buffer) => bytes.subarray(SEALED_HEADER_BYTES);
    assert.ok(!body(one).equals(body(two)));
  });

  it('is read by ranges as it was written, in whatever pieces', async () => {
    const lengths = fc.oneof(
      fc.nat(3 * CHUNK_BYTES),
      fc.constantFrom(0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES),
    );
    const cuts = fc.array(fc.nat(2 * CHUNK_BYTES), { maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(
        lengths,
        cuts,
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (length, pieces, from, share) => {
          const store = sealed(memory());
          const content = pattern(length);
          await using upload = await store.beginUpload(key, { signal });
          let at = 0;
          for (const piece of [...pieces, length]) {
            await upload.append(content.subarray(at, Math.min(at + piece, length)));
            at = Math.min(at + piece, length);
          }
          await upload.commit();
          assert.equal(await store.size(key, { signal }), length);
          const offset = Math.floor(from * length);
          const range = { offset, length: Math.floor(share * (length - offset)) };
          const part = await readBlob(store, key, { bytesMax, range, signal });
          assert.ok(Buffer.from(part).equals(content.subarray(offset, offset + range.length)));
          assert.ok(Buffer.from(await read(store, key)).equals(content));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('reads no more than the chunks that hold a range', async () => {
    const inner = memory();
    await sealed(inner).put(key, pattern(20 * CHUNK_BYTES), { signal });
    const asked: number[] = [];
    const watched = new BlobStoreInPieces(inner, {
      pieceBytes: 1000,
      onRead: (range) => asked.push(range?.length ?? Number.POSITIVE_INFINITY),
    });
    const store = sealed(watched);
    const ranges = [
      { offset: 5 * CHUNK_BYTES - 1, length: 2 },
      { offset: 7 * CHUNK_BYTES, length: CHUNK_BYTES },
    ];
    for (const range of ranges) await readBlob(store, key, { bytesMax, range, signal });
    assert.deepEqual(asked, [SEALED_HEADER_BYTES, 2 * STORED_CHUNK_BYTES, STORED_CHUNK_BYTES]);
  });
});

describe('what somebody changed in an encrypted object', () => {
  const key = parseBlobKey('a/object');
  const other = parseBlobKey('a/other');
  const content = pattern(3 * CHUNK_BYTES + 100);

  /** Puts what `change` makes of the stored objects into another store, and reads that. */
  async function readChanged(
    change: (stored: Buffer, otherStored: Buffer) => Uint8Array,
    range?: { offset: number; length: number },
  ): Promise<Uint8Array> {
    const inner = memory();
    const store = sealed(inner);
    await store.put(key, content, { signal });
    await store.put(other, content.toReversed(), { signal });
    const changed = change(Buffer.from(await read(inner, key)), Buffer.from(await read(inner, other)));
    const target = memory();
    await target.put(key, changed, { signal });
    return readBlob(sealed(target), key, { bytesMax, signal, ...(range === undefined ? {} : { range }) });
  }

  const detected = (error: unknown) =>
    isAppError(error, 'data_corrupt', 'backup_untrusted', 'format_unsupported');
  const chunk = (bytes: Buffer, index: number) =>
    bytes.subarray(
      SEALED_HEADER_BYTES + index * STORED_CHUNK_BYTES,
      SEALED_HEADER_BYTES + (index + 1) * STORED_CHUNK_BYTES,
    );
  const parts = (bytes: Buffer) => ({
    header: bytes.subarray(0, SEALED_HEADER_BYTES),
    chunks: [0, 1, 2, 3].map((index) => chunk(bytes, index)),
  });

  it('is found at every byte', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(SEALED_HEADER_BYTES + content.length + 4 * 16 - 1),
        fc.integer({ min: 1, max: 255 }),
        async (at, mask) => {
          const flip = (stored: Buffer) => stored.map((byte, index) => (index === at ? byte ^ mask : byte));
          await assert.rejects(readChanged(flip), detected);
        },
      ),
      {
        numRuns: 100,
        examples: Array.from({ length: SEALED_HEADER_BYTES }, (_, at) => [at, 1] as [number, number]),
      },
    );
  });

  it('is found wherever it is cut off, between two chunks as well', async () => {
    const cuts = [
      0,
      1,
      SEALED_HEADER_BYTES - 1,
      SEALED_HEADER_BYTES,
      SEALED_HEADER_BYTES + 15,
      SEALED_HEADER_BYTES + 16,
    ].concat(
      [1, 2, 3].flatMap((index) =>
        [-1, 0, 1, 16, 17].map((by) => SEALED_HEADER_BYTES + index * STORED_CHUNK_BYTES + by),
      ),
    );
    for (const length of cuts) {
      await assert.rejects(
        readChanged((stored) => stored.subarray(0, length)),
        detected,
        `cut to ${length}`,
      );
      const first = readChanged((stored) => stored.subarray(0, length), {
        offset: 0,
        length: content.length,
      });
      await assert.rejects(first, detected, `cut to ${length}, read by range`);
    }
  });

  const MOVED: Readonly<Record<string, (stored: Buffer, other: Buffer) => Uint8Array>> = {
    'two chunks exchanged': (stored) => {
      const {
        header,
        chunks: [a, b, c, d],
      } = parts(stored);
      return Buffer.concat([header, b ?? header, a ?? header, c ?? header, d ?? header]);
    },
    'a chunk twice': (stored) => {
      const {
        header,
        chunks: [a, , c, d],
      } = parts(stored);
      return Buffer.concat([header, a ?? header, a ?? header, c ?? header, d ?? header]);
    },
    'a chunk left out': (stored) => {
      const {
        header,
        chunks: [a, b, , d],
      } = parts(stored);
      return Buffer.concat([header, a ?? header, b ?? header, d ?? header]);
    },
    'something behind it': (stored) => Buffer.concat([stored, Buffer.alloc(20)]),
    'the chunk of another object': (stored, otherStored) => {
      const {
        header,
        chunks: [a, , c, d],
      } = parts(stored);
      return Buffer.concat([header, a ?? header, chunk(otherStored, 1), c ?? header, d ?? header]);
    },
    'the header of another object': (stored, otherStored) =>
      Buffer.concat([otherStored.subarray(0, SEALED_HEADER_BYTES), stored.subarray(SEALED_HEADER_BYTES)]),
    'another object of the same chain in its place': (_, otherStored) => otherStored,
    'its content, not encrypted': () => content,
  };
  for (const [what, change] of Object.entries(MOVED)) {
    it(`is found: ${what}`, () => assert.rejects(readChanged(change), detected));
  }

  it('is found: the object of a chain with another key', async () => {
    const inner = memory();
    await sealed(inner, 2).put(key, content, { signal });
    await assert.rejects(read(sealed(inner, 1), key), (error) => isAppError(error, 'backup_untrusted'));
  });
});

describe('what of a collection is encrypted', () => {
  const folder = '2026/01/02-030405.06';
  const CASES: Readonly<Record<string, boolean>> = {
    [`${folder}/BACKUP_MANIFEST`]: true,
    [`${folder}/data/1-0.pack`]: true,
    [`${folder}/wal/1-000000010000000000000001.wal`]: true,
    [`${folder}/progress/BACKUP-CHECKPOINT-1-0`]: true,
    [`incrementals/${folder}/20260103/010000.00/BACKUP_MANIFEST`]: true,
    [`incrementals/${folder}/20260103/010000.00/data/1-0.pack`]: true,
    [`${folder}/BACKUP-LOCK-17`]: false,
    [`${folder}/ENCRYPTION-INFO`]: false,
    [`${folder}/ENCRYPTION-INFO-12`]: false,
    [`${folder}7/BACKUP_MANIFEST`]: false,
    '2026/01/03-030405.06/BACKUP_MANIFEST': false,
    'metadata/latest/LATEST-79739897969694939': false,
    'metadata/collection-owner': false,
  };
  for (const [path, expected] of Object.entries(CASES)) {
    it(path, () => assert.equal(isSealedObject(parseBlobKey(path), folder), expected));
  }
});
