import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError, type Lsn, parseLsn } from '../../base/index.ts';
import { parseTimelineHistory, RMGR, rootTimelineHistory, type TimelineHistory } from '../../pg/index.ts';
import { blocksBody, type FixtureRecord, mainDataBody, writeFixtureWal } from '../../pg/wal-fixtures.ts';
import { ChangedSetBuilder } from './changed-set.ts';
import { addLogChanges, type LogSource } from './log-changes.ts';

const SEGMENT_BYTES = 1024 * 1024;
const BEGIN = parseLsn('0/100000');
const SYSTEM = 42n;
const signal = new AbortController().signal;
const common = { segmentBytes: SEGMENT_BYTES, systemIdentifier: SYSTEM, engineMajor: 18 };

/** A record that changes page `blockNo` of one relation. */
function change(blockNo: number, bytes = 100): FixtureRecord {
  const block = { tablespaceOid: 1663, databaseOid: 5, filenode: 16_384, fork: 0, blockNo };
  return { rmid: RMGR.heap, info: 0, xid: 9, body: blocksBody([block], new Uint8Array(bytes)) };
}

/** Segments by timeline and number, as `1/1`. */
function logOf(segments: Readonly<Record<string, Uint8Array>>): LogSource {
  return {
    segment: async ({ timelineId, segmentNo }) => {
      const bytes = segments[`${timelineId}/${segmentNo}`];
      if (bytes === undefined) return null;
      return (async function* () {
        for (let at = 0; at < bytes.length; at += 5000) yield bytes.subarray(at, at + 5000);
      })();
    },
  };
}

function segmentsOf(bytes: Uint8Array, timelineId = 1): Record<string, Uint8Array> {
  const segments: Record<string, Uint8Array> = {};
  for (let at = 0, no = 1; at < bytes.length; at += SEGMENT_BYTES, no++) {
    segments[`${timelineId}/${no}`] = bytes.subarray(at, at + SEGMENT_BYTES);
  }
  return segments;
}

async function changesOf(options: {
  log: LogSource;
  fromLsn: Lsn;
  toLsn: Lsn;
  history?: TimelineHistory;
  timelineId?: number;
  endsAnywhere?: boolean;
}): Promise<{ text: string; reached: Lsn }> {
  const {
    log,
    fromLsn,
    toLsn,
    history = rootTimelineHistory(1),
    timelineId = 1,
    endsAnywhere = false,
  } = options;
  const set = new ChangedSetBuilder();
  const span = { timelineId, fromLsn, toLsn };
  const reached = await addLogChanges(set, { ...common, log, history, span, endsAnywhere, signal });
  return { text: set.toText(), reached };
}

const blocks = (list: string) => `1663/5/16384 main blocks ${list}`;
const refused = (promise: Promise<unknown>, detail: RegExp) =>
  assert.rejects(promise, (error) => isAppError(error, 'changes_unknown') && detail.test(error.detail ?? ''));

describe('changes read from the log', () => {
  const records = Array.from({ length: 30 }, (_, index) => change(index, 100_000));
  const wal = writeFixtureWal({ ...common, beginLsn: BEGIN, timelineId: 1, records });
  const at = (index: number) => wal.places[index]?.lsn ?? (0n as Lsn);
  const log = logOf(segmentsOf(wal.bytes));

  it('are those of the records that begin in the span', async () => {
    for (const [from, to] of [
      [0, 30],
      [3, 4],
      [9, 12],
      [25, 29],
    ] as const) {
      const { text } = await changesOf({
        log,
        fromLsn: at(from),
        toLsn: to === 30 ? (wal.places.at(-1)?.endLsn ?? at(0)) : at(to),
      });
      assert.equal(text, blocks(to - from === 1 ? `${from}` : `${from}-${to - 1}`));
    }
  });

  it('include those of a record that crosses either end', async () => {
    const { text } = await changesOf({ log, fromLsn: (at(3) + 800n) as Lsn, toLsn: (at(7) + 800n) as Lsn });
    assert.equal(text, blocks('3-7'));
  });

  it('are not known when a segment is missing, cut off or damaged', async () => {
    const span = { fromLsn: at(0), toLsn: at(29) };
    const { '1/2': second = wal.bytes, ...others } = segmentsOf(wal.bytes);
    await refused(changesOf({ log: logOf(others), ...span }), /neither summaries nor the log/);
    const short = logOf({ ...others, '1/2': second.subarray(0, 500_000) });
    await refused(changesOf({ log: short, ...span }), /neither summaries nor the log/);
    const damaged = Uint8Array.from(second);
    damaged[500_000] = (damaged[500_000] ?? 0) ^ 1;
    await refused(
      changesOf({ log: logOf({ ...others, '1/2': damaged }), ...span }),
      /checksum that is wrong/,
    );
    await refused(changesOf({ log: logOf({}), ...span }), /neither/);
  });

  it('may end where the log ends, when that is asked', async () => {
    const cut = Uint8Array.from(wal.bytes);
    cut.fill(0, Number(at(20) - BEGIN) + 60_000);
    const whole = await changesOf({
      log: logOf(segmentsOf(cut)),
      fromLsn: at(0),
      toLsn: 0xffff_ffff_ffff_ffffn as Lsn,
      endsAnywhere: true,
    });
    assert.deepEqual(whole, { text: blocks('0-19'), reached: at(20) });
  });

  it('stop where a timeline was left, and are found in its successor', async () => {
    const forkLsn = at(12);
    const history = parseTimelineHistory({
      text: `1\t0/${forkLsn.toString(16).toUpperCase()}\tr\n`,
      timelineId: 2,
    });
    const inSegment = Number(forkLsn - BEGIN) % SEGMENT_BYTES;
    const segments = segmentsOf(wal.bytes);
    const successor = new Uint8Array(SEGMENT_BYTES);
    successor.set(segments['1/2']?.subarray(0, inSegment) ?? []);
    const span = { fromLsn: at(2), toLsn: forkLsn, history };
    const old = await changesOf({ log, ...span });
    assert.deepEqual(old, { text: blocks('2-11'), reached: forkLsn });
    const inherited = await changesOf({
      log: logOf({ '1/1': segments['1/1'] ?? successor, '2/2': successor }),
      ...span,
    });
    assert.deepEqual(inherited, old);
    await refused(changesOf({ log: logOf({ '1/1': successor }), ...span }), /another page/);
  });

  it('are not known where wal_level was minimal', async () => {
    const level = new Uint8Array(4);
    const redo = { rmid: RMGR.xlog, info: 0xe0, xid: 0, body: mainDataBody(level) };
    const { bytes, places } = writeFixtureWal({
      ...common,
      beginLsn: BEGIN,
      timelineId: 1,
      records: [change(1), redo, change(2)],
    });
    const span = { fromLsn: places[0]?.lsn ?? at(0), toLsn: places[2]?.endLsn ?? at(0) };
    await assert.rejects(changesOf({ log: logOf(segmentsOf(bytes)), ...span }), /wal_level was minimal/);
  });

  it('need no log where only a page header lies', async () => {
    const fill = writeFixtureWal({
      ...common,
      beginLsn: BEGIN,
      timelineId: 1,
      records: [change(1, 8192 - 40 - 24 - 20 - 5 - 1), change(2)],
    });
    assert.equal(fill.places[0]?.endLsn, BEGIN + 8192n);
    const span = { fromLsn: (BEGIN + 40n) as Lsn, toLsn: (BEGIN + 8192n + 24n) as Lsn };
    const { text } = await changesOf({ log: logOf({ '1/1': fill.bytes.subarray(0, 8192) }), ...span });
    assert.equal(text, blocks('1'));
  });
});
