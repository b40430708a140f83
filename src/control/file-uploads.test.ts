import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { ManualClock } from '../../test/harness/manual-clock.ts';
import type { VirtualClusterId } from '../base/index.ts';
import { memoryBlobStore, parseBlobKey, readBlob } from '../blob/index.ts';
import { systemRng } from '../daemon/rng.ts';
import { FileUploads, PIECE_BYTES_MAX } from './file-uploads.ts';

const signal = new AbortController().signal;
const ANN = { virtualClusterId: 3 as VirtualClusterId, user: 'ann' };
const BOB = { ...ANN, user: 'bob' };
const NAMESAKE = { ...ANN, virtualClusterId: 4 as VirtualClusterId };

function rig() {
  const clock = new ManualClock();
  const store = memoryBlobStore({ displayUri: 'memory://' });
  const uploads = new FileUploads({ clock, rng: systemRng() });
  const begin = (name: string, owner = ANN) =>
    uploads.begin(owner, {
      disk: import.meta.dirname,
      begin: () => store.beginUpload(parseBlobKey(name), { signal }),
    });
  return { clock, store, uploads, begin };
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

test('a file is there when it is finished, and as it was sent', async () => {
  const { store, uploads, begin } = rig();
  const key = parseBlobKey('a');
  const id = await begin('a');
  await uploads.append(ANN, { id, piece: Buffer.from('one '), offset: 0 });
  await uploads.append(ANN, { id, piece: Buffer.from('two'), offset: 4 });
  assert.equal(await store.size(key, { signal }), null);
  await uploads.finish(ANN, { id, checksum: sha256('one two') });
  assert.equal(Buffer.from(await readBlob(store, key, { bytesMax: 100, signal })).toString(), 'one two');
  await assert.rejects(uploads.finish(ANN, { id, checksum: sha256('one two') }), {
    code: 'object_not_found',
  });
});

test('a piece that does not fit, or another checksum, ends the upload', async () => {
  const { store, uploads, begin } = rig();
  const gap = await begin('gap');
  await assert.rejects(uploads.append(ANN, { id: gap, piece: Buffer.from('x'), offset: 1 }), {
    code: 'parameter_invalid',
  });
  await assert.rejects(uploads.finish(ANN, { id: gap, checksum: sha256('') }), { code: 'object_not_found' });
  const long = await begin('long');
  const piece = Buffer.alloc(PIECE_BYTES_MAX + 1);
  await assert.rejects(uploads.append(ANN, { id: long, piece, offset: 0 }), { code: 'limit_exceeded' });
  const other = await begin('other');
  await assert.rejects(uploads.finish(ANN, { id: other, checksum: sha256('x') }), { code: 'data_corrupt' });
  for (const name of ['gap', 'long', 'other']) {
    assert.equal(await store.size(parseBlobKey(name), { signal }), null);
  }
});

test('an upload belongs to a user of a virtual cluster', async () => {
  const { uploads, begin } = rig();
  const id = await begin('a');
  for (const stranger of [BOB, NAMESAKE]) {
    await assert.rejects(uploads.append(stranger, { id, piece: Buffer.from('x'), offset: 0 }), {
      code: 'object_not_found',
    });
    await assert.rejects(uploads.cancel(stranger, id), { code: 'object_not_found' });
  }
  await uploads.finish(ANN, { id, checksum: sha256('') });
});

test('a user has a few at once, and those that hear nothing make way', async () => {
  const { clock, uploads, begin } = rig();
  const ids: string[] = [];
  for (let at = 0; at < 8; at += 1) ids.push(await begin(`file-${at}`));
  await assert.rejects(begin('more'), { code: 'limit_exceeded' });
  await begin('of-bob', BOB);
  const [first = '', second = ''] = ids;
  await uploads.cancel(ANN, first);
  await begin('more');
  clock.advance(599_999);
  await uploads.append(ANN, { id: second, piece: Buffer.from('x'), offset: 0 });
  clock.advance(2);
  await begin('again');
  await uploads.finish(ANN, { id: second, checksum: sha256('x') });
  await assert.rejects(uploads.finish(ANN, { id: ids[2] ?? '', checksum: sha256('') }), {
    code: 'object_not_found',
  });
});
