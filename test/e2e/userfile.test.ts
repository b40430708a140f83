import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ATOLL, TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';
import { runProgram } from '../harness/programs.ts';
import { scratchDirectory } from '../harness/scratch.ts';

const ROOT = 'userfile://defaultdb.public.userfiles_';

describe('userfile storage', () => {
  let daemon: TestDaemon;
  let local: string;
  /** More than two pieces of an upload. */
  const large = Buffer.alloc(1_200_000, 'piece by piece ');
  const as = (user: string, sql: string | readonly string[]) => daemon.query(sql, { user, cluster: 'main' });
  const refused = (user: string, sql: string, code: string) =>
    assert.rejects(as(user, sql), (error: { code?: string }) => {
      assert.equal(error.code, code, sql);
      return true;
    });

  before(async () => {
    local = await scratchDirectory('atoll-files-');
    await mkdir(join(local, 'tree/deep'), { recursive: true });
    await writeFile(join(local, 'large'), large);
    await writeFile(join(local, 'tree/a b.csv'), 'a');
    await writeFile(join(local, 'tree/deep/empty'), '');
    daemon = await TestDaemon.start();
    await as('root', [
      'CREATE ROLE ann LOGIN',
      'CREATE ROLE bob LOGIN',
      'CREATE TABLE wide AS SELECT n AS id, sha512(n::text::bytea) AS h FROM generate_series(1, 40000) n',
      'CREATE TABLE kept AS SELECT n AS id FROM generate_series(1, 100) n',
    ]);
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    await rm(local, { recursive: true });
  });

  async function atoll(user: string, ...argv: string[]): Promise<string> {
    const { status, stdout, stderr } = await runProgram(ATOLL, [
      ...argv,
      `--url=${daemon.url({ user, cluster: 'main' })}`,
    ]);
    assert.equal(status, 0, `${argv.join(' ')}: ${stderr}`);
    return stdout;
  }

  async function fails(user: string, argv: string[], message: RegExp): Promise<void> {
    const url = `--url=${daemon.url({ user, cluster: 'main' })}`;
    const { status, stderr } = await runProgram(ATOLL, [...argv, url]);
    assert.notEqual(status, 0, argv.join(' '));
    assert.match(stderr, message);
  }

  test('takes files and gives them back', async () => {
    const uploaded = await atoll('ann', 'userfile', 'upload', join(local, 'large'));
    assert.equal(uploaded, `successfully uploaded to ${ROOT}ann/large\n`);
    await atoll('ann', 'userfile', 'upload', '-r', join(local, 'tree'), 'in');
    assert.match(
      await atoll('ann', 'userfile', 'upload', '-r', `${join(local, 'tree')}/`),
      /^uploading: a b\.csv\n/,
    );
    const listed = ['a%20b.csv', 'deep/empty', 'in/tree/a%20b.csv', 'in/tree/deep/empty', 'large'];
    const uris = listed.map((name) => `${ROOT}ann/${name}\n`);
    assert.equal(await atoll('ann', 'userfile', 'list'), uris.join(''));
    assert.equal(await atoll('ann', 'userfile', 'list', 'in/*.csv'), uris[2]);
    await atoll('ann', 'userfile', 'get', 'large', join(local, 'back'));
    assert.deepEqual(await readFile(join(local, 'back')), large);
    await atoll('ann', 'userfile', 'get', 'in/*', join(local, 'out'));
    assert.equal(await readFile(join(local, 'out/in/tree/a b.csv'), 'utf8'), 'a');
    await fails('ann', ['userfile', 'get', 'large', join(local, 'back')], /cannot make/);
    await fails('ann', ['userfile', 'upload', join(local, 'large')], /already exists/);
    assert.equal(await atoll('ann', 'userfile', 'delete', 'in/*'), `deleted ${uris[2]}deleted ${uris[3]}`);
    assert.equal(await atoll('ann', 'userfile', 'list'), [uris[0], uris[1], uris[4]].join(''));
  });

  test('shows nobody but admins what is not theirs', async () => {
    assert.equal(await atoll('bob', 'userfile', 'list'), '');
    await fails('bob', ['userfile', 'get', 'large'], /no file of userfile storage/);
    for (const sql of [
      `SHOW FILES IN '${ROOT}ann/'`,
      `SHOW FILE '${ROOT}ann/large' AT 0`,
      `DROP FILE '${ROOT}ann/large'`,
      `CREATE FILE UPLOAD INTO '${ROOT}ann/x'`,
      `SHOW BACKUPS IN '${ROOT}ann/x'`,
      `BACKUP TABLE kept INTO '${ROOT}ann/x'`,
      "CREATE FILE UPLOAD INTO 'nodelocal://1/x'",
    ]) {
      await refused('bob', sql, '42501');
    }
    assert.equal((await as('root', `SHOW FILES IN '${ROOT}ann/'`)).length, 3);
    await fails('bob', ['nodelocal', 'upload', join(local, 'large'), 'x'], /nodelocal/);
    const uploaded = await atoll('root', 'nodelocal', 'upload', join(local, 'large'), 'dir/large');
    assert.equal(uploaded, 'successfully uploaded to nodelocal://self/dir/large\n');
    assert.deepEqual(await readFile(join(daemon.store, 'extern/dir/large')), large);
  });

  test('belongs to who has made it, not to a name', async () => {
    const make = () => as('root', 'CREATE ROLE cid LOGIN');
    const upload = (name: string) => atoll('cid', 'userfile', 'upload', join(local, 'tree/a b.csv'), name);
    await make();
    await upload('first');
    const recordPath = join(daemon.store, 'userfile/3/cid.owner');
    const record = await readFile(recordPath, 'utf8');
    const { incarnation } = JSON.parse(record) as { incarnation: string };
    // As after a restore of data that came from elsewhere: whoever has this number there is another one.
    await writeFile(recordPath, record.replace(incarnation, '00000000-0000-4000-8000-000000000001'));
    await refused('cid', "SHOW FILES IN 'userfile:///'", '42501');
    await writeFile(recordPath, record);
    assert.equal((await as('cid', "SHOW FILES IN 'userfile:///'")).length, 1);

    await as('root', 'DROP ROLE cid');
    await make();
    for (const sql of [
      "SHOW FILES IN 'userfile:///'",
      "SHOW FILE 'userfile:///first' AT 0",
      "DROP FILE 'userfile:///first'",
      "CREATE FILE UPLOAD INTO 'userfile:///second'",
      "SHOW BACKUPS IN 'userfile:///'",
    ]) {
      await refused('cid', sql, '42501');
    }
    await fails(
      'cid',
      ['userfile', 'list'],
      /holds files of a former role of that name[\s\S]*member of admin/,
    );
    assert.equal((await as('root', `SHOW FILES IN '${ROOT}cid/'`)).length, 1);
    await atoll('root', 'userfile', 'delete', `${ROOT}cid/*`);
    await upload('second');
    assert.equal(await atoll('cid', 'userfile', 'list'), `${ROOT}cid/second\n`);
    await atoll('root', 'userfile', 'delete', `${ROOT}cid/*`);
  });

  test('holds no more than it may', async () => {
    await as('root', "SET CLUSTER SETTING cloudstorage.userfile.total_max = '2MiB'");
    await fails('bob', ['userfile', 'upload', join(local, 'large')], /userfile storage .* is full/);
    await assert.rejects(
      as('root', "BACKUP TABLE wide INTO 'userfile:///wide'"),
      /userfile storage of this virtual cluster is full/,
    );
    await as('root', 'RESET CLUSTER SETTING cloudstorage.userfile.total_max');
    await atoll('bob', 'userfile', 'upload', join(local, 'large'));
    await atoll('bob', 'userfile', 'delete', 'large');
  });

  test('keeps to its folder', async () => {
    for (const path of ['../x', 'a/../../x', '%2e%2e/x', 'a/..%2fx', 'a//b', './x', '', 'a/%00']) {
      await assert.rejects(as('ann', `CREATE FILE UPLOAD INTO 'userfile:///${path}'`), path);
      await assert.rejects(as('root', `CREATE FILE UPLOAD INTO 'nodelocal://1/${path}'`), path);
    }
    await refused('ann', "CREATE FILE UPLOAD INTO 'userfile://db.s.other/x'", '0A000');
    await fails('ann', ['userfile', 'upload', join(local, 'large'), 'a/../b'], /relative part/);
    await symlink(local, join(daemon.store, 'extern/out'));
    await refused('root', "CREATE FILE UPLOAD INTO 'nodelocal://1/out/x'", '42602');
    await symlink('large', join(local, 'tree/link'));
    await fails('ann', ['userfile', 'upload', '-r', join(local, 'tree'), 'links'], /links are not followed/);
    assert.equal((await as('ann', "SHOW FILES IN 'userfile:///links'")).length, 0);
  });

  test('shows a file when it is whole, and only then', async () => {
    const begin = async () => {
      const [row] = await as('ann', "CREATE FILE UPLOAD INTO 'userfile:///half'");
      return String(row?.['upload_id']);
    };
    const id = await begin();
    await as('ann', `ALTER FILE UPLOAD '${id}' APPEND 'YWJj' AT 0`);
    await refused('bob', `ALTER FILE UPLOAD '${id}' APPEND 'YWJj' AT 3`, '42704');
    assert.equal((await as('ann', "SHOW FILES IN 'userfile:///half'")).length, 0);
    await refused('ann', `ALTER FILE UPLOAD '${id}' FINISH WITH CHECKSUM 'abc'`, 'XX001');
    const again = await begin();
    await refused('ann', `ALTER FILE UPLOAD '${again}' APPEND 'YWJj' AT 3`, '22023');
    const last = await begin();
    await refused('ann', `ALTER FILE UPLOAD '${last}' APPEND '*' AT 0`, '22023');
    await as('ann', `ALTER FILE UPLOAD '${last}' CANCEL`);
    const files = await filesBelow(join(daemon.store, 'userfile/3/ann'));
    assert.deepEqual(files.toSorted(), ['a b.csv', 'deep/empty', 'large']);
  });

  test('holds backups of databases and tables, which can be carried to another user', async () => {
    await as('root', "BACKUP TABLE kept INTO 'userfile:///tables'");
    await as('root', 'INSERT INTO kept VALUES (101)');
    await as('root', "BACKUP TABLE kept INTO LATEST IN 'userfile:///tables'");
    await as('root', "CREATE EXTERNAL CONNECTION own AS 'userfile:///tables'");
    const [connection] = await as('root', 'SHOW EXTERNAL CONNECTION own');
    assert.equal(connection?.['connection_uri'], `${ROOT}root/tables`);
    assert.equal((await as('root', "SHOW BACKUPS IN 'external://own'")).length, 1);
    await refused('root', "BACKUP INTO 'userfile:///whole'", '0A000');
    await refused('root', "BACKUP INTO 'external://own'", '0A000');

    await atoll('root', 'userfile', 'get', 'tables/*', local);
    await atoll('root', 'userfile', 'upload', '-r', join(local, 'tables'), 'carried');
    await as('root', 'DROP TABLE kept');
    await as('root', "RESTORE TABLE kept FROM LATEST IN 'userfile:///carried/tables'");
    const [row] = await as('root', 'SELECT count(*)::int AS n FROM kept');
    assert.equal(row?.['n'], 101);
  });

  test('goes with its virtual cluster', async () => {
    const system = (sql: string) => daemon.query(sql, { cluster: 'system' });
    await system('CREATE VIRTUAL CLUSTER brief');
    await system('ALTER VIRTUAL CLUSTER brief START SERVICE SHARED');
    const brief = (sql: string) => daemon.query(sql, { cluster: 'brief' });
    assert.equal((await brief("SHOW FILES IN 'userfile:///'")).length, 0);
    await brief("BACKUP DATABASE defaultdb INTO 'userfile:///d'");
    const [row] = await system("SELECT id FROM [SHOW VIRTUAL CLUSTERS] WHERE name = 'brief'");
    const folder = join(daemon.store, 'userfile', String(row?.['id']));
    assert.ok(existsSync(folder));
    await system('ALTER VIRTUAL CLUSTER brief STOP SERVICE');
    await system('DROP VIRTUAL CLUSTER brief IMMEDIATE');
    assert.ok(!existsSync(folder));
  });

  test('forgets uploads that a dead node leaves, and keeps what was whole', async () => {
    const before = await filesBelow(join(daemon.store, 'userfile'));
    await as('ann', "CREATE FILE UPLOAD INTO 'userfile:///cut'");
    assert.equal((await filesBelow(join(daemon.store, 'userfile'))).length, before.length + 1);
    await daemon.kill();
    await daemon.startAgain();
    assert.equal((await as('ann', "SHOW FILES IN 'userfile:///'")).length, 3);
    assert.deepEqual(await filesBelow(join(daemon.store, 'userfile')), before);
  });
});
