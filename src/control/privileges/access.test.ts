import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { TestControl } from '../../../test/harness/control.ts';
import { noBackups } from '../../../test/harness/scripted-backups.ts';
import { required } from '../../base/index.ts';

const NEVER = new AbortController().signal;

describe('who gets in', () => {
  let test: TestControl;
  before(async () => {
    test = await TestControl.open({ virtualized: 'main', ...noBackups() });
    await test.postgres(`
      CREATE ROLE app LOGIN PASSWORD 'secret';
      CREATE ROLE late LOGIN PASSWORD 'secret' VALID UNTIL '2001-01-01';
      CREATE ROLE barred NOLOGIN PASSWORD 'secret'`);
    await test.postgres(
      'CREATE ROLE helper LOGIN; CREATE ROLE stranger LOGIN; CREATE ROLE boss LOGIN IN ROLE admin',
      {
        in: 'system',
      },
    );
    await test.postgres('GRANT atoll_managevirtualcluster TO helper', { in: 'system' });
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  const credential = (user: string, name = 'main') =>
    test.control.service.credential({ virtualClusterId: test.idOf(name), user, signal: NEVER });
  const authorize = (user: string, name = 'main') =>
    test.control.service.authorize({ virtualClusterId: test.idOf(name), user, signal: NEVER });

  it('is read from the virtual cluster itself, each time anew', async () => {
    const app = await credential('app');
    assert.match(app?.verifier ?? '', /^SCRAM-SHA-256\$/);
    assert.deepEqual([app?.canLogin, app?.isExpired], [true, false]);
    assert.deepEqual((await credential('late'))?.isExpired, true);
    assert.deepEqual((await credential('barred'))?.canLogin, false);
    assert.equal(await credential('nobody'), undefined);
    assert.equal(await credential('app', 'system'), undefined);
    await test.postgres('ALTER ROLE app PASSWORD NULL');
    assert.equal((await credential('app'))?.verifier, null);
  });

  it('never is a role of the node', async () => {
    for (const role of ['atoll', 'atoll_reader']) {
      assert.equal(await credential(role), undefined);
      await assert.rejects(authorize(role), { code: 'authorization_invalid' });
    }
  });

  it('takes a role that may log in', async () => {
    await authorize('app');
    await authorize('root');
    for (const user of ['nobody', 'barred', 'admin', 'atoll_backup', "x' OR true --"]) {
      await assert.rejects(authorize(user), { code: 'authorization_invalid', sqlstate: '28000' });
    }
  });

  it('takes room, unless it is an admin, under a limit that can be changed at any time', async () => {
    const { socketDirectory } = required(test.host.get(test.idOf('main')), 'instance');
    const sessions = ['app', 'app', 'root'].map(
      (user) => new pg.Client({ host: socketDirectory, user, database: 'defaultdb' }),
    );
    const limit = (value: string) =>
      test.ask(`SET CLUSTER SETTING server.max_connections_per_gateway = ${value}`);
    try {
      await Promise.all(sessions.map((session) => session.connect()));
      await authorize('app');
      await limit('2');
      await assert.rejects(authorize('app'), {
        code: 'too_many_connections',
        sqlstate: '53300',
        message: 'sorry, too many clients already',
      });
      await authorize('root');
      await limit('3');
      await authorize('app');
      await limit('0');
      await assert.rejects(authorize('app'), { code: 'too_many_connections' });
    } finally {
      await test.ask('RESET CLUSTER SETTING server.max_connections_per_gateway');
      await Promise.all(sessions.map((session) => session.end()));
    }
    await authorize('app');
  });

  it('takes more for system: admin, or a privilege that was granted there', async () => {
    for (const user of ['root', 'boss', 'helper']) await authorize(user, 'system');
    await assert.rejects(authorize('stranger', 'system'), {
      sqlstate: '28000',
      message: 'role "stranger" is not permitted to enter the system virtual cluster',
    });
  });

  it('puts no secret into the log', () => {
    assert.doesNotMatch(test.logger.lines.join('\n'), /SCRAM-SHA-256|secret/);
  });
});

describe('what is shown of the node', () => {
  it('counts the transactions of each virtual cluster apart', async () => {
    await using test = await TestControl.open({ virtualized: 'main', ...noBackups() });
    const commits = async (tenant: string) => {
      const families = await test.control.metricsSnapshot({ signal: NEVER });
      const family = families.find(({ name }) => name === 'sql_txn_commit_count');
      return family?.samples.find(({ labels }) => labels['tenant'] === tenant)?.value ?? -1;
    };
    const [main, system] = [await commits('main'), await commits('system')];
    assert.ok(main >= 0 && system >= 0);
    await test.postgres('CREATE TABLE t (a int); SELECT pg_stat_force_next_flush()');
    await test.postgres('SELECT pg_stat_force_next_flush()');
    assert.ok((await commits('main')) > main);
    assert.equal(await commits('system'), system);
    assert.equal(test.control.health().notReadyReason, undefined);
  });
});

describe('system privileges', () => {
  it('are out of reach for a role that may make roles', async () => {
    await using test = await TestControl.open({ virtualized: 'main', ...noBackups() });
    await test.postgres('CREATE ROLE maker LOGIN CREATEROLE');
    for (const attempt of [
      'GRANT atoll_backup TO maker',
      'GRANT admin TO maker',
      'CREATE ROLE atoll_backup',
      'DROP ROLE atoll_backup',
      'ALTER ROLE atoll_backup LOGIN',
      'SET ROLE atoll_backup',
    ]) {
      await assert.rejects(
        test.postgres(attempt, { as: 'maker' }),
        /permission denied|already exists/,
        attempt,
      );
    }
    const refused = await test.refusal("BACKUP INTO 'nodelocal://1/x'", { as: 'maker' });
    assert.equal(refused.sqlstate, '42501');
  });
});
