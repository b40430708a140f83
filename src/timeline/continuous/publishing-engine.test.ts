/** Publishing of a real timeline, cut off at every step: what is in the collection in the end restores what was there. */
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { filesBelow } from '../../../test/harness/oracle.ts';
import { NEVER, withTenant } from '../../../test/harness/instance-store.ts';
import { TimelineRig } from '../../../test/harness/timeline-rig.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import { isAppError, type Lsn, type Timestamp } from '../../base/index.ts';
import { systemClock, systemRng } from '../../daemon/index.ts';
import type { Instance } from '../../instance/index.ts';
import { LOG_PIN } from './publish-log.ts';
import {
  type CollectionLocation,
  CONTINUOUS_CHAIN,
  createCollectionReader,
  type FolderLocation,
  type VaultStatus,
} from '../index.ts';
import { DATA_KEY_BYTES } from '../../keys/index.ts';
import { parseWalSegmentName, walSegmentNoOf } from '../../pg/index.ts';
import { readPins } from '../retention/pins.ts';
import { walDirectory } from '../store/layout.ts';
import { writeRecord } from '../vault/incarnation-file.ts';
import { NO_INTAKE } from '../vault/intake-figures.ts';
import { CONTINUOUS_FAULT_POINTS, FAULT_POINT_VARIABLE } from '../worker/fault-point.ts';
import { openContinuousHost } from './continuous-host.ts';
import type { ContinuousHost, ContinuousStatus, ContinuousTarget } from './contract.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
const SEGMENT_BYTES = 16 * 1024 * 1024;
const DAY_US = 86_400_000_000n;
type EncryptedFolder = FolderLocation & Required<Pick<CollectionLocation, 'encryption'>>;
/** Publishing does not read it. */
const INFO = Buffer.from('what opens it');
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
      intake: NO_INTAKE,
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

  /** A collection of which everything but `metadata` is encrypted. */
  function newEncrypted(name: string): EncryptedFolder {
    const secret = systemRng().bytes(DATA_KEY_BYTES);
    const encryption = { folder: CONTINUOUS_CHAIN, dataKey: secret, info: INFO, uri: '' };
    return { ...rig.rig.newCollection(name), encryption };
  }

  function targetOf(
    collection: CollectionLocation,
    change: Partial<ContinuousTarget> = {},
  ): ContinuousTarget {
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
      const collection = newEncrypted(point.replace('.', '-'));
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

  it('shows nothing of what is encrypted, and whatever is changed in it is found', async () => {
    const collection = newEncrypted('closed');
    const host = publish(targetOf(collection));
    await until(host, 'all to be there', isAllThere);
    await host.close();
    const paths = await filesBelow(collection.directory);
    const file = (path: string) => join(collection.directory, path);
    for (const path of paths) {
      const content = await readFile(file(path));
      const isOpen = path.startsWith('metadata/');
      assert.equal(content.subarray(0, 8).toString('latin1') === 'ATOLSEAL', !isOpen, path);
    }
    assert.ok(paths.includes('metadata/ENCRYPTION-INFO'));
    const isFound = (error: unknown) => isAppError(error, 'data_corrupt', 'backup_untrusted');
    const window = (location: CollectionLocation) =>
      reader.continuousWindow(location, { key: rig.rig.key, time: null, signal: NEVER });
    const { encryption, ...open } = collection;
    await assert.rejects(window(open), isFound);
    const otherKey = systemRng().bytes(DATA_KEY_BYTES);
    await assert.rejects(window({ ...open, encryption: { ...encryption, dataKey: otherKey } }), isFound);
    const pieces = paths.filter((path) => path.startsWith('log/')).toSorted();
    // Log comes from pieces: that of the base itself is for who restores the base by its name.
    const changed = [
      pieces.at(-1),
      ...['/BACKUP_MANIFEST', '.pack'].map((end) => paths.find((path) => path.endsWith(end))),
    ];
    for (const path of changed) {
      assert.ok(path !== undefined);
      const sound = await readFile(file(path));
      const last = sound.length - 1;
      await writeFile(file(path), sound.with(last, (sound[last] ?? 0) ^ 1));
      await assert.rejects(restored(collection), isFound, path);
      await writeFile(file(path), sound);
    }
    assert.deepEqual(await restored(collection), await digest(rig.source));
  });

  it('keeps a collection in the form that it began with', async () => {
    const isRefused = ({ state }: ContinuousStatus) =>
      state.kind === 'failing' && /is (?:not )?encrypted/.test(state.reason);
    const closed = newEncrypted('form-closed');
    const { encryption, ...asOpen } = closed;
    const open = rig.rig.newCollection('form-open');
    for (const [first, second] of [
      [closed, asOpen],
      [open, { ...open, encryption }],
    ] as const) {
      const host = publish(targetOf(first));
      await until(host, 'all to be there', isAllThere);
      const before = await filesBelow(first.directory);
      host.publish(targetOf(second));
      await until(host, 'it to be refused', isRefused);
      await host.close();
      assert.deepEqual(await filesBelow(first.directory), before);
    }
  });

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
