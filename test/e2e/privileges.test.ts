/** Every statement against every kind of role: carried out, or refused with 42501 and a hint. And what becomes of grants. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { SYSTEM_PRIVILEGE_ROLES } from '../../src/catalog/index.ts';
import { TestDaemon } from '../harness/daemon.ts';

interface Place {
  readonly user?: string;
  readonly cluster?: string;
  readonly database?: string;
}

let daemon: TestDaemon;

const rows = (sql: string | readonly string[], place: Place = {}) => daemon.query(sql, place);

/** SQLSTATE and texts of what a statement ends in; undefined when it is carried out. */
async function refusal(
  sql: string | readonly string[],
  place: Place = {},
): Promise<{ code: string; message: string; hint?: string; detail?: string } | undefined> {
  return rows(sql, place).then(
    () => undefined,
    (error: { code: string; message: string; hint?: string; detail?: string }) => error,
  );
}

async function codeOf(sql: string | readonly string[], place: Place = {}): Promise<string | undefined> {
  return (await refusal(sql, place))?.code;
}

/** One role for each privilege, named after it: `has_backup`. */
const holderOf = (privilege: string): string => `has_${privilege.toLowerCase()}`;
const HOLDERS = Object.keys(SYSTEM_PRIVILEGE_ROLES).map(holderOf);
/** Holds all it takes to back up and restore on this node's disk. */
const KEEPER = 'keeper';
const EVERYBODY = ['root', 'boss', 'nobody', 'owner', KEEPER, ...HOLDERS];

before(async () => {
  daemon = await TestDaemon.start();
  for (const cluster of ['main', 'system']) {
    for (const role of EVERYBODY.filter((name) => name !== 'root')) {
      await rows(`CREATE ROLE ${role} LOGIN`, { cluster });
    }
    await rows('GRANT admin TO boss', { cluster });
    for (const privilege of Object.keys(SYSTEM_PRIVILEGE_ROLES)) {
      await rows(`GRANT SYSTEM ${privilege} TO ${holderOf(privilege)}`, { cluster });
    }
    await rows(`GRANT SYSTEM BACKUP, RESTORE, EXTERNALIOIMPLICITACCESS TO ${KEEPER}`, { cluster });
  }
  await rows('CREATE DATABASE shop OWNER owner');
  await rows(['CREATE TABLE wares (a int)', 'CREATE VIEW offers AS SELECT 1 AS x'], {
    database: 'shop',
    user: 'owner',
  });
  await rows([
    "BACKUP INTO 'nodelocal://1/first'",
    "CREATE EXTERNAL CONNECTION rack AS 'nodelocal://1/rack'",
  ]);
});
after(async () => {
  await daemon[Symbol.asyncDispose]();
});

interface Case {
  readonly sql: string;
  /** Who is not refused, besides root and boss. */
  readonly allowed: readonly string[];
  /** Those of root and boss who are refused. */
  readonly refusedAdmins?: readonly string[];
  readonly place?: Place;
  /** Of a statement that is let through, and cannot succeed for another reason. */
  readonly thenFails?: string;
}

const MATRIX: readonly Case[] = [
  { sql: 'SHOW SYSTEM GRANTS', allowed: EVERYBODY },
  { sql: 'SHOW GRANTS', allowed: EVERYBODY },
  { sql: 'SHOW GRANTS ON DATABASE shop FOR owner', allowed: EVERYBODY },
  { sql: 'SHOW ROLES', allowed: EVERYBODY },
  { sql: 'SHOW USERS', allowed: EVERYBODY },
  { sql: 'SHOW JOBS', allowed: EVERYBODY },
  { sql: 'SHOW virtual_cluster_name', allowed: EVERYBODY },
  {
    sql: 'SHOW CLUSTER SETTINGS',
    allowed: ['viewclustersetting', 'modifyclustersetting', 'viewsystemdata'].map(holderOf),
  },
  {
    sql: 'SHOW CLUSTER SETTING jobs.retention_time',
    allowed: ['viewclustersetting', 'modifyclustersetting', 'viewsystemdata'].map(holderOf),
  },
  { sql: 'SELECT FROM system.jobs', allowed: [holderOf('viewsystemdata')] },
  { sql: 'SELECT FROM system.users', allowed: [holderOf('viewsystemdata')], place: { database: 'shop' } },
  { sql: 'SELECT FROM system.settings', allowed: [holderOf('viewsystemdata')], place: { cluster: 'system' } },
  { sql: "SET CLUSTER SETTING jobs.retention_time = '300h'", allowed: [holderOf('modifyclustersetting')] },
  { sql: 'RESET CLUSTER SETTING jobs.retention_time', allowed: [holderOf('modifyclustersetting')] },
  { sql: 'GRANT SYSTEM VIEWJOB TO has_viewjob', allowed: [] },
  { sql: 'REVOKE SYSTEM RESTORE FROM nobody', allowed: [] },
  { sql: 'ALTER ROLE has_controljob CONTROLJOB', allowed: [] },
  { sql: 'GRANT BACKUP ON DATABASE shop TO nobody', allowed: ['owner'] },
  { sql: 'REVOKE BACKUP ON DATABASE shop FROM nobody', allowed: ['owner'] },
  { sql: 'GRANT BACKUP ON TABLE shop.wares TO nobody', allowed: ['owner'] },
  { sql: 'REVOKE BACKUP ON TABLE shop.wares FROM nobody CASCADE', allowed: ['owner'] },
  {
    sql: 'GRANT BACKUP, SELECT ON TABLE wares TO nobody',
    allowed: ['owner'],
    refusedAdmins: ['boss'],
    place: { database: 'shop' },
  },
  {
    sql: 'REVOKE BACKUP, SELECT ON TABLE wares FROM nobody',
    allowed: ['owner'],
    refusedAdmins: ['boss'],
    place: { database: 'shop' },
  },
  {
    sql: 'ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT BACKUP ON TABLES TO nobody',
    allowed: ['owner'],
    place: { database: 'shop' },
  },
  {
    sql: 'ALTER DEFAULT PRIVILEGES FOR ROLE owner REVOKE BACKUP ON TABLES FROM nobody',
    allowed: ['owner'],
    place: { database: 'shop' },
  },
  { sql: 'GRANT USAGE ON EXTERNAL CONNECTION rack TO nobody', allowed: [] },
  { sql: 'REVOKE USAGE ON EXTERNAL CONNECTION rack FROM nobody', allowed: [] },
  {
    sql: "CREATE EXTERNAL CONNECTION IF NOT EXISTS rack AS 'nodelocal://1/rack'",
    allowed: [holderOf('externalconnection')],
  },
  { sql: "ALTER EXTERNAL CONNECTION rack AS 'nodelocal://1/rack'", allowed: [] },
  { sql: 'SHOW EXTERNAL CONNECTIONS', allowed: EVERYBODY },
  { sql: 'SHOW CREATE ALL EXTERNAL CONNECTIONS', allowed: EVERYBODY },
  { sql: "CHECK EXTERNAL CONNECTION 'external://rack' WITH transfer = '1KiB'", allowed: [] },
  { sql: "BACKUP INTO 'external://rack' WITH detached", allowed: [] },
  { sql: 'SHOW SCHEDULES', allowed: EVERYBODY },
  { sql: 'SHOW CREATE ALL SCHEDULES', allowed: [] },
  {
    sql: "CREATE SCHEDULE FOR BACKUP INTO 'nodelocal://1/first' RECURRING '@daily'",
    allowed: [KEEPER],
    thenFails: '42710',
  },
  { sql: "BACKUP INTO 'nodelocal://1/first' WITH detached", allowed: [KEEPER] },
  { sql: "RESTORE FROM LATEST IN 'nodelocal://1/first'", allowed: [KEEPER], thenFails: '55000' },
  { sql: "SHOW BACKUPS IN 'nodelocal://1/first'", allowed: [KEEPER, holderOf('externalioimplicitaccess')] },
  { sql: 'SHOW VIRTUAL CLUSTERS', allowed: [], refusedAdmins: ['root', 'boss'] },
  {
    sql: 'SHOW VIRTUAL CLUSTERS',
    allowed: [holderOf('managevirtualcluster')],
    place: { cluster: 'system' },
  },
  {
    sql: 'ALTER VIRTUAL CLUSTER main GRANT CAPABILITY can_view_node_info',
    allowed: [holderOf('managevirtualcluster')],
    place: { cluster: 'system' },
  },
  {
    sql: 'CREATE VIRTUAL CLUSTER IF NOT EXISTS main',
    allowed: [holderOf('managevirtualcluster')],
    place: { cluster: 'system' },
  },
  {
    sql: 'DROP VIRTUAL CLUSTER IF EXISTS nowhere',
    allowed: [holderOf('managevirtualcluster')],
    place: { cluster: 'system' },
  },
  {
    sql: 'SHOW CLUSTER SETTING jobs.retention_time FOR VIRTUAL CLUSTER main',
    allowed: [holderOf('viewsystemdata')],
    place: { cluster: 'system' },
  },
  {
    sql: 'SHOW CLUSTER SETTINGS FOR VIRTUAL CLUSTER main',
    allowed: [holderOf('viewsystemdata')],
    place: { cluster: 'system' },
  },
  {
    sql: 'ALTER VIRTUAL CLUSTER main RESET CLUSTER SETTING jobs.retention_time',
    allowed: [holderOf('managevirtualcluster')],
    place: { cluster: 'system' },
  },
];

describe('every statement and every kind of role', () => {
  for (const { sql, allowed, refusedAdmins = [], place = {}, thenFails } of MATRIX) {
    test(`${sql}${place.cluster === undefined ? '' : ` in ${place.cluster}`}`, async () => {
      const admins = ['root', 'boss'].filter((admin) => !refusedAdmins.includes(admin));
      // The system virtual cluster lets nobody in who holds nothing there.
      const roles =
        place.cluster === 'system'
          ? EVERYBODY.filter((role) => !['nobody', 'owner'].includes(role))
          : EVERYBODY;
      const answers: Record<string, string | undefined> = {};
      const expected: Record<string, string | undefined> = {};
      for (const user of roles) {
        answers[user] = await codeOf(sql, { ...place, user });
        expected[user] = [...admins, ...allowed].includes(user) ? thenFails : '42501';
      }
      assert.deepEqual(answers, expected);
    });
  }

  test('the system virtual cluster admits whoever holds something there, and nobody else', async () => {
    // An admin of an app virtual cluster is nobody here, whether there is a role of that name or not.
    await rows(['CREATE ROLE admin_of_main LOGIN', 'GRANT admin TO admin_of_main, owner']);
    for (const user of ['nobody', 'owner', 'admin_of_main'])
      assert.equal(await codeOf('SELECT 1', { cluster: 'system', user }), '28000');
    await rows('REVOKE admin FROM owner');
    for (const user of [...HOLDERS, 'boss']) await rows('SELECT 1', { cluster: 'system', user });
  });

  test('jobs: everybody’s are seen with VIEWJOB and CONTROLJOB, controlled with CONTROLJOB unless an admin owns them', async () => {
    const [own] = await rows("BACKUP INTO 'nodelocal://1/keepers'", { user: KEEPER });
    const [admins] = await rows("BACKUP INTO 'nodelocal://1/admins'", { user: 'boss' });
    const keepers = String(own?.['job_id']);
    const bosses = String(admins?.['job_id']);
    const sees = async (user: string, id: string) => (await codeOf(`SHOW JOB ${id}`, { user })) === undefined;
    // The jobs are over: who is let through hears that.
    const controls = async (user: string, id: string) =>
      (await codeOf(`CANCEL JOB ${id}`, { user })) ?? 'done';
    for (const user of EVERYBODY) {
      const isAdmin = ['root', 'boss'].includes(user);
      const seesAll = isAdmin || ['viewjob', 'controljob'].map(holderOf).includes(user);
      assert.equal(await sees(user, keepers), seesAll || user === KEEPER, `${user} sees the keeper's`);
      assert.equal(await sees(user, bosses), seesAll, `${user} sees an admin's`);
      const unseen = seesAll ? '42501' : '42704';
      const isKeepers = isAdmin || user === KEEPER || user === holderOf('controljob');
      assert.equal(
        await controls(user, keepers),
        isKeepers ? '55000' : unseen,
        `${user} controls the keeper's`,
      );
      assert.equal(await controls(user, bosses), isAdmin ? '55000' : unseen, `${user} controls an admin's`);
    }
  });

  test('every refusal says what is missing', async () => {
    for (const { sql, allowed, place = {} } of MATRIX) {
      if (allowed.includes('nobody') || place.cluster === 'system') continue;
      const refused = await refusal(sql, { ...place, user: 'nobody' });
      assert.equal(refused?.code, '42501', sql);
      assert.match(
        `${refused?.message} ${refused?.hint ?? ''}`,
        /admin|privilege|GRANT|owner|options=-ccluster=system/,
        sql,
      );
    }
  });
});

describe('the examples of the documents', () => {
  test('GRANT SYSTEM, GRANT ON DATABASE, GRANT ON TABLE, as they are written', async () => {
    await rows('CREATE ROLE "user" LOGIN');
    await rows('CREATE DATABASE test_db');
    await rows('CREATE TABLE "table" (a int)', { database: 'test_db' });
    await rows('GRANT SYSTEM BACKUP TO user;');
    await rows('GRANT BACKUP ON DATABASE test_db TO user;');
    await rows('GRANT BACKUP ON TABLE test_db."table" TO user;');
    await rows('GRANT SYSTEM RESTORE TO user;');
    await rows('CREATE ROLE "user" LOGIN', { cluster: 'system' });
    await rows('GRANT SYSTEM MANAGEVIRTUALCLUSTER TO user;', { cluster: 'system' });
    await rows('SHOW VIRTUAL CLUSTERS', { cluster: 'system', user: 'user' });
    assert.deepEqual(
      (await rows('SHOW SYSTEM GRANTS FOR user')).map((row) => row['privilege_type']),
      ['BACKUP', 'RESTORE'],
    );
    const granted = await rows('SHOW GRANTS ON DATABASE test_db FOR user');
    assert.deepEqual(granted, [
      { database_name: 'test_db', grantee: 'user', privilege_type: 'BACKUP', is_grantable: false },
    ]);
    // Without SELECT the table cannot be read.
    assert.equal(await codeOf('SELECT * FROM "table"', { database: 'test_db', user: 'user' }), '42501');
  });

  test('ALTER DEFAULT PRIVILEGES covers the tables made from then on, by whatever makes them', async () => {
    await rows('ALTER DEFAULT PRIVILEGES GRANT BACKUP ON TABLES TO nobody WITH GRANT OPTION');
    await rows([
      'CREATE TABLE plain (a int)',
      'CREATE TABLE copied AS SELECT 1 AS a',
      'CREATE VIEW shown AS SELECT 1 AS a',
      'CREATE MATERIALIZED VIEW kept AS SELECT 1 AS a',
      'CREATE SCHEMA more CREATE TABLE inside (a int)',
      'CREATE TABLE parted (a int) PARTITION BY RANGE (a)',
      "DO $$BEGIN EXECUTE 'CREATE TABLE within (a int)'; END$$",
      'CREATE TEMP TABLE passing (a int)',
    ]);
    await rows('CREATE TABLE others (a int)', { user: 'boss' });
    await rows('ALTER DEFAULT PRIVILEGES REVOKE BACKUP ON TABLES FROM nobody');
    await rows('CREATE TABLE late (a int)');
    const held = await rows(
      "SELECT object_name FROM [SHOW GRANTS FOR nobody] WHERE privilege_type = 'BACKUP' AND is_grantable ORDER BY 1",
    );
    assert.deepEqual(
      held.map((row) => row['object_name']),
      ['copied', 'inside', 'kept', 'parted', 'plain', 'shown', 'within'],
    );
    await rows('ALTER DEFAULT PRIVILEGES IN SCHEMA more GRANT BACKUP, SELECT ON TABLES TO nobody');
    await rows(['CREATE TABLE more.second (a int)', 'CREATE TABLE outside (a int)']);
    assert.deepEqual(
      (await rows('SHOW GRANTS ON more.second, outside FOR nobody')).map((row) => row['privilege_type']),
      ['BACKUP', 'SELECT'],
    );
  });
});

describe('who backs up and restores what', () => {
  const TAKERS = ['of_system', 'of_database', 'of_table', 'of_old', 'of_rack', 'homeless', 'boss'] as const;
  let places = 0;
  /** Tries it with a place of its own, which all but one may use. */
  const takes = async (user: string, what: string) => {
    places += 1;
    return codeOf(`BACKUP ${what} INTO 'external://rack/${places}'`, { user, database: 'shop' });
  };
  const takersOf = async (what: string) => {
    const able: string[] = [];
    for (const user of TAKERS) {
      const code = await takes(user, what);
      assert.ok(code === undefined || code === '42501', `${user} takes ${what}: ${code}`);
      if (code === undefined) able.push(user);
    }
    return able;
  };

  before(async () => {
    for (const role of TAKERS.filter((name) => name !== 'boss')) {
      await rows(`CREATE ROLE ${role} LOGIN`);
      if (role !== 'homeless') await rows(`GRANT USAGE ON EXTERNAL CONNECTION rack TO ${role}`);
    }
    const place = { database: 'shop', user: 'owner' };
    await rows(["CREATE TYPE size AS ENUM ('s', 'm')", 'CREATE TABLE shirts (a size)'], place);
    await rows('GRANT SYSTEM BACKUP TO of_system, homeless');
    await rows('GRANT BACKUP ON DATABASE shop TO of_database, homeless', place);
    await rows('GRANT BACKUP ON TABLE shirts TO of_table, homeless', place);
    await rows(
      [
        'GRANT SELECT ON ALL TABLES IN SCHEMA public TO of_old',
        'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO of_old',
      ],
      place,
    );
  });

  test('a cluster: who holds it for the cluster, and a place for it', async () => {
    assert.deepEqual(await takersOf(''), ['of_system', 'boss']);
    const refused = await refusal("BACKUP INTO 'external://rack/x'", { user: 'of_table' });
    assert.match(refused?.message ?? '', /only users with the admin role or the BACKUP system privilege/);
  });

  test('a database: who holds it for the database, or may read all of it', async () => {
    assert.deepEqual(await takersOf('DATABASE shop'), ['of_database', 'of_old', 'boss']);
  });

  test('a table, with its types: who holds it for the table, or may read it', async () => {
    assert.deepEqual(await takersOf('TABLE shirts'), ['of_table', 'of_old', 'boss']);
    assert.deepEqual(await takersOf('shop.public.wares'), ['of_old', 'boss']);
    for (const user of ['of_system', 'of_database', 'of_table'])
      assert.equal(await codeOf('SELECT * FROM shirts', { user, database: 'shop' }), '42501');
  });

  test('a table made later: who was granted it by default', async () => {
    const place = { database: 'shop', user: 'owner' };
    await rows(
      ['ALTER DEFAULT PRIVILEGES GRANT BACKUP ON TABLES TO of_database', 'CREATE TABLE later (a int)'],
      place,
    );
    assert.deepEqual(await takersOf('TABLE later'), ['of_database', 'of_old', 'boss']);
    await rows('ALTER DEFAULT PRIVILEGES REVOKE BACKUP ON TABLES FROM of_database', place);
  });

  test('nothing, for who may not use the place', async () => {
    for (const what of ['', 'DATABASE shop', 'TABLE shirts']) {
      const refused = await refusal(`BACKUP ${what} INTO 'external://rack/no'`, {
        user: 'homeless',
        database: 'shop',
      });
      assert.equal(refused?.code, '42501');
      assert.match(refused.message, /USAGE privilege on external_connection rack/);
    }
  });
});

describe('what becomes of grants', () => {
  const privilegesOn = async (table: string, role: string, database = 'shop') =>
    (await rows(`SHOW GRANTS ON ${table} FOR ${role}`, { database })).map((row) => row['privilege_type']);

  test('they obey the transaction, in both protocols, and a mixture is one effect', async () => {
    const client = await daemon.connect({ database: 'shop', user: 'owner' });
    try {
      const held = async () => [
        ...(await privilegesOn('wares', 'nobody')),
        ...(await rows('SHOW GRANTS ON DATABASE shop FOR nobody')).map((row) => row['privilege_type']),
      ];
      for (const end of ['ROLLBACK', 'COMMIT']) {
        await client.query('BEGIN');
        await client.query('GRANT BACKUP, SELECT ON wares TO nobody');
        await client.query({ text: 'GRANT BACKUP ON DATABASE shop TO nobody', name: 'prepared' });
        await client.query(end);
        assert.deepEqual(await held(), end === 'COMMIT' ? ['BACKUP', 'SELECT', 'BACKUP'] : []);
      }
      await client.query('REVOKE BACKUP, SELECT ON wares FROM nobody');
      await client.query('REVOKE BACKUP ON DATABASE shop FROM nobody');
      assert.deepEqual(await held(), []);
      const failed = client.query('GRANT SELECT, BACKUP ON wares, no_such_table TO nobody');
      await assert.rejects(failed, { code: '42P01' });
      assert.deepEqual(await held(), []);
      await client.query('BEGIN');
      await assert.rejects(client.query('GRANT BACKUP ON TABLE defaultdb.public.plain TO nobody'), {
        code: '25001',
      });
      await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
      await client.query('ROLLBACK');
    } finally {
      await client.end();
    }
  });

  test('a table made in the same transaction, found by the session’s search_path', async () => {
    const client = await daemon.connect({ database: 'shop', user: 'owner' });
    try {
      await client.query(
        'BEGIN; CREATE SCHEMA hidden; SET LOCAL search_path = hidden; CREATE TABLE fresh (a int)',
      );
      await client.query('GRANT BACKUP ON fresh TO nobody');
      await client.query('COMMIT');
    } finally {
      await client.end();
    }
    assert.deepEqual(await privilegesOn('hidden.fresh', 'nobody'), ['BACKUP']);
  });

  test('they stay with a renamed or moved object, and go with a dropped one', async () => {
    const place = { database: 'shop', user: 'owner' };
    await rows(['CREATE TABLE a (x int)', 'GRANT BACKUP ON a TO nobody', 'ALTER TABLE a RENAME TO b'], place);
    assert.deepEqual(await privilegesOn('b', 'nobody'), ['BACKUP']);
    await rows(['DROP TABLE b', 'CREATE TABLE b (x int)'], place);
    assert.deepEqual(await privilegesOn('b', 'nobody'), []);
    await rows(['CREATE DATABASE before_it OWNER owner', 'GRANT BACKUP ON DATABASE before_it TO nobody']);
    await rows('ALTER DATABASE before_it RENAME TO after_it');
    assert.equal((await rows('SHOW GRANTS ON DATABASE after_it FOR nobody')).length, 1);
    // A database made from it is another one.
    await rows('CREATE DATABASE its_copy TEMPLATE after_it');
    assert.equal((await rows('SHOW GRANTS ON DATABASE its_copy FOR nobody')).length, 0);
  });

  test('a dropped role leaves none behind', async () => {
    await rows('CREATE ROLE passing LOGIN');
    await rows(['GRANT SYSTEM VIEWJOB TO passing', 'GRANT BACKUP ON DATABASE shop TO passing']);
    await rows('GRANT USAGE ON EXTERNAL CONNECTION rack TO passing');
    await rows('GRANT BACKUP ON wares TO passing', { database: 'shop', user: 'owner' });
    assert.equal(await codeOf('DROP ROLE passing'), '2BP01');
    await rows('DROP OWNED BY passing', { database: 'shop' });
    await rows('DROP ROLE passing');
    await rows('CREATE ROLE passing LOGIN');
    assert.deepEqual(await rows('SHOW SYSTEM GRANTS FOR passing'), []);
    assert.deepEqual(await rows('SHOW GRANTS FOR passing', { database: 'shop' }), []);
    assert.deepEqual(await rows('SHOW GRANTS ON EXTERNAL CONNECTION rack FOR passing'), []);
    // The next grant clears away what the dropped role's number is still in.
    await rows('GRANT BACKUP ON DATABASE shop TO nobody');
    const gone = `SELECT FROM pg_atoll.database_privileges p
      WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = p.grantee)`;
    assert.deepEqual(await rows(gone, { database: 'shop' }), []);
    await rows('REVOKE BACKUP ON DATABASE shop FROM nobody');
  });

  test('what was passed on is taken back with CASCADE, and never looks revoked when it is not', async () => {
    await rows('GRANT SYSTEM VIEWJOB TO nobody WITH GRANT OPTION');
    await rows('GRANT SYSTEM VIEWJOB TO owner', { user: 'nobody' });
    assert.equal(await codeOf('REVOKE SYSTEM VIEWJOB FROM nobody'), '2BP01');
    await rows('REVOKE GRANT OPTION FOR SYSTEM VIEWJOB FROM nobody CASCADE');
    assert.deepEqual(
      (await rows('SHOW SYSTEM GRANTS FOR nobody, owner')).map((row) => [
        row['grantee'],
        row['is_grantable'],
      ]),
      [['nobody', false]],
    );
    await rows('REVOKE SYSTEM VIEWJOB FROM nobody');
    const place = { database: 'shop', user: 'owner' };
    await rows('GRANT BACKUP ON wares TO nobody WITH GRANT OPTION', place);
    await rows('GRANT BACKUP ON wares TO keeper', { database: 'shop', user: 'nobody' });
    assert.equal(await codeOf('REVOKE BACKUP ON wares FROM keeper', place), '2BP01');
    await rows('REVOKE BACKUP ON wares FROM nobody CASCADE', place);
    assert.deepEqual(await privilegesOn('wares', 'nobody, keeper'), []);
  });

  test('whoever can act for the owner does, whatever else the role could act for', async () => {
    await rows('CREATE ROLE maker LOGIN CREATEROLE');
    await rows(['CREATE ROLE second LOGIN', 'CREATE ROLE first LOGIN'], { user: 'maker' });
    await rows(['CREATE SCHEMA makers', 'GRANT ALL ON SCHEMA makers TO first, maker'], {
      database: 'shop',
      user: 'owner',
    });
    await rows(['CREATE TABLE makers.t (a int)', 'GRANT BACKUP ON makers.t TO second WITH GRANT OPTION'], {
      database: 'shop',
      user: 'first',
    });
    const client = await daemon.connect({ database: 'shop', user: 'maker' });
    try {
      await client.query('BEGIN');
      await client.query('GRANT BACKUP ON makers.t TO keeper, current_user');
      await client.query('REVOKE BACKUP ON makers.t FROM second');
      assert.deepEqual((await client.query('SELECT current_user::text AS me')).rows, [{ me: 'maker' }]);
      await client.query('COMMIT');
      assert.deepEqual((await client.query('SELECT current_user::text AS me')).rows, [{ me: 'maker' }]);
    } finally {
      await client.end();
    }
    const held = await rows(
      "SELECT grantee FROM [SHOW GRANTS ON makers.t] WHERE privilege_type = 'BACKUP' ORDER BY 1",
      {
        database: 'shop',
      },
    );
    assert.deepEqual(
      held.map((row) => row['grantee']),
      ['first', 'keeper', 'maker'],
    );
  });

  test('a backup carries them', async () => {
    await rows('GRANT BACKUP, RESTORE ON DATABASE shop TO nobody');
    await rows('GRANT BACKUP ON wares, offers TO nobody', { database: 'shop', user: 'owner' });
    const before = await rows('SHOW GRANTS FOR nobody', { database: 'shop' });
    assert.equal(before.filter((row) => row['privilege_type'] === 'BACKUP').length >= 3, true);
    const system = await rows('SHOW SYSTEM GRANTS');
    const connections = await rows('SHOW GRANTS ON EXTERNAL CONNECTION rack');
    await rows("BACKUP INTO 'nodelocal://1/carried'");
    const place = { cluster: 'system' };
    await rows(
      ['CREATE VIRTUAL CLUSTER again LIKE main', 'ALTER VIRTUAL CLUSTER again START SERVICE SHARED'],
      place,
    );
    await rows("RESTORE FROM LATEST IN 'nodelocal://1/carried'", { cluster: 'again' });
    assert.deepEqual(await rows('SHOW GRANTS FOR nobody', { cluster: 'again', database: 'shop' }), before);
    assert.deepEqual(await rows('SHOW SYSTEM GRANTS', { cluster: 'again' }), system);
    assert.deepEqual(
      await rows('SHOW GRANTS ON EXTERNAL CONNECTION rack', { cluster: 'again' }),
      connections,
    );
  });

  test('a tenant cannot write them around the statements', async () => {
    const place = { database: 'shop', user: 'nobody' };
    const insert = `INSERT INTO pg_atoll.database_privileges
      SELECT oid, 'BACKUP', 'nobody'::regrole, true FROM pg_database WHERE datname = 'shop'`;
    await rows('REVOKE BACKUP, RESTORE ON DATABASE shop FROM nobody');
    for (const attempt of [
      insert,
      `INSERT INTO pg_atoll.default_privileges
        SELECT oid, 'owner'::regrole, 0, 'BACKUP', 'nobody'::regrole, true FROM pg_database WHERE datname = 'shop'`,
      'DROP TABLE pg_atoll.database_privileges',
      'ALTER TABLE pg_atoll.database_privileges DISABLE TRIGGER ALL',
      'TRUNCATE pg_atoll.database_privileges',
      'CREATE TABLE pg_atoll.mine (a int)',
      'DROP EVENT TRIGGER pg_atoll_grant_defaults',
      'GRANT atoll_backup TO nobody',
      'SET ROLE atoll_operator',
      "SELECT pg_atoll.change_backup('wares'::regclass, 'grant', array['nobody'::regrole::oid])",
    ]) {
      assert.equal(await codeOf(attempt, place), '42501', attempt);
    }
  });

  test('names are taken as names', async () => {
    const name = `q"'\\$atoll$; DROP TABLE wares; --`;
    const quoted = `"${name.replaceAll('"', '""')}"`;
    const place = { database: 'shop', user: 'owner' };
    await rows(`CREATE ROLE ${quoted}`);
    await rows(`CREATE TABLE ${quoted} (a int)`, place);
    await rows(`GRANT SYSTEM VIEWJOB TO ${quoted}`);
    await rows(`REVOKE SYSTEM VIEWJOB FROM ${quoted}`);
    await rows(
      [`SET standard_conforming_strings = off`, `GRANT BACKUP, SELECT ON ${quoted} TO ${quoted}`],
      place,
    );
    await rows(`GRANT BACKUP ON DATABASE shop TO ${quoted}`, place);
    assert.deepEqual(await privilegesOn(quoted, quoted), ['BACKUP', 'SELECT']);
    await rows(`REVOKE BACKUP ON DATABASE shop FROM ${quoted}`, place);
    await rows('SELECT FROM wares', place);
  });

  test('wrong words are refused with the right code', async () => {
    for (const [sql, code] of [
      ['GRANT SYSTEM FLY TO nobody', '22023'],
      ['GRANT SYSTEM BACKUP TO PUBLIC', '22023'],
      ['GRANT SYSTEM BACKUP TO nowhere', '42704'],
      ['SHOW SYSTEM GRANTS FOR nowhere', '42704'],
      ['GRANT RESTORE ON TABLE plain TO nobody', '0LP01'],
      ['GRANT BACKUP, SELECT ON DATABASE shop TO nobody', '0LP01'],
      ['GRANT BACKUP (a) ON plain TO nobody', '0LP01'],
      ['GRANT BACKUP ON TABLE nowhere TO nobody', '42P01'],
      ['GRANT BACKUP ON DATABASE nowhere TO nobody', '3D000'],
      ['GRANT SELECT ON EXTERNAL CONNECTION rack TO nobody', '0LP01'],
      ['GRANT USAGE ON EXTERNAL CONNECTION nowhere TO nobody', '42704'],
      ['GRANT BACKUP ON SCHEMA public TO nobody', '42601'],
    ] as const) {
      assert.equal(await codeOf(sql), code, sql);
    }
  });

  test('what is Postgres’s goes to Postgres', async () => {
    await rows('CREATE ROLE system');
    for (const sql of [
      'GRANT system TO nobody',
      'REVOKE system FROM nobody',
      'GRANT SELECT ON plain TO nobody',
    ]) {
      await rows(sql);
    }
    assert.equal(await codeOf('GRANT FLY ON plain TO nobody'), '42601');
    await rows('CREATE ROLE controljob ROLE nobody, owner');
    assert.deepEqual(await rows('SHOW SYSTEM GRANTS FOR controljob'), []);
  });
});

describe('role options', () => {
  test('stand for system privileges, beside those of Postgres', async () => {
    await rows("CREATE USER clerk WITH LOGIN PASSWORD 'secret' CONTROLJOB VIEWCLUSTERSETTING");
    const granted = async () =>
      (await rows('SHOW SYSTEM GRANTS FOR clerk')).map((row) => row['privilege_type']);
    assert.deepEqual(await granted(), ['CONTROLJOB', 'VIEWCLUSTERSETTING']);
    await rows('ALTER ROLE clerk NOCONTROLJOB VIEWJOB CREATEDB');
    assert.deepEqual(await granted(), ['VIEWCLUSTERSETTING', 'VIEWJOB']);
    const [clerk] = await rows("SELECT * FROM [SHOW USERS] WHERE username = 'clerk'");
    assert.equal(clerk?.['options'], 'CREATEDB, VIEWCLUSTERSETTING, VIEWJOB');
    assert.equal(await codeOf('CREATE ROLE other VIEWJOB', { user: 'nobody' }), '42501');
    assert.equal(await codeOf('CREATE ROLE clerk VIEWJOB'), '42710');
  });
});

describe('the authority of the system virtual cluster', () => {
  const enter = async (user: string, sql: string): Promise<Record<string, unknown>[]> => {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: daemon.port,
      user,
      database: 'shop',
      options: '-ccluster=main -cauthority=system',
    });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  };

  test('an admin of it is served as an admin of any other', async () => {
    await rows('CREATE ROLE operator LOGIN', { cluster: 'system' });
    await assert.rejects(enter('operator', 'SELECT 1'), { code: '28000' });
    await rows('GRANT admin TO operator', { cluster: 'system' });
    assert.deepEqual(
      await enter(
        'operator',
        'SELECT current_user::text AS a, session_user::text AS b, current_database()::text AS c',
      ),
      [{ a: 'admin', b: 'atoll_operator', c: 'shop' }],
    );
    await enter('operator', 'SELECT * FROM wares');
    await enter('operator', "SET CLUSTER SETTING jobs.retention_time = '200h'");
    await enter('operator', 'GRANT SYSTEM VIEWJOB TO nobody');
    await enter('operator', 'REVOKE SYSTEM VIEWJOB FROM nobody');
    await enter('operator', 'RESET CLUSTER SETTING jobs.retention_time');
  });

  test('VIEWSYSTEMDATA reads the system tables and settings, and changes nothing', async () => {
    const user = holderOf('viewsystemdata');
    await enter(user, 'SHOW CLUSTER SETTINGS');
    await enter(user, 'SHOW JOBS');
    await enter(user, 'SELECT id, status FROM system.jobs');
    await enter('operator', 'SELECT username FROM system.users');
    assert.ok(Number((await enter(user, 'SELECT count(*) AS n FROM public.jobs'))[0]?.['n']) > 0);
    for (const [sql, code] of [
      ["SET CLUSTER SETTING jobs.retention_time = '1h'", '42501'],
      ['GRANT SYSTEM VIEWJOB TO nobody', '42501'],
      ["BACKUP INTO 'nodelocal://1/mine'", '42501'],
      ['SELECT uri FROM public.external_connections', '42501'],
      ['SELECT payload FROM public.jobs', '42501'],
      ['SELECT value FROM public.settings', '42501'],
      ["UPDATE public.settings SET value = ''", '25006'],
      ['SET transaction_read_only = off; DELETE FROM public.jobs', '42501'],
    ] as const) {
      await assert.rejects(enter(user, sql), { code }, sql);
    }
  });

  test('nobody else has it, and nobody is its role by name', async () => {
    for (const user of ['boss_of_main', holderOf('viewjob'), 'nobody']) {
      await assert.rejects(enter(user, 'SELECT 1'), { code: '28000' }, user);
    }
    for (const user of ['atoll_operator', 'atoll_observer']) {
      assert.equal(await codeOf('SELECT 1', { user }), '28000');
      await assert.rejects(enter(user, 'SELECT 1'), { code: '28000' }, user);
    }
  });
});
