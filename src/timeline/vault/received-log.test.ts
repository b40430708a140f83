/** What the vault makes of commits whose times are given, and what it leaves on disk when writing fails: log of our own making, no server. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { MemoryLogger, NEVER } from '../../../test/harness/instance-store.ts';
import { scratchDirectory } from '../../../test/harness/scratch.ts';
import {
  type IncarnationId,
  isAppError,
  type Lsn,
  parseLsn,
  required,
  type Timestamp,
  type VirtualClusterId,
} from '../../base/index.ts';
import { systemClock, systemRng } from '../../daemon/index.ts';
import { RMGR } from '../../pg/index.ts';
import { type FixturePlace, mainDataBody, writeFixtureWal } from '../../pg/wal-fixtures.ts';
import { walDirectory } from '../store/layout.ts';
import { readTimeIndexFile } from '../store/read-time-index.ts';
import { endOfTimes, isAmbiguous, placeOfTime } from '../store/resolve.ts';
import { readRecord } from './incarnation-file.ts';
import { ReceivedLog, type ReceivedLogOptions } from './received-log.ts';
import { SegmentCloser } from './segment-closer.ts';

const SEGMENT_BYTES = 1024 * 1024;
const BEGIN = parseLsn('0/100000');
const incarnation = '0b1c2d3e-4f50-4162-8374-95a6b7c8d9e0' as IncarnationId;
/** Postgres counts from 2000-01-01. */
const EPOCH_US = 946_684_800_000_000n;
const NOON = 1_795_262_400_000_000n;
const SECOND = 1_000_000n;
const HOUR = 3600n * SECOND;
const identity = {
  incarnation,
  parentIncarnation: null,
  forkLsn: null,
  systemIdentifier: 7n,
  engineMajor: 18,
};

let directory: string;
let logger: MemoryLogger;

beforeEach(async () => {
  directory = await scratchDirectory('atoll-received-');
  logger = new MemoryLogger();
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const store = () => ({ virtualClusterId: 3 as VirtualClusterId, directory });

function options(): ReceivedLogOptions {
  const closer = new SegmentCloser({ clock: systemClock(), receivedBytes: () => 0n, signal: NEVER });
  return {
    store: store(),
    identity,
    closer,
    rng: systemRng(),
    logger,
    onSaved: () => undefined,
    signal: NEVER,
  };
}

function begin(): Promise<ReceivedLog> {
  return ReceivedLog.begin(options(), {
    timelineId: 1,
    timelineBeginLsn: BEGIN,
    segmentBytes: SEGMENT_BYTES,
    beginLsn: BEGIN,
  });
}

/** Commits at these times, in microseconds since 1970, one behind the other, the first at the beginning of a segment. */
function logOf(times: readonly bigint[]): {
  readonly bytes: Uint8Array;
  readonly places: readonly FixturePlace[];
} {
  const records = times.map((time, index) => {
    const data = Buffer.alloc(8);
    data.writeBigInt64LE(time - EPOCH_US);
    return { rmid: RMGR.transaction, info: 0, xid: 1000 + index, body: mainDataBody(data) };
  });
  const { systemIdentifier, engineMajor } = identity;
  const where = { beginLsn: BEGIN, segmentBytes: SEGMENT_BYTES, timelineId: 1 };
  return writeFixtureWal({ ...where, systemIdentifier, engineMajor, records });
}

async function logOfLife(endLsn: Lsn | null = null) {
  const record = required((await readRecord(walDirectory(store(), incarnation))) ?? undefined, 'record');
  return { store: store(), record, endLsn, signal: NEVER };
}

async function indexEntries() {
  const folder = walDirectory(store(), incarnation);
  const names = readdirSync(folder).filter((name) => name.startsWith('time-index-'));
  const files = await Promise.all(names.toSorted().map((name) => readTimeIndexFile(folder, name)));
  return files.flatMap(({ entries }) => entries);
}

const at = (time: bigint) => time as Timestamp;

describe('a time', () => {
  it('means the end of what was committed at or before it, to the microsecond', async () => {
    // The first two share an entry of the index with those around them, the last has one of its own.
    const times = [NOON, NOON + 1n, NOON + 3n, NOON + SECOND];
    const { bytes, places } = logOf(times);
    {
      await using log = await begin();
      await log.append(BEGIN, bytes);
    }
    const expected: readonly (readonly [bigint, number | null])[] = [
      [NOON - 1n, 0],
      [NOON, 1],
      [NOON + 1n, 2],
      [NOON + 2n, 2],
      [NOON + 3n, 3],
      [NOON + SECOND - 1n, 3],
      [NOON + SECOND, null],
    ];
    const check = async () => {
      const life = await logOfLife();
      for (const [time, index] of expected) {
        const lsn = index === null ? undefined : places[index]?.lsn;
        assert.equal((await placeOfTime(life, at(time)))?.lsn, lsn, `${time - NOON} us from noon`);
      }
      assert.equal((await endOfTimes(life)).time, NOON + SECOND);
    };
    await check();
    const folder = walDirectory(store(), incarnation);
    const [name] = readdirSync(folder).filter((each) => each.startsWith('time-index-'));
    const path = join(folder, required(name, 'index'));
    const written = readFileSync(path);
    // Wherever it is damaged, the log tells the same.
    for (const place of [0, 20, 64 + 8, written.length - 1]) {
      const damaged = Buffer.from(written);
      damaged[place] = (damaged[place] ?? 0) ^ 1;
      writeFileSync(path, damaged);
      await check();
    }
  });
});

describe('a clock that is set back by an hour', () => {
  const back = NOON - HOUR;

  it('is an alarm, and moments between are marked and mean the first time they were lived through', async () => {
    const times = [
      NOON - 10n * SECOND,
      NOON,
      back,
      back + SECOND,
      NOON - SECOND,
      NOON + SECOND,
      NOON + 2n * SECOND,
    ];
    const { bytes, places } = logOf(times);
    {
      await using log = await begin();
      await log.append(BEGIN, bytes);
      assert.equal(log.clockSteps, 1);
    }
    const alarms = logger.entries.filter(({ severity }) => severity === 'warning');
    assert.match(required(alarms[0], 'alarm').message, /the clock was set back by 3600000 ms/);
    assert.equal(alarms.length, 1, 'one for the step, none for each commit behind it');
    const life = await logOfLife();
    const answer = async (time: bigint) => {
      const place = await placeOfTime(life, at(time));
      const index = places.findIndex(({ lsn }) => lsn === place?.lsn);
      return [index, await isAmbiguous(life, at(time))];
    };
    assert.deepEqual(await answer(back - 1n), [0, false]);
    // What was done in the hour that came twice has no other name than its position: the time is that of before the step.
    assert.deepEqual(await answer(back), [0, true]);
    assert.deepEqual(await answer(NOON - 10n * SECOND), [1, true]);
    assert.deepEqual(await answer(NOON - 1n), [1, true]);
    // In the midst of the second time the log is known up to where the clock had been.
    assert.equal((await endOfTimes(await logOfLife(places[4]?.lsn))).time, NOON);
    // Nothing of the second time lies behind a time that exceeds all of it.
    assert.deepEqual(await answer(NOON), [5, false]);
    assert.deepEqual(await answer(NOON + SECOND), [6, false]);
  });

  it('is noticed with the first commit, also when that comes behind what is known of idleness', async () => {
    const { bytes, places } = logOf([NOON, back]);
    const idleLsn = required(places[0], 'first commit').endLsn;
    const length = Number(idleLsn - BEGIN);
    await using log = await begin();
    await log.append(BEGIN, bytes.subarray(0, length));
    await log.sync();
    log.noteIdle(at(NOON + 30n * SECOND));
    await log.settleIdle();
    await log.append(idleLsn, bytes.subarray(length));
    assert.equal(log.clockSteps, 1);
    await log.sync();
    const life = await logOfLife();
    for (const time of [back, back + 1n, NOON + 29n * SECOND])
      assert.equal(await isAmbiguous(life, at(time)), true);
  });
});

describe('a timeline of which nothing was received yet', () => {
  it('hides nothing of the one before it, and is gone over to once more', async () => {
    const { bytes, places } = logOf([NOON, NOON + SECOND, NOON + 2n * SECOND]);
    const switchLsn = required(places[1], 'second commit').endLsn;
    const next = { timelineId: 2, timelineBeginLsn: switchLsn, segmentBytes: SEGMENT_BYTES, beginLsn: BEGIN };
    {
      await using log = await begin();
      await log.append(BEGIN, bytes.subarray(0, Number(switchLsn - BEGIN)));
      await log.endTimeline(switchLsn);
      await using _next = await ReceivedLog.begin(options(), { ...next, continues: log });
    }
    const life = await logOfLife();
    assert.deepEqual(
      life.record.timelines.map(({ timelineId }) => timelineId),
      [1, 2],
    );
    assert.equal((await placeOfTime(life, at(NOON)))?.lsn, places[1]?.lsn);
    assert.deepEqual((await endOfTimes(life)).lsn, switchLsn);

    await using log = required(
      (await ReceivedLog.open(options())) ?? undefined,
      'log of the timeline before',
    );
    assert.deepEqual([log.timelineId, log.oldestLsn, log.endLsn, log.gaps], [1, BEGIN, switchLsn, []]);
    await log.endTimeline(switchLsn);
    await using again = await ReceivedLog.begin(options(), { ...next, continues: log });
    await again.append(BEGIN, bytes);
    await again.sync();
    assert.deepEqual([again.timelineId, again.durableTime, again.gaps], [2, NOON + 2n * SECOND, []]);
    assert.equal((await placeOfTime(await logOfLife(), at(NOON + SECOND)))?.lsn, places[2]?.lsn);
  });
});

describe('log that is being written', () => {
  it('is known of only when it is durable, also when idleness is written down meanwhile', async () => {
    const { bytes, places } = logOf([NOON, NOON + SECOND]);
    const second = required(places[1], 'second commit');
    const length = Number(second.lsn - BEGIN);
    await using log = await begin();
    await log.append(BEGIN, bytes.subarray(0, length));
    await log.sync();
    const appending = log.append(second.lsn, bytes.subarray(length));
    await log.settleIdle();
    const { durableLsn, durableTime } = log;
    assert.ok(durableTime === NOON || durableLsn >= second.endLsn, `${durableLsn} at ${durableTime}`);
    await appending;
    await log.sync();
    assert.deepEqual([log.durableLsn, log.durableTime], [second.endLsn, NOON + SECOND]);
  });
});

describe('log that could not be written', () => {
  it('is not in the index, whatever of it was understood before it failed', async () => {
    const { bytes, places } = logOf([NOON, NOON + SECOND, NOON + 2n * SECOND]);
    const second = required(places[1], 'second commit');
    const length = Number(second.lsn - BEGIN);
    // The second commit is right; what comes behind it is not, so nothing of the piece is kept.
    const damaged = Buffer.from(bytes);
    damaged.fill(0x5a, Number(second.endLsn - BEGIN));
    {
      await using log = await begin();
      await log.append(BEGIN, damaged.subarray(0, length));
      await assert.rejects(log.append(second.lsn, damaged.subarray(length)), (error) =>
        isAppError(error, 'data_corrupt'),
      );
    }
    const entries = await indexEntries();
    assert.deepEqual(
      entries.map(({ lsn, time }) => [lsn, time]),
      [[places[0]?.lsn, NOON]],
    );
    const { lsn, time } = await endOfTimes(await logOfLife());
    assert.deepEqual([lsn, time], [second.lsn, NOON]);
  });
});
