import assert from 'node:assert/strict';
import { cp, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import { createCluster, digestCluster, dropCluster } from '../harness/clusters.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';
import { waitFor } from '../harness/wait.ts';

const PLACES =
  "('nodelocal://1/home?COCKROACH_LOCALITY=default', 'nodelocal://1/eu?COCKROACH_LOCALITY=region%3Deu', 'nodelocal://1/us?COCKROACH_LOCALITY=region%3Dus')";

describe('a collection in several places', () => {
  let daemon: TestDaemon;
  const main = (sql: string | readonly string[]) => daemon.query(sql, { cluster: 'main' });
  const place = (name: string) => join(daemon.store, 'extern', name);

  before(async () => {
    daemon = await TestDaemon.start({ flags: ['--locality', 'region=eu,zone=a'] });
    await main('CREATE TABLE kept AS SELECT n AS id, md5(n::text) AS note FROM generate_series(1, 10000) n');
  });
  after(() => daemon[Symbol.asyncDispose]());

  async function requireRestorable(from: string): Promise<void> {
    const expected = await digestCluster(daemon, 'main');
    await createCluster(daemon, 'copy');
    await daemon.query(`RESTORE FROM LATEST IN ${from}`, { cluster: 'copy' });
    assert.deepEqual(await digestCluster(daemon, 'copy'), expected);
    await dropCluster(daemon, 'copy');
  }

  test('holds data where this node writes, and the rest at the default', async () => {
    await main(`BACKUP INTO ${PLACES}`);
    await main("INSERT INTO kept VALUES (0, 'later')");
    await main(`BACKUP INTO LATEST IN ${PLACES}`);
    const isData = (file: string) => /\.(?:pack|wal)$/.test(file);
    const files = { home: await filesBelow(place('home')), eu: await filesBelow(place('eu')) };
    assert.ok(files.home.some((file) => file.endsWith('BACKUP_MANIFEST')) && !files.home.some(isData));
    assert.ok(files.eu.length > 2 && files.eu.every(isData));
    await assert.rejects(filesBelow(place('us')));
    assert.equal((await main("SHOW BACKUPS IN 'nodelocal://1/home'")).length, 1);
    await main("SHOW BACKUP FROM LATEST IN ('nodelocal://1/home', 'nodelocal://1/eu') WITH check_files");
    await requireRestorable("('nodelocal://1/home', 'nodelocal://1/us', 'nodelocal://1/eu')");
  });

  test('is restored from all its places, or from what was moved into one', async () => {
    await assert.rejects(main("SHOW BACKUP FROM LATEST IN 'nodelocal://1/home' WITH check_files"));
    await createCluster(daemon, 'copy');
    await assert.rejects(daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/home'", { cluster: 'copy' }), {
      message: /no object .*pack|missing/,
    });
    await dropCluster(daemon, 'copy');
    await cp(place('home'), place('moved'), { recursive: true });
    await cp(place('eu'), place('moved'), { recursive: true });
    await requireRestorable("'nodelocal://1/moved'");
  });

  test('has its incremental backups elsewhere when told so', async () => {
    const elsewhere = "WITH incremental_location = 'nodelocal://1/increments'";
    await main("BACKUP INTO 'nodelocal://1/fulls'");
    await main("INSERT INTO kept VALUES (-1, 'more')");
    await main(`BACKUP INTO LATEST IN 'nodelocal://1/fulls' ${elsewhere}`);
    assert.ok(!(await filesBelow(place('fulls'))).some((file) => file.startsWith('incrementals/')));
    assert.ok((await filesBelow(place('increments'))).every((file) => file.startsWith('incrementals/')));
    assert.equal(
      (
        await main(
          `SELECT * FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/fulls' ${elsewhere}] WHERE backup_type = 'incremental'`,
        )
      ).length > 0,
      true,
    );
    await requireRestorable(`'nodelocal://1/fulls' ${elsewhere}`);
    await rename(place('increments'), place('gone'));
  });

  test('brings the regions of its databases, where nodes are in them', async () => {
    const regions = async (cluster: string, database = 'placed') =>
      (await daemon.query(`SHOW REGIONS FROM DATABASE ${database}`, { cluster })).map(({ region }) => region);
    await main(['CREATE DATABASE placed', 'CREATE DATABASE elsewhere']);
    await daemon.query('CREATE TABLE there AS SELECT 1 AS a', { cluster: 'main', database: 'placed' });
    await main('ALTER DATABASE placed PRIMARY REGION eu');
    await main('ALTER TABLE kept CONFIGURE ZONE USING num_replicas = 7');
    await main("BACKUP INTO 'nodelocal://1/regions'");
    await main("BACKUP DATABASE placed INTO 'nodelocal://1/region'");
    for (const [collection, option, expected] of [
      ['regions', '', ['eu']],
      ['region', ', remove_regions', []],
    ] as const) {
      const from = `FROM LATEST IN 'nodelocal://1/${collection}'`;
      const [listed] = await main(
        `SELECT regions FROM [SHOW BACKUP ${from}] WHERE object_type = 'database' AND object_name = 'placed'`,
      );
      assert.equal(listed?.['regions'], 'ALTER DATABASE "placed" SET PRIMARY REGION "eu";');
      await main(`RESTORE DATABASE placed ${from} WITH new_db_name = 'again'${option}`);
      assert.deepEqual(await regions('main', 'again'), expected);
      await main('DROP DATABASE again');
      // Whose rows are to be in a region does not go where regions are unknown.
      await assert.rejects(main(`RESTORE TABLE placed.there ${from} WITH into_db = 'elsewhere'`), {
        code: '55000',
        message: /multi-region database "placed" into non-multi-region database "elsewhere"/,
      });
    }
    // Of a database or a table nothing is brought of zones; of everything all is.
    await createCluster(daemon, 'copy');
    await daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/regions'", { cluster: 'copy' });
    assert.deepEqual(await regions('copy'), ['eu']);
    const zones = await daemon.query('SHOW ZONE CONFIGURATIONS', { cluster: 'copy' });
    assert.deepEqual(
      zones.map(({ target }) => target),
      ['RANGE default', 'TABLE defaultdb.public.kept'],
    );
    await dropCluster(daemon, 'copy');
    await main('ALTER DATABASE placed DROP REGION eu');
  });

  test('is written by nodes of a locality only, when told so', async () => {
    const into = "BACKUP INTO 'nodelocal://1/local' WITH EXECUTION LOCALITY";
    await main(`${into} = 'region=eu'`);
    await assert.rejects(main(`${into} = 'region=eu,zone=b'`), { code: '55000', message: /no node matches/ });
    await assert.rejects(main(`${into} = 'eu'`), { code: '22023', message: /tier must be in the form/ });
    assert.equal((await main("SHOW BACKUPS IN 'nodelocal://1/local'")).length, 1);
  });

  test('is refused when its places do not fit', async () => {
    const table: readonly (readonly [string, RegExp])[] = [
      [
        "('nodelocal://1/a', 'nodelocal://1/b?COCKROACH_LOCALITY=region%3Deu')",
        /no location of the list is the default/,
      ],
      [
        "('nodelocal://1/a?COCKROACH_LOCALITY=default', 'nodelocal://1/b?COCKROACH_LOCALITY=region%3Deu%2Czone%3Da')",
        /tier must be in the form "key=value"/,
      ],
      [
        "'nodelocal://1/a?COCKROACH_LOCALITY=region%3Deu'",
        /COCKROACH_LOCALITY of a single location must be "default"/,
      ],
    ];
    for (const [uris, message] of table) {
      await assert.rejects(main(`BACKUP INTO ${uris}`), { code: '22023', message });
    }
  });

  test('is written as fast as the settings say, which act on what is under way, in files as large as they say', async () => {
    const packs = async (name: string) =>
      (await filesBelow(place(name))).filter((file) => file.endsWith('.pack')).length;
    await main("SET CLUSTER SETTING cloudstorage.nodelocal.write.node_rate_limit = '1 B'");
    const [job] = await main("BACKUP INTO 'nodelocal://1/slow' WITH detached");
    const id = String(job?.['job_id']);
    const table = join(daemon.store, 'run', 'rates');
    const owed = await waitFor('a worker to have taken what the limit gives', () => {
      using rates = new DatabaseSync(table, { readOnly: true });
      const row = rates.prepare("select tokens from bucket where scope = '3/nodelocal/write'").get();
      return typeof row?.['tokens'] === 'string' && row['tokens'].startsWith('-');
    });
    assert.ok(owed);
    const [running] = await main(`SELECT status FROM [SHOW JOB ${id}]`);
    assert.equal(running?.['status'], 'running');
    await main([
      'RESET CLUSTER SETTING cloudstorage.nodelocal.write.node_rate_limit',
      "SET CLUSTER SETTING bulkio.backup.file_size = '1 MiB'",
      `SHOW JOB WHEN COMPLETE ${id}`,
    ]);
    const [done] = await main(`SELECT status FROM [SHOW JOB ${id}]`);
    assert.equal(done?.['status'], 'succeeded');
    await main("BACKUP INTO 'nodelocal://1/small-files'");
    await main('RESET CLUSTER SETTING bulkio.backup.file_size');
    assert.ok((await packs('small-files')) > (await packs('slow')));
  });

  test('keeps what was read before a pause, and nothing of what was cancelled', async () => {
    const MIB = 1024 * 1024;
    // Tables are taken over whole or not at all: small ones, so that few are being read when the checkpoint comes.
    const tables = Array.from({ length: 40 }, (_, number) => `noise_${number}`);
    await main('CREATE DATABASE large');
    // Rows that cannot be compressed, in pages that nobody changes any more.
    await daemon.query(
      [
        ...tables.map(
          (name) => `CREATE TABLE ${name} WITH (autovacuum_enabled = off) AS
            SELECT sha512(('${name}' || n)::bytea) || sha512(('z${name}' || n)::bytea) AS noise FROM generate_series(1, 13000) n`,
        ),
        'VACUUM (FREEZE)',
      ],
      { cluster: 'main', database: 'large' },
    );
    // A checkpoint comes with every 32 files; the burst leads past the first, and then nothing more is let through.
    const burst = 'cloudstorage.nodelocal.write.node_burst_limit';
    const rate = 'cloudstorage.nodelocal.write.node_rate_limit';
    const held = async (name: string, mark: string) => {
      await main([
        "SET CLUSTER SETTING bulkio.backup.file_size = '1 MiB'",
        `SET CLUSTER SETTING ${burst} = '44 MiB'`,
        `SET CLUSTER SETTING ${rate} = '1 B'`,
      ]);
      const [job] = await main(`BACKUP INTO 'nodelocal://1/${name}' WITH detached`);
      await waitFor(mark, async () => {
        const files = await filesBelow(place(name)).catch(() => []);
        return files.some((file) => file.includes(mark));
      });
      return String(job?.['job_id']);
    };
    const reach = (id: string, status: string) =>
      waitFor(`job ${id} to be ${status}`, async () => {
        const [job] = await main(`SELECT status FROM [SHOW JOB ${id}]`);
        assert.notEqual(job?.['status'], 'failed');
        return job?.['status'] === status;
      });
    const packs = async (name: string) => {
      const files = (await filesBelow(place(name))).filter((file) => file.endsWith('.pack'));
      const sizes = await Promise.all(files.map(async (file) => (await stat(join(place(name), file))).size));
      return new Map(files.map((file, at) => [file, sizes[at] ?? 0]));
    };
    const bytesOf = (sizes: Iterable<number>) => Array.from(sizes).reduce((sum, size) => sum + size, 0);

    // Whatever was used of the burst before comes back at a high rate.
    await main([
      `SET CLUSTER SETTING ${burst} = '44 MiB'`,
      `SET CLUSTER SETTING ${rate} = '1 GiB'`,
      'CREATE DATABASE refilled',
      "BACKUP DATABASE refilled INTO 'nodelocal://1/refilled'",
    ]);
    const paused = await held('paused', 'progress/BACKUP-CHECKPOINT');
    await main(`PAUSE JOB ${paused}`);
    await reach(paused, 'paused');
    assert.deepEqual(
      await main("SHOW BACKUPS IN 'nodelocal://1/paused'"),
      [],
      'without a manifest it is no backup',
    );
    const before = await packs('paused');
    await main([`RESET CLUSTER SETTING ${rate}`, `RESET CLUSTER SETTING ${burst}`, `RESUME JOB ${paused}`]);
    await reach(paused, 'succeeded');
    const after = await packs('paused');
    const kept = [...after].filter(([file]) => before.has(file));
    const all = bytesOf(after.values());
    const taken = bytesOf(kept.map(([, size]) => size));
    assert.ok(all > 64 * MIB, `${all} bytes`);
    assert.ok(taken > 16 * MIB, `of ${before.size} files ${kept.length} are used, ${taken} bytes`);
    // Whatever of the first attempt's files is not used would have been read again.
    assert.ok(all - taken < 56 * MIB, `${all - taken} of ${all} bytes were captured again`);
    await main("SHOW BACKUP FROM LATEST IN 'nodelocal://1/paused' WITH check_files");

    // What was let through counts on: from here on nothing is.
    const canceled = await held('canceled', 'BACKUP-LOCK');
    await main(`CANCEL JOB ${canceled}`);
    await reach(canceled, 'canceled');
    const left = (await filesBelow(place('canceled'))).filter((file) =>
      /pack|MANIFEST|CHECKPOINT|LOCK/.test(file),
    );
    assert.deepEqual(left, []);
    await main([
      `RESET CLUSTER SETTING ${rate}`,
      `RESET CLUSTER SETTING ${burst}`,
      'RESET CLUSTER SETTING bulkio.backup.file_size',
      'DROP DATABASE large',
    ]);
  });

  // The last: from here on the node is elsewhere.
  test('brings no regions that no node is in, unless told so', async () => {
    await daemon.stop();
    await using moved = await TestDaemon.start({ store: daemon.store, flags: ['--locality', 'region=us'] });
    await moved.query("SET CLUSTER SETTING sql.defaults.primary_region = 'us'", { cluster: 'main' });
    const restore = (options: string) =>
      moved.query(`RESTORE DATABASE placed FROM LATEST IN 'nodelocal://1/region' WITH ${options}`, {
        cluster: 'main',
      });
    const mismatch = { code: '55000', message: /missing regions detected: eu/ };
    await assert.rejects(restore("new_db_name = 'no'"), mismatch);
    await restore("new_db_name = 'kept_so', skip_localities_check");
    await restore("new_db_name = 'at_home', remove_regions");
    assert.deepEqual(
      await moved.query(
        "SELECT database_name, regions FROM [SHOW REGIONS FROM ALL DATABASES] WHERE database_name <> 'placed' ORDER BY 1",
        { cluster: 'main' },
      ),
      [
        { database_name: 'at_home', regions: '{us}' },
        { database_name: 'kept_so', regions: '{eu}' },
      ],
    );
    await createCluster(moved, 'copy');
    const whole = "RESTORE FROM LATEST IN 'nodelocal://1/regions'";
    await assert.rejects(moved.query(whole, { cluster: 'copy' }), mismatch);
    await moved.query(`${whole} WITH remove_regions`, { cluster: 'copy' });
    assert.deepEqual(await moved.query('SHOW REGIONS FROM ALL DATABASES', { cluster: 'copy' }), []);
  });
});
