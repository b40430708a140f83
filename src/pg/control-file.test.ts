import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { formatLsn } from '../base/index.ts';
import { CONTROL_FILE_BYTES, parseControlFile, withControlFileIdentity } from './control-file.ts';

const golden = (name: string) => readFileSync(join(import.meta.dirname, 'golden', name));
/** The file ends with its checksum; what follows is padding. */
const LAYOUTS = [
  { engineMajor: 17, usedBytes: 292, mockNonceAt: 256 },
  { engineMajor: 18, usedBytes: 296, mockNonceAt: 257 },
];

for (const { engineMajor, usedBytes, mockNonceAt } of LAYOUTS) {
  describe(`pg_control of PostgreSQL ${engineMajor}`, () => {
    const bytes = zstdDecompressSync(golden(`pg_control-${engineMajor}.zst`));
    const shown: unknown = JSON.parse(golden(`pg_control-${engineMajor}.json`).toString('utf8'));

    it('says what the functions of its server say', () => {
      const control = parseControlFile(bytes, { engineMajor });
      assert.deepEqual(
        {
          system_identifier: control.systemIdentifier.toString(),
          pg_control_version: control.engineMajor * 100,
          catalog_version_no: control.catalogVersion,
          checkpoint_lsn: formatLsn(control.checkpointLsn),
          redo_lsn: formatLsn(control.redoLsn),
          timeline_id: control.timelineId,
          prev_timeline_id: control.previousTimelineId,
          next_xid: `${control.nextXid >> 32n}:${control.nextXid & 0xffff_ffffn}`,
          min_recovery_end_lsn: formatLsn(control.minRecoveryLsn),
          min_recovery_end_timeline: control.minRecoveryTimelineId,
          backup_start_lsn: formatLsn(control.backupStartLsn),
          backup_end_lsn: formatLsn(control.backupEndLsn),
          end_of_backup_record_required: control.isBackupEndRequired,
          database_block_size: control.blockBytes,
          bytes_per_wal_segment: control.walSegmentBytes,
          data_page_checksum_version: control.hasDataChecksums ? 1 : 0,
          max_connections: control.maxConnections,
          wal_level: control.walLevel,
          max_worker_processes: control.maxWorkerProcesses,
          max_wal_senders: control.maxWalSenders,
          max_prepared_transactions: control.maxPreparedTransactions,
          max_locks_per_transaction: control.maxLocksPerTransaction,
        },
        shown,
      );
      assert.equal(control.state, 'in_production');
    });

    it('is refused as another version, at another length, and with any other byte', () => {
      const other = engineMajor === 17 ? 18 : 17;
      assert.throws(() => parseControlFile(bytes, { engineMajor: other }), { code: 'format_unsupported' });
      assert.throws(() => parseControlFile(bytes.subarray(1), { engineMajor }), { code: 'data_corrupt' });
      assert.equal(bytes.length, CONTROL_FILE_BYTES);
      fc.assert(
        fc.property(fc.nat(usedBytes - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
          const damaged = Uint8Array.from(bytes);
          damaged[at] = (damaged[at] ?? 0) ^ change;
          const isVersion = at >= 8 && at < 12;
          const code = isVersion ? 'format_unsupported' : 'data_corrupt';
          assert.throws(() => parseControlFile(damaged, { engineMajor }), { code });
        }),
      );
    });

    it('can be given another identity, and nothing else changes', () => {
      const identity = { systemIdentifier: 0x1234_5678_9abc_def0n, mockNonce: new Uint8Array(32).fill(7) };
      const patched = withControlFileIdentity(bytes, identity, { engineMajor });
      const { systemIdentifier, ...rest } = parseControlFile(patched, { engineMajor });
      const { systemIdentifier: former, ...formerRest } = parseControlFile(bytes, { engineMajor });
      assert.deepEqual(rest, formerRest);
      assert.equal(systemIdentifier, identity.systemIdentifier);
      assert.notEqual(former, systemIdentifier);
      assert.deepEqual(patched.subarray(mockNonceAt, mockNonceAt + 32), identity.mockNonce);
      assert.deepEqual(patched.subarray(usedBytes), Uint8Array.from(bytes.subarray(usedBytes)));
    });
  });
}
