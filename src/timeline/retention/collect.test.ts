import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { BackupRig } from '../../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../../test/harness/instance-store.ts';
import { digestTables } from '../../../test/harness/oracle.ts';
import {
  type IncarnationId,
  isAppError,
  type Lsn,
  type Timestamp,
  type VirtualClusterId,
} from '../../base/index.ts';
import { nodelocalBlobStore, parseBlobKey } from '../../blob/index.ts';
import { systemClock } from '../../daemon/clock.ts';
import { systemRng } from '../../daemon/rng.ts';
import { encodeIncarnationRecord } from '../format/incarnation-record.ts';
import { writeWalObject } from '../objects/wal-writer.ts';
import type { Pin } from '../store-contract.ts';
import { BaseIndex } from '../store/base-index.ts';
import { closedSegmentName, pinsDirectory, timeIndexName, walDirectory } from '../store/layout.ts';
import { FAULT_POINT_VARIABLE, RETENTION_FAULT_POINTS } from '../worker/fault-point.ts';
import { createTimelineRetention } from './keep.ts';
import { decodePin, encodePin, putPin, readPins, removePin, whilePinsStand } from './pins.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
const SEGMENT_BYTES = 1024 * 1024;

describe('collecting what nobody needs', () => {
  let rig: BackupRig;
  const retention = createTimelineRetention({ rng: systemRng(), clock: systemClock() });

  before(async () => {
    rig = await BackupRig.open();
    await withTenant(rig.source, ROOT, (client) =>
      client.query('CREATE TABLE t AS SELECT n, md5(n::text) AS h FROM generate_series(1, 5000) n'),
    );
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  /** As if the window had passed since all bases but the newest. */
  const request = () => ({
    store: rig.timeline,
    key: rig.key,
    now: 9_000_000_000_000_000n as Timestamp,
    windowUs: 1n,
    current: rig.source.identity.incarnation,
    bytesMax: 1n << 60n,
  });

  /** Log of the instance's incarnation, from long before its first base up to where it is now. */
  async function writeLog(firstLsn: Lsn): Promise<void> {
    const { incarnation, systemIdentifier, engineMajor } = rig.source.identity;
    const directory = walDirectory(rig.timeline, incarnation);
    await mkdir(directory, { recursive: true });
    const record = {
      incarnation,
      parentIncarnation: null,
      forkLsn: null,
      systemIdentifier,
      engineMajor,
      timelines: [{ timelineId: 1, beginLsn: 0n as Lsn }],
    };
    await writeFile(join(directory, 'incarnation.json'), encodeIncarnationRecord(record));
    const store = nodelocalBlobStore({ displayUri: 'the log', directory, rng: systemRng() });
    const firstNo = firstLsn / BigInt(SEGMENT_BYTES);
    for (let segmentNo = firstNo - 3n; segmentNo <= firstNo + 1n; segmentNo++) {
      const segment = { timelineId: 1, segmentNo, segmentBytes: SEGMENT_BYTES };
      const endLsn = ((segmentNo + 1n) * BigInt(SEGMENT_BYTES)) as Lsn;
      const key = parseBlobKey(closedSegmentName(segment));
      const read = ({ length }: { length: number }) => new Uint8Array(length);
      const header = { ...segment, endLsn, systemIdentifier, incarnation };
      await writeWalObject({ store, key, header, read, signal: NEVER });
      await writeFile(join(directory, timeIndexName((endLsn - BigInt(SEGMENT_BYTES)) as Lsn)), 'index');
    }
  }

  function collectElsewhere(point: string): ReturnType<typeof spawnSync> {
    const { store, key, now, windowUs, current, bytesMax } = request();
    const module = (path: string) => JSON.stringify(join(import.meta.dirname, path));
    const script = `
      const { createTimelineRetention } = await import(${module('keep.ts')});
      const { clusterKeyOf } = await import(${module('../../keys/index.ts')});
      const { systemRng } = await import(${module('../../daemon/rng.ts')});
      const { systemClock } = await import(${module('../../daemon/clock.ts')});
      await createTimelineRetention({ rng: systemRng(), clock: systemClock() }).collect({
        store: ${JSON.stringify(store)}, key: clusterKeyOf(Buffer.from('${Buffer.from(key.secret).toString('hex')}', 'hex')),
        now: ${now}n, windowUs: ${windowUs}n, current: '${current}', bytesMax: ${bytesMax}n,
      }, { signal: new AbortController().signal });`;
    const env = { [FAULT_POINT_VARIABLE]: point };
    return spawnSync(process.execPath, ['--input-type=module', '--eval', script], { env, encoding: 'utf8' });
  }

  it('cut off at any step leaves bases that are whole and a log without a hole, and the next run ends it', async (t) => {
    for (const point of RETENTION_FAULT_POINTS) {
      await t.test(point, async () => {
        await rm(rig.timeline.directory, { recursive: true, force: true });
        const full = await rig.captureBase(null);
        const second = await rig.captureBase(full.base.subdirectory);
        const newest = await rig.captureBase(second.base.subdirectory);
        await writeLog(newest.base.startLsn);
        const planned = await retention.plan(request(), { signal: NEVER });
        assert.deepEqual(
          planned.removals.filter(({ kind }) => kind === 'base').map(({ name }) => name),
          [full.base.subdirectory, second.base.subdirectory],
        );
        const cut = collectElsewhere(point);
        assert.equal(cut.signal, 'SIGKILL', String(cut.stderr));
        const options = { collection: rig.bases, key: rig.key, signal: NEVER };
        for (const subdirectory of await rig.reader.list(rig.bases, { signal: NEVER })) {
          assert.deepEqual(await rig.reader.missingFiles({ ...options, subdirectory }), [], subdirectory);
        }
        const directory = walDirectory(rig.timeline, rig.source.identity.incarnation);
        const segments = (await readdir(directory)).filter((name) => name.endsWith('.wal')).toSorted();
        const numbers = segments.map((name) => Number.parseInt(name.slice(16, 24), 16));
        for (const [at, number] of numbers.entries()) assert.equal(number, (numbers[0] ?? 0) + at);

        await retention.collect(request(), { signal: NEVER });
        assert.deepEqual(await rig.reader.list(rig.bases, { signal: NEVER }), [newest.base.subdirectory]);
        assert.deepEqual(await rig.reader.missingFiles({ ...options, ...newest.base }), []);
        const again = await retention.plan(request(), { signal: NEVER });
        assert.deepEqual(again.removals, []);
        assert.deepEqual(again.kept, [{ subdirectory: newest.base.subdirectory, reason: 'the window' }]);
        const left = (await readdir(directory)).filter((name) => name.endsWith('.wal'));
        assert.equal(left.length, 2, 'that of the base and the one after it');
      });
    }
  });

  it('leaves what is left restorable', async () => {
    const target = await rig.beginTarget();
    const [subdirectory = ''] = await rig.reader.list(rig.bases, { signal: NEVER });
    const materialized = await rig.materialize(target, { collection: rig.bases, subdirectory });
    const restored = await rig.serve(target, materialized);
    assert.deepEqual(
      await withTenant(restored, ROOT, digestTables),
      await withTenant(rig.source, ROOT, digestTables),
    );
  });

  it('removes nothing when a claim cannot be read', async () => {
    await rig.captureBase(null);
    await mkdir(pinsDirectory(rig.timeline), { recursive: true });
    await writeFile(join(pinsDirectory(rig.timeline), 'job-1.pin'), 'rubbish');
    await assert.rejects(retention.collect(request(), { signal: NEVER }), (error) =>
      isAppError(error, 'data_corrupt'),
    );
    assert.equal((await rig.reader.list(rig.bases, { signal: NEVER })).length, 2);
    await rm(pinsDirectory(rig.timeline), { recursive: true });
  });

  it('removes nothing when a manifest is damaged, while the other bases can be used', async () => {
    const [older = '', newer = ''] = await rig.reader.list(rig.bases, { signal: NEVER });
    const path = join(rig.bases.directory, newer, 'BACKUP_MANIFEST');
    const bytes = await readFile(path);
    bytes[100] = (bytes[100] ?? 0) ^ 1;
    await writeFile(path, bytes);
    const fresh = createTimelineRetention({ rng: systemRng(), clock: systemClock() });
    await assert.rejects(fresh.collect(request(), { signal: NEVER }), (error) =>
      isAppError(error, 'data_corrupt'),
    );
    const index = new BaseIndex({ rng: systemRng() });
    const usable = await index.bases(rig.timeline, { key: rig.key, signal: NEVER });
    assert.deepEqual(
      usable.map(({ subdirectory }) => subdirectory),
      [older],
    );
  });
});

describe('pins', () => {
  const arbitraryPin: fc.Arbitrary<Pin> = fc.record(
    {
      id: fc.stringMatching(/^[a-z0-9-]{1,64}$/),
      owner: fc.string({ minLength: 1, maxLength: 200 }).filter((text) => text.isWellFormed()),
      incarnation: fc.uuid().map((text) => text as IncarnationId),
      fromLsn: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map((value) => value as Lsn),
      throughLsn: fc.option(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map((value) => value as Lsn)),
      expiresAt: fc.bigInt({ min: -(1n << 60n), max: 1n << 60n }).map((value) => value as Timestamp),
    },
    { noNullPrototype: true },
  );

  it('are read as they were written, and not at all when a byte is wrong', () => {
    fc.assert(
      fc.property(arbitraryPin, fc.nat(), fc.integer({ min: 1, max: 255 }), (pin, place, change) => {
        const text = encodePin(pin);
        assert.deepEqual(decodePin(text, 'a pin'), pin);
        const bytes = Buffer.from(text);
        const at = place % bytes.length;
        bytes[at] = (bytes[at] ?? 0) ^ change;
        assert.throws(
          () => decodePin(bytes.toString('utf8'), 'a pin'),
          (error) => isAppError(error, 'data_corrupt', 'format_unsupported'),
        );
      }),
    );
  });

  it('that release 26.2 wrote are read, those of a later version are refused as such', () => {
    const written = `atoll-pin 1 {"id":"job-42","owner":"job 42","incarnation":"0b1c2d3e-4f50-4162-8374-95a6b7c8d9e0","fromLsn":"16/B374D848","throughLsn":null,"expiresAt":"1795262400000000"}\n`;
    const sealed = (line: string) => `${line}${crc32(line).toString(16).padStart(8, '0')}\n`;
    const pin: Pin = {
      id: 'job-42',
      owner: 'job 42',
      incarnation: '0b1c2d3e-4f50-4162-8374-95a6b7c8d9e0' as IncarnationId,
      fromLsn: 0x16_b374_d848n as Lsn,
      throughLsn: null,
      expiresAt: 1_795_262_400_000_000n as Timestamp,
    };
    assert.deepEqual(decodePin(sealed(written), 'a pin'), pin);
    assert.equal(encodePin(pin), sealed(written));
    assert.throws(
      () => decodePin(sealed(written.replace('atoll-pin 1', 'atoll-pin 2')), 'pin-of-3'),
      (error) => isAppError(error, 'format_unsupported') && error.message.includes('pin-of-3'),
    );
  });

  it('are renewed by claiming again, and let go of', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'atoll-pins-'));
    try {
      const store = { virtualClusterId: 3 as VirtualClusterId, directory };
      assert.deepEqual(await readPins(store), []);
      const [first, second] = fc
        .sample(arbitraryPin, { numRuns: 2, seed: 1 })
        .map((pin, index) => ({ ...pin, id: `p-${index}` }));
      assert.ok(first !== undefined && second !== undefined);
      await putPin(store, first, { clock: systemClock() });
      await putPin(store, second, { clock: systemClock() });
      const renewed = { ...first, expiresAt: 5n as Timestamp };
      await putPin(store, renewed, { clock: systemClock() });
      assert.deepEqual(await readPins(store), [renewed, second]);
      await removePin(store, first.id);
      await removePin(store, first.id);
      assert.deepEqual(await readPins(store), [second]);
      await assert.rejects(
        putPin(store, { ...first, id: '../elsewhere' }, { clock: systemClock() }),
        (error) => isAppError(error, 'name_invalid'),
      );
      // Power was lost while it was renewed.
      const path = join(pinsDirectory(store), 'p-1.pin');
      await writeFile(`${path}.tmp`, 'atoll-pin 1 {"id"');
      assert.deepEqual(await readPins(store), [second]);
      await putPin(store, { ...second, expiresAt: 6n as Timestamp }, { clock: systemClock() });
      assert.deepEqual(await readPins(store), [{ ...second, expiresAt: 6n }]);
      await writeFile(join(pinsDirectory(store), 'p-2.pin'), await readFile(path));
      await assert.rejects(readPins(store), (error) => isAppError(error, 'data_corrupt'));
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  it('wait while something is being removed, and do not bring back a timeline that was', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'atoll-pins-'));
    const clock = systemClock();
    const { signal } = new AbortController();
    try {
      const store = { virtualClusterId: 3 as VirtualClusterId, directory };
      const [pin] = fc.sample(arbitraryPin, { numRuns: 1, seed: 2 });
      assert.ok(pin !== undefined);
      let claiming: Promise<void> | undefined;
      await whilePinsStand(store, { clock, signal }, async () => {
        claiming = putPin(store, pin, { clock });
        // Others wait, too: one at a time, also within a process.
        await clock.sleep(0, { signal });
        assert.deepEqual(await readPins(store), []);
      });
      await claiming;
      assert.deepEqual(await readPins(store), [pin]);
      await rm(directory, { recursive: true });
      await assert.rejects(putPin(store, pin, { clock }), (error) => isAppError(error, 'object_not_found'));
      await assert.rejects(readFile(directory), { code: 'ENOENT' });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});
