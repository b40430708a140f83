import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError, type Lsn, parseLsn } from '../base/index.ts';
import { parseBackupLabel } from './backup-label.ts';
import { firstBlockOf, isTemporaryRelationName, parseRelationPath } from './relation-path.ts';
import {
  formatWalSegmentName,
  isWalSegmentBytes,
  parseWalPageHeader,
  parseWalSegmentName,
  walSegmentNoOf,
  walSegmentStart,
} from './wal-segment.ts';

const SEGMENT_BYTES = 16 * 1024 * 1024;

test('log segments are named as PostgreSQL names them', () => {
  const lsn = parseLsn('16/B374D848');
  const segmentNo = walSegmentNoOf({ lsn, segmentBytes: SEGMENT_BYTES });
  assert.equal(
    formatWalSegmentName({ timelineId: 3, segmentNo, segmentBytes: SEGMENT_BYTES }),
    '0000000300000016000000B3',
  );
  assert.equal(walSegmentStart({ segmentNo, segmentBytes: SEGMENT_BYTES }), parseLsn('16/B3000000'));
});

test('log segment names are read back', () => {
  fc.assert(
    fc.property(
      fc.nat(0xffff_ffff),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.integer({ min: 20, max: 30 }),
      (timelineId, lsn, bits) => {
        const segmentBytes = 2 ** bits;
        const segment = {
          timelineId,
          segmentNo: walSegmentNoOf({ lsn: lsn as Lsn, segmentBytes }),
          segmentBytes,
        };
        assert.deepEqual(parseWalSegmentName({ name: formatWalSegmentName(segment), segmentBytes }), segment);
      },
    ),
  );
  for (const name of [
    '',
    '00000001000000000000000',
    '000000010000000000000100',
    '00000001000000000000000g',
    '00000002.history',
  ]) {
    assert.throws(
      () => parseWalSegmentName({ name, segmentBytes: SEGMENT_BYTES }),
      (error) => isAppError(error, 'name_invalid'),
    );
  }
  assert.ok(isWalSegmentBytes(SEGMENT_BYTES));
  for (const size of [0, 1.5, 3 * 1024 * 1024, 2 ** 31]) assert.ok(!isWalSegmentBytes(size));
});

test('log page headers tell their place', () => {
  const page = Buffer.alloc(40);
  page.writeUInt16LE(0xd118, 0);
  page.writeUInt16LE(0x0006, 2);
  page.writeUInt32LE(5, 4);
  page.writeBigUInt64LE(parseLsn('0/37000000'), 8);
  page.writeBigUInt64LE(7_000_000_000_000_000_001n, 24);
  page.writeUInt32LE(SEGMENT_BYTES, 32);
  page.writeUInt32LE(8192, 36);
  const long = { systemIdentifier: 7_000_000_000_000_000_001n, segmentBytes: SEGMENT_BYTES, pageBytes: 8192 };
  const expected = { magic: 0xd118, timelineId: 5, pageStart: parseLsn('0/37000000'), long };
  assert.deepEqual(parseWalPageHeader(page), expected);
  page.writeUInt16LE(0x0004, 2);
  assert.deepEqual(parseWalPageHeader(page), { ...expected, long: null });
  assert.equal(parseWalPageHeader(page.subarray(0, 23)), null);
  assert.equal(parseWalPageHeader(Buffer.alloc(40)), null);
});

test('relation files are told from all others', () => {
  assert.deepEqual(parseRelationPath('base/16384/16400_vm.1'), {
    databaseOid: 16384,
    filenode: 16400,
    fork: 'vm',
    segmentNo: 1,
  });
  assert.deepEqual(parseRelationPath('global/1262'), {
    databaseOid: 0,
    filenode: 1262,
    fork: 'main',
    segmentNo: 0,
  });
  assert.equal(firstBlockOf({ databaseOid: 1, filenode: 1, fork: 'main', segmentNo: 2 }), 262144);
  const others = [
    'global/pg_control',
    'base/1/PG_VERSION',
    'base/1/pg_filenode.map',
    'base/1/t3_16400',
    'base/16400',
    'base/1/16400_x',
    'base/1/016400',
    'pg_xact/0000',
    'base/1/16400.0',
    'base/1/16400/x',
    'x/base/1/16400',
  ];
  for (const path of others) assert.equal(parseRelationPath(path), null, path);
  assert.ok(isTemporaryRelationName('t3_16400') && isTemporaryRelationName('t3_16400_fsm.1'));
  assert.ok(!isTemporaryRelationName('16400') && !isTemporaryRelationName('t_16400'));
});

test('backup labels give what recovery needs, or are refused', () => {
  const text = [
    'START WAL LOCATION: 0/2000028 (file 000000010000000000000002)',
    'CHECKPOINT LOCATION: 0/2000080',
    'BACKUP METHOD: streamed',
    'BACKUP FROM: primary',
    'START TIME: 2026-01-02 03:04:05 UTC',
    'LABEL: a b: c',
    'START TIMELINE: 1',
    '',
  ];
  assert.deepEqual(parseBackupLabel(text.join('\n')), {
    startLsn: parseLsn('0/2000028'),
    startSegmentName: '000000010000000000000002',
    checkpointLsn: parseLsn('0/2000080'),
    timelineId: 1,
    label: 'a b: c',
  });
  for (const missing of [0, 1, 5, 6]) {
    const cut = text.filter((_, index) => index !== missing).join('\n');
    assert.throws(
      () => parseBackupLabel(cut),
      (error) => isAppError(error, 'data_corrupt'),
    );
  }
});
