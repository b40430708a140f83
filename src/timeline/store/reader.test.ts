import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { NEVER } from '../../../test/harness/instance-store.ts';
import { VaultRig } from '../../../test/harness/vault-rig.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import {
  type IncarnationId,
  isAppError,
  type Lsn,
  parseTimestamp,
  type Timestamp,
  type VirtualClusterId,
} from '../../base/index.ts';
import { systemRng } from '../../daemon/index.ts';
import { createTimelineReader } from '../index.ts';
import type { BaseSummary, TimelinePoint, TimelineTarget } from '../store-contract.ts';
import { walDirectory } from './layout.ts';
import { listWalFolder } from './wal-folder.ts';

const isOutside = (error: unknown) => isAppError(error, 'time_outside_window');

let rig: VaultRig;

before(async () => {
  rig = await VaultRig.open();
  await rig.follow();
  await rig.query('CREATE TABLE t (n int)');
  await rig.catchUp();
});

after(async () => {
  await rig?.[Symbol.asyncDispose]();
});

function resolve(target: TimelineTarget, reader = rig.reader): Promise<TimelinePoint> {
  const { incarnation: current } = rig.instance.identity;
  return reader.resolve(rig.location, { target, current, key: rig.key, signal: NEVER });
}

/** Commits a row and gives the time of the commit, and where the log ended behind it. */
async function commitRow(): Promise<{ time: Timestamp; afterLsn: Lsn }> {
  await rig.query('INSERT INTO t VALUES (1)');
  const afterLsn = await rig.catchUp();
  const time = await waitFor('the commit to be known', () => rig.status.restorableThrough ?? undefined);
  return { time, afterLsn };
}

/** As retention does. */
async function removeLogBefore(lsn: Lsn): Promise<void> {
  const directory = walDirectory(rig.location, rig.instance.identity.incarnation);
  const { segments, segmentBytes } = await listWalFolder(directory);
  for (const { segmentNo, isClosed, name } of segments) {
    if (isClosed && (segmentNo + 1n) * BigInt(segmentBytes) <= lsn) await rm(join(directory, name));
  }
}

describe('the reader of a timeline', () => {
  it('has nothing to offer before the first base, and says so', async () => {
    await assert.rejects(resolve({ kind: 'latest' }), (error) => {
      return isOutside(error) && String(error).includes('nothing can be restored yet');
    });
  });

  it('names a window that does not end before it begins', async () => {
    // What was committed last may lie before the first base.
    const past = { kind: 'time', time: 1n as Timestamp } as const;
    const { time } = await commitRow();
    const base = await rig.captureBase();
    const future = { kind: 'time', time: (time + 86_400_000_000n) as Timestamp } as const;
    const quiet = createTimelineReader({ rng: systemRng() });
    for (const target of [past, future]) {
      for (const reader of [rig.reader, quiet]) {
        await assert.rejects(resolve(target, reader), (error) => {
          const [, from, to] = /the window is from (\S+ \S+) to (\S+ \S+)/.exec(String(error)) ?? [];
          assert.ok(from !== undefined && to !== undefined, String(error));
          assert.ok(parseTimestamp(from) <= parseTimestamp(to.replace(/;$/, '')), String(error));
          return isOutside(error) && parseTimestamp(from) <= base.endTime;
        });
      }
    }
    await rm(join(rig.location.directory, 'bases', base.subdirectory), { recursive: true });
  });

  it('resolves moments from the base on to what is known, and no others', async () => {
    const collected = await commitRow();
    await commitRow();
    const base: BaseSummary = await rig.captureBase();
    assert.deepEqual(
      (await rig.reader.bases(rig.location, { key: rig.key, signal: NEVER })).map(
        ({ subdirectory }) => subdirectory,
      ),
      [base.subdirectory],
    );
    const [record] = await rig.reader.incarnations(rig.location);
    assert.equal(record?.incarnation, rig.instance.identity.incarnation);
    const commit = await commitRow();
    const latest = await resolve({ kind: 'latest' });
    assert.ok(latest.lsn >= commit.afterLsn && latest.timelineId === 1);
    const early = await resolve({ kind: 'time', time: base.endTime });
    assert.ok(early.lsn >= base.stopLsn && early.lsn < commit.afterLsn);
    assert.equal(early.time, base.endTime);
    // The index still tells of commits whose log is collected.
    await removeLogBefore(base.startLsn);
    const day = 86_400_000_000n;
    for (const time of [base.captureStartTime - day, collected.time, commit.time + day]) {
      await assert.rejects(resolve({ kind: 'time', time: time as Timestamp }), (error) => {
        assert.ok(isOutside(error) && isAppError(error));
        assert.equal(error.sqlstate, '22023');
        assert.match(error.message, /the window is from \d{4}-\d\d-\d\d .* to \d{4}/);
        return error.hint !== undefined;
      });
    }
  });

  it('resolves positions of the lineage, and no others', async () => {
    const { incarnation } = rig.instance.identity;
    const { afterLsn } = await commitRow();
    const point = await resolve({ kind: 'lsn', incarnation, lsn: afterLsn });
    assert.equal(point.lsn, afterLsn);
    assert.ok(point.time > parseTimestamp('2020-01-01 00:00:00+00'));
    const bad = [
      { incarnation, lsn: (afterLsn + (1n << 40n)) as Lsn },
      { incarnation, lsn: 1n as Lsn },
      { incarnation: '00000000-0000-4000-8000-000000000000' as IncarnationId, lsn: afterLsn },
    ];
    for (const target of bad) await assert.rejects(resolve({ kind: 'lsn', ...target }), isOutside);
  });

  it('knows idle time while a vault receives, and what was written down of it without one', async () => {
    const { time } = await commitRow();
    const idle = await waitFor('idleness', () => {
      const { restorableThrough } = rig.status;
      return restorableThrough !== null && restorableThrough > time && restorableThrough;
    });
    const point = await resolve({ kind: 'time', time: idle });
    const without = createTimelineReader({ rng: systemRng() });
    await rig.host.unfollow(rig.instance.identity.virtualClusterId);
    assert.equal((await resolve({ kind: 'time', time: idle }, without)).lsn, point.lsn);
    assert.equal((await resolve({ kind: 'latest' }, without)).lsn, point.lsn);
    await rig.follow();
  });

  it('promises nothing across log that is missing, until a base lies behind it', async () => {
    const { incarnation } = rig.instance.identity;
    const { key } = rig;
    const base = await rig.captureBase();
    const before = await commitRow();
    for (let segments = 0; segments < 3; segments++) {
      await rig.instance.withSystemClient((client) => client.query('SELECT pg_switch_wal()'), {
        signal: NEVER,
      });
      await commitRow();
    }
    const point = await resolve({ kind: 'latest' });
    const basesTo = async () =>
      (await rig.reader.basesTo(rig.location, { point, key, signal: NEVER })).map(
        (each) => each.subdirectory,
      );
    assert.ok((await basesTo()).includes(base.subdirectory));
    const { segments, segmentBytes } = await waitFor('segments to be closed', async () => {
      const folder = await listWalFolder(walDirectory(rig.location, incarnation));
      return folder.segments.filter(({ isClosed }) => isClosed).length > 2 && folder;
    });
    const lost = segments.findLast(({ isClosed }) => isClosed);
    assert.ok(lost !== undefined && lost.segmentNo * BigInt(segmentBytes) > before.afterLsn);
    await rm(join(walDirectory(rig.location, incarnation), lost.name));
    assert.deepEqual(await basesTo(), []);
    await assert.rejects(resolve({ kind: 'latest' }), (error) => {
      return isOutside(error) && String(error).includes('log that leads to the present is missing');
    });
    const early = await resolve({ kind: 'lsn', incarnation, lsn: before.afterLsn });
    assert.equal(early.lsn, before.afterLsn);
    await rig.captureBase();
    await resolve({ kind: 'latest' });
  });

  it('of a virtual cluster that was never followed has nothing', async () => {
    const nobody = {
      virtualClusterId: 99 as VirtualClusterId,
      directory: `${rig.location.directory}-nobody`,
    };
    const { incarnation: current } = rig.instance.identity;
    const options = { target: { kind: 'latest' }, current, key: rig.key, signal: NEVER } as const;
    assert.deepEqual(await rig.reader.incarnations(nobody), []);
    await assert.rejects(rig.reader.resolve(nobody, options), isOutside);
  });
});
