import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { memoryBlobStore, parseBlobKey } from '../../blob/index.ts';
import { checkPack } from '../objects/pack-check.ts';
import { readWalObject } from '../objects/wal-reader.ts';
import {
  FIXTURE_BYTES,
  FIXTURE_KEY,
  FIXTURE_PACK_ID,
  FIXTURE_WAL,
  FIXTURE_WAL_HEADER,
  fixtureManifest,
} from './fixtures.ts';
import { decodeFrame } from './frame.ts';
import { readManifest } from './manifest-file.ts';
import { frameTag, packTagKey, parsePackFooter, PACK_FOOTER_BYTES, parsePackIndex } from './pack.ts';

const signal = new AbortController().signal;
const read = (name: string) => readFileSync(join(import.meta.dirname, '..', 'golden', name));

describe('objects written by release 26.2', () => {
  it('manifest', async () => {
    const bytes = read('manifest-1.bin');
    const chunks = (async function* () {
      yield bytes;
    })();
    assert.deepEqual(await readManifest(chunks, { key: FIXTURE_KEY, name: 'golden' }), fixtureManifest());
  });

  it('pack', async () => {
    const bytes = read('pack-1.bin');
    const name = 'golden';
    const footer = parsePackFooter(bytes.subarray(-PACK_FOOTER_BYTES), { packBytes: bytes.length, name });
    const index = bytes.subarray(footer.indexOffset, -PACK_FOOTER_BYTES);
    const places = parsePackIndex(index, { footer, name });
    const stored = places.map(({ offset, length }) => bytes.subarray(offset, offset + length));
    const contents = stored.map((frame) => decodeFrame(frame, name));
    const [pages, ...others] = contents;
    assert.ok(pages?.kind === 'pages');
    assert.deepEqual([pages.pageCount, pages.presence], [3, 0b101n]);
    assert.deepEqual([pages.presentPages[0], pages.presentPages[8192]], [1, 3]);
    assert.deepEqual(
      others.map((content) => content.kind === 'bytes' && Buffer.from(content.bytes)),
      FIXTURE_BYTES,
    );
    const tagKey = packTagKey({ key: FIXTURE_KEY, id: FIXTURE_PACK_ID });
    const tags = places.map(({ offset }, at) => frameTag({ tagKey, offset, frame: stored[at] ?? bytes }));
    assert.equal(Buffer.concat(tags).toString('hex'), read('pack-1.tags').toString('latin1'));
    const store = memoryBlobStore({ displayUri: 'memory://' });
    const key = parseBlobKey('p');
    await store.put(key, bytes, { signal });
    const frames = {
      offsets: Uint32Array.from(places, ({ offset }) => offset),
      lengths: Uint32Array.from(places, ({ length }) => length),
      crcs: Uint32Array.from(places, ({ crc }) => crc),
      tags: Buffer.concat(tags),
    };
    await checkPack(store, { key, id: FIXTURE_PACK_ID, bytes: bytes.length, tagKey, frames }, { signal });
  });

  it('log', async () => {
    const bytes = read('wal-1.bin');
    const store = memoryBlobStore({ displayUri: 'memory://' });
    const key = parseBlobKey('w');
    await store.put(key, bytes, { signal });
    const log = new Uint8Array(FIXTURE_WAL.length);
    const sha256 = read('wal-1.sha256').toString('latin1');
    await readWalObject(
      store,
      { key, bytes: bytes.length, sha256, header: FIXTURE_WAL_HEADER },
      { write: (piece, offset) => log.set(piece, offset), signal },
    );
    assert.deepEqual(log, FIXTURE_WAL);
  });
});
