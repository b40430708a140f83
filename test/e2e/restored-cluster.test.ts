/** What a virtual cluster that was restored goes on with: its collection, its schedules; and what it leaves behind: jobs. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createCluster, dropCluster } from '../harness/clusters.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { waitFor } from '../harness/wait.ts';

type Row = Record<string, unknown>;

const COLLECTION = "'nodelocal://1/shop'";
const shop = { cluster: 'shop' } as const;

describe('a virtual cluster that was restored', () => {
  let daemon: TestDaemon;
  before(async () => {
    daemon = await TestDaemon.start();
    await createCluster(daemon, 'shop');
    await daemon.query(['CREATE TABLE kept (a int PRIMARY KEY)', 'INSERT INTO kept VALUES (1)'], shop);
    // Paused before a backup holds them, so that none of them runs by itself; the second one goes on by itself.
    await daemon.query(
      [
        `CREATE SCHEDULE resting FOR BACKUP INTO ${COLLECTION} RECURRING '@yearly' FULL BACKUP ALWAYS`,
        'PAUSE SCHEDULES WITH x AS (SHOW SCHEDULES) SELECT id FROM x',
        `CREATE SCHEDULE yearly FOR BACKUP INTO ${COLLECTION} RECURRING '@yearly' FULL BACKUP ALWAYS
          WITH SCHEDULE OPTIONS ignore_existing_backups`,
        `BACKUP INTO ${COLLECTION}`,
      ],
      shop,
    );
  });
  after(() => daemon[Symbol.asyncDispose]());

  const jobs = (cluster: string): Promise<Row[]> =>
    daemon.query('SELECT job_type, status, error FROM [SHOW JOBS]', { cluster });
  const statuses = async (cluster: string) =>
    (await daemon.query('SELECT label, schedule_status FROM [SHOW SCHEDULES]', { cluster })).map((row) => [
      row['label'],
      row['schedule_status'],
    ]);

  test('beside the one it comes from, shows no job of that one and may not write into its collection', async () => {
    await createCluster(daemon, 'beside');
    await daemon.query(`RESTORE FROM LATEST IN ${COLLECTION}`, { cluster: 'beside' });
    assert.deepEqual(await jobs('beside'), [{ job_type: 'RESTORE', status: 'succeeded', error: null }]);
    assert.deepEqual(await statuses('beside'), [
      ['resting', 'PAUSED'],
      ['yearly', 'PAUSED'],
    ]);
    await assert.rejects(daemon.query(`BACKUP INTO ${COLLECTION}`, { cluster: 'beside' }), {
      code: '55000',
      message: /holds backups of virtual cluster "shop", not of "beside"/,
    });
    await dropCluster(daemon, 'beside');
  });

  test('in place of one that is gone, goes on with its collection and its schedules', async () => {
    await daemon.query(['ALTER VIRTUAL CLUSTER shop STOP SERVICE', 'DROP VIRTUAL CLUSTER shop'], {
      cluster: 'system',
    });
    // The name alone gives no right to it.
    await createCluster(daemon, 'shop');
    const notices: string[] = [];
    const connect = async () => {
      const client = await daemon.connect(shop);
      client.on('notice', ({ message }) => notices.push(String(message)));
      return client;
    };
    const refused = await connect();
    for (const into of ['INTO', 'INTO LATEST IN']) {
      await assert.rejects(refused.query(`BACKUP ${into} ${COLLECTION}`), {
        code: '55000',
        message: /virtual cluster "shop" with id \d+, not of "shop" with id \d+/,
      });
    }
    await refused.end();
    assert.deepEqual(notices, [], 'what was refused is no full backup');
    await daemon.query(`RESTORE FROM LATEST IN ${COLLECTION}`, shop);
    const restored = await jobs('shop');
    assert.deepEqual(restored, [{ job_type: 'RESTORE', status: 'succeeded', error: null }]);
    assert.deepEqual(await statuses('shop'), [
      ['resting', 'PAUSED'],
      ['yearly', 'ACTIVE'],
    ]);

    const client = await connect();
    await client.query('INSERT INTO kept VALUES (2)');
    await client.query(`BACKUP INTO LATEST IN ${COLLECTION}`);
    await client.end();
    assert.match(notices.join('\n'), /this is a full backup: .* the data was restored/);
    const [yearly] = await daemon.query("SELECT id FROM [SHOW SCHEDULES] WHERE label = 'yearly'", shop);
    await daemon.query(`ALTER BACKUP SCHEDULE ${String(yearly?.['id'])} EXECUTE FULL IMMEDIATELY`, shop);
    const [run] = await waitFor('the run of the schedule', async () => {
      const all = await daemon.query(`SHOW JOBS FOR SCHEDULE ${String(yearly?.['id'])}`, shop);
      return all.length === 1 && all.every(({ finished }) => finished !== null) && all;
    });
    assert.equal(run?.['status'], 'succeeded', String(run?.['error']));
    assert.equal((await daemon.query(`SHOW BACKUPS IN ${COLLECTION}`, shop)).length, 3);
  });

  test('keeps the collection when the first one is had back, until it is gone itself', async () => {
    await daemon.query(
      [
        'ALTER VIRTUAL CLUSTER shop STOP SERVICE',
        'ALTER VIRTUAL CLUSTER shop RENAME TO heir',
        'ALTER VIRTUAL CLUSTER shop UNDROP',
        'ALTER VIRTUAL CLUSTER shop START SERVICE SHARED',
      ],
      { cluster: 'system' },
    );
    await assert.rejects(daemon.query(`BACKUP INTO ${COLLECTION}`, shop), { code: '55000' });
    await daemon.query('DROP VIRTUAL CLUSTER heir IMMEDIATE', { cluster: 'system' });
    await daemon.query(`BACKUP INTO ${COLLECTION}`, shop);
  });
});
