import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { NEVER, TestStore, withTenant } from '../../test/harness/instance-store.ts';
import type { Instance } from './contract.ts';

const GUARDS = `SELECT c.relname || ' ' || t.tgname || ' ' || t.tgenabled::text AS guard FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
  WHERE c.relnamespace = 'pg_atoll'::regnamespace ORDER BY 1`;
/** A dump leaves out schemas called pg_..., and members of extensions. */
const DUMPED = `SELECT evtname FROM pg_event_trigger e WHERE NOT EXISTS (SELECT FROM pg_depend d
  WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = e.oid AND d.deptype = 'e')`;

describe('where a database keeps privileges that Postgres has no word for', () => {
  let store: TestStore;
  let instance: Instance;
  before(async () => {
    store = await TestStore.open();
    instance = await store.serve(3);
  });
  after(async () => {
    await store[Symbol.asyncDispose]();
  });

  const query = (sql: string, login: { user: string; database: string }) =>
    withTenant(instance, login, async (client) => (await client.query(sql)).rows);

  it('is in every database from the beginning, guarded always, and in no dump', async () => {
    await query('CREATE DATABASE fresh TEMPLATE template0', { user: 'root', database: 'defaultdb' });
    for (const database of ['defaultdb', 'postgres', 'fresh', 'system']) {
      assert.deepEqual(
        await query(GUARDS, { user: 'atoll', database }),
        [{ guard: 'database_privileges guard A' }, { guard: 'default_privileges guard A' }],
        database,
      );
      assert.deepEqual(await query(DUMPED, { user: 'atoll', database }), [], database);
    }
  });

  it('is made where it is missing, once, whoever asks and however often', async () => {
    const database = 'defaultdb';
    // As in a data directory that was made elsewhere.
    await query(
      `ALTER EXTENSION plpgsql DROP EVENT TRIGGER pg_atoll_grant_defaults;
       ALTER EXTENSION plpgsql DROP EVENT TRIGGER pg_atoll_guard_subscription; DROP SCHEMA pg_atoll CASCADE`,
      { user: 'atoll', database },
    );
    await query('CREATE ROLE maker LOGIN; CREATE ROLE holder', { user: 'root', database });
    await Promise.all([1, 2, 3].map(() => instance.installPrivilegeStore({ database, signal: NEVER })));
    const login = { user: 'root', database };
    assert.equal((await query(GUARDS, login)).length, 2);
    assert.deepEqual(await query(DUMPED, login), []);
    const insert = `INSERT INTO pg_atoll.default_privileges
      SELECT d.oid, 'maker'::regrole, 0, 'BACKUP', 'holder'::regrole, false FROM pg_database d WHERE d.datname = current_database()`;
    await query('CREATE ROLE stranger LOGIN; GRANT ALL ON SCHEMA public TO maker', login);
    await assert.rejects(query(insert, { user: 'stranger', database }), { code: '42501' });
    await query(insert, { user: 'maker', database });
    await query('CREATE TABLE made (a int)', { user: 'maker', database });
    assert.deepEqual(
      await query(
        `SELECT a.attacl::text AS acl FROM pg_attribute a WHERE a.attrelid = 'made'::regclass AND a.attname = 'tableoid'`,
        login,
      ),
      [{ acl: '{holder=x/maker}' }],
    );
    await assert.rejects(instance.installPrivilegeStore({ database: 'nowhere', signal: NEVER }), {
      code: 'object_not_found',
    });
  });
});
