import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestDaemon } from '../harness/daemon.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system', database: 'defaultdb' };

describe('moments at which nothing happened', () => {
  let daemon: TestDaemon;
  let idle = '';
  let branches = 0;

  const system = (sql: string) => daemon.query(sql, SYSTEM);
  const inside = (sql: string, cluster = 'main') => daemon.query(sql, { cluster });

  /** What there was, as a branch has it. */
  async function diaryAt(moment: string): Promise<string> {
    const name = `look-${branches++}`;
    await system(`CREATE VIRTUAL CLUSTER ${name} FROM VIRTUAL CLUSTER main AS OF SYSTEM TIME '${moment}'`);
    await system(`ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`);
    const [row] = await inside(`SELECT string_agg(what, ',' ORDER BY what) AS all FROM diary`, name);
    await system(`ALTER VIRTUAL CLUSTER ${name} STOP SERVICE`);
    await system(`DROP VIRTUAL CLUSTER ${name} IMMEDIATE`);
    return String(row?.['all']);
  }

  before(async () => {
    daemon = await TestDaemon.start();
    await waitFor('a base', async () => {
      const rows = await system(`SELECT kind FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER main]`);
      return rows.some(({ kind }) => kind === 'base');
    });
    await inside('CREATE TABLE diary (what text)');
    const [row] = await inside(`INSERT INTO diary VALUES ('a') RETURNING clock_timestamp() AS at`);
    const at = row?.['at'];
    assert.ok(at instanceof Date);
    // Nobody commits anything, and yet time goes on.
    idle = await waitFor('idle time to be known', async () => {
      const [window] = await system(
        `SELECT end_time, end_time::text AS text FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER main] WHERE kind = 'window'`,
      );
      const end = window?.['end_time'];
      return end instanceof Date && end.getTime() > at.getTime() + 1000 && String(window?.['text']);
    });
  });

  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  it('can be had while nothing has happened since', async () => {
    assert.equal(await diaryAt(idle), 'a');
  });

  it('mean the same when work has gone on, and after another daemon has taken over', async () => {
    await inside(`INSERT INTO diary VALUES ('b')`);
    assert.equal(await diaryAt(idle), 'a');
    await daemon.kill();
    await daemon.startAgain();
    assert.equal(await diaryAt(idle), 'a');
    assert.equal(await diaryAt('0s'), 'a,b');
  });

  it('can be had of the time since the service was stopped', async () => {
    await inside(`INSERT INTO diary VALUES ('c')`);
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    assert.equal(await diaryAt('0s'), 'a,b,c');
    assert.equal(await diaryAt(idle), 'a');
  });
});
