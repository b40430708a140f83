import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  type IncarnationId,
  isAppError,
  parseTimestamp,
  type Timestamp,
  type VirtualClusterId,
} from '../../base/index.ts';
import { type BlobStore, FaultyBlobStore, memoryBlobStore, parseBlobKey } from '../../blob/index.ts';
import { systemRng } from '../../daemon/rng.ts';
import { dataKeyOf, encodeEncryptionInfo } from '../../keys/index.ts';
import type { CollectionHeir } from '../contract.ts';
import { FIXTURE_KEY, fixtureManifest } from '../format/fixtures.ts';
import type { Manifest } from '../format/manifest.ts';
import { abandonAttempt, beginAttempt, markLatest, publishManifest } from './attempt.ts';
import {
  attemptOf,
  formatBackupSubdirectory,
  latestMarkerKey,
  manifestKey,
  normalizeSubdirectory,
  packKey,
  walKey,
} from './layout.ts';
import { openChain } from './encryption.ts';
import { claimCollection, decodeOwner, encodeOwner } from './owner.ts';
import { completed } from './completed.ts';
import { inheritCollection } from './inherit.ts';
import { findLatest } from './reader.ts';

const signal = new AbortController().signal;
const newStore = () => memoryBlobStore({ displayUri: 'nodelocal://1/c' });
const owner = { clusterId: 'cluster', virtualClusterId: 3, virtualClusterName: 'main' };

/** Of which nobody but who has the key reads the manifest. */
function encryptedChain(
  store: BlobStore,
  { folder, incarnation }: { folder: string; incarnation: IncarnationId },
): BlobStore {
  const dataKey = dataKeyOf(new Uint8Array(32).fill(1));
  const lock = { keyId: 'a'.repeat(64), wrapped: Uint8Array.of(1) };
  const info = encodeEncryptionInfo(
    { folder, incarnation, dataKeyId: dataKey.id, locks: { kind: 'kms', locks: [lock] } },
    { key: FIXTURE_KEY },
  );
  const encryption = { folder, dataKey: dataKey.secret, info, uri: '' };
  return openChain(store, { encryption, rng: systemRng() });
}

describe('names', () => {
  it('of backups are their time in UTC', () => {
    assert.equal(
      formatBackupSubdirectory(parseTimestamp('2024-04-18 10:07:45.009999+00')),
      '2024/04/18-100745.00',
    );
    assert.equal(
      formatBackupSubdirectory(parseTimestamp('2024-04-18 10:07:45.99+00')),
      '2024/04/18-100745.99',
    );
  });

  it('of backups are read as people write them', () => {
    for (const text of ['2024/04/18-100745.00', '/2024/04/18-100745.00', '/2024/04/18-100745.00/']) {
      assert.equal(normalizeSubdirectory(text), '2024/04/18-100745.00');
    }
    const refused = [
      '',
      '/',
      '2024/04/18',
      '2024/13/18-100745.00',
      '2024/02/30-100745.00',
      '2024/04/18-250745.00',
      '../x',
      '2024/04/18-100745.00/data',
      '2024/04/18-100745.0',
      'a2024/04/18-100745.00',
    ];
    for (const text of refused) {
      assert.throws(
        () => normalizeSubdirectory(text),
        (error) => isAppError(error, 'parameter_invalid'),
        text,
      );
    }
  });

  it('sort as their times do, markers the other way round', () => {
    const times = fc.bigInt({ min: 0n, max: 4_000_000_000_000_000n });
    fc.assert(
      fc.property(times, times, (left, right) => {
        const [a, b] = [left, right].map((time) => formatBackupSubdirectory(time as Timestamp));
        assert.ok(a !== undefined && b !== undefined);
        assert.equal(normalizeSubdirectory(a), a);
        if (a < b) assert.ok(left < right && latestMarkerKey(a) > latestMarkerKey(b));
        if (a === b) assert.equal(latestMarkerKey(a), latestMarkerKey(b));
      }),
    );
  });

  it('of objects tell their attempt', () => {
    const subdirectory = '2024/04/18-100745.00';
    assert.equal(attemptOf(packKey({ subdirectory, attempt: 12, number: 3 })), 12);
    assert.equal(attemptOf(walKey({ subdirectory, attempt: 4, segmentName: '000000010000000000000002' })), 4);
    assert.equal(attemptOf(manifestKey(subdirectory)), null);
  });
});

describe('a collection', () => {
  it('belongs to who wrote it first', async () => {
    const store = newStore();
    await claimCollection(store, { owner, signal });
    await claimCollection(store, { owner: { ...owner, virtualClusterName: 'renamed' }, signal });
    for (const other of [{ virtualClusterId: 4 }, { clusterId: 'other' }]) {
      await assert.rejects(claimCollection(store, { owner: { ...owner, ...other }, signal }), (error) => {
        assert.ok(isAppError(error, 'object_state'));
        assert.match(error.message, /"main"/);
        assert.match(error.hint ?? '', /URI of its own/);
        return true;
      });
    }
    // What was dropped and made anew under its name, or restored, is another one.
    await assert.rejects(claimCollection(store, { owner: { ...owner, virtualClusterId: 9 }, signal }), {
      message: 'nodelocal://1/c holds backups of virtual cluster "main" with id 3, not of "main" with id 9',
      hint: 'give each virtual cluster a collection URI of its own, also one that was made anew under the same name; what was restored from here goes on here once the other is dropped',
    });
  });

  it('belongs to one of those who claim it at once', async () => {
    const store = newStore();
    const claims = [3, 4, 5].map((virtualClusterId) =>
      claimCollection(store, { owner: { ...owner, virtualClusterId }, signal }),
    );
    const outcomes = await Promise.allSettled(claims);
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
  });

  for (const form of ['open', 'encrypted'] as const)
    it(`passes, ${form}, to what descends from it when its owner is gone, and to nobody else`, async () => {
      const ours = fixtureManifest().header.incarnation;
      const stranger = '00000000-0000-4000-8000-000000000000' as typeof ours;
      const heir = {
        ...owner,
        virtualClusterId: 9 as VirtualClusterId,
        lives: new Set([stranger, ours]),
        isGone: (id: number) => id === 3,
      };
      const store = newStore();
      const inherit = (variation: Partial<CollectionHeir> = {}) =>
        inheritCollection(store, { heir: { ...heir, ...variation }, key: FIXTURE_KEY, signal });
      const claim = (virtualClusterId: number) =>
        claimCollection(store, { owner: { ...owner, virtualClusterId }, signal });

      assert.equal(await inherit(), null, 'nobody owns it');
      await claim(3);
      assert.equal(await inherit(), null, 'it holds no backup');
      const { subdirectory } = fixtureManifest().header;
      const damaged = manifestKey('2000/01/01-000000.00');
      await store.put(damaged, Buffer.from('no manifest'), { signal });
      const written =
        form === 'open' ? store : encryptedChain(store, { folder: subdirectory, incarnation: ours });
      const attempt = { store: written, subdirectory, jobId: '42', attempt: 1, key: FIXTURE_KEY, signal };
      await publishManifest(attempt, fixtureManifest());
      assert.equal(await inherit({ isGone: () => false }), null, 'its owner is there');
      assert.equal(await inherit({ clusterId: 'other' }), null, 'its owner is elsewhere');
      assert.equal(await inherit({ lives: new Set([stranger]) }), null, 'a stranger');
      await assert.rejects(claim(9), (error) => isAppError(error, 'object_state'));

      assert.deepEqual(await inherit(), owner);
      await claim(9);
      assert.equal(await inherit(), null, 'it is the owner now');
      await assert.rejects(claim(3), (error) => isAppError(error, 'object_state'));
      assert.equal(await inherit({ virtualClusterId: 10 as VirtualClusterId }), null, 'the heir is there');
      const last = await inherit({ virtualClusterId: 10 as VirtualClusterId, isGone: (id) => id !== 10 });
      assert.equal(last?.virtualClusterId, 9);
      await claim(10);
    });

  it('passes to one of two heirs, whenever a crash cuts', async () => {
    const { header } = fixtureManifest();
    const heirOf = (id: number): CollectionHeir => ({
      ...owner,
      virtualClusterId: id as VirtualClusterId,
      lives: new Set([header.incarnation]),
      isGone: (other) => other === 3,
    });
    const newCollection = async () => {
      const store = newStore();
      await claimCollection(store, { owner, signal });
      const attempt = { store, jobId: '42', attempt: 1, key: FIXTURE_KEY, signal };
      await publishManifest({ ...attempt, subdirectory: header.subdirectory }, fixtureManifest());
      return store;
    };
    const inherit = (store: BlobStore, id: number) =>
      inheritCollection(store, { heir: heirOf(id), key: FIXTURE_KEY, signal });
    const store = await newCollection();
    const taken = await Promise.all([inherit(store, 9), inherit(store, 10)]);
    assert.equal(taken.filter((before) => before !== null).length, 1);

    const counter = new FaultyBlobStore(await newCollection(), {});
    await inherit(counter, 9);
    for (let stopAt = 1; stopAt <= counter.operations + 1; stopAt++) {
      for (const plan of [{ stopAt }, { failAt: [stopAt] }, { loseAnswerAt: stopAt }]) {
        const inner = await newCollection();
        await inherit(new FaultyBlobStore(inner, plan), 9).catch(() => undefined);
        await inherit(inner, 9);
        await claimCollection(inner, { owner: { ...owner, virtualClusterId: 9 }, signal });
      }
    }
  });

  it('has a record of its owner that is checked', () => {
    const bytes = encodeOwner(owner);
    assert.deepEqual(decodeOwner(bytes, 'owner'), owner);
    for (const at of bytes.keys()) {
      const damaged = Uint8Array.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      assert.throws(
        () => decodeOwner(damaged, 'owner'),
        (error) => isAppError(error, 'data_corrupt'),
      );
    }
  });
});

describe('an attempt at a backup', () => {
  const subdirectory = fixtureManifest().header.subdirectory;
  const pack = (attempt: number) => packKey({ subdirectory, attempt, number: 0 });
  const attemptAt = (store: BlobStore, attempt: number, jobId = '42') => ({
    store,
    subdirectory,
    jobId,
    attempt,
    key: FIXTURE_KEY,
    signal,
  });

  function manifestOf(attempt: number): Manifest {
    const base = fixtureManifest();
    return { ...base, header: { ...base.header, attempt } };
  }

  /** All that a backup does to its collection, in its order. */
  async function back(store: BlobStore, attempt: number): Promise<void> {
    const attempted = attemptAt(store, attempt);
    await claimCollection(store, { owner, signal });
    if ((await beginAttempt(attempted)) === null) {
      await store.put(pack(attempt), Buffer.from('frames'), { signal });
      await publishManifest(attempted, manifestOf(attempt));
    }
    await markLatest(attempted);
  }

  it('cut off at any operation leaves no backup or a whole one, and the next attempt succeeds', async () => {
    const counter = new FaultyBlobStore(newStore(), {});
    await back(counter, 1);
    assert.ok(counter.operations > 8);
    for (let stopAt = 1; stopAt <= counter.operations + 1; stopAt++) {
      for (const plan of [{ stopAt }, { failAt: [stopAt] }, { loseAnswerAt: stopAt }]) {
        const inner = newStore();
        await back(new FaultyBlobStore(inner, plan), 1).catch(() => undefined);
        const listed = await Array.fromAsync(completed(inner, { order: 'ascending', signal }));
        if (listed.length > 0) assert.notEqual(await inner.size(pack(1), { signal }), null);
        await back(inner, 2);
        assert.equal(await findLatest(inner, { signal }), subdirectory);
        const winner = listed.length > 0 ? 1 : 2;
        for (const attempt of [1, 2]) {
          assert.equal(
            (await inner.size(pack(attempt), { signal })) !== null,
            attempt === winner,
            `${stopAt}`,
          );
        }
      }
    }
  });

  it('refuses a folder that another job has, before and after it is done', async () => {
    const store = newStore();
    await beginAttempt(attemptAt(store, 1));
    await assert.rejects(beginAttempt(attemptAt(store, 1, '43')), (error) =>
      isAppError(error, 'object_in_use'),
    );
    await publishManifest(attemptAt(store, 1), manifestOf(1));
    await assert.rejects(beginAttempt(attemptAt(store, 1, '43')), (error) =>
      isAppError(error, 'object_in_use'),
    );
    await store.delete(parseBlobKey(`${subdirectory}/BACKUP-LOCK-42`), { signal });
    await assert.rejects(beginAttempt(attemptAt(store, 1, '43')), (error) =>
      isAppError(error, 'object_exists'),
    );
  });

  it('that failed takes its objects along, but never those of a backup', async () => {
    const store = newStore();
    await beginAttempt(attemptAt(store, 1));
    await store.put(pack(1), Buffer.from('frames'), { signal });
    await abandonAttempt(attemptAt(store, 1));
    assert.equal(await store.size(pack(1), { signal }), null);
    await back(store, 2);
    await abandonAttempt(attemptAt(store, 2));
    assert.notEqual(await store.size(pack(2), { signal }), null);
    await store.put(pack(3), Buffer.from('frames'), { signal });
    await abandonAttempt(attemptAt(store, 3));
    assert.equal(await store.size(pack(3), { signal }), null);
  });

  it('is found by listing, newest first, whatever else lies there', async () => {
    const store = newStore();
    await assert.rejects(findLatest(store, { signal }), (error) => {
      assert.ok(isAppError(error, 'backup_not_found'));
      assert.match(error.message, /path does not contain a completed latest backup/);
      return true;
    });
    const done = [
      '2023/12/31-235959.99',
      '2024/04/18-100745.00',
      '2024/04/18-100745.01',
      '2024/05/01-000000.00',
    ];
    for (const each of done) await store.put(manifestKey(each), new Uint8Array(1), { signal });
    const others = [
      '2024/06/01-000000.00/data/1-0.pack',
      'metadata/latest/LATEST-1',
      '2024/xx/a/BACKUP_MANIFEST',
      'BACKUP_MANIFEST',
    ];
    for (const each of others) await store.put(parseBlobKey(each), new Uint8Array(1), { signal });
    assert.deepEqual(await Array.fromAsync(completed(store, { order: 'ascending', signal })), done);
    assert.equal(await findLatest(store, { signal }), done.at(-1));
  });
});
