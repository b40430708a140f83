import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { NEVER, TestStore, withTenant } from '../../test/harness/instance-store.ts';
import type { Instance } from './contract.ts';

const EVIL = `CREATE SUBSCRIPTION evil CONNECTION 'host=db.example password=p sslkeylogfile=/x' PUBLICATION p WITH (connect = false, slot_name = NONE)`;
/** As a release without guards has left it. */
const STRIP = [
  'ALTER EXTENSION plpgsql DROP EVENT TRIGGER pg_atoll_grant_defaults',
  'ALTER EXTENSION plpgsql DROP EVENT TRIGGER pg_atoll_guard_subscription',
  'DROP SCHEMA pg_atoll CASCADE',
  'GRANT EXECUTE ON FUNCTION lo_import(text) TO PUBLIC',
].join(';');

describe('guards of databases', () => {
  let store: TestStore;
  let instance: Instance;
  before(async () => {
    store = await TestStore.open();
    instance = await store.serve(3);
  });
  after(async () => {
    await store[Symbol.asyncDispose]();
  });

  const query = (sql: string, login: { user?: string; database?: string } = {}) =>
    withTenant(
      instance,
      { user: 'root', database: 'defaultdb', ...login },
      async (client) => (await client.query(sql)).rows,
    );
  const superuser = (sql: string, database: string) => query(sql, { user: 'atoll', database });
  const guard = () => instance.guardDatabases({ signal: NEVER });
  const shut = () => query('SELECT datname FROM pg_database WHERE NOT datallowconn ORDER BY 1');

  it('are there from the beginning, in databases of tenants too', async () => {
    assert.deepEqual(await guard(), []);
    await query('CREATE DATABASE later');
    assert.deepEqual(await guard(), []);
    const marks = await superuser(
      'SELECT d.datname FROM pg_database d LEFT JOIN public.database_guards g ON g.database = d.oid WHERE g.database IS NULL',
      'system',
    );
    assert.deepEqual(marks, []);
  });

  it('are made wherever an earlier release has left none, and what was shut is shut again', async () => {
    await query('CREATE DATABASE closed');
    await query('CREATE DATABASE "Only Read"');
    await query('ALTER DATABASE "Only Read" SET default_transaction_read_only = on');
    await superuser('ALTER DATABASE template0 ALLOW_CONNECTIONS true', 'system');
    for (const database of ['template0', 'template1', 'defaultdb', 'closed']) {
      await superuser(STRIP, database);
    }
    await superuser(`BEGIN READ WRITE; ${STRIP}; COMMIT`, 'Only Read');
    for (const name of ['template0', 'closed']) {
      await superuser(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`, 'system');
    }
    await superuser('DROP TABLE public.database_guards', 'system');
    await query(EVIL);
    await query('DROP SUBSCRIPTION evil');

    assert.deepEqual(
      await guard(),
      ['"Only Read"', 'closed', 'defaultdb', 'template0', 'template1'].map(
        (name) => `database ${name}: guards of this release are installed`,
      ),
    );
    assert.deepEqual(await shut(), [{ datname: 'closed' }, { datname: 'template0' }]);
    await query('ALTER DATABASE closed ALLOW_CONNECTIONS true');
    await query('CREATE DATABASE fresh TEMPLATE template0');
    await query('CREATE DATABASE usual');
    for (const database of ['defaultdb', 'closed', 'fresh', 'usual', 'Only Read']) {
      const evil = `BEGIN READ WRITE; ${EVIL}`;
      // The guard wants the statement alone; where the database only reads, nothing else can come so far.
      await assert.rejects(query(database === 'Only Read' ? evil : EVIL, { database }), { code: '42501' });
      await assert.rejects(query("SELECT lo_import('/etc/passwd')", { database }), { code: '42501' });
    }
    assert.deepEqual(await guard(), []);
  });

  it('are replaced when they are of another release, with what they keep', async () => {
    await query('CREATE ROLE holder');
    const rows = `SELECT privilege FROM pg_atoll.database_privileges`;
    await query(`INSERT INTO pg_atoll.database_privileges
      SELECT oid, 'BACKUP', 'holder'::regrole, false FROM pg_database WHERE datname = current_database()`);
    await superuser(
      `COMMENT ON SCHEMA pg_atoll IS 'another'; ALTER EVENT TRIGGER pg_atoll_guard_subscription DISABLE;
       CREATE OR REPLACE FUNCTION pg_atoll.guard_subscription() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'`,
      'defaultdb',
    );
    await superuser(`UPDATE public.database_guards SET digest = 'another'`, 'system');
    assert.deepEqual(await guard(), ['database defaultdb: guards of this release are installed']);
    await assert.rejects(query(EVIL), { code: '42501' });
    assert.deepEqual(await query(rows), [{ privilege: 'BACKUP' }]);
  });

  it('leave nothing open after a crash', async () => {
    await superuser('ALTER DATABASE template0 ALLOW_CONNECTIONS true', 'system');
    await superuser(
      `UPDATE public.database_guards SET is_shut = true
        WHERE database = (SELECT oid FROM pg_database WHERE datname = 'template0')`,
      'system',
    );
    await guard();
    assert.deepEqual(await shut(), [{ datname: 'template0' }]);
  });

  it('cannot be evaded by what a tenant may do', async () => {
    for (const sql of [
      "COMMENT ON SCHEMA pg_atoll IS 'mine'",
      'DROP SCHEMA pg_atoll CASCADE',
      'ALTER SCHEMA pg_atoll OWNER TO root',
      'ALTER EVENT TRIGGER pg_atoll_guard_subscription OWNER TO root',
      'SET session_replication_role = replica',
      'ALTER DATABASE defaultdb SET event_triggers = off',
    ]) {
      await assert.rejects(query(sql), { code: '42501' }, sql);
    }
  });
});
