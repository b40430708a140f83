/** The vault against a bare PostgreSQL with small segments, whose own view of its log is the oracle. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { BareEngine } from '../../../test/harness/bare-engine.ts';
import { MemoryLogger, NEVER } from '../../../test/harness/instance-store.ts';
import { scratchDirectory } from '../../../test/harness/scratch.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import {
  CorruptError,
  type IncarnationId,
  type Lsn,
  parseLsn,
  parseTimestamp,
  required,
  type Timestamp,
  type VirtualClusterId,
} from '../../base/index.ts';
import { systemClock } from '../../daemon/index.ts';
import { formatWalSegmentName, walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';
import type { IncarnationRecord, VaultHost, VaultSource, VaultStatus } from '../store-contract.ts';
import { walDirectory } from '../store/layout.ts';
import { openLog } from '../store/read-log.ts';
import { endOfTimes, placeOfTime } from '../store/resolve.ts';
import { FAULT_POINT_VARIABLE, VAULT_FAULT_POINTS } from '../worker/fault-point.ts';
import { readRecord } from './incarnation-file.ts';
import { openVaultHost } from './vault-host.ts';

const ID = 3 as VirtualClusterId;
const SEGMENT_BYTES = 1024 * 1024;
const NAME = /^[0-9A-F]{24}$/;

let engine: BareEngine;
let rig: Rig;

/** One vault in a folder of its own, and a new incarnation with each `begin`. */
class Rig {
  readonly directory: string;
  readonly logger = new MemoryLogger();
  host: VaultHost;
  incarnation = randomUUID() as IncarnationId;
  systemIdentifier = 0n;

  private constructor(directory: string, host: VaultHost) {
    this.directory = directory;
    this.host = host;
  }

  static async open(): Promise<Rig> {
    const directory = await scratchDirectory('atoll-vault-');
    const made = new Rig(directory, await openHost(directory, new MemoryLogger()));
    await made.host.close();
    made.host = await openHost(directory, made.logger);
    const [row] = await query('SELECT system_identifier::text AS id FROM pg_control_system()');
    made.systemIdentifier = BigInt(String(row?.['id']));
    return made;
  }

  get location() {
    return { virtualClusterId: ID, directory: join(this.directory, '3') };
  }

  get folder(): string {
    return walDirectory(this.location, this.incarnation);
  }

  get status(): VaultStatus {
    return required(this.host.status(ID), 'status of the followed virtual cluster');
  }

  source(variation: Partial<VaultSource> = {}): VaultSource {
    return {
      dataDirectory: engine.dataDirectory,
      socketDirectory: engine.directory,
      virtualClusterId: ID,
      virtualClusterName: 'main',
      incarnation: this.incarnation,
      systemIdentifier: this.systemIdentifier,
      engineMajor: 18,
      forkLsn: null,
      store: this.location,
      bytesMax: 1n << 40n,
      ...variation,
    };
  }

  /** A new incarnation that nothing was received of. */
  async begin(): Promise<void> {
    await this.host.unfollow(ID);
    this.incarnation = randomUUID() as IncarnationId;
    await query(
      `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'atoll_vault' AND NOT active`,
    );
  }

  async reopen(): Promise<void> {
    await this.host.close();
    this.host = await openHost(this.directory, this.logger);
  }

  async catchUp(): Promise<Lsn> {
    const lsn = await flushedLsn();
    await waitFor('the vault to catch up', () => this.status.durableLsn >= lsn);
    return lsn;
  }

  async record(): Promise<IncarnationRecord> {
    return required(await readRecord(this.folder), 'record of the incarnation');
  }

  /** Every byte from the oldest on is the instance's own. */
  async compare(throughLsn: Lsn): Promise<void> {
    const record = await this.record();
    const timelineId = required(record.timelines.at(-1), 'timeline').timelineId;
    const { oldestLsn: fromLsn } = this.status;
    let expectedLsn = fromLsn;
    const options = { record, timelineId, fromLsn, throughLsn, signal: NEVER };
    for await (const { lsn, bytes } of openLog(this.location, options)) {
      assert.equal(lsn, expectedLsn);
      expectedLsn = (lsn + BigInt(bytes.length)) as Lsn;
      assert.ok(Buffer.from(bytes).equals(await instanceBytes(lsn, bytes.length)), `at ${lsn}`);
    }
    assert.ok(expectedLsn >= throughLsn, 'the vault reaches as far as the instance');
  }

  async close(): Promise<void> {
    await this.host.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

function openHost(directory: string, logger: MemoryLogger): Promise<VaultHost> {
  return openVaultHost({ directory, clock: systemClock(), logger });
}

function query(sql: string): Promise<Record<string, unknown>[]> {
  return engine.use('postgres', async (client) => (await client.query<Record<string, unknown>>(sql)).rows);
}

async function flushedLsn(): Promise<Lsn> {
  const [row] = await query('SELECT pg_current_wal_flush_lsn()::text AS lsn');
  return parseLsn(String(row?.['lsn']));
}

/** From the segment of the newest timeline that has it. */
async function instanceBytes(lsn: Lsn, length: number): Promise<Buffer> {
  const segmentNo = walSegmentNoOf({ lsn, segmentBytes: SEGMENT_BYTES });
  const segment = { segmentNo, segmentBytes: SEGMENT_BYTES };
  const suffix = formatWalSegmentName({ ...segment, timelineId: 1 }).slice(8);
  const folder = join(engine.dataDirectory, 'pg_wal');
  const names = readdirSync(folder).filter((name) => NAME.test(name) && name.endsWith(suffix));
  await using file = await open(join(folder, required(names.toSorted().at(-1), `segment ${suffix}`)), 'r');
  const bytes = Buffer.alloc(length);
  await file.read(bytes, 0, length, Number(lsn - walSegmentStart(segment)));
  return bytes;
}

/** About so many MiB of log in several commits. */
async function write(mebibytes: number): Promise<void> {
  await query('CREATE TABLE IF NOT EXISTS t (n serial, filler text)');
  for (let part = 0; part < 4; part++) {
    await query(
      `INSERT INTO t (filler) SELECT repeat(md5(n::text), 8) FROM generate_series(1, ${mebibytes * 700}) n`,
    );
  }
}

/** More than the small disk holds, of what hardly shrinks. */
async function writeNoise(): Promise<void> {
  await query('CREATE TABLE IF NOT EXISTS noise (filler text)');
  await query(
    `INSERT INTO noise SELECT (SELECT string_agg(md5(random()::text || g || n), '') FROM generate_series(1, 60) g) FROM generate_series(1, 80000) n`,
  );
}

before(async () => {
  engine = await BareEngine.open({
    walSegmentMiB: 1,
    settings: {
      wal_level: 'logical',
      track_commit_timestamp: 'on',
      wal_keep_size: '2GB',
      max_wal_size: '2GB',
      max_replication_slots: 10,
      autovacuum: 'off',
    },
  });
  await engine.start();
  await query('CREATE EXTENSION pg_walinspect');
  rig = await Rig.open();
});

after(async () => {
  await rig?.close();
  await engine?.[Symbol.asyncDispose]();
});

afterEach(() => {
  delete process.env[FAULT_POINT_VARIABLE];
});

const deaths = () => rig.logger.entries.filter(({ message }) => message.includes('(SIGKILL)')).length;

describe('a vault that is cut off', () => {
  for (const point of VAULT_FAULT_POINTS) {
    it(`at ${point} goes on without a gap`, async () => {
      await rig.begin();
      process.env[FAULT_POINT_VARIABLE] = point;
      const before = deaths();
      await rig.reopen();
      const following = rig.host.follow(rig.source());
      await write(3);
      await waitFor('the cut', () => deaths() > before);
      delete process.env[FAULT_POINT_VARIABLE];
      await following;
      await waitFor('another process', () => rig.status.state.kind === 'receiving');
      await rig.compare(await rig.catchUp());
      assert.deepEqual((await rig.record()).timelines.length, 1);
      await waitFor('full segments to be closed, and nothing else to be left', () => {
        const names = readdirSync(rig.folder);
        const isExpected = (name: string) =>
          /^[0-9A-F]{24}\.(wal|partial)$|^time-index-|^incarnation\.json$/.test(name);
        return names.every(isExpected) && names.filter((name) => name.endsWith('.partial')).length <= 1;
      });
    });
  }
});

describe('times of commits', () => {
  interface Commit {
    readonly lsn: Lsn;
    readonly time: Timestamp;
  }

  async function commitsOf(fromLsn: Lsn, throughLsn: Lsn): Promise<Commit[]> {
    const text = (lsn: bigint) => `${(lsn >> 32n).toString(16)}/${(lsn & 0xffff_ffffn).toString(16)}`;
    const rows = await query(
      `SELECT start_lsn::text AS lsn, substring(description from '\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d[.0-9]*') AS time
         FROM pg_get_wal_records_info('${text(fromLsn)}', '${text(throughLsn)}')
        WHERE resource_manager = 'Transaction' AND record_type LIKE 'COMMIT%' ORDER BY start_lsn`,
    );
    return rows.map((row) => ({
      lsn: parseLsn(String(row['lsn'])),
      time: parseTimestamp(`${String(row['time'])}+00`),
    }));
  }

  async function workTogether(): Promise<void> {
    await query('CREATE TABLE IF NOT EXISTS c (n int)');
    const one = async () => {
      const client = await engine.connect('postgres');
      for (let n = 0; n < 60; n++) await client.query('INSERT INTO c VALUES ($1)', [n]);
      await client.end();
    };
    await Promise.all(Array.from({ length: 6 }, one));
  }

  it('lead to the commit that first exceeds them, to the microsecond, with the index and without it', async () => {
    await rig.begin();
    await query(`ALTER SYSTEM SET timezone = 'UTC'`);
    await query('SELECT pg_reload_conf()');
    await rig.host.follow(rig.source());
    await write(2);
    await workTogether();
    await write(1);
    await workTogether();
    const throughLsn = await rig.catchUp();
    const commits = await commitsOf(rig.status.oldestLsn, throughLsn);
    assert.ok(commits.length > 500);
    await query('SELECT pg_xact_commit_timestamp(xmin) FROM c'); // They are kept: the times are real.
    const check = async () => {
      const log = { store: rig.location, record: await rig.record(), endLsn: throughLsn, signal: NEVER };
      for (let index = 0; index < commits.length; index += 31) {
        for (const offset of [-1n, 0n]) {
          const time = (required(commits[index], 'commit').time + offset) as Timestamp;
          let max = 0n;
          const expected = commits.find((commit) => {
            if (commit.time > max) max = commit.time;
            return max > time;
          });
          assert.equal((await placeOfTime(log, time))?.lsn, expected?.lsn, `${time}`);
        }
      }
      const max = commits.reduce((last, { time }) => (time > last ? time : last), 0n as Timestamp);
      assert.equal((await endOfTimes(log)).time, max);
    };
    await check();
    await rig.host.close();
    const indexes = readdirSync(rig.folder).filter((name) => name.startsWith('time-index-'));
    assert.ok(indexes.length > 0);
    for (const name of indexes) rmSync(join(rig.folder, name));
    await check();
    rig.host = await openHost(rig.directory, rig.logger);
    await rig.host.follow(rig.source());
    await check();
    await waitFor('the index to be made again', () =>
      readdirSync(rig.folder).some((name) => name.startsWith('time-index-')),
    );
  });

  it('of an idle time are its end, and stay so when work goes on', async () => {
    await rig.begin();
    await rig.host.follow(rig.source());
    await workTogether();
    const lsn = await rig.catchUp();
    const commits = await commitsOf(rig.status.oldestLsn, lsn);
    const lastTime = required(commits.at(-1), 'commit').time;
    const idle = await waitFor('idleness to be known', () => {
      const { restorableThrough } = rig.status;
      return restorableThrough !== null && restorableThrough > lastTime && restorableThrough;
    });
    await workTogether();
    const throughLsn = await rig.catchUp();
    const log = { store: rig.location, record: await rig.record(), endLsn: throughLsn, signal: NEVER };
    const next = required(
      (await commitsOf(lsn, throughLsn)).find((commit) => commit.lsn >= lsn),
      'commit after the idle time',
    );
    const place = required(await placeOfTime(log, (idle - 1n) as Timestamp), 'place');
    assert.ok(place.lsn >= lsn - 64n && place.lsn <= next.lsn);
  });
});

describe('a vault', () => {
  it('follows a promotion to the next timeline, and has its history', async () => {
    await rig.begin();
    await rig.host.follow(rig.source());
    await write(1);
    await engine.stop('fast');
    writeFileSync(join(engine.dataDirectory, 'standby.signal'), '');
    await engine.start();
    await waitFor('the vault to follow the standby', () => rig.status.state.kind === 'receiving');
    // It is killed on the way, behind the end of the one timeline, and again behind the record of the next.
    const before = deaths();
    process.env[FAULT_POINT_VARIABLE] = 'vault.after_timeline_end';
    await rig.reopen();
    await rig.host.follow(rig.source());
    await query('SELECT pg_promote()');
    await waitFor('the cut', () => deaths() > before);
    assert.equal((await rig.record()).timelines.length, 1);
    process.env[FAULT_POINT_VARIABLE] = 'vault.after_record';
    await waitFor('the record', async () => (await rig.record()).timelines.length === 2);
    delete process.env[FAULT_POINT_VARIABLE];
    await waitFor('another process', () => rig.status.state.kind !== 'waiting');
    assert.equal(rig.status.state.kind, 'receiving');
    await write(2);
    const lsn = await rig.catchUp();
    assert.equal(rig.status.timelineId, 2);
    await rig.compare(lsn);
    const { timelines } = await rig.record();
    assert.deepEqual(
      timelines.map(({ timelineId }) => timelineId),
      [1, 2],
    );
    const history = readFileSync(join(rig.folder, '00000002.history'), 'utf8');
    assert.match(history, /^1\t/);
    // Another process takes it up just the same.
    await rig.reopen();
    await rig.host.follow(rig.source());
    await write(1);
    await rig.compare(await rig.catchUp());
    assert.ok(rig.status.oldestLsn < required(timelines[1], 'timeline').beginLsn);
  });

  it('finds the end of a timeline that it has missed', async () => {
    await rig.begin();
    await rig.host.follow(rig.source());
    await write(1);
    await rig.host.unfollow(ID);
    await write(1);
    await engine.stop('fast');
    writeFileSync(join(engine.dataDirectory, 'standby.signal'), '');
    await engine.start();
    await query('SELECT pg_promote()');
    await write(1);
    await rig.host.follow(rig.source());
    await rig.compare(await rig.catchUp());
    assert.equal((await rig.record()).timelines.length, 2);
  });

  it('stops at its limit, says so, and goes on when it is raised', async () => {
    await rig.begin();
    const bytesMax = BigInt(2 * SEGMENT_BYTES);
    await rig.host.follow(rig.source({ bytesMax }));
    await write(8);
    await waitFor('the limit', () => rig.status.state.kind === 'out_of_room');
    assert.ok(rig.logger.has('has stopped receiving the log'));
    await rig.host.follow(rig.source());
    await rig.compare(await rig.catchUp());
    assert.equal(rig.status.state.kind, 'receiving');
  });

  it('stops at a full disk and goes on when there is room', async (context) => {
    const disk = join(rig.directory, '3', 'wal');
    await rig.begin();
    mkdirSync(disk, { recursive: true });
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=70m', 'tmpfs', disk], { stdio: 'ignore' });
    } catch {
      context.skip('this machine does not let us mount a small disk');
      return;
    }
    try {
      await rig.host.follow(rig.source());
      await writeNoise();
      await waitFor('the disk to be full', () => rig.status.state.kind === 'out_of_room');
      execFileSync('mount', ['-o', 'remount,size=1g', disk]);
      await rig.compare(await rig.catchUp());
    } finally {
      await rig.begin();
      // A thread of the vault that has ended may still be closing its files.
      await waitFor('nothing to be open there', () => {
        execFileSync('umount', [disk], { stdio: 'ignore' });
        return true;
      });
    }
  });

  it('names a stored segment that is damaged, when it is read and when it is taken up', async () => {
    await rig.begin();
    await rig.host.follow(rig.source());
    await write(3);
    await rig.catchUp();
    const { oldestLsn: fromLsn } = rig.status;
    const name = await waitFor('a closed segment, and nothing of it that is still open', () => {
      const names = readdirSync(rig.folder);
      const closed = names.filter((each) => each.endsWith('.wal'))[1];
      return closed === undefined || names.includes(closed.replace('.wal', '.partial')) ? undefined : closed;
    });
    const path = join(rig.folder, required(name, 'closed segment'));
    await rig.host.unfollow(ID);
    const bytes = await readFile(path);
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 100) ^ 0x10, bytes.length - 100);
    await writeFile(path, bytes);
    const record = await rig.record();
    const timelineId = required(record.timelines.at(-1), 'timeline').timelineId;
    await assert.rejects(
      Array.fromAsync(openLog(rig.location, { record, timelineId, fromLsn, signal: NEVER })),
      (error) => error instanceof CorruptError && error.message.includes(path),
    );
    for (const index of readdirSync(rig.folder).filter((each) => each.startsWith('time-index-'))) {
      rmSync(join(rig.folder, index));
    }
    await rig.host.follow(rig.source());
    await waitFor('the damage to be told', () =>
      rig.logger.entries.some(({ severity, message }) => severity === 'error' && message.includes(path)),
    );
    await write(1);
    await rig.catchUp();
  });

  it('cuts back what was torn, and receives it again', async () => {
    await rig.begin();
    await rig.host.follow(rig.source());
    await write(2);
    await rig.catchUp();
    await rig.host.close();
    // Those before it are full, and wait to be compressed.
    const partials = readdirSync(rig.folder).filter((name) => name.endsWith('.partial'));
    const path = join(rig.folder, required(partials.toSorted().at(-1), 'open segment'));
    const bytes = await readFile(path);
    await writeFile(path, Buffer.concat([bytes.subarray(0, -20), Buffer.alloc(5000, 0x5a)]));
    rig.host = await openHost(rig.directory, rig.logger);
    await rig.host.follow(rig.source());
    await write(1);
    await rig.compare(await rig.catchUp());
  });

  it('says so when log is gone that it has not received, and goes on behind it', async () => {
    await rig.begin();
    await rig.host.follow(rig.source());
    await write(1);
    const lsn = await rig.catchUp();
    await rig.host.unfollow(ID);
    await write(4);
    await query('CHECKPOINT');
    const folder = join(engine.dataDirectory, 'pg_wal');
    const own = formatWalSegmentName({
      timelineId: 1,
      segmentNo: walSegmentNoOf({ lsn, segmentBytes: SEGMENT_BYTES }),
      segmentBytes: SEGMENT_BYTES,
    }).slice(8);
    await query(`SELECT pg_drop_replication_slot('atoll_vault')`);
    for (const name of readdirSync(folder).filter((each) => NAME.test(each) && each.slice(8) <= own)) {
      rmSync(join(folder, name));
    }
    await rig.host.follow(rig.source());
    const state = await waitFor('the gap', () => rig.status.state.kind === 'gap' && rig.status.state);
    assert.ok(state.fromLsn > lsn - BigInt(SEGMENT_BYTES) && state.toLsn > lsn);
    assert.ok(rig.logger.has('is lost: nothing can be restored across it'));
    await write(1);
    await rig.compare(await rig.catchUp());
    assert.equal(rig.status.oldestLsn, state.toLsn);
  });

  it('makes its slot anew when the instance has given it up rather than fill its disk', async () => {
    await rig.begin();
    const before = { engine, systemIdentifier: rig.systemIdentifier };
    await using small = await BareEngine.open({
      walSegmentMiB: 1,
      settings: { wal_level: 'logical', max_slot_wal_keep_size: '1MB', autovacuum: 'off' },
    });
    await small.start();
    try {
      engine = small;
      const [row] = await query('SELECT system_identifier::text AS id FROM pg_control_system()');
      rig.systemIdentifier = BigInt(String(row?.['id']));
      await rig.host.follow(rig.source());
      await write(1);
      await rig.catchUp();
      await rig.host.unfollow(ID);
      await write(6);
      await waitFor('the slot to be given up', async () => {
        await query('CHECKPOINT');
        const [slot] = await query(
          `SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'atoll_vault'`,
        );
        return slot?.['wal_status'] === 'lost';
      });
      await rig.host.follow(rig.source());
      await waitFor('the gap', () => rig.status.state.kind === 'gap');
      assert.ok(rig.logger.has('gave up the slot of the vault'));
      await write(1);
      await rig.compare(await rig.catchUp());
    } finally {
      await rig.host.unfollow(ID);
      engine = before.engine;
      rig.systemIdentifier = before.systemIdentifier;
    }
  });

  it('is never two: another one waits until the first has ended', async () => {
    await rig.begin();
    await rig.host.follow(rig.source());
    const other = await openHost(rig.directory, rig.logger);
    const following = other.follow(rig.source());
    await write(1);
    assert.equal(other.status(ID), undefined);
    await rig.compare(await rig.catchUp());
    await rig.host.close();
    await following;
    rig.host = other;
    await write(1);
    await rig.compare(await rig.catchUp());
    assert.ok(existsSync(join(rig.directory, 'vault-lock')));
  });

  it('does not take the log of another data directory behind its socket', async () => {
    await rig.begin();
    await rig.host.follow(rig.source({ dataDirectory: join(engine.directory, 'another') }));
    assert.equal(rig.status.state.kind, 'waiting');
    assert.equal(existsSync(rig.folder), false);
    await rig.host.follow(rig.source({ systemIdentifier: 1n }));
    assert.equal(rig.status.state.kind, 'waiting');
    assert.equal(existsSync(rig.folder), false);
  });
});
