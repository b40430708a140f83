import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestStore, withTenant } from '../../test/harness/instance-store.ts';
import type { Instance } from './contract.ts';

const REST = 'PUBLICATION p WITH (connect = false, slot_name = NONE)';
const TARGET = 'host=db.example port=5432 user=u password=p dbname=d';

/** Connection strings, as they stand between the quotes of a literal. */
const ON_THE_NETWORK = [
  TARGET,
  `${TARGET} sslmode=verify-full sslrootcert=system connect_timeout=5`,
  "  host = db.example  user=u password=''two words'' application_name = x ",
  'host=10.0.0.1,10.0.0.2 port=1,2 password=p=1',
  'postgresql://u:p%2Fq@db.example:5432/d?sslmode=require&application_name=a%20b',
  'postgres://u:p@[::1]/d',
];

const ELSEWHERE = [
  `${TARGET} sslkeylogfile=/tmp/atoll-owned`,
  `${TARGET} SSLKEYLOGFILE=/tmp/atoll-owned`,
  `${TARGET} sslcert=/c sslkey=/k`,
  `${TARGET} sslrootcert=/etc/passwd`,
  `${TARGET} sslcrl=/etc/passwd`,
  `${TARGET} passfile=/p`,
  `${TARGET} service=s`,
  `${TARGET} replication=true`,
  'host=/tmp password=p',
  'host=@abstract password=p',
  'host=a,/tmp password=p',
  "host=''/tmp'' password=p",
  'password=p host=xport= sslkeylogfile=/tmp/atoll-owned',
  "password=''p''sslkeylogfile=/tmp/atoll-owned",
  'postgresql://u:p@h/d?sslkeylogfile=/tmp/atoll-owned',
  'postgresql://u:p@h/d?%73slkeylogfile=/tmp/atoll-owned',
  'postgresql://u?host=x:p@h/d?sslkeylogfile=/tmp/atoll-owned',
  'postgresql://u:p@%2Ftmp/d',
  'postgresql://u:p@/d?host=/tmp',
  'postgresql://u:p@/d?host=%2Ftmp',
];

/** Ways to keep the text of the statement from being read. */
const HIDDEN = [
  `DO $$BEGIN EXECUTE 'CREATE SUBSCRIPTION hidden CONNECTION ''${TARGET}'' ${REST}'; END$$`,
  `SELECT 1; CREATE SUBSCRIPTION hidden CONNECTION '${TARGET}' ${REST}`,
  `CREATE SUBSCRIPTION s CONNECTION '${TARGET}' ${REST}; CREATE SUBSCRIPTION hidden CONNECTION '${TARGET} sslkeylogfile=/x' ${REST}`,
  `CREATE SUBSCRIPTION hidden CONNECTION E'${TARGET} \\x73slkeylogfile=/x' ${REST}`,
  `CREATE SUBSCRIPTION hidden CONNECTION U&'${TARGET} \\0073slkeylogfile=/x' ${REST}`,
  `CREATE SUBSCRIPTION hidden CONNECTION '${TARGET} ssl'\n'keylogfile=/x' ${REST}`,
  `CREATE SUBSCRIPTION hidden CONNECTION $$${TARGET} sslkeylogfile=/x$$ ${REST}`,
  `CREATE SUBSCRIPTION hidden /* CONNECTION '${TARGET}' PUBLICATION */ CONNECTION '${TARGET} sslkeylogfile=/x' ${REST}`,
  `CREATE SUBSCRIPTION hidden CONNECTION '${TARGET}${' '.repeat(70_000)}' ${REST}`,
];

describe('connection strings of subscriptions', () => {
  let store: TestStore;
  let instance: Instance;
  before(async () => {
    store = await TestStore.open();
    instance = await store.serve(3);
  });
  after(async () => {
    await store[Symbol.asyncDispose]();
  });

  const query = (sql: string, values?: readonly string[]) =>
    withTenant(
      instance,
      { user: 'root', database: 'defaultdb' },
      async (client) => (await client.query(sql, values?.slice())).rows,
    );
  const names = async () => await query('SELECT subname FROM pg_subscription ORDER BY 1');

  it('may name servers on the network', async () => {
    for (const [index, target] of ON_THE_NETWORK.entries()) {
      await query(
        `-- made by a tool\n/* twice */ CREATE SUBSCRIPTION "s ${index}" CONNECTION '${target}' ${REST}`,
      );
      await query(`ALTER SUBSCRIPTION "s ${index}" CONNECTION '${target}';`);
      await query(`ALTER SUBSCRIPTION "s ${index}" RENAME TO s`);
      await query('alter subscription s set (synchronous_commit = off)');
      await query('DROP SUBSCRIPTION s');
    }
  });

  it('may name no file, no socket file and nothing unknown', async () => {
    await query(`CREATE SUBSCRIPTION s CONNECTION '${TARGET}' ${REST}`);
    for (const target of ELSEWHERE) {
      for (const sql of [
        `CREATE SUBSCRIPTION evil CONNECTION '${target}' ${REST}`,
        `ALTER SUBSCRIPTION s CONNECTION '${target}'`,
      ]) {
        await assert.rejects(query(sql), { code: '42501', message: /names more than a server/ }, sql);
      }
    }
    await query('DROP SUBSCRIPTION s');
    assert.deepEqual(await names(), []);
  });

  it('cannot be hidden from the check, whatever they say', async () => {
    for (const sql of HIDDEN) {
      await assert.rejects(query(sql), { code: '42501', message: /by a statement of its own/ }, sql);
    }
    await query(`CREATE SUBSCRIPTION s CONNECTION '${TARGET}' ${REST}`);
    await assert.rejects(
      query("DO $$BEGIN EXECUTE 'ALTER SUBSCRIPTION s CONNECTION ''host=x password=p'''; END$$"),
      {
        code: '42501',
      },
    );
    await query('DROP SUBSCRIPTION s');
    assert.deepEqual(await names(), []);
  });

  it('are checked in databases of tenants, and tenants cannot switch that off', async () => {
    await query('CREATE DATABASE mine TEMPLATE template0');
    await withTenant(instance, { user: 'root', database: 'mine' }, async (client) => {
      for (const sql of [
        'DROP EVENT TRIGGER pg_atoll_guard_subscription',
        'ALTER EVENT TRIGGER pg_atoll_guard_subscription DISABLE',
        'ALTER EXTENSION plpgsql DROP EVENT TRIGGER pg_atoll_guard_subscription',
        'DROP EXTENSION plpgsql CASCADE',
        'SET event_triggers = off',
        'CREATE OR REPLACE FUNCTION pg_atoll.guard_subscription() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$',
        `CREATE SUBSCRIPTION evil CONNECTION '${TARGET} sslkeylogfile=/x' ${REST}`,
      ]) {
        await assert.rejects(client.query(sql), { code: '42501' }, sql);
      }
    });
  });
});
