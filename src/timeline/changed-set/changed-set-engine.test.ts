/** The changed set against PostgreSQL: its own summaries, and what really differs between two copies of a directory. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BareEngine } from '../../../test/harness/bare-engine.ts';
import { differingBlocks, unknownTo } from '../../../test/harness/compare-directories.ts';
import { changeMixed, createMixed, MIXED_WORKLOAD_SETTINGS } from '../../../test/harness/mixed-workload.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import { formatLsn, isAppError, type Lsn, parseLsn } from '../../base/index.ts';
import {
  type ControlFile,
  parseControlFile,
  parseTimelineHistory,
  parseWalSummaryName,
  type RelationLocator,
  rootTimelineHistory,
  type WalSummaryName,
  WalSummaryReader,
} from '../../pg/index.ts';
import { type ChangedSet, ChangedSetBuilder } from './changed-set.ts';
import { addLogChanges } from './log-changes.ts';
import { partsOfSpan } from './plan.ts';
import { type ChangedSetEnd, type ChangedSetRequest, readChangedSet } from './read-changed-set.ts';
import { summaryVisitor } from './sources.ts';
import { walDirectory } from './wal-directory.ts';

const SEGMENT_MIB = 1;
const SEGMENT_BYTES = SEGMENT_MIB * 1024 * 1024;
/** Another workload every time; a failure names it. */
const FIRST_ROUND = Number(process.env['ATOLL_TEST_ROUND'] ?? randomInt(1000, 10_000));
const signal = new AbortController().signal;

const engine = await BareEngine.open({
  walSegmentMiB: SEGMENT_MIB,
  settings: { ...MIXED_WORKLOAD_SETTINGS, wal_keep_size: '4GB', wal_recycle: 'off' },
});
const walFolder = join(engine.dataDirectory, 'pg_wal');
const summaries = join(walFolder, 'summaries');

/** The directory before the workload, and where its log stood. */
let copyBefore = '';
let startLsn = 0n as Lsn;

before(async () => {
  await engine.start();
  await createMixed(engine);
  await engine.stop('fast');
  copyBefore = await engine.copyData('before');
  startLsn = controlFile(copyBefore).redoLsn;
  await engine.start();
  for (const step of [0, 1, 2]) {
    await changeMixed(engine, FIRST_ROUND + step);
    await engine.use('postgres', (client) => client.query('CHECKPOINT'));
  }
  await engine.use('postgres', async (client) => {
    // One row to a page: enough pages for a bitmap in a summary.
    await client.query(`CREATE TABLE wide (filler text STORAGE PLAIN)`);
    await client.query(`INSERT INTO wide SELECT repeat('w', 7000) FROM generate_series(1, 5000)`);
    await client.query('CHECKPOINT');
    await client.query('UPDATE wide SET filler = filler WHERE ctid < $1::tid', ['(4500,0)']);
    await client.query('CHECKPOINT');
  });
  await summarized();
});

after(() => engine[Symbol.asyncDispose]());

function controlFile(directory: string): ControlFile {
  return parseControlFile(readFileSync(join(directory, 'global', 'pg_control')));
}

/** Waits until the summarizer has come to the newest checkpoint. */
async function summarized(): Promise<Lsn> {
  return engine.use('postgres', (client) =>
    waitFor('the summarizer', async () => {
      const { rows } = await client.query<{ lsn: string; redo: string }>(
        `SELECT summarized_lsn AS lsn, (SELECT redo_lsn FROM pg_control_checkpoint()) AS redo FROM pg_get_wal_summarizer_state()`,
      );
      const lsn = parseLsn(rows[0]?.lsn ?? '');
      return lsn >= parseLsn(rows[0]?.redo ?? '') ? lsn : undefined;
    }),
  );
}

function summaryNames(): WalSummaryName[] {
  return readdirSync(summaries)
    .filter((name) => name.length === 48)
    .map(parseWalSummaryName);
}

function request(end: ChangedSetEnd, variation: Partial<ChangedSetRequest> = {}): ChangedSetRequest {
  return {
    summariesDirectory: summaries,
    log: walDirectory(walFolder),
    history: rootTimelineHistory(1),
    segmentBytes: SEGMENT_BYTES,
    engineMajor: 18,
    systemIdentifier: controlFile(copyBefore).systemIdentifier,
    startLsn,
    end,
    signal,
    ...variation,
  };
}

function readSummaryFile(name: string): ChangedSetBuilder {
  const set = new ChangedSetBuilder();
  const reader = new WalSummaryReader({ name, visitor: summaryVisitor(set) });
  reader.push(readFileSync(join(summaries, name)));
  reader.finish();
  return set;
}

/** Compares line by line: whole texts would drown the difference. */
function assertSameText(actual: ChangedSetBuilder, expected: ChangedSetBuilder): void {
  const [ours, theirs] = [actual, expected].map((set) => new Set(set.toText().split('\n')));
  assert.deepEqual([...(ours ?? [])].filter((line) => !theirs?.has(line)).slice(0, 10), []);
  assert.deepEqual([...(theirs ?? [])].filter((line) => !ours?.has(line)).slice(0, 10), []);
}

/** A set that has forgotten a relation. */
function without(set: ChangedSet, forgotten: RelationLocator): ChangedSet {
  return {
    isWholeDatabase: (database) => set.isWholeDatabase(database),
    changes: (relation, fork) =>
      relation.filenode === forgotten.filenode && relation.databaseOid === forgotten.databaseOid
        ? null
        : set.changes(relation, fork),
  };
}

describe('summaries of the log', () => {
  it('hold what pg_wal_summary_contents shows', async () => {
    let bitmaps = 0;
    for (const name of readdirSync(summaries).filter((one) => one.length === 48)) {
      const { timelineId, startLsn: from, endLsn: to } = parseWalSummaryName(name);
      const theirs = await engine.use('postgres', async (client) => {
        const { rows } = await client.query<{ line: string }>(
          `SELECT concat_ws(' ', reltablespace, reldatabase, relfilenode, relforknumber, relblocknumber, is_limit_block) AS line
           FROM pg_wal_summary_contents($1, $2, $3)`,
          [timelineId, formatLsn(from), formatLsn(to)],
        );
        return rows.map(({ line }) => line);
      });
      const ours: string[] = [];
      let fork = '';
      const reader = new WalSummaryReader({
        name,
        visitor: {
          fork: ({ tablespaceOid, databaseOid, filenode }, forkNo, limitBlock) => {
            fork = [tablespaceOid, databaseOid, filenode, forkNo].join(' ');
            if (limitBlock !== null) ours.push(`${fork} ${limitBlock} t`);
          },
          block: (blockNo) => ours.push(`${fork} ${blockNo} f`),
        },
      });
      const bytes = readFileSync(join(summaries, name));
      for (let at = 0; at < bytes.length; at += 1001) reader.push(bytes.subarray(at, at + 1001));
      reader.finish();
      assert.deepEqual(ours.sort(), theirs.sort());
      if (ours.length > 4096) bitmaps++;
    }
    assert.ok(bitmaps > 0, 'a summary with a bitmap');
  });

  it('say what our own reading of the log says', async () => {
    const names = summaryNames();
    assert.ok(names.length >= 5);
    for (const name of names) {
      const end: ChangedSetEnd = { kind: 'lsn', lsn: name.endLsn };
      const { set } = await readChangedSet(
        request(end, { summariesDirectory: null, startLsn: name.startLsn }),
      );
      const file = readdirSync(summaries).find(
        (one) => one.length === 48 && parseWalSummaryName(one).startLsn === name.startLsn,
      );
      assertSameText(set, readSummaryFile(file ?? ''));
    }
  });

  it('say what parts of the log say that are read apart', async () => {
    const end: ChangedSetEnd = { kind: 'lsn', lsn: summaryNames().at(-1)?.endLsn ?? startLsn };
    const whole = await readChangedSet(request(end, { summariesDirectory: null }));
    let parts = 0;
    const apart = await readChangedSet(
      request(end, {
        summariesDirectory: null,
        async addLogChanges(set, options) {
          for (const span of partsOfSpan(options.span, { parts: 3, segmentBytes: options.segmentBytes })) {
            const part = new ChangedSetBuilder();
            await addLogChanges(part, { ...options, span });
            set.addParts(structuredClone(part.toParts()));
            parts += 1;
          }
          return options.span.toLsn;
        },
      }),
    );
    assert.ok(parts > 1, `${parts} parts`);
    assertSameText(apart.set, whole.set);
  });

  it('may be missing, damaged or in part: the log makes up for them', async () => {
    const names = summaryNames().sort((a, b) => (a.startLsn < b.startLsn ? -1 : 1));
    const lsn = names.at(-1)?.endLsn ?? startLsn;
    const whole = await readChangedSet(request({ kind: 'lsn', lsn }));
    assert.deepEqual(whole.readFromLog, []);
    assert.ok(whole.summariesRead >= 4);
    const fromLog = await readChangedSet(request({ kind: 'lsn', lsn }, { summariesDirectory: null }));
    assert.deepEqual(fromLog.readFromLog, [{ timelineId: 1, fromLsn: startLsn, toLsn: lsn }]);
    assertSameText(fromLog.set, whole.set);

    const thinned = join(engine.directory, 'thinned');
    await mkdir(thinned);
    const files = readdirSync(summaries).sort();
    for (const [index, file] of files.entries()) {
      const bytes = readFileSync(join(summaries, file));
      if (index % 4 === 1) continue;
      if (index % 4 === 2) bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
      writeFileSync(join(thinned, file), index % 8 === 3 ? bytes.subarray(0, -5) : bytes);
    }
    const mended = await readChangedSet(request({ kind: 'lsn', lsn }, { summariesDirectory: thinned }));
    assert.ok(mended.readFromLog.length > 0 && mended.summariesRead > 0);
    assertSameText(mended.set, whole.set);

    const noLog = walDirectory(join(engine.directory, 'lib'));
    await assert.rejects(
      readChangedSet(request({ kind: 'lsn', lsn }, { summariesDirectory: thinned, log: noLog })),
      (error) => isAppError(error, 'changes_unknown'),
    );
  });

  it('may reach less far than the log is asked for', async () => {
    const lsn = ((summaryNames().at(-1)?.endLsn ?? startLsn) + 0x10_0000_0000n) as Lsn;
    await assert.rejects(readChangedSet(request({ kind: 'lsn', lsn })), (error) =>
      isAppError(error, 'changes_unknown'),
    );
  });
});

describe(`differing pages are in the changed set (ATOLL_TEST_ROUND=${FIRST_ROUND})`, () => {
  /** All that differs between the copy of the beginning and `directory` must be in the set, and a forgotten relation noticed. */
  function prove(set: ChangedSet, directory: string): void {
    const differing = differingBlocks(copyBefore, directory);
    assert.ok(differing.length > 1000, `${differing.length} pages differ`);
    assert.deepEqual(unknownTo(set, differing), []);
    const relations = new Map(
      differing
        .filter(({ relation }) => !set.isWholeDatabase(relation))
        .map(({ relation }) => [`${relation.databaseOid}/${relation.filenode}`, relation]),
    );
    assert.ok(relations.size > 30, `${relations.size} relations differ`);
    for (const relation of relations.values()) {
      assert.notDeepEqual(unknownTo(without(set, relation), differing), []);
    }
  }

  it('after a crash, of which the log has a tail that nobody summarised', async () => {
    await changeMixed(engine, FIRST_ROUND + 3);
    const flushed = await engine.use('postgres', async (client) => {
      const { rows } = await client.query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn() AS lsn');
      return parseLsn(rows[0]?.lsn ?? '');
    });
    await engine.stop('immediate');
    const { set, endLsn, readFromLog } = await readChangedSet(
      request({ kind: 'end_of_log', atLeastLsn: flushed }),
    );
    assert.ok(endLsn >= flushed);
    assert.equal(readFromLog.length, 1);
    prove(set, engine.dataDirectory);
    await assert.rejects(
      readChangedSet(request({ kind: 'end_of_log', atLeastLsn: (endLsn + 8n) as Lsn })),
      (error) => isAppError(error, 'changes_unknown'),
    );
  });

  it('after recovery, a clean stop, and from the log alone', async () => {
    await engine.start();
    await engine.use('postgres', (client) => client.query('VACUUM'));
    await engine.stop('fast');
    const { checkpointLsn } = controlFile(engine.dataDirectory);
    const end: ChangedSetEnd = { kind: 'end_of_log', atLeastLsn: checkpointLsn };
    const { set, endLsn } = await readChangedSet(request(end));
    assert.ok(endLsn > checkpointLsn);
    prove(set, engine.dataDirectory);
    const fromLog = await readChangedSet(request(end, { summariesDirectory: null }));
    assert.equal(fromLog.endLsn, endLsn);
    assertSameText(fromLog.set, set);
  });

  it('over a change of timelines, even when the old one has lost its last segment', async () => {
    writeFileSync(join(engine.dataDirectory, 'standby.signal'), '');
    await engine.start();
    await engine.use('postgres', (client) => client.query('SELECT pg_promote()'));
    await changeMixed(engine, FIRST_ROUND + 4);
    await engine.use('postgres', (client) => client.query('CHECKPOINT'));
    await summarized();
    await engine.stop('fast');
    const text = readFileSync(join(walFolder, '00000002.history'), 'utf8');
    const history = parseTimelineHistory({ text, timelineId: 2 });
    const end: ChangedSetEnd = {
      kind: 'end_of_log',
      atLeastLsn: controlFile(engine.dataDirectory).checkpointLsn,
    };
    const { set } = await readChangedSet(request(end, { history }));
    prove(set, engine.dataDirectory);

    const forkLsn = history[0]?.endLsn ?? startLsn;
    const forkSegment = (forkLsn / BigInt(SEGMENT_BYTES)).toString(16).toUpperCase().padStart(8, '0');
    const lost = join(walFolder, `0000000100000000${forkSegment}`);
    renameSync(lost, join(engine.directory, 'lost'));
    const fromLog = await readChangedSet(request(end, { history, summariesDirectory: null }));
    assertSameText(fromLog.set, set);
    assert.deepEqual(
      fromLog.readFromLog.map(({ timelineId }) => timelineId),
      [1, 2],
    );
    await rm(join(engine.directory, 'lost'));
  });
});
