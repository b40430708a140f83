/**
 * The ways out of a managed PostgreSQL that have been published, tried by an admin of one virtual cluster. docs/security.md tells for each
 * why it is shut; its headings are those of this file.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { childPids } from '../harness/child-pids.ts';
import { makeGroupsFolder, removeGroupsFolder } from '../harness/control-groups.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { droppedFlags } from '../harness/dropped-user.ts';
import { waitFor } from '../harness/wait.ts';

/** What nobody may ever see made. */
const OWNED = '/tmp/atoll-owned';
const NETWORK = 'host=127.0.0.1 port=1 user=u password=p dbname=d';

/** Statements, with the SQLSTATE that each must end in. */
const ROUTES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'becoming superuser': {
    'ALTER ROLE root SUPERUSER': '42501',
    'CREATE ROLE evil SUPERUSER': '42501',
    'CREATE ROLE evil BYPASSRLS': '42501',
    'CREATE ROLE evil IN ROLE atoll': '42501',
    'SET ROLE atoll': '42501',
    'SET SESSION AUTHORIZATION atoll': '42501',
    'GRANT atoll TO root': '42501',
    'CREATE ROLE evil ADMIN atoll': '0LP01',
    'ALTER ROLE admin SUPERUSER': '42501',
    // What is the superuser's runs as the superuser: its index expressions when it is analyzed, its rules, its definer functions.
    'ALTER TABLE scratch OWNER TO atoll': '42501',
    'ALTER TABLE scratch OWNER TO atoll_reader': '42501',
    'ALTER FUNCTION on_event() OWNER TO atoll': '42501',
    'ALTER SCHEMA public OWNER TO atoll': '42501',
    'ALTER FUNCTION pg_catalog.lower(text) OWNER TO root': '42501',
    'ALTER FUNCTION pg_catalog.lower(text) SECURITY DEFINER': '42501',
    'CREATE OR REPLACE FUNCTION pg_catalog.lower(text) RETURNS text LANGUAGE sql RETURN $1': '42501',
    'CREATE RULE evil AS ON SELECT TO pg_roles DO INSTEAD SELECT 1': '42501',
    'CREATE TRIGGER evil BEFORE INSERT ON pg_proc EXECUTE FUNCTION suppress_redundant_updates_trigger()': '42501',
    'CREATE INDEX ON pg_authid ((rolname))': '42501',
    "ALTER ROLE atoll PASSWORD 'x'": '42501',
    'ALTER ROLE atoll RENAME TO mine': '42501',
    'REASSIGN OWNED BY atoll TO root': '42501',
    'DROP OWNED BY atoll': '42501',
    'ALTER DEFAULT PRIVILEGES FOR ROLE atoll GRANT ALL ON TABLES TO root': '42501',
    'CREATE DATABASE evil OWNER atoll': '42501',
    'CREATE SCHEMA AUTHORIZATION atoll': '42501',
    "UPDATE pg_authid SET rolsuper = true WHERE rolname = 'root'": '42501',
    'SET allow_system_table_mods = on': '42501',
    "INSERT INTO pg_auth_members SELECT 1, 10, oid, 10, true, true, true FROM pg_roles WHERE rolname = 'root'": '42501',
  },
  'roles that open the host, and those of the node': {
    'GRANT pg_execute_server_program TO root': '42501',
    'GRANT pg_read_server_files TO root': '42501',
    'GRANT pg_write_server_files TO root': '42501',
    'GRANT pg_monitor TO root': '42501',
    'GRANT pg_read_all_settings TO root': '42501',
    'GRANT pg_use_reserved_connections TO root': '42501',
    'CREATE ROLE evil IN ROLE pg_read_server_files': '42501',
    'GRANT atoll_reader TO root': '42501',
    'GRANT atoll_replicator TO root': '42501',
    'SET ROLE atoll_operator': '42501',
    'SET SESSION AUTHORIZATION atoll_reader': '42501',
    "ALTER ROLE atoll_reader SET search_path = 'evil'": '42501',
    "ALTER ROLE atoll_reader PASSWORD 'x'": '42501',
    'ALTER ROLE atoll_operator NOLOGIN': '42501',
    'DROP ROLE atoll_replicator': '42501',
    'DROP OWNED BY atoll_reader': '42501',
  },
  'programs': {
    [`COPY (SELECT 1) TO PROGRAM 'id > ${OWNED}'`]: '42501',
    "COPY scratch FROM PROGRAM 'id'": '42501',
    "ALTER SYSTEM SET archive_command = 'id'": '0A000',
    'ALTER SYSTEM RESET ALL': '0A000',
    "ALTER SYSTEM SET ssl_passphrase_command = 'id'": '0A000',
    "ALTER ROLE root SET archive_command = 'id'": '55P02',
    "ALTER DATABASE defaultdb SET ssl_passphrase_command = 'id'": '55P02',
    "SET archive_cleanup_command = 'id'": '55P02',
    "SET recovery_end_command = 'id'": '55P02',
    "SET archive_command = 'id'": '55P02',
    "SET restore_command = 'id'": '55P02',
    "SET ssl_passphrase_command = 'id'": '55P02',
  },
  'files of the host': {
    "SELECT pg_read_file('/etc/passwd')": '42501',
    "SELECT pg_read_file('postmaster.pid')": '42501',
    "SELECT pg_read_binary_file('/etc/passwd')": '42501',
    "SELECT pg_stat_file('/etc/passwd')": '42501',
    "SELECT pg_ls_dir('/')": '42501',
    'SELECT pg_ls_waldir()': '42501',
    'SELECT pg_ls_logdir()': '42501',
    'SELECT pg_ls_tmpdir()': '42501',
    'SELECT pg_ls_archive_statusdir()': '42501',
    'SELECT pg_ls_logicalsnapdir()': '42501',
    'SELECT pg_ls_logicalmapdir()': '42501',
    'SELECT pg_ls_summariesdir()': '42501',
    "SELECT pg_ls_replslotdir('atoll_vault')": '42501',
    'SELECT * FROM pg_config': '42501',
    'SELECT pg_import_system_collations(0)': '42501',
    'SHOW config_file': '42501',
    'SHOW hba_file': '42501',
    "SELECT current_setting('data_directory')": '42501',
    "CREATE COLLATION evil (PROVIDER = libc, LOCALE = '../../../../tmp/evil')": '22023',
    'SELECT pg_current_logfile()': '42501',
    'SELECT pg_hba_file_rules()': '42501',
    'SELECT pg_ident_file_mappings()': '42501',
    'SELECT pg_show_all_file_settings()': '42501',
    "COPY scratch FROM '/etc/passwd'": '42501',
    [`COPY (SELECT 'x') TO '${OWNED}'`]: '42501',
    "SELECT lo_import('/etc/passwd')": '42501',
    [`SELECT lo_export(1, '${OWNED}')`]: '42501',
    "CREATE TABLESPACE evil LOCATION '/tmp'": '42501',
    "CREATE TEXT SEARCH DICTIONARY evil (TEMPLATE = simple, STOPWORDS = '../../../etc/passwd')": '22023',
    "CREATE TEXT SEARCH DICTIONARY evil (TEMPLATE = ispell, DICTFILE = '/etc/passwd', AFFFILE = 'x')": '22023',
    "CREATE TEXT SEARCH DICTIONARY evil (TEMPLATE = synonym, SYNONYMS = '../../../etc/passwd')": '22023',
    "CREATE TEXT SEARCH DICTIONARY evil (TEMPLATE = thesaurus, DICTFILE = '../x', DICTIONARY = simple)": '22023',
    "CREATE DATABASE evil TEMPLATE template0 LOCALE_PROVIDER libc LOCALE '../../../tmp/evil'": '42809',
    "SET lc_time = '../../../tmp/evil'": '22023',
    "SET TIME ZONE '../../../../etc/passwd'": '22023',
    "SET timezone_abbreviations = '../../../etc/passwd'": '22023',
    "CREATE EXTENSION \"../evil\"": '22023',
    "CREATE EXTENSION hstore VERSION '../../evil'": '22023',
    'SHOW data_directory': '42501',
    'SHOW unix_socket_directories': '42501',
    'SHOW primary_conninfo': '42501',
  },
  'code that is loaded': {
    "LOAD '/tmp/evil.so'": '42501',
    "LOAD '$libdir/plugins/evil'": '58P01',
    "CREATE FUNCTION evil() RETURNS int LANGUAGE c AS '/lib/x86_64-linux-gnu/libc.so.6', 'getpid'": '42501',
    "CREATE FUNCTION evil(text) RETURNS text LANGUAGE internal AS 'pg_read_file_all'": '42501',
    'CREATE LANGUAGE evil HANDLER plpgsql_call_handler': '42501',
    'CREATE EXTENSION plpython3u': '0A000',
    'CREATE EXTENSION plperlu': '0A000',
    "SET session_preload_libraries = '/tmp/evil'": '42501',
    "ALTER ROLE root SET session_preload_libraries = '/tmp/evil'": '42501',
    "SET dynamic_library_path = '/tmp'": '42501',
    "SET extension_control_path = '/tmp'": '42501',
    "SET shared_preload_libraries = 'evil'": '55P02',
    "SET jit_provider = 'evil'": '55P02',
    "ALTER DATABASE defaultdb SET session_preload_libraries = '/tmp/evil'": '42501',
    "ALTER DATABASE defaultdb SET dynamic_library_path = '/tmp'": '42501',
    "SELECT set_config('session_preload_libraries', '/tmp/evil', false)": '42501',
    'CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION int4pl(int, int))': '42501',
    "SELECT pg_create_logical_replication_slot('s', '/tmp/evil')": '42501',
    'CREATE TYPE evil': '42501',
    'CREATE ACCESS METHOD evil TYPE INDEX HANDLER bthandler': '42501',
    'CREATE FOREIGN DATA WRAPPER evil': '42501',
    'CREATE CAST (text AS int) WITHOUT FUNCTION': '42501',
    'CREATE TEXT SEARCH TEMPLATE evil (LEXIZE = dsimple_lexize)': '42501',
    'CREATE OPERATOR CLASS evil FOR TYPE int4 USING btree AS STORAGE int4': '42501',
  },
  'extensions whose scripts run as superuser': {
    'CREATE EXTENSION amcheck': '42501',
    'CREATE EXTENSION pageinspect': '42501',
    'CREATE EXTENSION pg_walinspect': '42501',
    'CREATE EXTENSION earthdistance CASCADE': '42501',
    'CREATE EXTENSION adminpack': '0A000',
    'CREATE EXTENSION file_fdw': '0A000',
    'CREATE EXTENSION dblink': '0A000',
    'CREATE EXTENSION postgres_fdw': '0A000',
    // A trap with the name of what the script makes: replaced or called by it, it would be the superuser's.
    'CREATE FUNCTION hstore_in(cstring) RETURNS int LANGUAGE sql AS $$SELECT 1$$': '42P13',
    'CREATE EXTENSION lo SCHEMA trap': '42723',
    "ALTER EXTENSION plpgsql UPDATE TO '../../evil'": '42501',
    'ALTER EXTENSION plpgsql SET SCHEMA trap': '42501',
    'ALTER EXTENSION plpgsql UPDATE': '42501',
    'ALTER EXTENSION plpgsql ADD TABLE scratch': '42501',
    'ALTER EXTENSION plpgsql DROP EVENT TRIGGER pg_atoll_grant_defaults': '42501',
    'DROP EXTENSION plpgsql CASCADE': '42501',
  },
  'triggers that others fire': {
    'CREATE EVENT TRIGGER evil ON ddl_command_start EXECUTE FUNCTION on_event()': '42501',
    'CREATE EVENT TRIGGER evil ON login EXECUTE FUNCTION on_event()': '42501',
    'ALTER EVENT TRIGGER pg_atoll_grant_defaults DISABLE': '42501',
    'DROP EVENT TRIGGER pg_atoll_guard_subscription': '42501',
    'SET event_triggers = off': '42501',
    'SET session_replication_role = replica': '42501',
    'ALTER ROLE ALL SET search_path = evil': '42501',
    'ALTER DATABASE system SET search_path = evil': '42501',
    'ALTER ROLE atoll IN DATABASE system SET search_path = evil': '42501',
    'ALTER ROLE atoll IN DATABASE defaultdb SET search_path = evil': '42501',
    'ALTER ROLE atoll_reader IN DATABASE defaultdb SET role = root': '42501',
    'ALTER DATABASE defaultdb SET session_replication_role = replica': '42501',
    'ALTER DATABASE defaultdb SET event_triggers = off': '42501',
  },
  "Atoll's own tables and functions": {
    'CREATE DATABASE stolen TEMPLATE system': '42501',
    'ALTER DATABASE system OWNER TO root': '42501',
    'ALTER DATABASE system RENAME TO evil': '42501',
    'DROP DATABASE system': '42501',
    'GRANT CONNECT ON DATABASE system TO root': '42501',
    'ALTER DATABASE template1 OWNER TO root': '42501',
    'ALTER DATABASE template1 ALLOW_CONNECTIONS false': '42501',
    'ALTER DATABASE template0 ALLOW_CONNECTIONS true': '42501',
    'DROP DATABASE template1': '42501',
    'TRUNCATE pg_atoll.database_privileges': '42501',
    'ALTER EVENT TRIGGER pg_atoll_guard_subscription OWNER TO root': '42501',
    'CREATE SCHEMA pg_evil': '42939',
    'CREATE TABLE pg_atoll.evil (a int)': '42501',
    'CREATE TABLE pg_catalog.evil (a int)': '42501',
    'DROP SCHEMA pg_atoll CASCADE': '42501',
    'ALTER SCHEMA pg_atoll RENAME TO mine': '42501',
    'ALTER SCHEMA pg_atoll OWNER TO root': '42501',
    'CREATE FUNCTION pg_atoll.evil() RETURNS int LANGUAGE sql RETURN 1': '42501',
    'ALTER TABLE pg_atoll.database_privileges SET SCHEMA trap': '42501',
    'ALTER FUNCTION pg_atoll.may_pass_on RESET ALL': '42501',
    'REASSIGN OWNED BY atoll_reader TO root': '42501',
    "INSERT INTO pg_atoll.database_privileges SELECT oid, 'BACKUP', 10, true FROM pg_database": '42501',
    'ALTER FUNCTION pg_atoll.change_backup OWNER TO root': '42501',
    "CREATE OR REPLACE FUNCTION pg_atoll.may_pass_on(role name, wanted text) RETURNS boolean LANGUAGE sql AS 'SELECT true'": '42501',
    'ALTER TABLE pg_atoll.database_privileges DISABLE TRIGGER ALL': '42501',
    'CREATE TRIGGER evil BEFORE INSERT ON pg_atoll.database_privileges EXECUTE FUNCTION suppress_redundant_updates_trigger()': '42501',
    'CREATE INDEX ON pg_atoll.database_privileges ((grantee + 1))': '42501',
    'CREATE POLICY evil ON pg_atoll.database_privileges USING (true)': '42501',
    "SELECT pg_atoll.change_backup('pg_authid', 'grant', '{0}')": 'P0002',
    "SELECT pg_atoll.change_backup('scratch', 'grant; DROP TABLE scratch', '{0}')": '22004',
  },
  'other servers, by the hand of this one': {
    [`CREATE SUBSCRIPTION evil CONNECTION '${NETWORK} sslkeylogfile=${OWNED}' PUBLICATION p`]: '42501',
    [`CREATE SUBSCRIPTION evil CONNECTION '${NETWORK} sslcert=/c sslkey=/k' PUBLICATION p`]: '42501',
    "CREATE SUBSCRIPTION evil CONNECTION 'host=/tmp user=atoll password=p dbname=system' PUBLICATION p": '42501',
    "CREATE SUBSCRIPTION evil CONNECTION 'host=127.0.0.1 user=atoll dbname=system' PUBLICATION p": '2F003',
    [`CREATE SUBSCRIPTION evil CONNECTION '${NETWORK}' PUBLICATION p WITH (password_required = false)`]: '42501',
    [`DO $$BEGIN EXECUTE 'CREATE SUBSCRIPTION evil CONNECTION ''${NETWORK}'' PUBLICATION p'; END$$`]: '42501',
    'CREATE PUBLICATION evil FOR ALL TABLES': '42501',
    'CREATE PUBLICATION evil FOR TABLES IN SCHEMA public': '42501',
    [`CREATE SUBSCRIPTION evil CONNECTION '${NETWORK} passfile=/tmp/p' PUBLICATION p`]: '42501',
    [`CREATE SUBSCRIPTION evil CONNECTION '${NETWORK} service=evil' PUBLICATION p`]: '42501',
    "CREATE SUBSCRIPTION evil CONNECTION 'host=/run/atoll hostaddr=127.0.0.1 user=u password=p' PUBLICATION p": '42501',
    'CREATE SERVER evil FOREIGN DATA WRAPPER evil': '42704',
    "SELECT dblink_connect('x')": '42883',
  },
  "the log, and the node's slot in it": {
    "SELECT pg_drop_replication_slot('atoll_vault')": '42501',
    "SELECT pg_replication_slot_advance('atoll_vault', '0/0')": '42501',
    "SELECT pg_copy_physical_replication_slot('atoll_vault', 'mine')": '42501',
    "SELECT pg_create_physical_replication_slot('mine')": '42501',
    "SELECT pg_backup_start('x')": '42501',
    'SELECT pg_backup_stop()': '42501',
    "SELECT pg_replication_origin_advance('x', '0/1')": '42501',
    'SELECT pg_switch_wal()': '42501',
    'SELECT pg_promote()': '42501',
    "SELECT pg_create_restore_point('x')": '42501',
    'SELECT pg_wal_replay_pause()': '42501',
    "SELECT pg_replication_origin_create('x')": '42501',
    'SELECT pg_stat_reset()': '42501',
    'SELECT pg_reload_conf()': '42501',
    'SELECT pg_rotate_logfile()': '42501',
  },
  "the node's sessions": {
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'atoll'": '42501',
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'atoll'": '42501',
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'autovacuum launcher'": '42501',
    'SELECT pg_log_backend_memory_contexts(pg_backend_pid())': '42501',
  },
  'settings that only a superuser has': {
    'SET temp_file_limit = -1': '42501',
    "SET log_statement = 'all'": '42501',
    "SET log_min_messages = 'debug5'": '42501',
    'SET zero_damaged_pages = on': '42501',
    "SET backtrace_functions = 'x'": '42501',
    "SET max_stack_depth = '60MB'": '42501',
    'SET lo_compat_privileges = on': '42501',
    'SET log_min_duration_statement = 0': '42501',
    'SET ignore_checksum_failure = on': '42501',
    "SET wal_consistency_checking = 'all'": '42501',
    'ALTER ROLE root SET temp_file_limit = -1': '42501',
    'ALTER DATABASE defaultdb SET temp_file_limit = -1': '42501',
    "SELECT set_config('allow_system_table_mods', 'on', false)": '42501',
    'SELECT binary_upgrade_set_next_pg_authid_oid(10)': '55P02',
    "SELECT pg_nextoid('pg_class', 'oid', 'pg_class_oid_index')": '42501',
    'GRANT SET ON PARAMETER log_statement TO root': '42501',
  },
}; // biome-ignore format: a table

describe('an admin of a virtual cluster does not get out of it by', () => {
  let daemon: TestDaemon;
  let attacker: pg.Client;
  const groups = makeGroupsFolder();

  before(async () => {
    await rm(OWNED, { force: true });
    const groupFlags = groups.path === null ? [] : [`--cgroup-parent=${groups.path}`];
    daemon = await TestDaemon.start({ flags: [...droppedFlags(), ...groupFlags] });
    await daemon.query(['CREATE VIRTUAL CLUSTER other', 'ALTER VIRTUAL CLUSTER other START SERVICE SHARED'], {
      cluster: 'system',
    });
    attacker = await daemon.connect({ cluster: 'main' });
    for (const sql of [
      'CREATE TABLE scratch (t text)',
      'CREATE FUNCTION on_event() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$',
      'CREATE SCHEMA trap CREATE TABLE t (a int)',
      'CREATE FUNCTION trap.lo_manage() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$',
    ]) {
      await attacker.query(sql);
    }
  });
  after(async () => {
    try {
      await attacker.end().catch(() => undefined);
      await daemon[Symbol.asyncDispose]();
    } finally {
      if (groups.path !== null) await removeGroupsFolder(groups.path);
    }
  });

  const refused = async (client: pg.Client, sql: string, code: string): Promise<void> => {
    const outcome = await client.query(sql).then(
      () => 'carried out',
      (error: unknown) => error,
    );
    assert.ok(outcome instanceof Error && 'code' in outcome, `${sql}: ${String(outcome)}`);
    assert.equal(outcome.code, code, `${sql}: ${outcome.message}`);
  };

  for (const [route, statements] of Object.entries(ROUTES)) {
    test(route, async () => {
      for (const [sql, code] of Object.entries(statements)) await refused(attacker, sql, code);
    });
  }

  test('the name of a schema that extensions are made in', async () => {
    const schema = pg.escapeIdentifier('x"; ALTER ROLE root SUPERUSER; --\' $$ \\');
    await attacker.query(`CREATE SCHEMA ${schema}`);
    const { rows } = await attacker.query<{ name: string }>(
      'SELECT DISTINCT name FROM pg_available_extension_versions WHERE trusted AND NOT installed ORDER BY 1',
    );
    assert.ok(rows.length > 15);
    for (const { name } of rows) {
      // The scripts are run, or Postgres refuses the name; either way they do what they always do.
      await attacker
        .query(`CREATE EXTENSION ${pg.escapeIdentifier(name)} SCHEMA ${schema}`)
        .catch((error) => {
          assert.match(String(error.code), /^(22023|0A000)$/, error.message);
        });
    }
    await attacker.query(`DROP SCHEMA ${schema} CASCADE`);
  });

  test("names of its own in the way of the node's sessions", async () => {
    // Whoever resolves a name here, or lets an index or a default compute, leaves its own name behind.
    await attacker.query(`
      CREATE SCHEMA shadows;
      CREATE TABLE shadows.seen (who name);
      GRANT USAGE ON SCHEMA shadows TO PUBLIC;
      GRANT INSERT ON shadows.seen TO PUBLIC;
      CREATE FUNCTION shadows.note() RETURNS boolean LANGUAGE sql AS
        'INSERT INTO shadows.seen VALUES (current_user) RETURNING true';
      CREATE FUNCTION shadows.same(oid, oid) RETURNS boolean LANGUAGE plpgsql AS
        'BEGIN PERFORM shadows.note(); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
      CREATE FUNCTION shadows.same(name, name) RETURNS boolean LANGUAGE plpgsql AS
        'BEGIN PERFORM shadows.note(); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
      CREATE FUNCTION shadows.same(text, text) RETURNS boolean LANGUAGE plpgsql AS
        'BEGIN PERFORM shadows.note(); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
      CREATE OPERATOR shadows.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = shadows.same);
      CREATE OPERATOR shadows.= (LEFTARG = name, RIGHTARG = name, FUNCTION = shadows.same);
      CREATE OPERATOR shadows.= (LEFTARG = text, RIGHTARG = text, FUNCTION = shadows.same);
      CREATE FUNCTION shadows.quote_ident(text) RETURNS text LANGUAGE plpgsql AS
        'BEGIN PERFORM shadows.note(); RETURN pg_catalog.quote_ident($1); END';
      CREATE FUNCTION shadows.pg_has_role(name, oid, text) RETURNS boolean LANGUAGE plpgsql AS
        'BEGIN PERFORM shadows.note(); RETURN true; END';
      CREATE FUNCTION shadows.pg_get_expr(pg_node_tree, oid) RETURNS text LANGUAGE plpgsql AS
        'BEGIN PERFORM shadows.note(); RETURN pg_catalog.pg_get_expr($1, $2); END';
      CREATE VIEW shadows.pg_class AS SELECT c.*, shadows.note() FROM pg_catalog.pg_class c;
      CREATE VIEW shadows.pg_roles AS SELECT r.*, shadows.note() FROM pg_catalog.pg_roles r;
      CREATE TABLE shadowed (a int, b text DEFAULT shadows.quote_ident('x'));
      CREATE VIEW shadowing AS SELECT a, shadows.note() FROM shadowed;
      CREATE ROLE passer_by;
      ALTER DATABASE defaultdb SET search_path = shadows, pg_catalog, public;
      ALTER DATABASE defaultdb SET role = root;
      ALTER DATABASE defaultdb SET quote_all_identifiers = on`);
    const own = await daemon.connect({ cluster: 'main' });
    try {
      await own.query('CREATE TEMP TABLE pg_class AS SELECT 1 AS oid');
      // Even with temporary names first, what runs with more rights than the caller's finds its own.
      await own.query(`
        CREATE FUNCTION pg_temp.quote_ident(text) RETURNS text LANGUAGE sql AS 'SELECT shadows.note(); SELECT $1';
        CREATE FUNCTION pg_temp.pg_has_role(name, oid, text) RETURNS boolean LANGUAGE sql AS
          'SELECT shadows.note(); SELECT true';
        SET search_path = pg_temp, shadows, pg_catalog, public`);
      // The traps do spring, for whoever walks in.
      await own.query(
        "SELECT FROM pg_catalog.pg_roles WHERE rolname = 'root'::name AND quote_ident('x') <> ''",
      );
      await own.query('SELECT pg_atoll.may_pass_on(session_user, $1)', ['BACKUP']);
      await own.query('GRANT BACKUP ON TABLE public.shadowed TO passer_by');
      await own.query('SHOW GRANTS ON TABLE public.shadowed');
      await own.query('ALTER DEFAULT PRIVILEGES GRANT BACKUP ON TABLES TO passer_by');
      await own.query('CREATE TABLE public.shadowed_later (a int)');
      await own.query("BACKUP TABLE public.shadowed INTO 'nodelocal://1/shadows'");
      await own.query("SHOW BACKUP FROM LATEST IN 'nodelocal://1/shadows'");
    } finally {
      await own.end();
    }
    const sprung = 'SELECT DISTINCT who FROM shadows.seen';
    assert.deepEqual((await attacker.query(sprung)).rows, [{ who: 'root' }]);
    // It can be stopped and started again, which looks into every database.
    await attacker.end();
    const system = (sql: string) => daemon.query(sql, { cluster: 'system' });
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    await system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    attacker = await daemon.connect({ cluster: 'main' });
    await refused(
      attacker,
      "DO $$BEGIN EXECUTE 'CREATE SUBSCRIPTION evil CONNECTION '''' PUBLICATION p'; END$$",
      '42501',
    );
    assert.deepEqual((await attacker.query(sprung)).rows, [{ who: 'root' }]);
    await attacker.query(
      'ALTER DATABASE defaultdb RESET ALL; DROP SCHEMA shadows CASCADE; DROP TABLE shadowed, shadowed_later',
    );
  });

  test('what a client says of its session before it begins', async () => {
    const options: Readonly<Record<string, string>> = {
      '-c local_preload_libraries=../../evil': '42501',
      '-c session_preload_libraries=evil': '42501',
      '-c allow_system_table_mods=on': '42501',
      '-O': '42501',
      '-d 5': '42501',
      '-c role=atoll': '42501',
      '-c session_authorization=atoll': '42501',
      '-c event_triggers=off': '42501',
      '-c jit_provider=evil': '55P02',
      '-k /tmp': '55P02',
      '--config-file=/tmp/evil': '55P02',
    };
    const login = async (words: string): Promise<pg.Client> => {
      const connectionString = daemon.url();
      const client = new pg.Client({ connectionString, options: `-ccluster=main ${words}` });
      client.on('error', () => undefined);
      await client.connect();
      return client;
    };
    for (const [words, code] of Object.entries(options)) await assert.rejects(login(words), { code }, words);
    // Where a server would write, which only counts for one that is started by hand.
    await (await login(`-r ${OWNED}`)).end();
  });

  test('names that leave the comments of a dump', async () => {
    // Who may make one table has an admin's RESTORE carry out the rest of its name: CVE-2025-8715.
    const name = 'x\nCREATE ROLE injected;\nCREATE TABLE public.injected (a int);\n--';
    await attacker.query('CREATE DATABASE dumped');
    const inside = await daemon.connect({ cluster: 'main', database: 'dumped' });
    const [table, composite, routine] = ['', 't', 'f'].map((suffix) =>
      pg.escapeIdentifier(name.slice(0, 62) + suffix),
    );
    try {
      await inside.query(`CREATE TABLE ${table} (a int); CREATE TYPE ${composite} AS (a int)`);
      await inside.query(`CREATE FUNCTION ${routine}() RETURNS int LANGUAGE sql RETURN 1`);
      await inside.query(`COMMENT ON TABLE ${table} IS ${pg.escapeLiteral(name)}`);
      await inside.query("BACKUP DATABASE dumped INTO 'nodelocal://1/dumped'");
      await inside.query(
        "RESTORE DATABASE dumped FROM LATEST IN 'nodelocal://1/dumped' WITH new_db_name = 'restored'",
      );
    } finally {
      await inside.end();
    }
    const there = await daemon.query(
      "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
      { cluster: 'main', database: 'restored' },
    );
    assert.deepEqual(there, [{ name: name.slice(0, 62) }]);
    const roles = await attacker.query("SELECT FROM pg_roles WHERE rolname = 'injected'");
    assert.equal(roles.rows.length, 0);
  });

  test('replication connections', async () => {
    const streaming = async (replication: string): Promise<pg.Client> => {
      const config: pg.ClientConfig & { replication: string } = {
        connectionString: daemon.url({ cluster: 'main' }),
        replication,
      };
      const client = new pg.Client(config);
      client.on('error', () => undefined);
      await client.connect();
      return client;
    };
    const physical = await streaming('true');
    const slots = ['atoll_vault', '"atoll_vault"'];
    const commands: Readonly<Record<string, string>> = {
      ...Object.fromEntries(
        slots.flatMap((slot) => [
          [`START_REPLICATION SLOT ${slot} PHYSICAL 0/0`, '42501'],
          [`DROP_REPLICATION_SLOT ${slot}`, '42501'],
          [`READ_REPLICATION_SLOT ${slot}`, '42501'],
          [`ALTER_REPLICATION_SLOT ${slot} (FAILOVER)`, '42501'],
        ]),
      ),
      'CREATE_REPLICATION_SLOT atoll_mine PHYSICAL': '42501',
      'CREATE_REPLICATION_SLOT s LOGICAL "/tmp/evil"': '42501',
      [`BASE_BACKUP (TARGET 'server', TARGET_DETAIL '${OWNED}')`]: '42501',
      'SHOW data_directory': '42501',
      'SHOW primary_conninfo': '42501',
    };
    for (const [command, code] of Object.entries(commands)) await refused(physical, command, code);
    await physical.end();
    const logical = await streaming('database');
    await refused(logical, "SELECT pg_read_file('/etc/passwd')", '42501');
    await refused(logical, 'SELECT 1; DROP_REPLICATION_SLOT atoll_vault', '42601');
    await logical.end();
    // Words that only Postgres would take for a replication connection go unguarded nowhere.
    await assert.rejects(streaming('tru'), { code: '22023' });
  });

  test('storage of the node itself', async () => {
    await daemon.query("CREATE ROLE plain LOGIN PASSWORD 'x'", { cluster: 'main' });
    const plain = await daemon.connect({ cluster: 'main', user: 'plain' });
    for (const uri of ['nodelocal://1/../vc', 'nodelocal://1/a/../../vc', 'nodelocal://1/%2e%2e/vc']) {
      await refused(attacker, `BACKUP INTO '${uri}'`, '22023');
      await refused(attacker, `RESTORE FROM LATEST IN '${uri}'`, '22023');
      await refused(attacker, `CREATE EXTERNAL CONNECTION evil AS '${uri}'`, '22023');
    }
    await refused(attacker, "BACKUP INTO 'file:///etc'", '22023');
    await refused(attacker, "BACKUP INTO 'http://169.254.169.254/'", '0A000');
    await refused(plain, "CREATE TABLE x (a int); BACKUP INTO 'nodelocal://1/x'", '42501');
    await plain.end();
    // Without the capability, also an admin has none of it.
    const other = await daemon.connect({ cluster: 'other' });
    await refused(other, "BACKUP INTO 'nodelocal://1/x'", '42501');
    await other.end();
  });

  test('the internal database, and the internal roles', async () => {
    await assert.rejects(daemon.connect({ cluster: 'main', database: 'system' }), { code: '42501' });
    for (const user of ['atoll', 'atoll_reader', 'atoll_operator', 'atoll_observer', 'atoll_replicator']) {
      await assert.rejects(daemon.connect({ cluster: 'main', user }), { code: '28000' }, user);
    }
    // A tenant cannot come as the operator: the system virtual cluster does not know its users.
    await daemon.query('CREATE ROLE climber LOGIN IN ROLE admin', { cluster: 'main' });
    for (const options of ['-ccluster=system', '-ccluster=other -cauthority=system', '-ccluster=other']) {
      const client = new pg.Client({ connectionString: daemon.url({ user: 'climber' }), options });
      client.on('error', () => undefined);
      await assert.rejects(client.connect(), { code: '28000' }, options);
    }
  });

  test('locks on what everybody needs', async () => {
    await attacker.query('BEGIN');
    await attacker.query('LOCK TABLE pg_authid, pg_database IN ACCESS EXCLUSIVE MODE');
    // It harms itself alone; others are served, and the operator is in command.
    assert.deepEqual(await daemon.query('SELECT 1 AS one', { cluster: 'other' }), [{ one: 1 }]);
    await daemon.query('ALTER VIRTUAL CLUSTER main STOP SERVICE', { cluster: 'system' });
    await daemon.query('ALTER VIRTUAL CLUSTER main START SERVICE SHARED', { cluster: 'system' });
    attacker = await daemon.connect({ cluster: 'main' });
  });

  test('taking what all share', { skip: process.platform !== 'linux' && 'limits are of Linux' }, async () => {
    const restarted = (name: string) => [
      `ALTER VIRTUAL CLUSTER ${name} SET CLUSTER SETTING instance.session_memory = '128MiB'`,
      `ALTER VIRTUAL CLUSTER ${name} SET CLUSTER SETTING instance.temp_file_limit = '8MiB'`,
      `ALTER VIRTUAL CLUSTER ${name} SET CLUSTER SETTING instance.niceness = 5`,
      `ALTER VIRTUAL CLUSTER ${name} SET CLUSTER SETTING instance.cpu_weight = 80`,
      `ALTER VIRTUAL CLUSTER ${name} SET CLUSTER SETTING instance.max_connections = 20`,
      `ALTER VIRTUAL CLUSTER ${name} SET CLUSTER SETTING instance.slot_wal_limit = '64MiB'`,
      `ALTER VIRTUAL CLUSTER ${name} STOP SERVICE`,
      `ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`,
    ];
    await attacker.end();
    await daemon.query([...restarted('main'), ...restarted('other')], { cluster: 'system' });
    attacker = await daemon.connect({ cluster: 'main' });
    await attacker.query("SET work_mem = '10GB'");
    const greedy = "SELECT length(string_agg(repeat('x', 1000000), '')) FROM generate_series(1, 400)";
    await refused(attacker, greedy, '53200');
    await attacker.query("SET work_mem = '64kB'");
    await refused(
      attacker,
      'SELECT count(*) FROM (SELECT DISTINCT i FROM generate_series(1, 9999999) i) d',
      '53400',
    );
    const { rows: kept } = await attacker.query('SHOW max_slot_wal_keep_size');
    assert.deepEqual(kept, [{ max_slot_wal_keep_size: '64MB' }]);
    // It takes all sessions that it may have: others get theirs, and so does the node.
    const hoard: pg.Client[] = [];
    for (let isFull = false; !isFull; ) {
      const held = await daemon.connect({ cluster: 'main' }).catch((error: unknown) => {
        assert.equal((error as { code?: string }).code, '53300');
        return null;
      });
      if (held === null) isFull = true;
      else hoard.push(held);
      assert.ok(hoard.length <= 20);
    }
    assert.ok(hoard.length > 10);
    assert.deepEqual(await daemon.query('SELECT 1 AS one', { cluster: 'other' }), [{ one: 1 }]);
    assert.ok((await attacker.query("BACKUP INTO 'nodelocal://1/full'")).rows.length === 1);
    await Promise.all(hoard.map((client) => client.end()));
    // That of `main`, as every virtual cluster from the beginning, has the capability exempt_from_rate_limiting.
    const base = getPriority(daemon.pid);
    const nice = [...(await daemon.postmasters())].map(([id, pid]) => [id, getPriority(pid)]);
    assert.deepEqual(
      new Map(nice.map(([id = 0, niceness = 0]) => [id, niceness])),
      new Map([
        [1, base],
        [3, base],
        [4, Math.min(19, base + 5)],
      ]),
    );
  });

  test('a share of the processor that is not its own', {
    skip: groups.path === null && groups.why,
  }, async () => {
    assert.ok(groups.path !== null);
    const share = (name: string) =>
      ['cpu.weight', 'cpu.shares'].flatMap((file) => {
        const path = join(groups.path ?? '', name, file);
        return existsSync(path)
          ? [Number(readFileSync(path, 'utf8')) / (file === 'cpu.shares' ? 10.24 : 1)]
          : [];
      });
    // All that a server starts is where it is; `main` is exempt from being held back.
    const groupOf = (pid: number) => readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    assert.match(groupOf((await daemon.postmasters()).get(4) ?? 0), /\/vc-4$/m);
    const { rows: own } = await attacker.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    assert.match(groupOf(own[0]?.pid ?? 0), /\/vc-3$/m);
    assert.deepEqual([share('vc-3').map(Math.round), share('vc-4').map(Math.round)], [[100], [80]]);
    // Of version 2 the node's own processes are moved only out of the folder itself, where this daemon is not.
    if (!existsSync(join(groups.path, 'bulk'))) return;
    assert.match(groupOf(daemon.pid), /\/node$/m);
    assert.deepEqual([share('node').map(Math.round), share('bulk').map(Math.round)], [[1000], [10]]);
    // What a virtual cluster has the node do in bulk does not come with the weight of what relays for all.
    let isSeen = false;
    const backups = (async () => {
      while (!isSeen) await attacker.query("BACKUP INTO 'nodelocal://1/bulk'");
    })();
    try {
      // The daemon moves it once it has started it, so it may be seen elsewhere before.
      await waitFor('a process of bulk work in its group', () =>
        childPids(daemon.pid, /worker-main\.ts/).some((pid) => /\/bulk$/m.test(groupOf(pid))),
      );
    } finally {
      isSeen = true;
      await backups;
    }
  });

  test('what belongs to others, as the user that its instance runs as', {
    skip: process.getuid?.() !== 0 && 'not root: the instance has the rights of the daemon',
  }, () => {
    const at = (...names: string[]) => join(daemon.store, ...names);
    const succeeds = (id: number, program: string, ...words: string[]) =>
      spawnSync(program, words, { uid: 700_000 + id, gid: 700_000 + id, cwd: '/' }).status === 0;
    // It does reach what is its own.
    assert.ok(succeeds(3, 'cat', at('vc', '3', 'conf', 'postgresql.conf')));
    assert.ok(succeeds(3, 'ls', at('run', '3')));
    for (const path of [
      at('cluster-key'),
      at('STORE'),
      at('vc', '3', 'identity.json'),
      at('vc', '3', 'conf', 'settings.json'),
      at('vc', '1', 'conf', 'postgresql.conf'),
    ]) {
      assert.equal(succeeds(3, 'cat', path), false, path);
    }
    for (const path of [
      at('run', '1'),
      at('run', 'sql'),
      at('run', 'node'),
      at('vc', '1'),
      at('timeline'),
      at('logs'),
    ]) {
      assert.equal(succeeds(3, 'ls', path), false, path);
    }
    for (const path of [at('vc', '3', 'x'), at('vc', '3', 'conf', 'x'), at('vc', 'x'), at('run', 'x')]) {
      assert.equal(succeeds(3, 'touch', path), false, path);
    }
  });

  test('any of these', async () => {
    assert.equal(existsSync(OWNED), false);
    const { rows } = await attacker.query('SELECT oid::int FROM pg_roles WHERE rolsuper');
    assert.deepEqual(rows, [{ oid: 10 }]);
    // A capture that happens to be under way holds one of its own.
    const slots = await attacker.query(
      `SELECT slot_name AS name FROM pg_replication_slots WHERE slot_name NOT LIKE 'atoll\\_backup\\_%'`,
    );
    assert.deepEqual(slots.rows, [{ name: 'atoll_vault' }]);
    const subscriptions = await attacker.query('SELECT subname FROM pg_subscription');
    assert.deepEqual(subscriptions.rows, []);
    assert.equal(existsSync(join(daemon.store, 'vc', '1', 'identity.json')), true);
    assert.doesNotMatch(daemon.output, /internal error/);
  });
});
