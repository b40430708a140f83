import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { AppError, isAppError } from '../../base/index.ts';
import { type BlobStore, memoryBlobStore, parseBlobKey, readBlob } from '../../blob/index.ts';
import { clusterKeyOf } from '../../keys/index.ts';
import { PAGE_BYTES, PageBuffer } from '../../pg/index.ts';
import { checkPack, type ExpectedPack } from '../objects/pack-check.ts';
import { PackWriter, type WrittenFrame } from '../objects/pack-writer.ts';
import { checkWalObject, readWalObject } from '../objects/wal-reader.ts';
import { checkManifest } from './check-manifest.ts';
import { FIXTURE_KEY, FIXTURE_PACK_ID, FIXTURE_WAL_HEADER, fixtureManifest } from './fixtures.ts';
import { decodeFrame, encodeBytesFrame, encodePagesFrame, FRAME_STORED_BYTES_MAX } from './frame.ts';
import type { Manifest } from './manifest.ts';
import { encodeManifest, readManifest, readManifestHead, readManifestObjectList } from './manifest-file.ts';
import {
  encodePackEnd,
  encodePackHeader,
  packTagKey,
  parsePackFooter,
  parsePackHeader,
  parsePackIndex,
} from './pack.ts';
import { encodeWalObjectHeader, parseWalObjectHeader } from './wal-object.ts';

const signal = new AbortController().signal;
const read = (name: string) => readFileSync(join(import.meta.dirname, '..', 'golden', name));
const isRefused = (error: unknown) =>
  isAppError(error, 'data_corrupt', 'format_unsupported', 'backup_untrusted');
const into = () => new Uint8Array(FRAME_STORED_BYTES_MAX);

async function* inChunks(bytes: Uint8Array, chunkBytes = 100): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

function flipped(bytes: Uint8Array, at: number, bit: number): Uint8Array {
  const damaged = Uint8Array.from(bytes);
  damaged[at] = (damaged[at] ?? 0) ^ (1 << bit);
  return damaged;
}

describe('frames', () => {
  const buffer = new PageBuffer({ pagesMax: 64 });

  it('give back their pages, with or without zeroes among them', () => {
    const page = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 255 }));
    fc.assert(
      fc.property(fc.array(page, { minLength: 1, maxLength: 64 }), fc.boolean(), (fills, isNoisy) => {
        for (const [index, fill] of fills.entries()) {
          const bytes = buffer.bytes.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES).fill(fill);
          if (isNoisy && fill !== 0)
            for (let at = 0; at < PAGE_BYTES; at++) bytes[at] = (at * at * fill + at) % 255;
        }
        const original = Uint8Array.from(buffer.bytes);
        const target = into();
        const length = encodePagesFrame(buffer, { pageCount: fills.length, into: target, at: 0 });
        const content = decodeFrame(target.subarray(0, length), 'x');
        assert.ok(content.kind === 'pages');
        assert.equal(content.pageCount, fills.length);
        const rebuilt = new Uint8Array(fills.length * PAGE_BYTES);
        let from = 0;
        for (const index of fills.keys()) {
          if ((content.presence & (1n << BigInt(index))) === 0n) continue;
          rebuilt.set(content.presentPages.subarray(from, from + PAGE_BYTES), index * PAGE_BYTES);
          from += PAGE_BYTES;
        }
        assert.equal(from, content.presentPages.length);
        assert.ok(Buffer.from(rebuilt).equals(original.subarray(0, rebuilt.length)));
      }),
      { numRuns: 50 },
    );
  });

  it('give back plain bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 5000 }), fc.nat(100), (raw, at) => {
        const target = into();
        const length = encodeBytesFrame(raw, { into: target, at });
        const content = decodeFrame(target.subarray(at, at + length), 'x');
        assert.ok(content.kind === 'bytes' && Buffer.from(content.bytes).equals(raw));
      }),
    );
  });

  it('refuse every flipped bit and every other length', () => {
    const target = into();
    const length = encodeBytesFrame(Buffer.from('some text some text some text'), { into: target, at: 0 });
    const frame = target.subarray(0, length);
    for (let at = 0; at < length; at++) {
      for (let bit = 0; bit < 8; bit++)
        assert.throws(() => decodeFrame(flipped(frame, at, bit), 'x'), isRefused);
      assert.throws(() => decodeFrame(frame.subarray(0, at), 'x'), isRefused);
    }
    assert.throws(() => decodeFrame(target.subarray(0, length + 1), 'x'), isRefused);
  });

  it('of zeroes take only a header', () => {
    buffer.bytes.fill(0);
    assert.equal(encodePagesFrame(buffer, { pageCount: 64, into: into(), at: 0 }), 32);
  });
});

describe('packs', () => {
  const key = parseBlobKey('a/1-0.pack');
  const tagKey = packTagKey({ key: FIXTURE_KEY, id: FIXTURE_PACK_ID });

  async function write(store: BlobStore, contents: readonly Uint8Array[]): Promise<ExpectedPack> {
    await using writer = await PackWriter.open({ store, key, id: FIXTURE_PACK_ID, tagKey, signal });
    const written: WrittenFrame[] = [];
    for (const content of contents) written.push(await writer.addBytes(content));
    const { bytes } = await writer.close();
    const column = (value: (frame: WrittenFrame) => number) => Uint32Array.from(written, value);
    const frames = {
      offsets: column(({ offset }) => offset),
      lengths: column(({ length }) => length),
      crcs: column(({ crc }) => crc),
      tags: Buffer.concat(written.map(({ tag }) => tag)),
    };
    return { key, id: FIXTURE_PACK_ID, bytes, tagKey, frames };
  }

  it('are written in pieces and found whole', async () => {
    const store = memoryBlobStore({ displayUri: 'memory://' });
    const noise = Uint8Array.from({ length: 700_000 }, (_, index) => (index * 2654435761) >>> 13);
    const expected = await write(
      store,
      Array.from({ length: 9 }, (_, index) => noise.subarray(index)),
    );
    assert.equal(await store.size(key, { signal }), expected.bytes);
    await checkPack(store, expected, { signal });
    const empty = memoryBlobStore({ displayUri: 'memory://' });
    await checkPack(empty, await write(empty, []), { signal });
  });

  it('are refused by name with any byte flipped, cut off or lengthened', async () => {
    const store = memoryBlobStore({ displayUri: 'memory://' });
    const expected = await write(store, [Buffer.from('one'), Buffer.from('two '.repeat(50))]);
    const bytes = await readBlob(store, key, { bytesMax: 9999, signal });
    const variants = [
      ...bytes.keys().map((at) => flipped(bytes, at, at % 8)),
      ...bytes.keys().map((at) => bytes.subarray(0, at)),
      Buffer.concat([bytes, Buffer.from('x')]),
    ];
    for (const variant of variants) {
      const damaged = memoryBlobStore({ displayUri: 'memory://' });
      await damaged.put(key, variant, { signal });
      await assert.rejects(
        checkPack(damaged, expected, { signal }),
        (error) => isRefused(error) && error instanceof AppError && error.message.includes(key),
      );
    }
    const missing = memoryBlobStore({ displayUri: 'memory://' });
    await assert.rejects(checkPack(missing, expected, { signal }), (error) =>
      isAppError(error, 'data_corrupt'),
    );
  });

  it('do not accept a sound frame that somebody else made', async () => {
    const store = memoryBlobStore({ displayUri: 'memory://' });
    const expected = await write(store, [Buffer.from('one')]);
    const other = {
      ...expected,
      tagKey: packTagKey({ key: clusterKeyOf(new Uint8Array(32)), id: FIXTURE_PACK_ID }),
    };
    await assert.rejects(checkPack(store, other, { signal }), (error) =>
      isAppError(error, 'backup_untrusted'),
    );
  });

  it('of a newer version are refused as such', () => {
    const header = Buffer.from(encodePackHeader({ id: FIXTURE_PACK_ID }));
    header.writeUInt16LE(2, 8);
    assert.throws(
      () => parsePackHeader(header, 'x'),
      (error) => isAppError(error, 'format_unsupported'),
    );
  });

  it('have an index that is believed only when it has no gap', () => {
    const frames = [
      { offset: 32, length: 40, crc: 1 },
      { offset: 73, length: 40, crc: 2 },
    ];
    const end = encodePackEnd({ id: FIXTURE_PACK_ID, indexOffset: 113, frames });
    const footer = parsePackFooter(end.subarray(24), { packBytes: 113 + end.length, name: 'x' });
    assert.throws(() => parsePackIndex(end.subarray(0, 24), { footer, name: 'x' }), isRefused);
  });
});

describe('manifests', () => {
  const options = { key: FIXTURE_KEY, name: 'BACKUP_MANIFEST' };
  const encoded = () => Buffer.concat(encodeManifest(fixtureManifest(), { key: FIXTURE_KEY }));

  it('are read back, whole or in part', async () => {
    const manifest = fixtureManifest();
    assert.deepEqual(await readManifest(inChunks(encoded(), 7), options), manifest);
    const { header, objects } = await readManifestHead(inChunks(encoded()), options);
    assert.deepEqual({ header, objects }, { header: manifest.header, objects: manifest.objects });
    const paths = (await readManifestObjectList(inChunks(encoded()), options)).map(({ path }) => path);
    assert.deepEqual(
      paths,
      [...manifest.packs, ...manifest.wal].map(({ path }) => path),
    );
    checkManifest(manifest, 'x');
  });

  it('are refused by name with any byte flipped, cut off or lengthened', async () => {
    const bytes = encoded();
    for (const at of bytes.keys()) {
      for (const variant of [flipped(bytes, at, at % 8), bytes.subarray(0, at)]) {
        for (const readIt of [readManifest, readManifestHead]) {
          await assert.rejects(
            readIt(inChunks(variant, 4096), options),
            (error) => isAppError(error, 'data_corrupt') && error.message.includes(options.name),
          );
        }
      }
    }
    await assert.rejects(readManifest(inChunks(Buffer.concat([bytes, bytes])), options), isRefused);
  });

  it('signed with another key are not trusted, whatever their key id says', async () => {
    const other = clusterKeyOf(new Uint8Array(32).fill(1));
    const pieces = [
      encodeManifest(fixtureManifest(), { key: other }),
      encodeManifest(fixtureManifest(), { key: { ...other, id: FIXTURE_KEY.id } }),
    ];
    for (const bytes of pieces.map((list) => Buffer.concat(list))) {
      await assert.rejects(readManifest(inChunks(bytes), options), (error) =>
        isAppError(error, 'backup_untrusted'),
      );
    }
  });

  it('of a newer version are refused as such', async () => {
    const bytes = encoded();
    bytes.writeUInt16LE(2, 8);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 36)), 36);
    await assert.rejects(readManifest(inChunks(bytes), options), (error) =>
      isAppError(error, 'format_unsupported'),
    );
  });

  it('of garbage are refused', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (garbage) => {
        await assert.rejects(readManifest(inChunks(garbage), options), isRefused);
      }),
    );
  });

  it('must describe a whole data directory', () => {
    const base = fixtureManifest();
    const { header, files, runs, frames, wal } = base;
    const [object] = wal;
    assert.ok(object !== undefined);
    const broken: Record<string, Partial<Manifest>> = {
      'path outside': { files: { ...files, paths: ['../x', ...files.paths.slice(1)] } },
      'configuration file': { files: { ...files, paths: ['postgresql.auto.conf', ...files.paths.slice(1)] } },
      'wrong order': { files: { ...files, paths: [...files.paths].reverse() } },
      'no control file': { files: { ...files, paths: [...files.paths.slice(0, 3), 'global/pg_contro'] } },
      'wrong kind': { files: { ...files, kinds: Uint8Array.of(1, 1, 1, 0) } },
      'length not covered': { files: { ...files, lengths: BigUint64Array.of(4n, 70n * 8192n, 0n, 8192n) } },
      'runs out of range': { files: { ...files, firstRuns: Uint32Array.of(9, 1, 3, 3) } },
      'gap in runs': { runs: { ...runs, starts: Uint32Array.of(0, 0, 65, 0) } },
      'frame out of range': { runs: { ...runs, frames: Uint32Array.of(0, 1, 2, 4) } },
      'page out of frame': { runs: { ...runs, indexes: Uint16Array.of(0, 1, 0, 0) } },
      'pack out of range': { frames: { ...frames, packs: Uint32Array.of(0, 0, 0, 1) } },
      'frame outside pack': { frames: { ...frames, offsets: Uint32Array.of(32, 67, 1000, 99_999) } },
      'log missing': { wal: [] },
      'log of another timeline': { wal: [{ ...object, timelineId: 3 }] },
      'gap in log': { wal: [{ ...object, segmentNo: 6n }] },
      'target before stop': { header: { ...header, targetLsn: header.startLsn } },
      'label of another start': {
        header: { ...header, startLsn: (header.startLsn - 8n) as typeof header.startLsn },
      },
    };
    for (const [what, change] of Object.entries(broken)) {
      assert.throws(
        () => checkManifest({ ...base, ...change }, 'x'),
        (error) => isAppError(error, 'data_corrupt'),
        what,
      );
    }
  });
});

describe('log objects', () => {
  it('have a header that is read back, and refused with any byte flipped', () => {
    const bytes = encodeWalObjectHeader(FIXTURE_WAL_HEADER);
    assert.deepEqual(parseWalObjectHeader(bytes, 'x'), FIXTURE_WAL_HEADER);
    for (const at of bytes.keys())
      assert.throws(() => parseWalObjectHeader(flipped(bytes, at, 3), 'x'), isRefused);
    const newer = Buffer.from(bytes);
    newer.writeUInt16LE(2, 8);
    assert.throws(
      () => parseWalObjectHeader(newer, 'x'),
      (error) => isAppError(error, 'format_unsupported'),
    );
  });

  it('are refused by name with any byte flipped or cut off', async () => {
    const bytes = read('wal-1.bin');
    const key = parseBlobKey('b/wal/1.wal');
    const sha256 = read('wal-1.sha256').toString('latin1');
    const expected = { key, bytes: bytes.length, sha256, header: FIXTURE_WAL_HEADER };
    for (const at of bytes.keys()) {
      for (const variant of [flipped(bytes, at, at % 8), bytes.subarray(0, at)]) {
        const store = memoryBlobStore({ displayUri: 'memory://' });
        await store.put(key, variant, { signal });
        const readings = {
          expanded: () => readWalObject(store, expected, { write: () => undefined, signal }),
          'as it is stored': () => checkWalObject(store, expected, { signal }),
        };
        for (const [how, reading] of Object.entries(readings)) {
          await assert.rejects(
            reading,
            (error) => isRefused(error) && error instanceof AppError && error.message.includes(key),
            how,
          );
        }
      }
    }
  });
});
