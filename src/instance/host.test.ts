import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  appendFile,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { NEVER, TestStore, withTenant } from '../../test/harness/instance-store.ts';
import { waitFor } from '../../test/harness/wait.ts';
import type { AppError, VirtualClusterId, VirtualClusterName } from '../base/index.ts';
import { parseControlFile } from '../pg/index.ts';
import { DEFAULT_INSTANCE_SETTINGS, type Instance } from './index.ts';
import { processesIn } from './os-process.ts';
import { withSystemSession } from './sessions.ts';
import { isRoot } from './users.ts';

let store: TestStore;
let main: Instance;

before(async () => {
  store = await TestStore.open();
  main = await store.serve(3, 'main');
});
after(async () => {
  await store[Symbol.asyncDispose]();
});

const systemRow = async (instance: Instance, sql: string) => {
  const [row] = await instance.withSystemClient((client) => client.query(sql), { signal: NEVER });
  return row ?? {};
};

function pidOf(instance: Instance): number {
  assert.equal(instance.state.kind, 'running');
  return instance.state.kind === 'running' ? instance.state.pid : 0;
}

test('the engine in the store is complete, reachable, and without what we do not allow', async () => {
  const engines = join(store.directory, 'engine');
  const [name = ''] = await readdir(engines);
  const extensions = await readdir(join(engines, name, 'share/postgresql/extension'));
  for (const wanted of ['plpgsql.control', 'hstore.control', 'amcheck.control', 'uuid-ossp.control']) {
    assert.ok(extensions.includes(wanted), wanted);
  }
  const libraries = await readdir(join(engines, name, 'lib/postgresql'));
  for (const dropped of [
    'dblink',
    'postgres_fdw',
    'file_fdw',
    'plperl',
    'basebackup_to_shell',
    'basic_archive',
  ]) {
    assert.ok(!extensions.some((file) => file.startsWith(dropped)), dropped);
    assert.ok(!libraries.some((file) => file.startsWith(dropped)), dropped);
  }
  const links = await readdir(join(engines, name, 'lib'));
  const libpq = links.find((file) => /^libpq\.(?:so\.5|5\.dylib)$/.test(file)) ?? '';
  assert.ok(!(await readlink(join(engines, name, 'lib', libpq))).startsWith('/'));
});

test('a virtual cluster is a system of its own, served as its own user, with folders it cannot change', async () => {
  const other = await store.serve(4, 'other');
  assert.notEqual(other.identity.systemIdentifier, main.identity.systemIdentifier);
  for (const instance of [main, other]) {
    const { identity, dataDirectory } = instance;
    const row = await systemRow(instance, 'SELECT system_identifier FROM pg_control_system()');
    assert.equal(row['system_identifier'], identity.systemIdentifier.toString());
    const data = await stat(dataDirectory);
    assert.equal(data.mode & 0o777, 0o700);
    assert.equal((await stat(instance.socketPath)).mode & 0o777, 0o700);
    if (!isRoot()) continue;
    assert.equal(identity.uid, 700_000 + identity.virtualClusterId);
    assert.equal(data.uid, identity.uid);
    assert.equal((await stat(`/proc/${pidOf(instance)}`)).uid, identity.uid);
    const folder = await stat(dirname(dataDirectory));
    assert.deepEqual([folder.uid, folder.mode & 0o777], [0, 0o710]);
  }
  if (isRoot()) {
    const attempts = [
      ['cat', join(other.dataDirectory, 'PG_VERSION')],
      ['ls', dirname(other.dataDirectory)],
      ['ls', dirname(other.socketPath)],
      ['ls', join(store.directory, 'logs')],
      ['cat', join(store.directory, 'cluster-key')],
      ['touch', join(dirname(main.dataDirectory), 'identity.json')],
      ['kill', '-0', String(pidOf(other))],
    ];
    for (const [program = '', ...parameters] of attempts) {
      const uid = main.identity.uid ?? 0;
      const { status, stderr } = spawnSync(program, parameters, { uid, gid: uid, encoding: 'utf8' });
      assert.notEqual(status, 0, `${program} ${parameters.join(' ')}`);
      assert.match(stderr, /permission denied|not permitted/i);
    }
  }
  // Random data that copies of one template must not share.
  const nonce = async (instance: Instance) =>
    (await readFile(join(instance.dataDirectory, 'global/pg_control'))).subarray(257, 289).toString('hex');
  assert.notEqual(await nonce(main), await nonce(other));
  await store.host.remove({ virtualClusterId: other.identity.virtualClusterId, signal: NEVER });
});

test('pg_control is read as Postgres reads it', async () => {
  await main.withSystemClient((client) => client.query('CHECKPOINT'), { signal: NEVER });
  const control = parseControlFile(await readFile(join(main.dataDirectory, 'global/pg_control')));
  const row = await systemRow(
    main,
    `SELECT s.system_identifier, s.catalog_version_no, c.checkpoint_lsn - '0/0'::pg_lsn AS checkpoint_lsn,
       c.redo_lsn - '0/0'::pg_lsn AS redo_lsn, c.timeline_id, c.prev_timeline_id, c.next_xid,
       r.min_recovery_end_lsn - '0/0'::pg_lsn AS min_recovery_lsn, r.min_recovery_end_timeline,
       r.end_of_backup_record_required, i.database_block_size, i.bytes_per_wal_segment, i.data_page_checksum_version,
       current_setting('max_connections') AS max_connections, current_setting('wal_level') AS wal_level,
       current_setting('max_worker_processes') AS max_worker_processes, current_setting('max_wal_senders') AS max_wal_senders,
       current_setting('max_locks_per_transaction') AS max_locks
     FROM pg_control_system() s, pg_control_checkpoint() c, pg_control_recovery() r, pg_control_init() i`,
  );
  assert.deepEqual(
    {
      system_identifier: control.systemIdentifier.toString(),
      catalog_version_no: String(control.catalogVersion),
      checkpoint_lsn: control.checkpointLsn.toString(),
      redo_lsn: control.redoLsn.toString(),
      timeline_id: String(control.timelineId),
      prev_timeline_id: String(control.previousTimelineId),
      next_xid: `${control.nextXid >> 32n}:${control.nextXid & 0xffff_ffffn}`,
      min_recovery_lsn: control.minRecoveryLsn.toString(),
      min_recovery_end_timeline: String(control.minRecoveryTimelineId),
      end_of_backup_record_required: control.isBackupEndRequired ? 't' : 'f',
      database_block_size: String(control.blockBytes),
      bytes_per_wal_segment: String(control.walSegmentBytes),
      data_page_checksum_version: control.hasDataChecksums ? '1' : '0',
      max_connections: String(control.maxConnections),
      wal_level: control.walLevel,
      max_worker_processes: String(control.maxWorkerProcesses),
      max_wal_senders: String(control.maxWalSenders),
      max_locks: String(control.maxLocksPerTransaction),
    },
    row,
  );
  assert.equal(control.state, 'in_production');
});

test('a new virtual cluster counts its own transactions, not those by which the template was made', async () => {
  const row = await systemRow(
    main,
    `SELECT coalesce(sum(xact_commit + xact_rollback), 0) AS n, count(stats_reset) AS resets
     FROM pg_stat_database WHERE datname IN ('defaultdb', 'template0', 'template1')`,
  );
  assert.deepEqual(row, { n: '0', resets: '0' });
});

test('sessions of ours are deaf to what a tenant configures', async () => {
  await withTenant(main, { user: 'root', database: 'defaultdb' }, async (tenant) => {
    await tenant.query('ALTER DATABASE defaultdb SET search_path = public');
    await tenant.query("ALTER DATABASE defaultdb SET statement_timeout = '1ms'");
    await tenant.query("ALTER DATABASE defaultdb SET datestyle = 'german'");
    // A superuser's session is in a tenant's database to change something, and to be sure of it.
    await tenant.query('ALTER DATABASE defaultdb SET default_transaction_read_only = on');
    await tenant.query('ALTER DATABASE defaultdb SET synchronous_commit = off');
  });
  const shown =
    "SELECT current_user, current_setting('search_path') AS path, current_setting('statement_timeout') AS t, '2024-04-18'::date AS d";
  const rows = await main.withReaderClient({ database: 'defaultdb', signal: NEVER }, (client) =>
    client.query(shown),
  );
  assert.deepEqual(rows, [
    { current_user: 'atoll_reader', path: 'pg_catalog,pg_temp', t: '0', d: '2024-04-18' },
  ]);
  const system = await systemRow(
    main,
    "SELECT current_user, current_database() AS db, current_setting('event_triggers') AS e",
  );
  assert.deepEqual(system, { current_user: 'atoll', db: 'system', e: 'off' });
  await withTenant(main, { user: 'root', database: 'postgres' }, (tenant) =>
    tenant.query('ALTER DATABASE defaultdb RESET ALL'),
  );
});

test('the reader gets into databases whose owner closed them, and can change nothing', async () => {
  const name = 'closed "one"';
  await withTenant(main, { user: 'root', database: 'postgres' }, async (tenant) => {
    await tenant.query(`CREATE DATABASE "${name.replaceAll('"', '""')}"`);
    await tenant.query(`REVOKE CONNECT ON DATABASE "${name.replaceAll('"', '""')}" FROM PUBLIC`);
  });
  const inside = { database: name, signal: NEVER };
  const rows = await main.withReaderClient(inside, (client) =>
    client.query('SELECT current_database() AS db'),
  );
  assert.deepEqual(rows, [{ db: name }]);
  await assert.rejects(
    main.withReaderClient(inside, (client) => client.query('CREATE TEMP TABLE t (a int)')),
    { code: '25006' },
  );
  await assert.rejects(
    main.withReaderClient({ database: 'nowhere', signal: NEVER }, (client) => client.query('SELECT 1')),
    { code: 'object_not_found' },
  );
});

test('a session that is waited for no longer is given up, and its statement ends', async () => {
  const over = new AbortController();
  const sleeping = main.withSystemClient((client) => client.query('SELECT pg_sleep(600) /* given up */'), {
    signal: over.signal,
  });
  const count =
    "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE '%/* given up */' AND state = 'active' AND pid <> pg_backend_pid()";
  await waitFor('the statement to run', async () => (await systemRow(main, count))['n'] === '1');
  over.abort();
  await assert.rejects(sleeping, { code: 'cancelled' });
  await waitFor('the statement to end', async () => (await systemRow(main, count))['n'] === '0');
  // Both places of the pool can be had again.
  await Promise.all([systemRow(main, 'SELECT pg_sleep(0.01)'), systemRow(main, 'SELECT pg_sleep(0.01)')]);
});

test('an administrator of a tenant administrates', async () => {
  await withTenant(main, { user: 'root', database: 'defaultdb' }, async (tenant) => {
    for (const allowed of [
      'CREATE ROLE app LOGIN',
      'GRANT admin TO app',
      'CREATE TABLE mine (a int)',
      'CREATE EXTENSION hstore',
      'CREATE EXTENSION pgcrypto',
      'CREATE DATABASE more',
      'CREATE DATABASE plain TEMPLATE template0',
      "ALTER DATABASE more SET work_mem = '8MB'",
      'CHECKPOINT',
      'SET ROLE admin',
    ]) {
      await tenant.query(allowed);
    }
  });
  await withTenant(main, { user: 'app', database: 'more' }, async (tenant) => {
    await tenant.query('CREATE TABLE theirs (a int)');
    await tenant.query('SET ROLE admin');
    await tenant.query('CREATE DATABASE third');
  });
  // Privileges every virtual cluster is born with are no news to a dump, which looks at no other schema of that kind.
  await withTenant(main, { user: 'root', database: 'plain' }, async (tenant) => {
    const { rows } = await tenant.query(`
      SELECT p.oid::regprocedure::text AS what FROM pg_proc p
        LEFT JOIN pg_init_privs i ON i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid
        WHERE p.proacl IS DISTINCT FROM i.initprivs AND p.pronamespace = 'pg_catalog'::regnamespace
      UNION ALL SELECT n.nspname FROM pg_namespace n
        LEFT JOIN pg_init_privs i ON i.classoid = 'pg_namespace'::regclass AND i.objoid = n.oid
        WHERE n.nspacl IS DISTINCT FROM i.initprivs AND n.nspname = 'public'`);
    assert.deepEqual(rows, []);
  });
});

const FORBIDDEN: Readonly<Record<string, string>> = {
  "COPY (SELECT 1) TO PROGRAM 'id'": '42501',
  "COPY (SELECT 1) TO '/tmp/atoll-escape'": '42501',
  "CREATE TEMP TABLE t (a text); COPY t FROM '/etc/passwd'": '42501',
  "SELECT pg_read_file('/etc/passwd')": '42501',
  "SELECT pg_ls_dir('/')": '42501',
  "SELECT lo_import('/etc/passwd')": '42501',
  "SELECT lo_export(1, '/tmp/atoll-escape')": '42501',
  "LOAD '/tmp/atoll-escape.so'": '42501',
  "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/tmp/atoll-escape', 'f'": '42501',
  "SELECT pg_create_logical_replication_slot('s', '/tmp/atoll-escape')": '42501',
  "SELECT pg_drop_replication_slot('atoll_vault')": '42501',
  "SELECT pg_replication_slot_advance('atoll_vault', '0/1')": '42501',
  "SELECT pg_copy_logical_replication_slot('s', 't', false, '/tmp/atoll-escape')": '42501',
  "SELECT pg_create_physical_replication_slot('s')": '42501',
  "CREATE TABLESPACE s LOCATION '/tmp'": '42501',
  "ALTER SYSTEM SET work_mem = '1MB'": '0A000',
  "SET session_preload_libraries = 'x'": '42501',
  "ALTER ROLE root SET session_preload_libraries = 'x'": '42501',
  "ALTER DATABASE defaultdb SET temp_file_limit = '-1'": '42501',
  'ALTER ROLE root SUPERUSER': '42501',
  'CREATE ROLE boss SUPERUSER': '42501',
  'GRANT atoll TO root': '42501',
  'GRANT pg_execute_server_program TO root': '42501',
  'GRANT pg_read_server_files TO root': '42501',
  'SET ROLE atoll': '42501',
  'SET SESSION AUTHORIZATION atoll': '42501',
  "ALTER ROLE atoll PASSWORD 'x'": '42501',
  "ALTER ROLE atoll_reader PASSWORD 'x'": '42501',
  'GRANT atoll_reader TO root': '42501',
  'CREATE DATABASE stolen TEMPLATE system': '42501',
  'GRANT CONNECT ON DATABASE system TO root': '42501',
  'ALTER DATABASE system OWNER TO root': '42501',
  'DROP DATABASE system': '42501',
  "CREATE SUBSCRIPTION s CONNECTION 'host=/tmp' PUBLICATION p WITH (connect = false)": '42501',
  'CREATE EXTENSION pg_visibility': '42501',
  'CREATE EXTENSION dblink': '0A000',
  'CREATE EXTENSION plperlu': '0A000',
  'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $$atoll$$': '42501',
  'SHOW data_directory': '42501',
  'SHOW unix_socket_directories': '42501',
};

test('an administrator of a tenant does not get out of it', async () => {
  await main.withSystemClient(
    async (system) => {
      await system.query('SELECT 1'); // A session of ours is there to be terminated.
      await withTenant(main, { user: 'root', database: 'defaultdb' }, async (tenant) => {
        for (const [sql, sqlstate] of Object.entries(FORBIDDEN)) {
          await assert.rejects(tenant.query(sql), { code: sqlstate }, sql);
        }
      });
    },
    { signal: NEVER },
  );
  await assert.rejects(
    withTenant(main, { user: 'root', database: 'system' }, (tenant) => tenant.query('SELECT 1')),
    {
      code: '42501',
    },
  );
});

test('configuration inside the data directory is never read', async () => {
  const { dataDirectory } = main;
  await appendFile(join(dataDirectory, 'postgresql.auto.conf'), "shared_preload_libraries = 'nonsense'\n");
  await writeFile(join(dataDirectory, 'pg_hba.conf'), 'local all all trust\n');
  await writeFile(join(dataDirectory, 'standby.signal'), '');
  await main.stop({ mode: 'orderly', signal: NEVER });
  await main.start({ signal: NEVER });
  const names = await readdir(dataDirectory);
  assert.ok(!names.includes('postgresql.auto.conf') && !names.includes('pg_hba.conf'));
  const row = await systemRow(main, 'SELECT pg_is_in_recovery() AS r');
  assert.equal(row['r'], 'f');
});

test('a killed server and its left-overs are replaced, nothing committed is lost', async () => {
  const generation = main.generation;
  await withTenant(main, { user: 'root', database: 'defaultdb' }, async (tenant) => {
    await tenant.query('CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n');
    // A backend that works on without noticing that its postmaster is gone.
    const busy = tenant.query(
      'DO $$ BEGIN PERFORM sum(n) FROM generate_series(1, 1e12::bigint) AS n; END $$',
    );
    busy.catch(() => undefined);
    await waitFor('the statement to run', async () => {
      const row = await systemRow(
        main,
        "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE '%1e12%' AND datname = 'defaultdb'",
      );
      return row['n'] === '1';
    });
    process.kill(pidOf(main), 'SIGKILL');
    await waitFor('the restart', () => main.generation > generation);
    await assert.rejects(busy);
  }).catch(() => undefined);
  await main.whenServing({ timeoutMs: 60_000, signal: NEVER });
  const rows = await withTenant(main, { user: 'root', database: 'defaultdb' }, (tenant) =>
    tenant.query('SELECT count(*)::int AS n FROM kept'),
  );
  assert.deepEqual(rows.rows, [{ n: 1000 }]);
  assert.ok(store.logger.has('instance ended: killed by SIGKILL'));
});

test('two starts, two stops and a start while it stops are one of each', async () => {
  const generation = main.generation;
  await Promise.all([main.start({ signal: NEVER }), main.start({ signal: NEVER })]);
  assert.equal(main.generation, generation);
  const stops = [
    main.stop({ mode: 'orderly', signal: NEVER }),
    main.stop({ mode: 'immediate', signal: NEVER }),
  ];
  assert.equal(main.state.kind, 'stopping');
  const start = main.start({ signal: NEVER });
  await Promise.all([...stops, start]);
  assert.equal(main.state.kind, 'running');
  assert.equal(main.generation, generation + 1);
  await main.stop({ mode: 'orderly', signal: NEVER });
  await main.stop({ mode: 'orderly', signal: NEVER });
  assert.deepEqual(await processesIn(main.dataDirectory), []);
  await assert.rejects(
    main.withSystemClient((client) => client.query('SELECT 1'), { signal: NEVER }),
    {
      code: 'cannot_connect_now',
    },
  );
  await assert.rejects(main.whenServing({ timeoutMs: 10, signal: NEVER }), { code: 'cannot_connect_now' });
  await main.start({ signal: NEVER });
});

test('a stop right after a start leaves nothing behind', async () => {
  await main.stop({ mode: 'orderly', signal: NEVER });
  for (let round = 0; round < 3; round++) {
    const start = main.start({ signal: NEVER }).catch((error: unknown) => error);
    await main.stop({ mode: 'orderly', signal: NEVER });
    assert.match(String(await start), /was stopped while it started/);
    assert.equal(main.state.kind, 'stopped');
    assert.deepEqual(await processesIn(main.dataDirectory), []);
  }
  await main.start({ signal: NEVER });
});

test('a start that fails says why, is tried again, and can be given up', async () => {
  main.configure({ ...DEFAULT_INSTANCE_SETTINGS, extra: { work_mem: 'a lot' } });
  await main.stop({ mode: 'orderly', signal: NEVER });
  await assert.rejects(main.start({ signal: NEVER }), (error: { code?: string; detail?: string }) => {
    assert.equal(error.code, 'instance_failed');
    assert.match(error.detail ?? '', /invalid value for parameter "work_mem"/);
    return true;
  });
  assert.equal(main.state.kind, 'backing_off');
  // A client that waits may be anybody: it learns neither the log nor where anything lies.
  await assert.rejects(main.whenServing({ timeoutMs: 0.75, signal: NEVER }), (error: AppError) => {
    assert.equal(error.code, 'cannot_connect_now');
    const told = [error.message, error.detail, error.hint].join('\n');
    assert.doesNotMatch(told, /work_mem|\/|FATAL|0\.75/);
    assert.match(told, /log of the node/);
    return true;
  });
  assert.ok(store.logger.has('invalid value for parameter "work_mem"'), 'the log has the reason');
  main.configure(DEFAULT_INSTANCE_SETTINGS);
  await main.whenServing({ timeoutMs: 60_000, signal: NEVER });
});

test('a full disk is called so', { skip: process.platform !== 'linux' }, async () => {
  await main.stop({ mode: 'orderly', signal: NEVER });
  // The server writes its options into this file when it starts, and there is no room behind this name.
  const options = join(main.dataDirectory, 'postmaster.opts');
  await rm(options, { force: true });
  await symlink('/dev/full', options);
  await assert.rejects(main.start({ signal: NEVER }), (error: AppError) => {
    assert.equal(error.code, 'disk_full');
    assert.match(error.message, /"main" did not start: no space is left on its disk/);
    assert.match(error.hint ?? '', /free space/);
    return true;
  });
  const reason = 'virtual cluster "main" does not run: no space is left on its disk';
  await assert.rejects(main.whenServing({ timeoutMs: 1, signal: NEVER }), {
    code: 'cannot_connect_now',
    message: reason,
  });
  await assert.rejects(
    main.withSystemClient((client) => client.query('SELECT 1'), { signal: NEVER }),
    { code: 'cannot_connect_now', message: reason },
  );
  await unlink(options);
  await main.whenServing({ timeoutMs: 60_000, signal: NEVER });
});

test('a session that cannot be had names no path', async () => {
  const options = { socketDirectory: join(store.directory, 'run', '77'), clusterName: 'gone', signal: NEVER };
  await assert.rejects(
    withSystemSession(options, async () => undefined),
    (error: AppError) => {
      assert.equal(error.message, 'cannot connect to virtual cluster "gone": ENOENT');
      assert.equal(error.code, 'connection_failure');
      return true;
    },
  );
});

test('lines of the log arrive under the name of the virtual cluster, also after it is renamed', async () => {
  await withTenant(main, { user: 'root', database: 'defaultdb' }, (tenant) =>
    tenant.query("DO $$ BEGIN RAISE WARNING E'first line\\nsecond line'; END $$"),
  );
  const entry = await waitFor('the entry', () =>
    store.logger.entries.find(({ message }) => message.includes('first line second line')),
  );
  assert.equal(entry.severity, 'warning');
  assert.equal(entry.scope?.virtualClusterName, 'main');
  await store.host.rename({ virtualClusterId: 3 as VirtualClusterId, name: 'renamed' as VirtualClusterName });
  await withTenant(main, { user: 'root', database: 'defaultdb' }, (tenant) =>
    tenant.query("DO $$ BEGIN RAISE WARNING 'after'; END $$"),
  );
  const later = await waitFor('the entry', () =>
    store.logger.entries.find(({ message }) => message.includes(': ‹after')),
  );
  assert.equal(later.scope?.virtualClusterName, 'renamed');
});

test('a virtual cluster that exists is not made twice, one that is removed is gone', async () => {
  const create = () =>
    store.host.create({
      virtualClusterId: 5 as VirtualClusterId,
      name: 'five' as VirtualClusterName,
      settings: DEFAULT_INSTANCE_SETTINGS,
      signal: NEVER,
    });
  const [first, second] = await Promise.allSettled([create(), create()]);
  assert.equal(first.status, 'fulfilled');
  assert.equal(second.status === 'rejected' && second.reason.code, 'object_exists');
  const five = store.host.get(5 as VirtualClusterId);
  assert.ok(five);
  await five.start({ signal: NEVER });
  const { dataDirectory } = five;
  await store.host.remove({ virtualClusterId: 5 as VirtualClusterId, signal: NEVER });
  await store.host.remove({ virtualClusterId: 5 as VirtualClusterId, signal: NEVER });
  assert.equal(store.host.get(5 as VirtualClusterId), undefined);
  assert.deepEqual(await processesIn(dataDirectory), []);
  assert.deepEqual(await readdir(join(store.directory, 'vc')), ['3']);
  assert.deepEqual(await readdir(join(store.directory, 'run')), ['3']);
});

test('a virtual cluster whose folder somebody took away is removed, and its server with it', async () => {
  const six = await store.serve(6, 'six');
  const pid = pidOf(six);
  const elsewhere = join(store.directory, 'elsewhere');
  await rename(dirname(six.dataDirectory), elsewhere);
  await store.host.remove({ virtualClusterId: 6 as VirtualClusterId, signal: NEVER });
  assert.equal(store.host.get(6 as VirtualClusterId), undefined);
  assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
  await rm(elsewhere, { recursive: true });
  assert.deepEqual(await readdir(join(store.directory, 'vc')), ['3']);
  assert.deepEqual(await readdir(join(store.directory, 'run')), ['3']);
});

test('an idle instance is small', { skip: process.platform !== 'linux' }, async (context) => {
  const instance = await store.serve(6, 'idle');
  const pids = await processesIn(instance.dataDirectory);
  let pssKib = 0;
  for (const pid of pids) {
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
    pssKib += Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0);
  }
  context.diagnostic(`${pids.length} processes, ${(pssKib / 1024).toFixed(1)} MiB`);
  // With one session of ours still open, which an idle instance has not.
  assert.ok(pssKib / 1024 < 16, `${pssKib} KiB`);
});

test('creating and starting is quick', async (context) => {
  const begin = performance.now();
  await store.host.create({
    virtualClusterId: 7 as VirtualClusterId,
    name: 'quick' as VirtualClusterName,
    settings: DEFAULT_INSTANCE_SETTINGS,
    signal: NEVER,
  });
  const created = performance.now();
  await store.host.get(7 as VirtualClusterId)?.start({ signal: NEVER });
  const started = performance.now();
  context.diagnostic(`create ${(created - begin).toFixed(0)} ms, start ${(started - created).toFixed(0)} ms`);
});

test('a folder that is in the way is not touched', async () => {
  await mkdir(join(store.directory, 'vc', '9'));
  await assert.rejects(
    store.host.create({
      virtualClusterId: 9 as VirtualClusterId,
      name: 'nine' as VirtualClusterName,
      settings: DEFAULT_INSTANCE_SETTINGS,
      signal: NEVER,
    }),
    { code: 'object_exists' },
  );
});
