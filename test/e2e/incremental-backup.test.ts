import assert from 'node:assert/strict';
import { cp, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createCluster, digestCluster, dropCluster } from '../harness/clusters.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';

const IN = "IN 'nodelocal://1/chain'";

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

describe('incremental backups', () => {
  let daemon: TestDaemon;
  const main = (sql: string | readonly string[]) => daemon.query(sql, { cluster: 'main' });
  /** Content after the full backup, and after each incremental one. */
  const states: Awaited<ReturnType<typeof digestCluster>>[] = [];

  before(async () => {
    daemon = await TestDaemon.start();
    await main([
      'CREATE TABLE big (id int PRIMARY KEY, note text)',
      'INSERT INTO big SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 100000) n',
      'CREATE TABLE small (id int PRIMARY KEY)',
      'VACUUM (FREEZE, ANALYZE)',
    ]);
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  async function storedBytes(below: string): Promise<number> {
    const folder = join(daemon.store, 'extern/chain', below);
    const sizes = (await filesBelow(folder)).map(async (name) => (await stat(join(folder, name))).size);
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  }

  test('need a full backup to build on', async () => {
    await assert.rejects(main(`BACKUP INTO LATEST ${IN}`), {
      code: '42704',
      message: /path does not contain a completed latest backup/,
    });
    await assert.rejects(main(`BACKUP INTO 'weekly' ${IN}`), {
      code: '42704',
      message: /No full backup exists in "weekly" to append an incremental backup to/,
    });
    assert.deepEqual(await main(`SHOW BACKUPS ${IN}`), []);
  });

  test('hold what has changed, below their full backup', async () => {
    await main("BACKUP INTO 'nodelocal://1/chain'");
    states.push(await digestCluster(daemon, 'main'));
    await main([
      'INSERT INTO small SELECT generate_series(1, 100)',
      'UPDATE big SET note = note WHERE id < 50',
    ]);
    const [appended] = await main(`BACKUP INTO LATEST ${IN}`);
    assert.equal(appended?.['status'], 'succeeded');
    states.push(await digestCluster(daemon, 'main'));
    await main(['DELETE FROM small WHERE id % 2 = 0', 'CREATE TABLE later AS SELECT 1 AS a']);
    const [{ path } = {}] = await main(`SHOW BACKUPS ${IN}`);
    await main(`BACKUP INTO '${String(path)}' ${IN}`);
    states.push(await digestCluster(daemon, 'main'));

    const full = String(path).slice(1);
    assert.equal((await main(`SHOW BACKUPS ${IN}`)).length, 1, 'only full backups are listed');
    const manifests = (await filesBelow(join(daemon.store, 'extern/chain/incrementals', full))).filter(
      (name) => /^\d{8}\/\d{6}\.\d\d\/BACKUP_MANIFEST$/.test(name),
    );
    assert.equal(manifests.length, 2, manifests.join());
    const ratio = (await storedBytes(join('incrementals', full))) / (await storedBytes(full));
    assert.ok(ratio < 0.8, `two incremental backups take ${ratio} of the full one`);
  });

  test('are shown one after the other, each beginning where the one before ended', async () => {
    const rows = await main(`SELECT * FROM [SHOW BACKUP FROM LATEST ${IN}] WHERE object_name = 'small'`);
    assert.deepEqual(
      rows.map(({ backup_type, rows: count }) => [backup_type, Number(count)]),
      [
        ['full', 0],
        ['incremental', 100],
        ['incremental', 50],
      ],
    );
    assert.equal(rows[0]?.['start_time'], null);
    assert.deepEqual(rows[1]?.['start_time'], rows[0]?.['end_time']);
    assert.deepEqual(rows[2]?.['start_time'], rows[1]?.['end_time']);
    assert.ok((await main(`SHOW BACKUP FROM LATEST ${IN} WITH check_files`)).length > 0);
  });

  test('are restored to the end of the chain, and to the end of each', async () => {
    const ends = await main(
      `SELECT DISTINCT end_time::text AS at FROM [SHOW BACKUP FROM LATEST ${IN}] ORDER BY at`,
    );
    assert.equal(ends.length, 3);
    for (const [index, clause] of [
      ...ends.map(({ at }) => ` AS OF SYSTEM TIME '${String(at)}'`),
      '',
    ].entries()) {
      const name = `copy${index}`;
      await createCluster(daemon, name);
      await daemon.query(`RESTORE FROM LATEST ${IN}${clause}`, { cluster: name });
      assert.deepEqual(await digestCluster(daemon, name), states[Math.min(index, 2)], clause);
      await dropCluster(daemon, name);
    }
    await createCluster(daemon, 'between');
    await assert.rejects(
      daemon.query(`RESTORE FROM LATEST ${IN} AS OF SYSTEM TIME '-1us'`, { cluster: 'between' }),
      { code: '22023', message: /nearest backup time\(s\) \d{4}-/ },
    );
    await dropCluster(daemon, 'between');
  });

  test('of which one is gone are never restored to something else', async () => {
    const extern = (...names: string[]) => join(daemon.store, 'extern', ...names);
    await cp(extern('chain'), extern('gap'), { recursive: true });
    const ends = await main(
      `SELECT DISTINCT end_time::text AS at FROM [SHOW BACKUP FROM LATEST ${IN}] ORDER BY at`,
    );
    const manifests = (await filesBelow(extern('gap/incrementals'))).filter((name) =>
      name.endsWith('/BACKUP_MANIFEST'),
    );
    const [first = ''] = manifests.toSorted();
    await rm(extern('gap/incrementals', first, '..'), { recursive: true });
    await createCluster(daemon, 'victim');
    const restore = (asOf = '') =>
      daemon.query(`RESTORE FROM LATEST IN 'nodelocal://1/gap'${asOf}`, { cluster: 'victim' });
    await assert.rejects(restore(` AS OF SYSTEM TIME '${String(ends[1]?.['at'])}'`), { code: '22023' });
    // The newest one names all that it needs: it is whole without the one that is gone, or refused.
    const outcome = await restore().then(() => 'restored', codeOf);
    if (outcome === 'restored') assert.deepEqual(await digestCluster(daemon, 'victim'), states[2]);
    else assert.equal(outcome, 'XX001');
    await dropCluster(daemon, 'victim');

    // Without its full backup a chain is none.
    const [head = ''] = (await filesBelow(extern('gap'))).filter((name) =>
      /^\d{4}\/.*\/BACKUP_MANIFEST$/.test(name),
    );
    await rm(extern('gap', head));
    assert.deepEqual(await main("SHOW BACKUPS IN 'nodelocal://1/gap'"), []);
    await createCluster(daemon, 'victim');
    await assert.rejects(restore(), { code: '42704' });
    const headless = head.replace('/BACKUP_MANIFEST', '');
    await assert.rejects(
      daemon.query(`RESTORE FROM '${headless}' IN 'nodelocal://1/gap'`, { cluster: 'victim' }),
      { code: '42704', message: /no completed backup in/ },
    );
    await dropCluster(daemon, 'victim');
  });

  test('of one chain are taken one at a time', async () => {
    await main("BACKUP INTO 'nodelocal://1/busy'");
    const append = () => main("BACKUP INTO LATEST IN 'nodelocal://1/busy'").then(() => 'done', codeOf);
    const outcomes = await Promise.all([append(), append(), append()]);
    assert.deepEqual(outcomes.toSorted(), ['55006', '55006', 'done']);
    const ends = await main(
      "SELECT DISTINCT start_time, end_time FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/busy']",
    );
    assert.equal(ends.length, 2);
  });

  test('are full ones after the data was restored: what changed since is not known', async () => {
    await createCluster(daemon, 'heir');
    await daemon.query(`RESTORE FROM LATEST ${IN}`, { cluster: 'heir' });
    await daemon.query("BACKUP INTO 'nodelocal://1/heir'", { cluster: 'heir' });
    await daemon.query("BACKUP INTO LATEST IN 'nodelocal://1/heir'", { cluster: 'heir' });
    const [{ path } = {}] = await daemon.query("SHOW BACKUPS IN 'nodelocal://1/heir'", { cluster: 'heir' });
    const layers = await daemon.query(
      "SELECT DISTINCT backup_type FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/heir'] ORDER BY 1",
      { cluster: 'heir' },
    );
    assert.deepEqual(layers, [{ backup_type: 'full' }, { backup_type: 'incremental' }]);

    await dropCluster(daemon, 'heir');
    await createCluster(daemon, 'main2');
    await assert.rejects(
      daemon.query(`BACKUP INTO '${String(path)}' IN 'nodelocal://1/heir'`, { cluster: 'main2' }),
      { code: '55000' },
    );
  });
});
