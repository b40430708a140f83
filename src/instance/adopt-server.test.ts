import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { BareEngine } from '../../test/harness/bare-engine.ts';
import { abortedAfter, NEVER } from '../../test/harness/instance-store.ts';
import { isAppError } from '../base/index.ts';
import { systemClock } from '../daemon/index.ts';
import { PAGE_BYTES } from '../pg/index.ts';
import { adoptServer } from './adopt-server.ts';
import { isOwnLogin, OWN_LOGIN, readLogins, superuserNamesOn } from './login.ts';
import { untilServing } from './readiness.ts';

const SOURCE_SQL = [
  `CREATE ROLE "Old Boss" SUPERUSER LOGIN`,
  `CREATE ROLE clerk LOGIN PASSWORD 'x'`,
  'CREATE ROLE files',
  'GRANT pg_read_server_files, postgres TO files',
  'ALTER ROLE postgres SET work_mem = 123456',
  `ALTER ROLE postgres PASSWORD 'secret'`,
  `ALTER ROLE clerk SET session_preload_libraries = 'nothing'`,
  'CREATE DATABASE shop',
  'CREATE DATABASE shut ALLOW_CONNECTIONS false',
  'CREATE DATABASE clerks OWNER clerk',
];

const SHOP_SQL = [
  'CREATE EXTENSION hstore',
  'ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO clerk',
  'ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON SEQUENCES TO files',
  'CREATE SCHEMA made',
  `CREATE TYPE made.mood AS ENUM ('well')`,
  'CREATE DOMAIN made.positive AS int CHECK (value > 0)',
  'CREATE TYPE made.pair AS (a int, b int)',
  'CREATE TABLE made."Orders" (id serial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, m made.mood) PARTITION BY RANGE (id)',
  'CREATE TABLE made.part PARTITION OF made."Orders" FOR VALUES FROM (1) TO (100)',
  'CREATE VIEW made.seen AS SELECT * FROM made."Orders"',
  'CREATE MATERIALIZED VIEW made.kept AS SELECT 1 AS one',
  'CREATE SEQUENCE made.numbers',
  `CREATE FUNCTION made.powerful(int) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text'`,
  `CREATE PROCEDURE made.work() LANGUAGE sql AS 'SELECT 1'`,
  'CREATE AGGREGATE made.total(int) (SFUNC = int4pl, STYPE = int)',
  'CREATE OPERATOR made.<+> (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int)',
  'CREATE OPERATOR CLASS made.ops FOR TYPE int USING btree AS FUNCTION 1 btint4cmp(int, int)',
  'CREATE COLLATION made.plain FROM "C"',
  'CREATE TEXT SEARCH CONFIGURATION made.search (COPY = simple)',
  'CREATE STATISTICS made.figures ON id, n FROM made."Orders"',
  'CREATE PUBLICATION chosen FOR TABLE made.part',
  'CREATE PUBLICATION everything FOR ALL TABLES',
  'SELECT lo_create(77)',
  'CREATE TABLE public.clerks (id int); ALTER TABLE public.clerks OWNER TO clerk',
  `CREATE FUNCTION public.on_login() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'`,
  'CREATE EVENT TRIGGER spy ON login EXECUTE FUNCTION public.on_login()',
];

/** All that still belongs to the superuser and was not made by `initdb` or by us. */
const LEFT_SQL = `SELECT d.classid::regclass::text AS catalog, pg_describe_object(d.classid, d.objid, 0) AS object FROM (
    SELECT 'pg_class'::regclass AS classid, oid AS objid FROM pg_class WHERE relowner = 10 AND relkind NOT IN ('i', 'I', 't', 'c')
    UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE proowner = 10
    UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typowner = 10
    UNION ALL SELECT 'pg_namespace'::regclass, oid FROM pg_namespace WHERE nspowner = 10
    UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator WHERE oprowner = 10
    UNION ALL SELECT 'pg_opclass'::regclass, oid FROM pg_opclass WHERE opcowner = 10
    UNION ALL SELECT 'pg_opfamily'::regclass, oid FROM pg_opfamily WHERE opfowner = 10
    UNION ALL SELECT 'pg_collation'::regclass, oid FROM pg_collation WHERE collowner = 10
    UNION ALL SELECT 'pg_ts_config'::regclass, oid FROM pg_ts_config WHERE cfgowner = 10
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext WHERE stxowner = 10
    UNION ALL SELECT 'pg_publication'::regclass, oid FROM pg_publication WHERE pubowner = 10
    UNION ALL SELECT 'pg_largeobject'::regclass, oid FROM pg_largeobject_metadata WHERE lomowner = 10) d
  WHERE d.objid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = d.objid AND e.deptype = 'e')
    AND pg_describe_object(d.classid, d.objid, 0) !~ 'pg_atoll|pg_toast' ORDER BY 2`;

describe('adopting the data of a plain server', () => {
  let engine: BareEngine;
  const told: string[] = [];

  const ask = async (sql: string, database = 'system') =>
    engine.use(database, async (client) => (await client.query<Record<string, unknown>>(sql)).rows);
  const place = (signal: AbortSignal) => ({
    socketDirectory: engine.directory,
    clusterName: 'main',
    signal,
  });

  before(async () => {
    engine = await BareEngine.open({ superuser: 'postgres' });
    await engine.start();
    await engine.use('postgres', async (client) => {
      for (const sql of SOURCE_SQL) await client.query(sql);
    });
    await engine.use('shop', async (client) => {
      for (const sql of SHOP_SQL) await client.query(sql);
    });
    assert.deepEqual((await readLogins(engine.dataDirectory))[0], { user: 'postgres', database: 'postgres' });
    // Cut off in several places, each time further on; what is left is gone on with.
    const logIn = () =>
      untilServing({
        ...place(NEVER),
        dataDirectory: engine.dataDirectory,
        systemIdentifier: null,
        clock: systemClock(),
      });
    const onFindings = (findings: readonly string[]) => told.push(...findings);
    let cuts = 0;
    for (let count = 4; ; count += 4 + Math.trunc(count * 0.4)) {
      const login = await logIn();
      if (isOwnLogin(login)) break;
      try {
        await adoptServer(place(abortedAfter(count)), { login, onFindings });
      } catch (error) {
        assert.ok(isAppError(error, 'cancelled'), String(error));
        cuts += 1;
      }
    }
    assert.ok(cuts > 5, `cut off ${cuts} times`);
    engine.superuser = 'atoll';
  });

  after(async () => {
    await engine?.[Symbol.asyncDispose]();
  });

  it('leaves one superuser, and the roles that were', async () => {
    assert.deepEqual(await ask('SELECT rolname, oid::int FROM pg_roles WHERE rolsuper'), [
      { rolname: 'atoll', oid: 10 },
    ]);
    const members = await ask(
      `SELECT m.rolname AS member FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
        WHERE r.rolname = 'admin' ORDER BY 1`,
    );
    assert.deepEqual(
      members.map(({ member }) => member),
      ['Old Boss', 'postgres', 'root'],
    );
    const hosts = await ask(
      `SELECT 1 FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid WHERE r.rolname = 'pg_read_server_files' OR r.oid = 10`,
    );
    assert.deepEqual(hosts, []);
    // Who could do everything can still administer the roles that there are.
    const administered = await ask(
      `SELECT r.rolname AS role FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
        WHERE m.rolname = 'postgres' AND a.admin_option AND r.rolname <> 'admin' ORDER BY 1`,
    );
    assert.deepEqual(
      administered.map(({ role }) => role),
      ['Old Boss', 'clerk', 'files'],
    );
    const settings = await ask(
      `SELECT r.rolname, s.setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole ORDER BY 1`,
    );
    assert.deepEqual(settings, [{ rolname: 'postgres', setconfig: ['work_mem=123456'] }]);
  });

  it('gives everything to the role that has the name of the former superuser', async () => {
    assert.deepEqual(await ask(LEFT_SQL, 'shop'), []);
    const owners = await ask(`SELECT datname, datdba::regrole::text AS owner FROM pg_database ORDER BY 1`);
    assert.deepEqual(
      owners.map(({ datname, owner }) => `${String(datname)} ${String(owner)}`),
      [
        'clerks clerk',
        'defaultdb root',
        'postgres postgres',
        'shop postgres',
        'shut postgres',
        'system atoll',
        'template0 atoll',
        'template1 atoll',
      ],
    );
    const [clerks] = await ask(
      `SELECT relowner::regrole::text AS owner FROM pg_class WHERE relname = 'clerks'`,
      'shop',
    );
    assert.equal(clerks?.['owner'], 'clerk');
    const [powerful] = await ask('SELECT made.powerful(1) AS as_whom', 'shop');
    assert.equal(powerful?.['as_whom'], 'postgres');
    assert.deepEqual(await ask(`SELECT evtname FROM pg_event_trigger WHERE evtname = 'spy'`, 'shop'), []);
  });

  it('keeps what the superuser would grant for his heir, and nothing of it for the guards', async () => {
    const defaults = await ask(
      `SELECT DISTINCT d.defaclrole::regrole::text AS role, d.defaclobjtype::text AS kind, a.grantee::regrole::text AS grantee
         FROM pg_default_acl d, aclexplode(d.defaclacl) a WHERE a.grantee <> d.defaclrole ORDER BY 2`,
      'shop',
    );
    assert.deepEqual(defaults, [
      { role: 'postgres', kind: 'S', grantee: 'files' },
      { role: 'postgres', kind: 'r', grantee: 'clerk' },
    ]);
    const granted = await ask(
      `SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'pg_atoll'::regnamespace AND has_table_privilege('clerk', c.oid, 'TRUNCATE')`,
      'shop',
    );
    assert.deepEqual(granted, []);
    // Postgres finds nothing amiss in what depends on what.
    await ask('DROP OWNED BY clerk', 'shop');
    const [verifier] = await ask(
      `SELECT left(rolpassword, 13) AS kind FROM pg_authid WHERE rolpassword IS NOT NULL AND rolname <> 'clerk'`,
    );
    assert.deepEqual(verifier, { kind: 'SCRAM-SHA-256' });
  });

  it('puts the guards into every database', async () => {
    const shut = await ask(`SELECT datname FROM pg_database WHERE NOT datallowconn ORDER BY 1`);
    assert.deepEqual(
      shut.map(({ datname }) => datname),
      ['shut', 'template0'],
    );
    await ask('ALTER DATABASE shut ALLOW_CONNECTIONS true');
    for (const database of ['shop', 'shut', 'clerks', 'template1', 'postgres', 'defaultdb']) {
      const [row] = await ask(
        `SELECT nspowner::regrole::text AS owner, has_function_privilege('clerk', 'pg_catalog.lo_export(oid, text)', 'EXECUTE') AS may
           FROM pg_namespace WHERE nspname = 'pg_atoll'`,
        database,
      );
      assert.deepEqual(row, { owner: 'atoll', may: false }, database);
    }
    await ask('ALTER DATABASE shut ALLOW_CONNECTIONS false');
  });

  it('says what it found, and how to log in from now on', async () => {
    const wanted = [
      'superuser "postgres" is now role postgres, which is a member of admin and no superuser',
      'superuser "Old Boss" is a member of admin',
    ];
    assert.deepEqual(
      wanted.filter((finding) => !told.includes(finding)),
      [],
      told.join('\n'),
    );
    assert.deepEqual(
      told.filter((finding) => finding.includes('pg_atoll')),
      [],
    );
    await ask('CHECKPOINT');
    const logins = await readLogins(engine.dataDirectory);
    assert.ok(
      logins.some(({ user, database }) => user === OWN_LOGIN.user && database === OWN_LOGIN.database),
    );
    await engine.use('system', (client) => client.query('SELECT 1'));
  });

  it('reads the name of the superuser from damaged pages without harm', async () => {
    const [row] = await ask('SELECT pg_relation_filepath(1260::oid::regclass) AS path');
    const page = (await readFile(join(engine.dataDirectory, String(row?.['path'])))).subarray(0, PAGE_BYTES);
    assert.ok(superuserNamesOn(page).includes('atoll'));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(PAGE_BYTES - 1), fc.nat(255)), { maxLength: 200 }), (changes) => {
        const damaged = Buffer.from(page);
        for (const [at, byte] of changes) damaged[at] = byte;
        for (const name of superuserNamesOn(damaged)) assert.ok(Buffer.byteLength(name) <= 3 * 64);
      }),
    );
  });

  it('is cut off by a signal that is over', async () => {
    await assert.rejects(
      adoptServer(place(abortedAfter(0)), { login: OWN_LOGIN, onFindings: () => undefined }),
      (error) => isAppError(error, 'cancelled'),
    );
    assert.equal(NEVER.aborted, false);
  });
});
