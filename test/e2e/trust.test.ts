/** What a backup may not bring along: crafted by a superuser, whom no tenant of Atoll is. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, cp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import pg from 'pg';
import { createCluster, dropCluster } from '../harness/clusters.ts';
import { ATOLL, TestDaemon } from '../harness/daemon.ts';
import { clusterKeyOf } from '../../src/keys/index.ts';
import type { Manifest } from '../../src/timeline/format/manifest.ts';
import { encodeManifest, readManifest } from '../../src/timeline/format/manifest-file.ts';
import { filesBelow } from '../harness/oracle.ts';

const run = promisify(execFile);
const C = "'nodelocal://1/crafted'";

describe('backups that bring more than data', () => {
  let daemon: TestDaemon;
  const heard: string[] = [];

  /** As the bootstrap superuser, over the private socket. */
  async function asSuperuser(
    database: string,
    statements: readonly string[],
    { store }: { store: string } = daemon,
  ): Promise<void> {
    const client = new pg.Client({ host: join(store, 'run', '3'), user: 'atoll', database });
    await client.connect();
    for (const statement of statements) await client.query(statement);
    await client.end();
  }

  async function currentDirectory(id: string): Promise<string> {
    const directory = join(daemon.store, 'vc', id);
    const current = (await readdir(directory)).find((name) => /^[0-9a-f-]{36}$/.test(name));
    assert.ok(current !== undefined);
    return join(directory, current);
  }

  const extern = (...names: string[]) => join(daemon.store, 'extern', ...names);
  const restoreInto = (cluster: string, from: string) =>
    daemon.query(`RESTORE FROM LATEST IN ${from}`, { cluster });

  async function refusal(sql: string, cluster: string): Promise<{ code: string; message: string }> {
    return daemon.query(sql, { cluster }).then(
      () => assert.fail(`${sql} was not refused`),
      (error: unknown) => error as { code: string; message: string }, // What node-postgres throws.
    );
  }

  before(async () => {
    daemon = await TestDaemon.start();
    await daemon.query(
      [
        'CREATE TABLE kept AS SELECT 1 AS a',
        // Anybody makes these, and code of the server with them.
        'CREATE TYPE span AS RANGE (subtype = int8, multirange_type_name = spans)',
        'CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int, initcond = 0)',
      ],
      { cluster: 'main' },
    );
    await asSuperuser('defaultdb', [
      'SET check_function_bodies = off',
      'CREATE ROLE "Evil One" SUPERUSER LOGIN',
      'CREATE ROLE victim LOGIN',
      `ALTER ROLE victim SET session_preload_libraries = '/tmp/evil'`,
      `ALTER DATABASE postgres SET local_preload_libraries = 'evil'`,
      `ALTER ROLE root SET work_mem = '8MB'`,
      `CREATE FUNCTION shell(text) RETURNS int LANGUAGE internal AS 'int4in'`,
      // The library lies where it came from.
      `UPDATE pg_proc SET prolang = 13, probin = '/tmp/evil.so', prosrc = 'run' WHERE proname = 'shell'`,
      `CREATE FUNCTION peek(text) RETURNS text LANGUAGE internal AS 'pg_read_file_all'`,
      // Looks like the constructor of a range, and takes a number for an address.
      `CREATE FUNCTION forged(int, text) RETURNS span LANGUAGE internal AS 'range_constructor2'`,
      'GRANT EXECUTE ON FUNCTION shell, peek TO PUBLIC',
      `CREATE FUNCTION greet() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'nobody gets in'; END $$`,
      'CREATE EVENT TRIGGER greeting ON login EXECUTE FUNCTION greet()',
      'ALTER EVENT TRIGGER greeting DISABLE',
      `CREATE VIEW uses AS SELECT peek('/etc/hostname') AS line`,
    ]);
    await daemon.query(`BACKUP INTO ${C}`, { cluster: 'main' });
    await createCluster(daemon, 'heir');
    const client = await daemon.connect({ cluster: 'heir' });
    client.on('notice', (notice) => heard.push(String(notice.message)));
    await client.query(`RESTORE FROM LATEST IN ${C}`);
    await client.end();
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  test('lose superusers, native functions, login triggers and libraries to load, and say so', async () => {
    const heir = (sql: string) => daemon.query(sql, { cluster: 'heir' });
    for (const expected of [
      /^role "Evil One" is no superuser any more$/,
      /^session_preload_libraries of victim in every database was reset$/,
      /^local_preload_libraries of every role in postgres was reset$/,
      /^database defaultdb: login event trigger greeting was dropped$/,
      /^database defaultdb: function public\.shell\(text\), which is code/,
      /^database defaultdb: function public\.peek\(text\), which is code/,
      /^database defaultdb: function public\.forged\(integer,text\), which is code/,
    ]) {
      assert.ok(
        heard.some((message) => expected.test(message)),
        `${String(expected)} in ${heard.join(' | ')}`,
      );
    }
    assert.equal(heard.length, 8, 'nothing else, but that the server was replaced');
    assert.deepEqual(
      await heir(`SELECT total(a), span(1, 2)::text AS two, span(1, 2, '[]')::text AS three, spans()::text AS none,
          spans(span(1, 2))::text AS one, spans(span(1, 2), span(5, 6))::text AS several FROM kept`),
      [{ total: 1, two: '[1,2)', three: '[1,2]', none: '{}', one: '{[1,2)}', several: '{[1,2),[5,6)}' }],
    );
    assert.deepEqual(await heir('SELECT a FROM kept'), [{ a: 1 }]);
    assert.deepEqual(await heir('SELECT rolname FROM pg_roles WHERE rolsuper AND oid <> 10'), []);
    assert.deepEqual(await heir("SELECT evtname FROM pg_event_trigger WHERE evtevent = 'login'"), []);
    assert.equal((await refusal(`SELECT peek('/etc/hostname')`, 'heir')).code, '58P01');
    assert.equal((await refusal('SELECT line FROM uses', 'heir')).code, '58P01');
    assert.equal((await refusal(`SELECT shell('id')`, 'heir')).code, '58P01');
    const [settings] = await heir(
      "SELECT array_to_string(rolconfig, ',') AS kept FROM pg_roles WHERE rolname = 'root'",
    );
    assert.match(String(settings?.['kept']), /work_mem=8MB/);
    await heir('CREATE DATABASE fresh');
    await heir('CREATE EXTENSION pgcrypto');
    assert.equal((await heir("SELECT length(gen_salt('md5')) > 0 AS is_native"))[0]?.['is_native'], true);
  });

  test('are refused when they were sealed by another cluster, or put together of two', async () => {
    await createCluster(daemon, 'doubtful');
    await using other = await TestDaemon.start();
    const keys = "WITH encryption_passphrase = 'theirs'";
    await other.query('CREATE TABLE theirs AS SELECT 2 AS b', { cluster: 'main' });
    // What their superuser may have made: all of it would run as ours.
    await asSuperuser(
      'defaultdb',
      [
        `CREATE FUNCTION become() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN current_user; END'`,
        'CREATE VIEW verifiers AS SELECT rolname, rolpassword FROM pg_authid',
        "CREATE FUNCTION who() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN current_user; END'",
        'CREATE MATERIALIZED VIEW refreshed AS SELECT who() AS name',
        'ALTER EXTENSION plpgsql ADD VIEW verifiers',
        'GRANT SELECT ON verifiers, refreshed TO PUBLIC',
        'CREATE RULE evil AS ON INSERT TO pg_atoll.default_privileges DO ALSO UPDATE pg_authid SET rolsuper = true',
        `CREATE OR REPLACE FUNCTION pg_atoll.may_pass_on(role name, wanted text) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT true'`,
        'ALTER EVENT TRIGGER pg_atoll_guard_subscription DISABLE',
        'CREATE ROLE climber LOGIN',
        'ALTER FUNCTION pg_atoll.guard_subscription() OWNER TO climber',
        'GRANT atoll TO climber',
        'GRANT pg_read_server_files TO climber',
      ],
      other,
    );
    await other.query(
      [
        "CREATE SCHEDULE nightly FOR BACKUP INTO 'nodelocal://1/theirs' RECURRING '@daily' FULL BACKUP ALWAYS",
        "BACKUP INTO 'nodelocal://1/theirs'",
        `BACKUP TABLE theirs INTO 'nodelocal://1/closed' ${keys}`,
      ],
      { cluster: 'main' },
    );
    for (const name of ['theirs', 'closed']) {
      await cp(join(other.store, 'extern', name), extern(name), { recursive: true });
    }
    const theirs = await refusal("RESTORE FROM LATEST IN 'nodelocal://1/theirs'", 'doubtful');
    assert.equal(theirs.code, '42501');
    assert.match(theirs.message, /was not written by this cluster/);
    const showClosed = `SHOW BACKUP FROM LATEST IN 'nodelocal://1/closed' ${keys}`;
    assert.equal((await refusal(showClosed, 'doubtful')).code, '42501');

    // A sound pack of theirs under the name of one of ours, in a collection of ours.
    await cp(extern('crafted'), extern('mixed'), { recursive: true });
    const packsOf = async (name: string) =>
      (await filesBelow(extern(name)))
        .filter((file) => file.endsWith('.pack'))
        .map((file) => extern(name, file));
    const [ours = ''] = await packsOf('mixed');
    const [foreign = ''] = await packsOf('theirs');
    await copyFile(foreign, ours);
    const mixed = await refusal("RESTORE FROM LATEST IN 'nodelocal://1/mixed'", 'doubtful');
    assert.ok(['XX001', '42501'].includes(mixed.code), `${mixed.code} ${mixed.message}`);

    // A manifest of ours that says something else.
    await cp(extern('crafted'), extern('edited'), { recursive: true });
    const manifest =
      (await filesBelow(extern('edited'))).find((file) => file.endsWith('BACKUP_MANIFEST')) ?? '';
    const bytes = await readFile(extern('edited', manifest));
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    await writeFile(extern('edited', manifest), bytes);
    assert.equal((await refusal("RESTORE FROM LATEST IN 'nodelocal://1/edited'", 'doubtful')).code, 'XX001');

    // Half of it is gone.
    await cp(extern('crafted'), extern('half'), { recursive: true });
    for (const pack of await packsOf('half')) await rm(pack);
    const half = await refusal("RESTORE FROM LATEST IN 'nodelocal://1/half'", 'doubtful');
    assert.match(half.message, /is missing/);
    const checked = await refusal(
      "SHOW BACKUP FROM LATEST IN 'nodelocal://1/half' WITH check_files",
      'doubtful',
    );
    assert.match(checked.message, /^The following files are missing from the backup:\n\t/);
    const dry = await refusal("RESTORE FROM LATEST IN 'nodelocal://1/half' WITH dry_run", 'doubtful');
    assert.match(dry.message, /^The following files are missing from the backup:\n\t/);

    // Whatever was refused has changed nothing: it is still empty, and a sound backup goes in.
    await restoreInto('doubtful', C);
    assert.deepEqual(await daemon.query('SELECT a FROM kept', { cluster: 'doubtful' }), [{ a: 1 }]);
    await dropCluster(daemon, 'doubtful');

    // Whoever owns the store may decide to believe the other cluster, and to do so no more.
    const keyCommand = (...argv: string[]) =>
      run(ATOLL, ['cluster-key', ...argv]).then(({ stdout }) => stdout);
    const file = join(daemon.store, 'extern', 'their.key');
    const exported = await keyCommand('export', file, `--store=${other.store}`);
    const id = /^key ([0-9a-f]{16}) written to/.exec(exported)?.[1] ?? '';
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    await assert.rejects(keyCommand('export', file, `--store=${other.store}`), /exists/);
    assert.equal(
      await keyCommand('import', file, `--store=${daemon.store}`),
      `backups sealed with key ${id} are accepted\n`,
    );
    assert.match(await keyCommand('list', `--store=${daemon.store}`), new RegExp(` own\n${id}  imported\n$`));
    await createCluster(daemon, 'believer');
    const stillMixed = await refusal("RESTORE FROM LATEST IN 'nodelocal://1/mixed'", 'believer');
    assert.ok(['XX001', '42501'].includes(stillMixed.code), stillMixed.message);
    const believer = await daemon.connect({ cluster: 'believer' });
    const told: string[] = [];
    believer.on('notice', (notice) => told.push(String(notice.message)));
    await believer.query("RESTORE FROM LATEST IN 'nodelocal://1/theirs'");
    await believer.end();
    for (const expected of [
      'role climber is no member of atoll any more',
      'role climber is no member of pg_read_server_files any more',
      'database defaultdb: pg_atoll.default_privileges was not as this program makes it, and is made anew',
      'database defaultdb: function pg_atoll.guard_subscription() did not belong to the superuser',
      'database defaultdb: materialized view public.refreshed of the superuser belongs to the owner of the database',
      'database defaultdb: view public.verifiers of the superuser belongs to the owner of the database',
      'database defaultdb: function public.become() of the superuser runs with the rights of who calls it',
    ]) {
      assert.ok(told.includes(expected), `${expected} in ${told.join(' | ')}`);
    }
    assert.equal(told.length, 8, 'nothing of ours, and that the server was replaced');
    const asRoot = (sql: string) => daemon.query(sql, { cluster: 'believer' });
    assert.deepEqual(await asRoot('SELECT become() AS me'), [{ me: 'root' }]);
    assert.equal((await refusal('SELECT * FROM verifiers', 'believer')).code, '42501');
    await asRoot('REFRESH MATERIALIZED VIEW refreshed');
    assert.deepEqual(await asRoot('SELECT name FROM refreshed'), [{ name: 'pg_database_owner' }]);
    const evil =
      "CREATE SUBSCRIPTION s CONNECTION 'host=h password=p sslkeylogfile=/x' PUBLICATION p WITH (connect = false, slot_name = NONE)";
    assert.equal((await refusal(evil, 'believer')).code, '42501');
    assert.deepEqual(
      await asRoot(
        "SELECT prosecdef, proconfig IS NOT NULL AS is_fixed FROM pg_proc WHERE proname = 'may_pass_on'",
      ),
      [{ prosecdef: true, is_fixed: true }],
    );
    assert.deepEqual(await daemon.query('SELECT b FROM theirs', { cluster: 'believer' }), [{ b: 2 }]);
    // Who else runs the schedules of another cluster, nobody here knows; its collection stays its own.
    const [schedule] = await daemon.query('SHOW SCHEDULES', { cluster: 'believer' });
    assert.equal(schedule?.['schedule_status'], 'PAUSED');
    const claim = await refusal("BACKUP INTO 'nodelocal://1/theirs'", 'believer');
    assert.match(claim.message, /of another physical cluster/);
    await daemon.query(
      "RESTORE TABLE theirs FROM LATEST IN 'nodelocal://1/theirs' WITH into_db = 'postgres'",
      { cluster: 'believer' },
    );
    await daemon.query('CREATE DATABASE fresh', { cluster: 'believer' });
    await daemon.query(
      `RESTORE TABLE theirs FROM LATEST IN 'nodelocal://1/closed' ${keys}, into_db = 'fresh'`,
      { cluster: 'believer' },
    );
    await keyCommand('remove', id, `--store=${daemon.store}`);
    const again = await refusal("SHOW BACKUP FROM LATEST IN 'nodelocal://1/theirs'", 'believer');
    assert.equal(again.code, '42501');
    await assert.rejects(keyCommand('remove', id, `--store=${daemon.store}`), /was not imported/);
    await dropCluster(daemon, 'believer');
  });

  /** A copy of a collection whose manifest says something else, sealed as this cluster seals. */
  async function reseal(name: string, change: (manifest: Manifest) => Manifest): Promise<void> {
    await cp(extern('crafted'), extern(name), { recursive: true });
    const path = (await filesBelow(extern(name))).find((file) => file.endsWith('BACKUP_MANIFEST')) ?? '';
    const key = clusterKeyOf(await readFile(join(daemon.store, 'cluster-key')));
    const chunks = (async function* () {
      yield await readFile(extern(name, path));
    })();
    const changed = change(await readManifest(chunks, { key, name }));
    await writeFile(extern(name, path), Buffer.concat(encodeManifest(changed, { key })));
  }

  test('are refused when they are of a later release, of another engine, or lead out of the directory', async () => {
    await createCluster(daemon, 'strict');
    await reseal('later', (manifest) => ({ ...manifest, header: { ...manifest.header, release: '99.1' } }));
    const later = await refusal("RESTORE FROM LATEST IN 'nodelocal://1/later'", 'strict');
    assert.equal(later.code, '0A000');
    assert.match(later.message, /taken by release 99\.1, which release \d+\.\d+ does not know/);
    const [plan] = await daemon.query(
      "RESTORE FROM LATEST IN 'nodelocal://1/later' WITH unsafe_restore_incompatible_version, dry_run",
      { cluster: 'strict' },
    );
    assert.equal(plan?.['backup_type'], 'full');

    await reseal('engine', (manifest) => {
      const engine = { ...manifest.header.engine, major: 17 };
      return { ...manifest, header: { ...manifest.header, engine } };
    });
    const engine = await refusal("RESTORE FROM LATEST IN 'nodelocal://1/engine'", 'strict');
    assert.match(engine.message, /taken from PostgreSQL 17, virtual cluster "strict" runs PostgreSQL 18/);

    await reseal('escape', (manifest) => {
      const paths = manifest.files.paths.map((path) => (path === 'PG_VERSION' ? '../../PG_VERSION' : path));
      return { ...manifest, files: { ...manifest.files, paths } };
    });
    const escape = await refusal("RESTORE FROM LATEST IN 'nodelocal://1/escape'", 'strict');
    assert.equal(escape.code, 'XX001');
    assert.match(escape.message, /names a file that is no data: "\.\.\/\.\.\/PG_VERSION"/);
    await dropCluster(daemon, 'strict');
  });

  test('name ten of the files that are missing, and count the rest', async () => {
    const main = (sql: string) => daemon.query(sql, { cluster: 'main' });
    await main("BACKUP INTO 'nodelocal://1/many'");
    const filesOf = async () =>
      (await filesBelow(extern('many'))).filter((file) => /\.(pack|wal)$/.test(file));
    while ((await filesOf()).length < 12) await main("BACKUP INTO LATEST IN 'nodelocal://1/many'");
    const files = await filesOf();
    for (const file of files.slice(0, 12)) await rm(extern('many', file));
    const { code, message } = await refusal(
      "SHOW BACKUP FROM LATEST IN 'nodelocal://1/many' WITH check_files",
      'main',
    );
    const [title, ...lines] = message.split('\n');
    assert.deepEqual([code, title], ['XX001', 'The following files are missing from the backup:']);
    assert.equal(lines.length, 11);
    assert.ok(lines.slice(0, 10).every((line) => files.includes(line.trim())));
    assert.equal(lines[10], '\tand 2 more');
  });

  test('bring no settings, and no files that are no data', async () => {
    // Put into the source's folder by somebody; captures take what they know.
    const data = await currentDirectory('3');
    for (const name of ['postgresql.auto.conf', 'pg_hba.conf', 'standby.signal', 'evil.so']) {
      await writeFile(join(data, name), "archive_command = 'touch /tmp/evil'\n");
    }
    await daemon.query("BACKUP INTO 'nodelocal://1/settings'", { cluster: 'main' });
    for (const name of ['postgresql.auto.conf', 'pg_hba.conf', 'standby.signal', 'evil.so'])
      await rm(join(data, name));
    await createCluster(daemon, 'plain');
    await restoreInto('plain', "'nodelocal://1/settings'");
    const [row] = await daemon.query("SELECT id FROM [SHOW VIRTUAL CLUSTERS] WHERE name = 'plain'", {
      cluster: 'system',
    });
    const files = await filesBelow(await currentDirectory(String(row?.['id'])));
    assert.deepEqual(
      files.filter((file) => /(postgresql\.auto\.conf|pg_hba\.conf|standby\.signal|evil\.so)$/.test(file)),
      [],
    );
    await dropCluster(daemon, 'plain');
  });
});
