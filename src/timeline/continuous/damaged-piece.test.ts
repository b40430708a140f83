import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  formatTimestamp,
  isAppError,
  type Lsn,
  type Timestamp,
  type VirtualClusterId,
} from '../../base/index.ts';
import { type BlobStore, memoryBlobStore, readBlob } from '../../blob/index.ts';
import { clusterKeyOf } from '../../keys/index.ts';
import { FIXTURE_KEY, FIXTURE_WAL, FIXTURE_WAL_HEADER } from '../format/fixtures.ts';
import { putFixtureBase } from '../objects/fixture-base.ts';
import type { IncarnationRecord } from '../store-contract.ts';
import { fetchTimeline } from './fetch.ts';
import { readHeldBase } from './held-bases.ts';
import { pieceKey, type PieceName } from './layout.ts';
import { encodePiece, PIECE_BYTES_MAX } from './piece.ts';
import { readPresent } from './window.ts';

const { signal } = new AbortController();
const key = FIXTURE_KEY;
const { incarnation, timelineId, endLsn: MIDDLE, systemIdentifier } = FIXTURE_WAL_HEADER;
const BEGIN = (MIDDLE - BigInt(FIXTURE_WAL.length)) as Lsn;
const LATER_BYTES = 3000;
const record: IncarnationRecord = {
  incarnation,
  parentIncarnation: null,
  forkLsn: null,
  systemIdentifier,
  engineMajor: 18,
  timelines: [{ timelineId, beginLsn: 0x500000n as Lsn }],
};

interface Collection {
  readonly store: BlobStore;
  readonly subdirectory: string;
  /** The log that makes the base consistent, and what was written after it. */
  readonly first: PieceName;
  readonly second: PieceName;
}

async function put(store: BlobStore, name: PieceName, bytes: Uint8Array): Promise<void> {
  await store.put(pieceKey(name), encodePiece({ name, record, bytes }, { key }), { signal });
}

async function collection(): Promise<Collection> {
  const store = memoryBlobStore({ displayUri: 'memory://' });
  const { manifest } = await putFixtureBase(store, { frames: 1, signal });
  const at = (offset: bigint) => (manifest.header.endTime + offset) as Timestamp;
  const first: PieceName = { incarnation, timelineId, beginLsn: BEGIN, endLsn: MIDDLE, through: at(1n) };
  const endLsn = (MIDDLE + BigInt(LATER_BYTES)) as Lsn;
  const second: PieceName = { incarnation, timelineId, beginLsn: MIDDLE, endLsn, through: at(9n) };
  await put(store, first, FIXTURE_WAL);
  await put(store, second, Buffer.alloc(LATER_BYTES, 'log'));
  return { store, subdirectory: manifest.header.subdirectory, first, second };
}

/** The last bit of what it holds. */
async function damage(store: BlobStore, name: PieceName): Promise<void> {
  const path = pieceKey(name);
  const bytes = await readBlob(store, path, { bytesMax: PIECE_BYTES_MAX, signal });
  const changed = Buffer.from(bytes);
  changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
  await store.delete(path, { signal });
  await store.put(path, changed, { signal });
}

async function fetch({ store, subdirectory }: Collection, time: Timestamp | null): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'atoll-damaged-'));
  try {
    const present = await readPresent(store, { key, signal });
    const base = await readHeldBase(store, { subdirectory, key, signal });
    const into = { virtualClusterId: 3 as VirtualClusterId, directory };
    await fetchTimeline(store, { present, base, time, into, key, onFetched: () => undefined, signal });
  } finally {
    await rm(directory, { recursive: true });
  }
}

describe('a collection with a damaged piece of log', () => {
  it('names it, and the newest moment that needs nothing of it, which can be had', async () => {
    const held = await collection();
    const { store, first, second } = held;
    assert.ok(first.through !== null);
    const { through } = first;
    // Nothing happened behind it for a while, which no restore reads.
    const idle = { ...first, beginLsn: first.endLsn, through: (through + 3n) as Timestamp };
    await put(store, idle, new Uint8Array());
    await damage(store, second);
    await assert.rejects(fetch(held, null), (error) => {
      assert.ok(isAppError(error, 'data_corrupt'));
      assert.equal(error.message, `${pieceKey(second)} in memory:// is damaged`);
      assert.ok(error.hint?.startsWith(`moments up to '${formatTimestamp(through)}' need nothing of it`));
      return true;
    });
    await fetch(held, through);
    await assert.rejects(fetch(held, (through + 1n) as Timestamp), (error) =>
      isAppError(error, 'data_corrupt'),
    );
  });

  it('says so when no moment is left', async () => {
    const held = await collection();
    await damage(held.store, held.first);
    for (const time of [null, held.first.through]) {
      await assert.rejects(fetch(held, time), (error) => {
        assert.ok(isAppError(error, 'data_corrupt'));
        assert.equal(error.message, `${pieceKey(held.first)} in memory:// is damaged`);
        assert.match(error.hint ?? '', /^no base of the collection leads to a moment before it/);
        return true;
      });
    }
  });

  it('is what its sound pieces say it is, and nothing when none is', async () => {
    const { store, first, second } = await collection();
    const expected = await readPresent(store, { key, signal });
    await damage(store, second);
    const present = await readPresent(store, { key, signal });
    assert.deepEqual([present.incarnations, present.stretches], [expected.incarnations, expected.stretches]);
    await damage(store, first);
    await assert.rejects(
      readPresent(store, { key, signal }),
      (error) => isAppError(error, 'backup_untrusted') && error.message.startsWith(pieceKey(second)),
    );
  });

  it("is another cluster's when its sound pieces are, so that its key is tried", async () => {
    const { store, second } = await collection();
    const path = pieceKey(second);
    await store.delete(path, { signal });
    await store.put(path, Buffer.from('nothing that was ever sealed'), { signal });
    const another = clusterKeyOf(new Uint8Array(32).fill(9));
    await assert.rejects(readPresent(store, { key: another, signal }), (error) =>
      isAppError(error, 'backup_untrusted'),
    );
    assert.equal((await readPresent(store, { key, signal })).incarnations.length, 1);
  });

  it('is not taken for what it was on a timeline before', async () => {
    const { store, second } = await collection();
    // Pieces of the timeline before do not know of this one: by what they say, what was written since would not be there.
    const newer = {
      ...second,
      timelineId: timelineId + 1,
      through: ((second.through ?? 0n) + 1n) as Timestamp,
    };
    await put(store, newer, Buffer.alloc(LATER_BYTES, 'log'));
    await damage(store, newer);
    await assert.rejects(
      readPresent(store, { key, signal }),
      (error) => isAppError(error, 'backup_untrusted') && error.message.startsWith(pieceKey(newer)),
    );
  });
});
