import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { TestDaemon } from '../harness/daemon.ts';

/** What an attacker with `root` in one virtual cluster tries. Each must end in an error; the reason is beside it. */
const ATTACKS: readonly { readonly what: string; readonly sql: string }[] = [
  { what: 'run a program by COPY', sql: "COPY (SELECT 1) TO PROGRAM 'id > /tmp/owned'" },
  { what: 'run a program by COPY FROM', sql: "CREATE TABLE p (t text); COPY p FROM PROGRAM 'id'" },
  { what: 'read a file of the host', sql: "SELECT pg_read_file('/etc/passwd')" },
  { what: 'read a binary file', sql: "SELECT pg_read_binary_file('/etc/passwd')" },
  { what: 'list a folder', sql: "SELECT pg_ls_dir('/')" },
  { what: 'COPY FROM a file', sql: "CREATE TABLE f (t text); COPY f FROM '/etc/passwd'" },
  { what: 'COPY TO a file', sql: "COPY (SELECT 'x') TO '/tmp/atoll-owned'" },
  { what: 'import a file as large object', sql: "SELECT lo_import('/etc/passwd')" },
  { what: 'export a large object', sql: "SELECT lo_export(lo_from_bytea(0, 'x'), '/tmp/atoll-owned')" },
  { what: 'become superuser', sql: 'ALTER ROLE root SUPERUSER' },
  { what: 'make a superuser', sql: 'CREATE ROLE evil SUPERUSER' },
  { what: 'take the bootstrap superuser', sql: 'SET ROLE atoll' },
  { what: 'take over its session', sql: 'SET SESSION AUTHORIZATION atoll' },
  { what: 'give it a password', sql: "ALTER ROLE atoll PASSWORD 'x'" },
  { what: 'join it', sql: 'GRANT atoll TO root' },
  { what: 'join the file readers', sql: 'GRANT pg_read_server_files TO root' },
  { what: 'join the program runners', sql: 'GRANT pg_execute_server_program TO root' },
  { what: 'load a library', sql: "LOAD '/tmp/evil.so'" },
  { what: 'call C', sql: "CREATE FUNCTION c() RETURNS int LANGUAGE c AS '/lib/x86_64-linux-gnu/libc.so.6', 'getpid'" },
  { what: 'call internal C', sql: "CREATE FUNCTION i(text) RETURNS text LANGUAGE internal AS 'pg_read_file_all'" },
  { what: 'an untrusted language', sql: 'CREATE EXTENSION plpython3u' },
  { what: 'an untrusted Perl', sql: 'CREATE EXTENSION plperlu' },
  { what: 'connect out by dblink', sql: 'CREATE EXTENSION dblink' },
  { what: 'connect out by a foreign server', sql: 'CREATE EXTENSION postgres_fdw' },
  { what: 'read files by a foreign table', sql: 'CREATE EXTENSION file_fdw' },
  { what: 'change the configuration', sql: "ALTER SYSTEM SET archive_command = 'id'" },
  { what: 'preload a library by role', sql: "ALTER ROLE root SET session_preload_libraries = '/tmp/evil'" },
  { what: 'an output plugin from a path', sql: "SELECT pg_create_logical_replication_slot('s', '/tmp/evil')" },
  { what: 'a tablespace', sql: "CREATE TABLESPACE t LOCATION '/tmp'" },
  { what: 'see the configuration files', sql: 'SELECT * FROM pg_hba_file_rules' },
  { what: 'an event trigger', sql: 'CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$; CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION e()' },
  { what: 'write catalogs', sql: "SET allow_system_table_mods = on; UPDATE pg_authid SET rolsuper = true WHERE rolname = 'root'" },
  { what: 'hold all backups', sql: "SELECT pg_backup_start('x')" },
  { what: 'switch off checks', sql: 'SET ignore_checksum_failure = on' },
  { what: 'trace as another', sql: "SELECT pg_read_file('postmaster.pid')" },
]; // biome-ignore format: a table

describe('tenants', () => {
  let daemon: TestDaemon;
  before(async () => {
    daemon = await TestDaemon.start();
    await daemon.query(['CREATE VIRTUAL CLUSTER other', 'ALTER VIRTUAL CLUSTER other START SERVICE SHARED'], {
      cluster: 'system',
    });
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  test('with the same names for databases, users and tables they do not see each other', async () => {
    for (const cluster of ['main', 'other']) {
      await daemon.query(["CREATE ROLE app LOGIN PASSWORD 'x'", 'CREATE DATABASE bank'], { cluster });
      await daemon.query(['CREATE TABLE money (owner text)', `INSERT INTO money VALUES ('${cluster}')`], {
        cluster,
        database: 'bank',
      });
    }
    for (const cluster of ['main', 'other']) {
      assert.deepEqual(await daemon.query('SELECT owner FROM money', { cluster, database: 'bank' }), [
        { owner: cluster },
      ]);
      const [seen] = await daemon.query('SHOW virtual_cluster_name', { cluster });
      assert.deepEqual(seen, { virtual_cluster_name: cluster });
    }
    await daemon.query('DROP ROLE app', { cluster: 'other' });
    assert.equal(
      (await daemon.query("SELECT 1 FROM pg_roles WHERE rolname = 'app'", { cluster: 'main' })).length,
      1,
    );
    const ids = await Promise.all(
      ['main', 'other', 'system'].map(
        async (cluster) =>
          (
            await daemon.query('SELECT system_identifier::text AS id FROM pg_control_system()', { cluster })
          )[0]?.['id'],
      ),
    );
    assert.equal(new Set(ids).size, 3, 'every virtual cluster has a system identifier of its own');
    assert.notDeepEqual(
      await daemon.query('SELECT pid FROM pg_stat_activity', { cluster: 'main' }),
      await daemon.query('SELECT pid FROM pg_stat_activity', { cluster: 'other' }),
    );
  });

  for (const { what, sql } of ATTACKS) {
    test(`a tenant's admin cannot: ${what}`, async () => {
      await assert.rejects(daemon.query(sql, { cluster: 'main' }), (error: { code?: string }) => {
        // Refused, unknown here, not available, or a malformed file name: never carried out, never a crash.
        assert.match(
          String(error.code),
          /^(42501|0A000|42704|42883|58P01|22023|55P02|0LP01|0P000|42P17|22004|42602)$/,
        );
        return true;
      });
    });
  }

  test('nobody enters the internal database or as the internal roles', async () => {
    await assert.rejects(daemon.query('SELECT 1', { cluster: 'main', database: 'system' }), {
      code: '42501',
    });
    for (const user of ['atoll', 'atoll_reader']) {
      await assert.rejects(
        daemon.query('SELECT 1', { cluster: 'main', user }),
        (error: { code?: string }) => {
          assert.match(String(error.code), /^28/);
          return true;
        },
      );
    }
  });

  test('statements about virtual clusters work in the system virtual cluster only', async () => {
    for (const sql of [
      'SHOW VIRTUAL CLUSTERS',
      'CREATE VIRTUAL CLUSTER x',
      'DROP VIRTUAL CLUSTER other IMMEDIATE',
      'ALTER VIRTUAL CLUSTER other STOP SERVICE',
    ]) {
      await assert.rejects(daemon.query(sql, { cluster: 'main' }), { code: '42501' }, sql);
    }
    await daemon.query('CREATE ROLE nobody LOGIN', { cluster: 'system' });
    await assert.rejects(
      daemon.query('SELECT 1', { cluster: 'system', user: 'nobody' }),
      (error: { code?: string }) => {
        assert.match(String(error.code), /^(28000|42501)$/);
        return true;
      },
    );
  });

  test('an instance runs unprivileged, and its folder and socket are its own', {
    skip: process.getuid?.() !== 0 && 'not root: all instances share one user',
  }, async () => {
    const uids = new Set<number>();
    for (const [id, pid] of await daemon.postmasters()) {
      const uid = Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
      assert.notEqual(uid, 0);
      assert.equal(
        statSync(join(daemon.store, 'vc', String(id))).mode & 0o007,
        0,
        'others may not enter the folder',
      );
      assert.equal(
        statSync(join(daemon.store, 'run', String(id))).mode & 0o077,
        0,
        'others may not reach the socket',
      );
      uids.add(uid);
    }
    assert.equal(uids.size, 3, 'every virtual cluster has a user of its own');
    assert.equal(statSync(join(daemon.store, 'cluster-key')).mode & 0o077, 0);
  });
});

describe('passwords', () => {
  test('without --insecure the front door checks SCRAM verifiers, and the operator gets in locally', async () => {
    await using daemon = await TestDaemon.start({ security: 'password' });
    const local = new pg.Client({
      host: join(daemon.store, 'run/sql'),
      port: daemon.port,
      user: 'root',
      database: 'defaultdb',
      options: '-ccluster=main',
    });
    await local.connect();
    await local.query("ALTER ROLE root PASSWORD 'correct horse'");
    await local.query("CREATE ROLE late LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'");
    await local.end();
    const login = async (user: string, password: string) => {
      const client = new pg.Client({
        host: '127.0.0.1',
        port: daemon.port,
        user,
        password,
        database: 'defaultdb',
        options: '-ccluster=main',
      });
      await client.connect();
      const { rows } = await client.query('SELECT current_user AS me');
      await client.end();
      return rows[0]?.me;
    };
    assert.equal(await login('root', 'correct horse'), 'root');
    for (const [user, password] of [
      ['root', 'wrong'],
      ['root', ''],
      ['nobody', 'correct horse'],
      ['late', 'x'],
    ] as const) {
      await assert.rejects(login(user, password), (error: { code?: string; message: string }) => {
        assert.ok(error.code === '28P01' || /SASL: .*password must be/.test(error.message), error.message);
        return true;
      });
    }
    assert.doesNotMatch(daemon.output, /correct horse|SCRAM-SHA-256\$/);
  });
});
