/** Publishing of a real timeline, cut off at every step: what is in the collection in the end restores what was there. */
import assert from 'node:assert/strict';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { NEVER, withTenant } from '../../../test/harness/instance-store.ts';
import { TimelineRig } from '../../../test/harness/timeline-rig.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import type { Lsn, Timestamp } from '../../base/index.ts';
import { systemClock, systemRng } from '../../daemon/index.ts';
import type { Instance } from '../../instance/index.ts';
import { LOG_PIN } from './publish-log.ts';
import { createCollectionReader, type FolderLocation, type VaultStatus } from '../index.ts';
import { parseWalSegmentName, walSegmentNoOf } from '../../pg/index.ts';
import { readPins } from '../retention/pins.ts';
import { walDirectory } from '../store/layout.ts';
import { writeRecord } from '../vault/incarnation-file.ts';
import { CONTINUOUS_FAULT_POINTS, FAULT_POINT_VARIABLE } from '../worker/fault-point.ts';
import { openContinuousHost } from './continuous-host.ts';
import type { ContinuousHost, ContinuousStatus, ContinuousTarget } from './contract.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
const SEGMENT_BYTES = 16 * 1024 * 1024;
const DAY_US = 86_400_000_000n;
const clock = systemClock();

describe('publishing a timeline', () => {
  let rig: TimelineRig;
  let vault: VaultStatus;
  const hosts: ContinuousHost[] = [];
  const reader = createCollectionReader({ rng: systemRng() });

  const write = (note: string) =>
    withTenant(rig.source, ROOT, (client) =>
      client.query(`INSERT INTO t SELECT $1, md5(n::text) FROM generate_series(1, 500) n`, [note]),
    );

  /** As if the vault had received all that there is. */
  async function receive(): Promise<void> {
    const endLsn = (await rig.position()) as Lsn;
    const durableLsn = await rig.receive();
    assert.ok(durableLsn >= endLsn);
    const { incarnation, virtualClusterId } = rig.source.identity;
    vault = {
      virtualClusterId,
      incarnation,
      timelineId: 1,
      state: { kind: 'receiving' },
      durableLsn,
      oldestLsn: 0n as Lsn,
      restorableThrough: clock.now(),
      storedBytes: 0n,
      receivedBytes: 0n,
      clockStepsBack: 0,
    };
  }

  /** The next record begins a segment. */
  async function switchSegment(): Promise<void> {
    const client = new pg.Client({ host: rig.source.socketDirectory, user: 'atoll', database: 'system' });
    await client.connect();
    await client.query('SELECT pg_switch_wal()');
    await client.end();
  }

  async function removeSegmentsBefore(lsn: Lsn): Promise<void> {
    const directory = walDirectory(rig.location, rig.source.identity.incarnation);
    for (const name of await readdir(directory)) {
      if (!/^[0-9A-F]{24}\./.test(name)) continue;
      const { segmentNo } = parseWalSegmentName({ name: name.slice(0, 24), segmentBytes: SEGMENT_BYTES });
      if (segmentNo <= walSegmentNoOf({ lsn, segmentBytes: SEGMENT_BYTES })) await rm(join(directory, name));
    }
  }

  function targetOf(collection: FolderLocation, change: Partial<ContinuousTarget> = {}): ContinuousTarget {
    const { virtualClusterId, virtualClusterName } = rig.source.identity;
    return {
      virtualClusterId,
      virtualClusterName,
      store: rig.location,
      collection,
      clusterId: rig.rig.store.host.clusterId,
      key: rig.rig.key,
      windowUs: DAY_US,
      backlogBytesMax: 1n << 40n,
      ...change,
    };
  }

  /** Publishes in a process of its own, which is cut off at a point, if one is named; its successors are not. */
  function publish(target: ContinuousTarget, fault?: string): ContinuousHost {
    const host = openContinuousHost({ clock, logger: rig.rig.store.logger });
    hosts.push(host);
    if (fault !== undefined) process.env[FAULT_POINT_VARIABLE] = fault;
    try {
      host.publish(target);
    } finally {
      delete process.env[FAULT_POINT_VARIABLE];
    }
    return host;
  }

  const until = (
    host: ContinuousHost,
    what: string,
    is: (status: ContinuousStatus) => boolean | Promise<boolean>,
  ) =>
    waitFor(what, async () => {
      host.note([vault]);
      const status = host.status(vault.virtualClusterId);
      return status !== undefined && (await is(status)) && status;
    });

  const isAllThere = ({ publishedLsn, state }: ContinuousStatus) =>
    publishedLsn === vault.durableLsn && state.kind === 'publishing';

  async function digest(instance: Instance): Promise<unknown> {
    return withTenant(instance, ROOT, async (client) => {
      const sum = `SELECT count(*)::text AS rows, md5(string_agg(note || h, ',' ORDER BY note, h)) AS sum FROM t`;
      return (await client.query(sum)).rows;
    });
  }

  /** Digest of what the collection alone brings back. */
  async function restored(collection: FolderLocation, asOf: Timestamp | null = null): Promise<unknown> {
    const { bases } = await reader.continuousWindow(collection, {
      key: rig.rig.key,
      time: null,
      signal: NEVER,
    });
    const base = bases.findLast(({ endTime }) => asOf === null || endTime <= asOf);
    assert.ok(base !== undefined);
    const target = await rig.rig.beginTarget();
    const { subdirectory } = base;
    const moment = asOf === null ? {} : { asOf };
    const backup = { collection, subdirectory, isContinuous: true, ...moment };
    const instance = await rig.rig.serve(target, await rig.rig.materialize(target, backup));
    try {
      return await digest(instance);
    } finally {
      await instance.stop({ mode: 'orderly', signal: NEVER });
    }
  }

  before(async () => {
    rig = await TimelineRig.open();
    await withTenant(rig.source, ROOT, (client) => client.query('CREATE TABLE t (note text, h text)'));
    await write('before the first base');
    await rig.captureBase();
    const record = rig.incarnations[0];
    assert.ok(record !== undefined);
    await mkdir(walDirectory(rig.location, record.incarnation), { recursive: true });
    await writeRecord(walDirectory(rig.location, record.incarnation), record);
    await write('after it');
    await receive();
  });
  after(async () => {
    for (const host of hosts) await host.close();
    await rig?.[Symbol.asyncDispose]();
  });

  for (const point of CONTINUOUS_FAULT_POINTS.filter((each) => !each.includes('pruned'))) {
    it(`goes on after ${point}`, async () => {
      const collection = rig.rig.newCollection(point.replace('.', '-'));
      const host = publish(targetOf(collection), point);
      await until(host, 'all to be there', isAllThere);
      await host.close();
      const window = (time: Timestamp | null) =>
        reader.continuousWindow(collection, { key: rig.rig.key, time, signal: NEVER });
      const { bases, through } = await window(null);
      assert.equal(through, vault.restorableThrough);
      const [base] = bases;
      assert.ok(base !== undefined);
      // A base begins before its end, and what was written since is replayed on top.
      const sinceBytes = vault.durableLsn - base.targetLsn;
      assert.ok(sinceBytes > 0n && base.replayBytes > sinceBytes, `${base.replayBytes} of ${sinceBytes}`);
      // Before the first object of a kind nothing was left half done.
      if (point.includes('after')) assert.deepEqual(await restored(collection), await digest(rig.source));
    });
  }

  it('waits for a collection that cannot be reached, keeps log for it, and goes on', async () => {
    const collection = rig.rig.newCollection('away');
    await mkdir(collection.directory, { recursive: true });
    const host = publish(targetOf(collection));
    await until(host, 'all to be there', isAllThere);
    const sentLsn = vault.durableLsn;
    await rename(collection.directory, `${collection.directory}-away`);
    await writeFile(collection.directory, 'in the way');
    await write('while it was away');
    await receive();
    const { state } = await until(host, 'it to fail', (status) => status.state.kind === 'failing');
    assert.equal(state.kind === 'failing' && state.isGivenUp, false);
    const pin = (await readPins(rig.location)).find(({ id }) => id === LOG_PIN);
    assert.ok(pin !== undefined && pin.fromLsn <= sentLsn && pin.expiresAt > clock.now());
    await rm(collection.directory);
    await rename(`${collection.directory}-away`, collection.directory);
    const { backlogBytes, failures } = await until(host, 'it to go on', isAllThere);
    assert.equal(backlogBytes, 0n);
    assert.ok(failures > 0);
    assert.deepEqual(await restored(collection), await digest(rig.source));
  });

  it('keeps no more log than it may, says so, and begins anew behind what was collected', async () => {
    const collection = rig.rig.newCollection('too-late');
    await mkdir(collection.directory, { recursive: true });
    const first = publish(targetOf(collection));
    const { restorableFrom: fromBefore } = await until(first, 'all to be there', isAllThere);
    await first.close();
    await rename(collection.directory, `${collection.directory}-away`);
    await writeFile(collection.directory, 'in the way');
    await write('more than may wait');
    await receive();
    const host = publish(targetOf(collection, { backlogBytesMax: 1n }));
    await until(host, 'it to be given up', ({ state }) => state.kind === 'failing' && state.isGivenUp);
    assert.deepEqual(
      (await readPins(rig.location)).filter(({ id }) => id.startsWith('continuous')),
      [],
    );
    await host.close();
    // As the node's retention does when nobody claims it: the log up to the next base goes.
    const gapLsn = vault.durableLsn;
    await switchSegment();
    await rig.captureBase();
    await receive();
    await removeSegmentsBefore(gapLsn);
    await rm(collection.directory);
    await rename(`${collection.directory}-away`, collection.directory);
    const second = publish(targetOf(collection));
    const { restorableFrom } = await until(second, 'it to begin anew', isAllThere);
    assert.ok(fromBefore !== null && restorableFrom !== null && restorableFrom > fromBefore);
    assert.deepEqual(await restored(collection), await digest(rig.source));
  });

  for (const point of CONTINUOUS_FAULT_POINTS.filter((each) => each.includes('pruned'))) {
    it(`goes on removing after ${point}`, async () => {
      const collection = rig.rig.newCollection(point.replace('.', '-'));
      const first = publish(targetOf(collection));
      await until(first, 'all to be there', isAllThere);
      await first.close();
      const [old] = await reader.list(collection, { signal: NEVER });
      await write(point);
      await rig.captureBase();
      await receive();
      const host = publish(targetOf(collection, { windowUs: 1n }), point);
      await until(host, 'the old base to go', async (status) => {
        const bases = await reader.list(collection, { signal: NEVER });
        return isAllThere(status) && bases.length === 1 && bases[0] !== old;
      });
      await host.close();
      assert.deepEqual(await restored(collection), await digest(rig.source));
    });
  }
});
