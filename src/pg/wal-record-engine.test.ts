/** Our reading of the log against PostgreSQL's own, by pg_walinspect, on everything that a varied workload writes. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BareEngine } from '../../test/harness/bare-engine.ts';
import { changeMixed, createMixed, MIXED_WORKLOAD_SETTINGS } from '../../test/harness/mixed-workload.ts';
import { walBytes, walSegmentFiles } from '../../test/harness/read-wal.ts';
import { formatLsn, formatTimestamp, type Lsn, parseLsn, required } from '../base/index.ts';
import {
  commitTimeOf,
  decodePreparedTransaction,
  decodeRunningTransactions,
  decodeStorageEvent,
  decodeTransactionEnd,
  decodeVisibilitySet,
  decodeXlogEvent,
  FORK,
  GLOBAL_TABLESPACE_OID,
  type RelationLocator,
  type WalRecord,
  WalRecordReader,
} from './index.ts';

const SEGMENT_MIB = 1;
const SEGMENT_BYTES = SEGMENT_MIB * 1024 * 1024;

/** A record as pg_walinspect shows it, and what we compare. */
interface Shown {
  readonly lsn: string;
  readonly end: string;
  readonly prev: string;
  readonly xid: string;
  readonly length: number;
  readonly main: number;
  readonly description: string;
}

const engine = await BareEngine.open({
  walSegmentMiB: SEGMENT_MIB,
  settings: {
    ...MIXED_WORKLOAD_SETTINGS,
    wal_keep_size: '4GB',
    wal_recycle: 'off',
    hot_standby: 'on',
    TimeZone: 'UTC',
    allow_in_place_tablespaces: 'on',
  },
});

before(async () => {
  await engine.start();
  await createMixed(engine);
  for (const round of [0, 1]) await changeMixed(engine, round);
  await changeRarely();
});

after(() => engine[Symbol.asyncDispose]());

/** What the mixed workload does not: compressed images, origins, tablespaces, restore points, backups, big records. */
async function changeRarely(): Promise<void> {
  await engine.use('postgres', async (client) => {
    await client.query(`SET wal_compression = pglz; CHECKPOINT;
      UPDATE account SET filler = 'compressed' WHERE id % 3 = 0; RESET wal_compression`);
    await client.query(`SELECT pg_replication_origin_create('elsewhere')`);
    await client.query(`SELECT pg_replication_origin_session_setup('elsewhere')`);
    await client.query(`BEGIN; SELECT pg_replication_origin_xact_setup('0/ABCDEF', '2024-05-06 07:08:09.123456+00');
      INSERT INTO account (id) VALUES (-1); COMMIT`);
    await client.query(`CREATE TABLESPACE beside LOCATION ''`);
    await client.query('CREATE TABLE elsewhere TABLESPACE beside AS SELECT 1 AS one');
    await client.query('DROP TABLE elsewhere');
    await client.query('DROP TABLESPACE beside');
    await client.query(`SELECT pg_create_restore_point('before the fall')`);
    await client.query(`SELECT pg_backup_start('here', fast => true)`);
    await client.query('SELECT pg_backup_stop(false)');
    await client.query(`SELECT pg_logical_emit_message(true, 'big', repeat('b', 3000000))`);
  });
}

/** Of the oldest segment that initdb left. */
function firstLsn(): Lsn {
  const [first] = walSegmentFiles(join(engine.dataDirectory, 'pg_wal'), SEGMENT_BYTES);
  assert.ok(first !== undefined);
  return first.startLsn;
}

async function flushedLsn(): Promise<Lsn> {
  return engine.use('postgres', async (client) => {
    // A record of its own is flushed with everything before it.
    await client.query(`SELECT pg_logical_emit_message(true, 'flush', 'x')`);
    const { rows } = await client.query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn() AS lsn');
    return parseLsn(rows[0]?.lsn ?? '');
  });
}

function walOf(span: { timelineId: number; beginLsn: Lsn; endLsn: Lsn }): Generator<Uint8Array> {
  return walBytes({ folder: join(engine.dataDirectory, 'pg_wal'), segmentBytes: SEGMENT_BYTES, ...span });
}

function readRecords(
  span: { timelineId: number; beginLsn: Lsn; endLsn: Lsn },
  onRecord: (record: WalRecord) => void,
): WalRecordReader {
  const reader = new WalRecordReader({
    beginLsn: span.beginLsn,
    segmentBytes: SEGMENT_BYTES,
    engineMajor: 18,
    timelineId: span.timelineId,
    onRecord,
  });
  for (const bytes of walOf(span)) reader.push(bytes);
  return reader;
}

async function shownRecords(span: { fromLsn: Lsn; endLsn: Lsn }): Promise<Shown[]> {
  return engine.use('postgres', async (client) => {
    const { rows } = await client.query<Shown>(
      `SELECT start_lsn::text AS lsn, end_lsn::text AS end, prev_lsn::text AS prev, xid::text,
         record_length AS length, main_data_length AS main, resource_manager || ' ' || record_type || ' ' || coalesce(description, '') AS description
       FROM pg_get_wal_records_info($1, $2) ORDER BY start_lsn`,
      [formatLsn(span.fromLsn), formatLsn(span.endLsn)],
    );
    return rows;
  });
}

function show(record: WalRecord): Omit<Shown, 'description'> {
  return {
    lsn: formatLsn(record.lsn),
    end: formatLsn(record.endLsn),
    prev: formatLsn(record.prevLsn),
    xid: String(record.xid),
    length: record.totalBytes,
    main: record.mainData.length,
  };
}

/** Compares all records of the span and, of those that we decode, the words that PostgreSQL finds for them. */
async function compareRecords(span: { timelineId: number; beginLsn: Lsn; endLsn: Lsn }): Promise<string[]> {
  const ours: { shown: Omit<Shown, 'description'>; words: readonly string[] | null }[] = [];
  const reader = readRecords(span, (record) => {
    ours.push({ shown: show(record), words: describeRecord(record) });
  });
  assert.equal(reader.completeLsn, span.endLsn);
  const first = ours[0];
  assert.ok(first !== undefined);
  const theirs = await shownRecords({ fromLsn: parseLsn(first.shown.lsn), endLsn: span.endLsn });
  assert.equal(ours.length, theirs.length);
  const kinds = new Set<string>();
  for (const [index, { description, ...their }] of theirs.entries()) {
    const our = ours[index];
    assert.deepEqual(our?.shown, their, description);
    if (our?.words === null || our?.words === undefined) continue;
    for (const word of our.words) assert.ok(description.includes(word), `${description}: ${word}`);
    kinds.add(description.split(' ').slice(0, 2).join(' '));
  }
  return [...kinds].sort();
}

/** What `description` must contain, by our decoders; null for records that we do not decode. */
function describeRecord(record: WalRecord): string[] | null {
  const end = decodeTransactionEnd(record);
  assert.equal(commitTimeOf(record), end?.kind === 'commit' ? end.time : null);
  if (end !== null) {
    return [
      end.kind === 'commit' ? 'COMMIT' : 'ABORT',
      formatTimestamp(end.time),
      ...(end.isPrepared ? [`_PREPARED ${end.xid}: `] : []),
      ...(end.droppedRelations.length === 0
        ? []
        : [`; rels:${end.droppedRelations.map((relation) => ` ${pathOf(relation, FORK.main)}`).join('')}`]),
      ...(end.subtransactionIds.length === 0
        ? []
        : [`; subxacts:${end.subtransactionIds.map((xid) => ` ${xid}`).join('')}`]),
      ...(end.origin === null
        ? []
        : [`lsn ${formatLsn(end.origin.lsn as Lsn)}, at ${formatTimestamp(end.origin.time)}`]),
    ];
  }
  const prepared = decodePreparedTransaction(record);
  if (prepared !== null) {
    assert.equal(prepared.xid, record.xid);
    return [
      `PREPARE gid ${prepared.gid}: ${formatTimestamp(prepared.time)}`,
      ...(prepared.subtransactionIds.length === 0
        ? []
        : [`; subxacts:${prepared.subtransactionIds.map((xid) => ` ${xid}`).join('')}`]),
    ];
  }
  const running = decodeRunningTransactions(record);
  if (running !== null) {
    const list = (name: string, xids: readonly number[]) =>
      xids.length === 0 ? [] : [`; ${xids.length} ${name}:${xids.map((xid) => ` ${xid}`).join('')}`];
    return [
      `nextXid ${running.nextXid} latestCompletedXid ${running.latestCompletedXid} oldestRunningXid ${running.oldestRunningXid}`,
      ...list('xacts', running.xids),
      ...list('subxacts', running.subtransactionIds),
    ];
  }
  const visible = decodeVisibilitySet(record);
  if (visible !== null) {
    const flags =
      (visible.isAllVisible ? 1 : 0) | (visible.isAllFrozen ? 2 : 0) | (visible.isOfCatalog ? 4 : 0);
    return [`snapshotConflictHorizon: ${visible.snapshotConflictXid}, flags: 0x0${flags}`];
  }
  return describeStorage(record) ?? describeXlog(record);
}

function describeStorage(record: WalRecord): string[] | null {
  const event = decodeStorageEvent(record);
  switch (event?.kind) {
    case undefined:
      return null;
    case 'fork_created':
      return [`Storage CREATE ${pathOf(event.relation, event.fork)}`];
    case 'relation_truncated': {
      const bit = new Map<number, number>([
        [FORK.main, 1],
        [FORK.vm, 2],
        [FORK.fsm, 4],
      ]);
      const flags = event.forks.reduce((sum, fork) => sum + (bit.get(fork) ?? 0), 0);
      return [`TRUNCATE ${pathOf(event.relation, FORK.main)} to ${event.blocks} blocks flags ${flags}`];
    }
    case 'database_created': {
      const from = event.copiedFrom;
      const target = `${event.tablespaceOid}/${event.databaseOid}`;
      return from === null
        ? [`CREATE_WAL_LOG create dir ${target}`]
        : [`CREATE_FILE_COPY copy dir ${from.tablespaceOid}/${from.databaseOid} to ${target}`];
    }
    case 'database_dropped':
      return [`DROP dir ${event.tablespaceOids.map((oid) => `${oid}/${event.databaseOid}`).join(' ')}`];
    case 'tablespace_created':
      return [`CREATE ${event.tablespaceOid} "${event.path}"`];
    case 'tablespace_dropped':
      return [`DROP ${event.tablespaceOid}`];
  }
}

function describeXlog(record: WalRecord): string[] | null {
  const event = decodeXlogEvent(record);
  switch (event?.kind) {
    case undefined:
      return null;
    case 'checkpoint':
      return [
        event.isShutdown ? 'CHECKPOINT_SHUTDOWN' : 'CHECKPOINT_ONLINE',
        `redo ${formatLsn(event.redoLsn)}; tli ${event.timelineId}; prev tli ${event.previousTimelineId}; fpw true; wal_level ${event.walLevel}; xid ${event.nextXid >> 32n}:${event.nextXid & 0xffff_ffffn};`,
      ];
    case 'checkpoint_redo':
      return [`CHECKPOINT_REDO wal_level ${event.walLevel}`];
    case 'end_of_recovery':
      return [
        `tli ${event.timelineId}; prev tli ${event.previousTimelineId}; time ${formatTimestamp(event.time)}; wal_level ${event.walLevel}`,
      ];
    case 'backup_end':
      return [`BACKUP_END ${formatLsn(event.startLsn)}`];
    case 'parameter_change':
      return [
        `max_connections=${event.maxConnections} max_worker_processes=${event.maxWorkerProcesses} max_wal_senders=${event.maxWalSenders} max_prepared_xacts=${event.maxPreparedTransactions} max_locks_per_xact=${event.maxLocksPerTransaction} wal_level=${event.walLevel} wal_log_hints=${event.logsHints ? 'on' : 'off'} track_commit_timestamp=${event.tracksCommitTimes ? 'on' : 'off'}`,
      ];
    case 'restore_point':
      return [`RESTORE_POINT ${event.name}`];
    case 'overwrite':
      return [`lsn ${formatLsn(event.overwrittenLsn)}; time ${formatTimestamp(event.time)}`];
    case 'switch':
      return ['XLOG SWITCH'];
    case 'page_images':
      return [event.isForHint ? 'FPI_FOR_HINT' : 'FPI'];
  }
}

function pathOf({ tablespaceOid, databaseOid, filenode }: RelationLocator, fork: number): string {
  const suffix = ['', '_fsm', '_vm', '_init'][fork] ?? '';
  if (tablespaceOid === GLOBAL_TABLESPACE_OID) return `global/${filenode}${suffix}`;
  if (tablespaceOid === 1663) return `base/${databaseOid}/${filenode}${suffix}`;
  return `pg_tblspc/${tablespaceOid}/PG_18_202506291/${databaseOid}/${filenode}${suffix}`;
}

describe('records of the log', () => {
  it('are those that PostgreSQL finds, and say what it says', async () => {
    const kinds = await compareRecords({ timelineId: 1, beginLsn: firstLsn(), endLsn: await flushedLsn() });
    assert.deepEqual(kinds, [
      'Database CREATE_FILE_COPY',
      'Database CREATE_WAL_LOG',
      'Database DROP',
      'Heap2 VISIBLE',
      'Standby RUNNING_XACTS',
      'Storage CREATE',
      'Storage TRUNCATE',
      'Tablespace CREATE',
      'Tablespace DROP',
      'Transaction ABORT',
      'Transaction ABORT_PREPARED',
      'Transaction COMMIT',
      'Transaction COMMIT_PREPARED',
      'Transaction PREPARE',
      'XLOG BACKUP_END',
      'XLOG CHECKPOINT_ONLINE',
      'XLOG CHECKPOINT_REDO',
      'XLOG CHECKPOINT_SHUTDOWN',
      'XLOG FPI',
      'XLOG FPI_FOR_HINT',
      'XLOG PARAMETER_CHANGE',
      'XLOG RESTORE_POINT',
      'XLOG SWITCH',
    ]);
  });

  it('refer to the pages that PostgreSQL finds', async () => {
    const endLsn = await flushedLsn();
    const ours: string[] = [];
    let first = null as Lsn | null;
    readRecords({ timelineId: 1, beginLsn: firstLsn(), endLsn }, (record) => {
      first ??= record.lsn;
      for (const block of record.blocks) {
        const place = [block.tablespaceOid, block.databaseOid, block.filenode, block.fork, block.blockNo];
        const sizes = [block.dataBytes, block.imageBytes, block.appliesImage];
        ours.push([formatLsn(record.lsn), block.blockId, ...place, ...sizes].join(' '));
      }
    });
    const theirs = await engine.use('postgres', async (client) => {
      const { rows } = await client.query<{ line: string }>(
        `SELECT concat_ws(' ', start_lsn, block_id, reltablespace, reldatabase, relfilenode, relforknumber, relblocknumber,
           block_data_length, coalesce(block_fpi_length, 0), coalesce('APPLY' = ANY (block_fpi_info), false)::text) AS line
         FROM pg_get_wal_block_info($1, $2, false) ORDER BY start_lsn, block_id`,
        [formatLsn(required(first, 'first record')), formatLsn(endLsn)],
      );
      return rows.map(({ line }) => line.replace(/ t$/, ' true').replace(/ f$/, ' false'));
    });
    assert.ok(theirs.length > 10_000);
    assert.deepEqual(ours, theirs);
  });

  it('name the transactions that were prepared', async () => {
    const gids: (string | null)[] = [];
    readRecords({ timelineId: 1, beginLsn: firstLsn(), endLsn: await flushedLsn() }, (record) => {
      const end = decodeTransactionEnd(record);
      if (end?.isPrepared === true) gids.push(end.gid);
    });
    assert.deepEqual(gids, ['first 0', 'second 0', 'first 10000', 'second 10000']);
  });

  it('are the same wherever the bytes are cut', async () => {
    const endLsn = await flushedLsn();
    const beginLsn = (endLsn - (endLsn % BigInt(SEGMENT_BYTES)) - BigInt(4 * SEGMENT_BYTES)) as Lsn;
    const span = { timelineId: 1, beginLsn, endLsn };
    const digest = (cutBytes: number) => {
      const lines: string[] = [];
      const onRecord = (record: WalRecord) => lines.push(`${record.lsn} ${record.endLsn} ${record.xid}`);
      const reader = new WalRecordReader({ ...span, segmentBytes: SEGMENT_BYTES, engineMajor: 18, onRecord });
      for (const bytes of walOf(span)) {
        for (let at = 0; at < bytes.length; at += cutBytes) reader.push(bytes.subarray(at, at + cutBytes));
      }
      return lines;
    };
    const whole = digest(SEGMENT_BYTES);
    assert.ok(whole.length > 1000);
    for (const cutBytes of [1, 7, 24, 8191, 8192, 100_000]) assert.deepEqual(digest(cutBytes), whole);
  });

  it('are found from the middle of a record on', async () => {
    const endLsn = await flushedLsn();
    const all: Lsn[] = [];
    readRecords({ timelineId: 1, beginLsn: firstLsn(), endLsn }, (record) => all.push(record.lsn));
    for (const file of walSegmentFiles(join(engine.dataDirectory, 'pg_wal'), SEGMENT_BYTES)) {
      if (file.startLsn >= endLsn) continue;
      let first: Lsn | null = null;
      readRecords({ timelineId: 1, beginLsn: file.startLsn, endLsn }, (record) => (first ??= record.lsn));
      assert.equal(first, all.find((lsn) => lsn >= file.startLsn) ?? null);
    }
  });
});

describe('the log after a crash', () => {
  it('ends where PostgreSQL goes on', async () => {
    await engine.use('postgres', (client) => client.query('INSERT INTO account (id) VALUES (-2)'));
    const flushed = await flushedLsn();
    await engine.stop('immediate');
    const beginLsn = (flushed - (flushed % BigInt(SEGMENT_BYTES))) as Lsn;
    const reader = new WalRecordReader({
      beginLsn,
      segmentBytes: SEGMENT_BYTES,
      engineMajor: 18,
      timelineId: 1,
      atDamage: 'end',
      onRecord: () => undefined,
    });
    const noEnd = 0xffff_ffff_ffff_ffffn as Lsn;
    for (const bytes of walOf({ timelineId: 1, beginLsn, endLsn: noEnd })) reader.push(bytes);
    const endLsn = reader.end?.lsn;
    assert.ok(endLsn !== undefined && endLsn >= flushed);
    await engine.start();
    const records = await shownRecords({ fromLsn: endLsn, endLsn: await flushedLsn() });
    assert.equal(records[0]?.lsn, formatLsn(endLsn));
  });

  it('passes over a record whose end was lost', async () => {
    const before = await flushedLsn();
    await engine.use('postgres', (client) =>
      client.query(`SELECT pg_logical_emit_message(false, 'lost', repeat('l', ${3 * SEGMENT_BYTES}), true)`),
    );
    await engine.stop('immediate');
    const beginLsn = (before - (before % BigInt(SEGMENT_BYTES))) as Lsn;
    const folder = join(engine.dataDirectory, 'pg_wal');
    for (const file of walSegmentFiles(folder, SEGMENT_BYTES)) {
      if (file.startLsn > beginLsn + BigInt(SEGMENT_BYTES)) await rm(file.path);
    }
    await engine.start();
    const endLsn = await flushedLsn();
    const kinds = await compareRecords({ timelineId: 1, beginLsn, endLsn });
    assert.ok(kinds.includes('XLOG OVERWRITE_CONTRECORD'), kinds.join());
    // Begun behind the lost record's beginning, it is read as well.
    const behind = (beginLsn + BigInt(SEGMENT_BYTES)) as Lsn;
    await compareRecords({ timelineId: 1, beginLsn: behind, endLsn });
  });

  it('goes on in the next timeline', async () => {
    await engine.stop('fast');
    await writeFile(join(engine.dataDirectory, 'standby.signal'), '');
    await engine.start();
    await engine.use('postgres', (client) => client.query('SELECT pg_promote()'));
    await changeMixed(engine, 2);
    const endLsn = await flushedLsn();
    const files = walSegmentFiles(join(engine.dataDirectory, 'pg_wal'), SEGMENT_BYTES);
    const first = files.find((file) => file.timelineId === 2);
    assert.ok(first !== undefined);
    const span = { timelineId: 2, beginLsn: first.startLsn, endLsn };
    const kinds = await compareRecords(span);
    assert.ok(kinds.includes('XLOG END_OF_RECOVERY'), kinds.join());
    assert.throws(() => {
      const options = { ...span, segmentBytes: SEGMENT_BYTES, engineMajor: 18, timelineId: 1 };
      const reader = new WalRecordReader({ ...options, onRecord: () => undefined });
      for (const bytes of walOf(span)) reader.push(bytes);
    }, /timeline 2/);
  });
});
