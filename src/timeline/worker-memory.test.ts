import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BackupRig } from '../../test/harness/backup-rig.ts';
import { NEVER } from '../../test/harness/instance-store.ts';
import { growSparsely } from '../../test/harness/sparse.ts';
import { peakMemoryOfWorkers } from '../../bench/processes.ts';

const MIB = 2 ** 20;
/** A terabyte takes minutes: `npm run bench sparse` measures that. */
const GIBIBYTES = Number(process.env['ATOLL_TEST_SPARSE_GIB'] ?? 2);
/** What a capture holds of every 512 KiB of data: its frame in the tables of the manifest, as they grow, are written and are read again. */
const BYTES_PER_FRAME = 300;
const FRAMES = (GIBIBYTES * 1024 * MIB) / (512 * 1024);
/** Of a process with two threads; each further one takes what decision 0015 says. */
const FIXED_BYTES = 400 * MIB;

describe(`a worker that captures ${GIBIBYTES} GiB`, { skip: process.platform !== 'linux' }, () => {
  it('holds frames and tables, never the data', async () => {
    await using rig = await BackupRig.open();
    await growSparsely(rig.source, { gibibytes: GIBIBYTES });
    let base = '';
    const full = await peakMemoryOfWorkers(process.pid, async () => {
      const captured = await rig.captureBase(null);
      assert.ok(captured.base.bytes >= BigInt(GIBIBYTES * 1024 * MIB));
      base = captured.base.subdirectory;
    });
    const incremental = await peakMemoryOfWorkers(process.pid, async () => {
      const captured = await rig.captureBase(base);
      assert.ok(captured.pagesRead < 10_000, `${captured.pagesRead} pages read`);
    });
    const bytesMax = FIXED_BYTES + FRAMES * BYTES_PER_FRAME;
    assert.ok(full < bytesMax, `full capture: ${Math.round(full / MIB)} MiB`);
    assert.ok(incremental < bytesMax, `incremental capture: ${Math.round(incremental / MIB)} MiB`);
    await rig.source.stop({ mode: 'immediate', signal: NEVER });
  });
});
