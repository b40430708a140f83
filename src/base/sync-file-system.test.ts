import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { scratchDirectory } from '../../test/harness/scratch.ts';
import { isAppError } from './errors.ts';
import { canSyncFileSystems, syncFileSystemOf } from './sync-file-system.ts';

describe('a sync of a file system', () => {
  it('is done wherever it can be, and only there', async () => {
    const can = await canSyncFileSystems();
    assert.equal(await syncFileSystemOf(await scratchDirectory('atoll-sync-')), can);
    if (process.platform !== 'linux') assert.equal(can, false);
  });

  it('fails for what is not there, instead of claiming that it was synced', async () => {
    if (!(await canSyncFileSystems())) return;
    const nowhere = join(await scratchDirectory('atoll-sync-'), 'nowhere');
    await assert.rejects(syncFileSystemOf(nowhere), (error) => isAppError(error, 'io'));
  });
});
