import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { after, before, describe, it } from 'node:test';
import { NEVER, TestStore, withTenant } from '../../test/harness/instance-store.ts';
import { DEFAULT_INSTANCE_SETTINGS } from './configuration.ts';
import type { Instance } from './contract.ts';
import { limited, limitsOf } from './process-limits.ts';

const MIB = 1024 * 1024;

describe('limits of processes', { skip: process.platform !== 'linux' && 'the kernel keeps them' }, () => {
  let store: TestStore;
  let instance: Instance;
  before(async () => {
    store = await TestStore.open();
    instance = await store.serve(3);
  });
  after(async () => {
    await store[Symbol.asyncDispose]();
  });

  const restart = async (change: Partial<typeof DEFAULT_INSTANCE_SETTINGS>) => {
    await instance.stop({ mode: 'immediate', signal: NEVER });
    instance.configure({ ...DEFAULT_INSTANCE_SETTINGS, ...change });
    await instance.start({ signal: NEVER });
  };
  const asRoot = (sql: string) =>
    withTenant(
      instance,
      { user: 'root', database: 'defaultdb' },
      async (client) => (await client.query(sql)).rows,
    );
  /** 400 MB in one session, whatever it is set to spare. */
  const GREEDY = "SELECT length(string_agg(repeat('x', 1000000), '')) AS bytes FROM generate_series(1, 400)";

  it('there are none unless they are asked for', async () => {
    assert.deepEqual(await asRoot(GREEDY), [{ bytes: 400_000_000 }]);
    assert.deepEqual(limited(['postgres'], limitsOf(DEFAULT_INSTANCE_SETTINGS, { virtualClusterId: 3 })), [
      'postgres',
    ]);
  });

  it('a session that takes too much fails, and the others go on', async () => {
    await restart({ sessionMemoryBytes: 128 * MIB });
    await withTenant(instance, { user: 'root', database: 'defaultdb' }, async (other) => {
      await assert.rejects(asRoot(GREEDY), { code: '53200' });
      assert.equal((await other.query('SELECT 1 AS one')).rows[0].one, 1);
    });
    // Kept for starts that nobody has configured.
    await store.reopen();
    const found = store.host.get(instance.identity.virtualClusterId);
    assert.ok(found !== undefined);
    instance = found;
    await assert.rejects(asRoot(GREEDY), { code: '53200' });
  });

  it('all processes stand back as far as they are told, or as their share of the processor says', async () => {
    await restart({ niceness: 3, cpuWeight: 21 }); // Without control groups.
    const pids = (await asRoot('SELECT pid FROM pg_stat_activity')) as { pid: number }[];
    assert.ok(pids.length > 3);
    for (const { pid } of pids) {
      try {
        assert.equal(getPriority(pid), Math.min(19, getPriority() + 7));
      } catch (error) {
        if ((error as { code?: string }).code !== 'ERR_SYSTEM_ERROR') throw error; // It has ended meanwhile.
      }
    }
  });

  it('when memory is short the kernel takes a session before anything else', async () => {
    await withTenant(instance, { user: 'root', database: 'defaultdb' }, async (client) => {
      const { rows } = await client.query('SELECT pg_backend_pid() AS pid');
      const scoreOf = (pid: number | 'self') => Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'));
      assert.equal(scoreOf(rows[0].pid), Math.max(500, scoreOf('self')));
      const [, postmaster] =
        /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${rows[0].pid}/status`, 'utf8')) ?? [];
      assert.equal(scoreOf(Number(postmaster)), scoreOf('self'));
    });
  });
});
