import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { RecordingLogger } from '../../../test/harness/control.ts';
import { systemClock } from '../../daemon/index.ts';
import { clusterKeyOf } from '../../keys/index.ts';
import { createBulkWorker, runWorker } from './bulk-worker.ts';
import { type FoundCell, NOTHING } from './cell.ts';
import { SpareProcess } from './spare-process.ts';

const NO_CELL: FoundCell = { cell: NOTHING, found: [] };
const clock = systemClock();
const dataDirectory = mkdtempSync(join(tmpdir(), 'atoll-spare-'));
for (const folder of ['base', 'global', 'pg_tblspc']) mkdirSync(join(dataDirectory, folder));
after(() => rmSync(dataDirectory, { recursive: true }));

function check(
  spare: SpareProcess | undefined,
  { directory = dataDirectory, signal = new AbortController().signal } = {},
) {
  const rest = { clock, logger: new RecordingLogger(), isLimited: true, onProgress: () => undefined, signal };
  const work = { kind: 'check_directory', request: { dataDirectory: directory } } as const;
  return runWorker(work, { ...rest, ...(spare === undefined ? {} : { spare }) });
}

/** The pid of the process that is kept, which stays kept. */
function keptPid(spare: SpareProcess): number | undefined {
  const worker = spare.take(NO_CELL);
  if (worker !== null) spare.keep(worker, NO_CELL);
  return worker?.pid;
}

describe('the spare process', () => {
  it('does one work after the other, until one fails', async () => {
    const spare = new SpareProcess({ clock });
    assert.equal((await check(spare)).kind, 'directory_checked');
    const first = keptPid(spare);
    assert.ok(first !== undefined);
    assert.equal((await check(spare)).kind, 'directory_checked');
    assert.equal(keptPid(spare), first);
    assert.equal((await check(spare, { directory: join(dataDirectory, 'none') })).kind, 'failed');
    assert.equal(keptPid(spare), undefined);
  });

  it('is replaced when it ended while it waited, whether that is known or not', async () => {
    const spare = new SpareProcess({ clock });
    await check(spare);
    const first = keptPid(spare);
    assert.ok(first !== undefined);
    process.kill(first, 'SIGKILL');
    assert.equal((await check(spare)).kind, 'directory_checked');
    const second = keptPid(spare);
    assert.ok(second !== undefined && second !== first);
    spare.take(NO_CELL)?.end();
  });

  it('does a restore, too, when one is kept', async () => {
    const spare = new SpareProcess({ clock });
    await check(spare);
    assert.ok(keptPid(spare) !== undefined);
    const bulk = createBulkWorker({ clock, logger: new RecordingLogger(), spare });
    const request = {
      collection: { displayUri: 'nodelocal://1/none', directory: join(dataDirectory, 'none') },
      subdirectory: '2026/03/04-050607.00',
      key: clusterKeyOf(new Uint8Array(32)),
      targetDirectory: join(dataDirectory, 'target'),
      uid: null,
    };
    const { signal } = new AbortController();
    await assert.rejects(bulk.materialize(request, { onProgress: () => undefined, signal }), {
      code: 'backup_not_found',
    });
    // It was the one that failed, and is kept no longer.
    assert.equal(keptPid(spare), undefined);
  });

  it('is not made for a work that was cancelled before', async () => {
    const spare = new SpareProcess({ clock });
    await assert.rejects(check(spare, { signal: AbortSignal.abort() }), { code: 'cancelled' });
    assert.equal(keptPid(spare), undefined);
  });
});
