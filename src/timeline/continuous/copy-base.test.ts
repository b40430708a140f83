/** What of a base has arrived in a collection is relied on when it was read there, whoever brought it. */
import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { AppError, isAppError } from '../../base/index.ts';
import {
  type BlobKey,
  type BlobStore,
  BlobStoreInPieces,
  FaultyBlobStore,
  memoryBlobStore,
  readBlob,
} from '../../blob/index.ts';
import { systemRng } from '../../daemon/index.ts';
import { dataKeyOf } from '../../keys/index.ts';
import { sealedBlobStore } from '../collection/sealed-store.ts';
import { FIXTURE_KEY } from '../format/fixtures.ts';
import { type FixtureBase, putFixtureBase } from '../objects/fixture-base.ts';
import { copyBase } from './copy-base.ts';
import { type HeldBase, listHeldBases, readHeldBase } from './held-bases.ts';

const { signal } = new AbortController();
const key = FIXTURE_KEY;
const memory = () => memoryBlobStore({ displayUri: 'memory://' });
const isDamage = (error: unknown) =>
  isAppError(error, 'data_corrupt', 'format_unsupported', 'backup_untrusted');
const sealed = (inner: BlobStore) =>
  sealedBlobStore({ inner, dataKey: dataKeyOf(new Uint8Array(32)), isSealed: () => true, rng: systemRng() });

for (const [form, over] of Object.entries({ open: (inner: BlobStore) => inner, encrypted: sealed })) {
  describe(`a base that is copied, ${form}`, () => {
    let from: BlobStore;
    let stored: BlobStore;
    let fixture: FixtureBase;
    let base: HeldBase;
    beforeEach(async () => {
      [from, stored] = [memory(), memory()];
      fixture = await putFixtureBase(from, { frames: 20, signal });
      const { subdirectory } = fixture.manifest.header;
      base = await readHeldBase(from, { subdirectory, key, signal });
    });

    const copy = (inner: BlobStore, checked = new Set<string>()) =>
      copyBase(base, { from, into: over(inner), key, checked, onCopied: () => undefined, signal });
    const bytesOf = (name: BlobKey) => readBlob(stored, name, { bytesMax: 1 << 24, signal });
    const change = async (name: BlobKey, at: number) => {
      const bytes = new Uint8Array(await bytesOf(name));
      await stored.delete(name, { signal });
      await stored.put(name, bytes.with(at, (bytes[at] ?? 0) ^ 1), { signal });
    };
    const names = () => [fixture.pack.key, fixture.wal.key, fixture.manifestName];

    it('is read again when an attempt was cut off before it had read it, and sent anew when it is damaged', async () => {
      await copy(stored);
      for (const name of names()) {
        const { length } = await bytesOf(name);
        // Its kind, its version, whose it is, content, end.
        for (const at of [0, 8, 17, Math.floor(length / 2), length - 1]) {
          await change(name, at);
          const nothingKnown = new Set<string>();
          await assert.rejects(copy(stored, nothingKnown), isDamage, `byte ${at} of ${name}`);
          assert.equal(await stored.size(name, { signal }), null, 'what is damaged goes');
          assert.equal(nothingKnown.has(name), false);
          await copy(stored, nothingKnown);
          const { subdirectory } = base;
          assert.deepEqual(await readHeldBase(over(stored), { subdirectory, key, signal }), base);
        }
      }
    });

    it('is not read twice by one that has read it', async () => {
      const checked = new Set<string>();
      await copy(stored, checked);
      await stored.delete(fixture.manifestName, { signal });
      let reads = 0;
      const watched = new BlobStoreInPieces(stored, { pieceBytes: 1000, onRead: () => (reads += 1) });
      await copy(watched, checked);
      const again = reads;
      reads = 0;
      await stored.delete(fixture.manifestName, { signal });
      await copy(watched, new Set());
      assert.ok(again < reads, `${again} reads rather than ${reads}`);
    });

    it('stays what it is when reading it again is not possible now', async () => {
      const pieces = new BlobStoreInPieces(stored, { pieceBytes: 500 });
      const counting = new FaultyBlobStore(pieces, {});
      await copy(counting);
      for (let at = 1; at <= counting.operations; at++) {
        for (const name of names()) await stored.delete(name, { signal });
        const failWith = (what: string) => new AppError('blob_unavailable', what);
        const checked = new Set<string>();
        const faulty = new FaultyBlobStore(pieces, { failAt: [at], failWith });
        await assert.rejects(copy(faulty, checked), (error) => isAppError(error, 'blob_unavailable'));
        await copy(pieces, checked);
        const { subdirectory } = base;
        assert.deepEqual(await readHeldBase(over(stored), { subdirectory, key, signal }), base);
      }
    });

    it('is passed over in a list when its manifest is damaged, and told of', async () => {
      await copy(stored);
      const { length } = await bytesOf(fixture.manifestName);
      await change(fixture.manifestName, length - 1);
      const told: string[] = [];
      const onDamagedBase = (subdirectory: string) => told.push(subdirectory);
      assert.deepEqual(await listHeldBases(over(stored), { key, onDamagedBase, signal }), []);
      assert.deepEqual(told, [base.subdirectory]);
      await assert.rejects(listHeldBases(over(stored), { key, signal }), isDamage);
    });
  });
}
