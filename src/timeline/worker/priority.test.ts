import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { getPriority } from 'node:os';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { waitFor } from '../../../test/harness/wait.ts';
import { BULK_GROUP_VARIABLE } from './bulk-group.ts';
import { BULK_NICENESS, EQUAL_SESSIONS_VARIABLE } from './priority.ts';
import { WorkerProcess } from './worker-process.ts';

/** Of what `stat` says of a process, after its name in brackets: state, parent, group, session. */
const sessionOf = (pid: number) =>
  Number(
    readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ')[3],
  );

describe('a bulk worker', { skip: process.platform !== 'linux' }, () => {
  it('is of low priority in all its threads, and as a session of its own', async () => {
    delete process.env[EQUAL_SESSIONS_VARIABLE];
    const worker = new WorkerProcess();
    const { pid } = worker;
    assert.ok(pid !== undefined);
    try {
      assert.equal(sessionOf(pid), pid);
      await waitFor('all threads to be lowered', () =>
        readdirSync(`/proc/${pid}/task`).every((thread) => getPriority(Number(thread)) === BULK_NICENESS),
      );
      const group = `/proc/${pid}/autogroup`;
      // Without such groups niceness counts against everybody.
      if (!existsSync(group) || readFileSync(group, 'latin1') === '') return;
      await waitFor('its session to be lowered', () =>
        readFileSync(group, 'latin1').trim().endsWith(` nice ${BULK_NICENESS}`),
      );
    } finally {
      worker.end();
      await waitFor('the worker to end', () => !existsSync(`/proc/${pid}`));
    }
  });

  it('is in the group of bulk work as soon as it is there', async () => {
    // Standing for one of the kernel's folders.
    const group = mkdtempSync(join(tmpdir(), 'atoll-bulk-'));
    process.env[BULK_GROUP_VARIABLE] = group;
    const worker = new WorkerProcess();
    try {
      assert.equal(readFileSync(join(group, 'cgroup.procs'), 'latin1'), String(worker.pid));
    } finally {
      delete process.env[BULK_GROUP_VARIABLE];
      worker.end();
      await waitFor('the worker to end', () => !existsSync(`/proc/${worker.pid}`));
      rmSync(group, { recursive: true });
    }
  });

  it('starts where its group cannot be entered', async () => {
    process.env[BULK_GROUP_VARIABLE] = '/nowhere';
    const worker = new WorkerProcess();
    delete process.env[BULK_GROUP_VARIABLE];
    assert.ok(worker.pid !== undefined);
    worker.end();
    await waitFor('the worker to end', () => !existsSync(`/proc/${worker.pid}`));
  });
});
