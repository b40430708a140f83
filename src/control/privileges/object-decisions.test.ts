import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../../test/harness/control.ts';
import { noBackups } from '../../../test/harness/scripted-backups.ts';
import { required } from '../../base/index.ts';
import type { BackupTargets, RestoreTargets, TablePattern } from '../../sql/index.ts';
import { requireBackupPrivilege, requireRestorePrivilege } from './object-decisions.ts';
import type { Asker } from './privileges.ts';

const NEVER = new AbortController().signal;
const CLUSTER: BackupTargets = { kind: 'virtual_cluster' };

function databases(...names: readonly string[]): BackupTargets {
  return { kind: 'databases', names };
}

/** `a`, `a.b`, `a.b.c`, with `*` in the last place. */
function tables(...paths: readonly string[]): BackupTargets {
  const patterns = paths.map((path): TablePattern => {
    const parts = path.split('.');
    const last = parts.pop();
    return { qualifiers: parts, name: last === '*' ? undefined : last };
  });
  return { kind: 'tables', patterns };
}

let test: TestControl;

function asker(user: string): Asker {
  return { instance: required(test.host.get(test.idOf('main')), 'instance'), user, signal: NEVER };
}

async function mayBackUp(
  user: string,
  targets: BackupTargets,
  currentDatabase = 'test_db',
): Promise<boolean> {
  return decided(requireBackupPrivilege(asker(user), { targets, currentDatabase }));
}

async function mayRestore(user: string, targets: RestoreTargets, intoDatabase = 'test_db'): Promise<boolean> {
  return decided(requireRestorePrivilege(asker(user), { targets, intoDatabase }));
}

async function decided(decision: Promise<void>): Promise<boolean> {
  try {
    await decision;
    return true;
  } catch (error) {
    if ((error as { sqlstate?: string }).sqlstate === '42501') return false;
    throw error;
  }
}

const USERS = [
  'cluster_user',
  'database_user',
  'table_user',
  'boss',
  'nobody',
  'owner',
  'reader',
  'restorer',
];

before(async () => {
  test = await TestControl.open({ virtualized: 'main', ...noBackups() });
  for (const user of USERS) await test.postgres(`CREATE ROLE ${user} LOGIN`);
  await test.postgres('GRANT admin TO boss');
  await test.postgres('CREATE DATABASE test_db OWNER owner');
  for (const database of ['bank', 'blank']) await test.postgres(`CREATE DATABASE ${database}`);
  await test.postgres('REVOKE CONNECT ON DATABASE bank FROM PUBLIC');
  const setUp = `CREATE SCHEMA bank; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE granted (a mood); CREATE TABLE other (b int);
    CREATE VIEW seen AS SELECT 1 AS x; CREATE TABLE bank.one (c int); CREATE SEQUENCE counter`;
  await test.postgres(setUp, { database: 'test_db', as: 'owner' });
  await test.postgres('CREATE TABLE customers (a int)', { database: 'bank' });
});
after(async () => {
  await test[Symbol.asyncDispose]();
});

describe('who may back up', () => {
  it('a cluster: admins and holders of SYSTEM BACKUP, with the documented refusal', async () => {
    await test.ask('GRANT SYSTEM BACKUP TO cluster_user');
    for (const user of USERS) {
      assert.equal(await mayBackUp(user, CLUSTER), ['cluster_user', 'boss'].includes(user), user);
    }
    await assert.rejects(
      requireBackupPrivilege(asker('nobody'), { targets: CLUSTER, currentDatabase: 'test_db' }),
      {
        sqlstate: '42501',
        message:
          'only users with the admin role or the BACKUP system privilege are allowed to perform full cluster backups',
        hint: 'an admin can GRANT SYSTEM BACKUP',
      },
    );
  });

  it('a database: its owner, admins, holders of BACKUP on it; and no privilege cascades', async () => {
    await test.ask('GRANT BACKUP ON DATABASE test_db TO database_user');
    const allowed = ['database_user', 'boss', 'owner'];
    for (const user of USERS) {
      assert.equal(await mayBackUp(user, databases('test_db')), allowed.includes(user), user);
    }
    assert.equal(await mayBackUp('database_user', tables('granted')), false);
    assert.equal(await mayBackUp('cluster_user', tables('granted')), false);
    assert.equal(await mayBackUp('database_user', databases('test_db', 'bank')), false);
    await assert.rejects(
      requireBackupPrivilege(asker('nobody'), { targets: databases('test_db'), currentDatabase: 'bank' }),
      {
        message: 'user nobody does not have BACKUP privilege on database test_db',
        hint: /GRANT BACKUP ON DATABASE/,
      },
    );
  });

  it('a table: its owner, admins, holders of BACKUP on it, its types included, whatever is called how', async () => {
    await test.ask('GRANT BACKUP ON TABLE test_db.granted TO table_user');
    await test.postgres('REVOKE USAGE ON TYPE mood FROM PUBLIC', { database: 'test_db', as: 'owner' });
    const allowed = ['table_user', 'boss', 'owner'];
    for (const path of ['granted', 'public.granted', 'test_db.public.granted']) {
      for (const user of USERS) {
        assert.equal(await mayBackUp(user, tables(path)), allowed.includes(user), `${user} ${path}`);
      }
    }
    assert.equal(await mayBackUp('table_user', tables('test_db.granted'), 'bank'), true);
    assert.equal(await mayBackUp('table_user', tables('granted', 'other')), false);
    assert.equal(await mayBackUp('table_user', databases('test_db')), false);
    await test.postgres('ALTER TABLE granted RENAME TO renamed', { database: 'test_db', as: 'owner' });
    assert.equal(await mayBackUp('table_user', tables('renamed')), true);
    await test.postgres('ALTER TABLE renamed RENAME TO granted', { database: 'test_db', as: 'owner' });
  });

  it('views and sequences by name', async () => {
    for (const name of ['seen', 'counter']) {
      assert.equal(await mayBackUp('table_user', tables(name)), false);
      await test.ask(`GRANT BACKUP ON TABLE test_db.${name} TO table_user`);
      assert.equal(await mayBackUp('table_user', tables(name)), true);
      await test.ask(`REVOKE BACKUP ON TABLE test_db.${name} FROM table_user`);
      assert.equal(await mayBackUp('table_user', tables(name)), false);
    }
  });

  it('all tables of a schema, schemas before databases', async () => {
    await test.ask('GRANT BACKUP ON TABLE test_db.bank.* TO table_user');
    assert.equal(await mayBackUp('table_user', tables('bank.*')), true);
    assert.equal(await mayBackUp('table_user', tables('bank.*'), 'defaultdb'), false, 'the database bank');
    assert.equal(await mayBackUp('table_user', tables('test_db.bank.*'), 'defaultdb'), true);
    await assert.rejects(mayBackUp('boss', tables('bank.*', 'defaultdb.public.*')), { sqlstate: '0A000' });
  });

  it('by the legacy model: SELECT on everything that is taken, not CONNECT alone', async () => {
    assert.equal(await mayBackUp('reader', databases('test_db')), false);
    assert.equal(await mayBackUp('reader', tables('other')), false);
    await test.postgres('GRANT SELECT ON other TO reader', { database: 'test_db', as: 'owner' });
    assert.equal(await mayBackUp('reader', tables('other')), true);
    assert.equal(await mayBackUp('reader', databases('test_db')), false);
    await test.postgres(
      `GRANT SELECT ON ALL TABLES IN SCHEMA public, bank TO reader; GRANT SELECT ON counter TO reader;
       GRANT USAGE ON SCHEMA bank TO reader`,
      { database: 'test_db', as: 'owner' },
    );
    assert.equal(await mayBackUp('reader', databases('test_db')), false, 'a type is missing');
    assert.equal(await mayBackUp('reader', tables('granted')), false, 'its type is missing');
    await test.postgres('GRANT USAGE ON TYPE mood TO reader', { database: 'test_db', as: 'owner' });
    assert.equal(await mayBackUp('reader', databases('test_db')), true);
    assert.equal(await mayBackUp('reader', databases('blank')), false, 'CONNECT is everybody’s');
  });

  it('says what does not exist', async () => {
    await assert.rejects(mayBackUp('nobody', databases('nowhere')), { sqlstate: '3D000' });
    await assert.rejects(mayBackUp('nobody', tables('nothing')), { sqlstate: '42P01' });
  });

  it('does not tell what is in a database to those who cannot connect to it', async () => {
    for (const path of ['bank.public.customers', 'bank.public.nothing', 'bank.public.*']) {
      const decision = requireBackupPrivilege(asker('nobody'), {
        targets: tables(path),
        currentDatabase: 'test_db',
      });
      await assert.rejects(decision, {
        sqlstate: '42501',
        message: 'user nobody does not have BACKUP privilege on what is named of database bank',
      });
    }
    const shown = await test.refusal('SHOW GRANTS ON bank.public.*', { as: 'nobody' });
    assert.equal(shown.sqlstate, '42501');
  });
});

describe('who may restore', () => {
  it('clusters and databases: holders of SYSTEM RESTORE; tables: of RESTORE on the database', async () => {
    await test.ask('GRANT SYSTEM RESTORE TO cluster_user');
    await test.ask('GRANT RESTORE ON DATABASE test_db TO restorer');
    await test.postgres('ALTER ROLE reader CREATEDB');
    const expected: Readonly<Record<string, readonly boolean[]>> = {
      cluster_user: [true, true, false],
      database_user: [false, false, false],
      restorer: [false, false, true],
      boss: [true, true, true],
      owner: [false, false, true],
      reader: [false, true, false],
      nobody: [false, false, false],
    };
    for (const [user, may] of Object.entries(expected)) {
      const answers: readonly boolean[] = [
        await mayRestore(user, CLUSTER),
        await mayRestore(user, databases('test_db')),
        await mayRestore(user, tables('granted')),
      ];
      assert.deepEqual(answers, may, user);
    }
    assert.equal(await mayRestore('restorer', tables('granted'), 'bank'), false);
    assert.equal(await mayRestore('cluster_user', { kind: 'system_users' }), false);
    assert.equal(await mayRestore('boss', { kind: 'system_users' }), true);
  });
});
