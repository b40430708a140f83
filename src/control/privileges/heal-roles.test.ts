import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../../test/harness/control.ts';
import { noBackups } from '../../../test/harness/scripted-backups.ts';
import type { AppError } from '../../base/index.ts';

const SYSTEM = { in: 'system' } as const;
const TO_NOWHERE = `BACKUP INTO 'nowhere://x'`;

describe('roles that an administrator took away', () => {
  let test: TestControl;
  before(async () => {
    test = await TestControl.open({ virtualized: 'main', ...noBackups() });
    await test.postgres(`
      CREATE ROLE keeper LOGIN; GRANT atoll_backup, atoll_restore TO keeper;
      CREATE ROLE second LOGIN CREATEROLE; GRANT admin TO second WITH ADMIN OPTION`);
    await test.ask('SET CLUSTER SETTING server.max_connections_per_gateway = 0');
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  const restart = async () => {
    await test.ask('ALTER VIRTUAL CLUSTER main STOP SERVICE', SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER main START SERVICE SHARED', SYSTEM);
  };
  /** A BACKUP that gets past the question who may: the URI is what is wrong with it. */
  const mayBackUp = async (user: string) =>
    (await test.refusal(TO_NOWHERE, { as: user })).code !== 'insufficient_privilege';
  /** Only admins get past a limit that has no room for anybody. */
  const isAdmin = async (user: string) =>
    test.control.service
      .authorize({ virtualClusterId: test.idOf('main'), user, signal: new AbortController().signal })
      .then(
        () => true,
        (error: AppError) => {
          assert.equal(error.code, 'too_many_connections');
          return false;
        },
      );
  const roles = async (pattern: string) => {
    const rows = await test.postgres(
      `SELECT rolname FROM pg_roles WHERE rolname ~ '${pattern}' ORDER BY rolname`,
    );
    return rows.map((row) => row['rolname']);
  };
  const healed = () => test.logger.lines.filter((line) => /^warning .*(?:\brole\b|member)/.test(line));

  it('are left alone while nothing is wrong', async () => {
    await restart();
    assert.deepEqual(healed(), []);
    assert.ok((await isAdmin('root')) && (await mayBackUp('keeper')));
  });

  it('have their names again, with their members, and impostors have others', async () => {
    await test.postgres(
      `ALTER ROLE admin RENAME TO bosses; ALTER ROLE atoll_backup RENAME TO "old ""backup"" role"`,
    );
    for (const user of ['root', 'second']) assert.equal(await isAdmin(user), false, 'what must not last');
    assert.equal(await mayBackUp('keeper'), false);
    await test.postgres('CREATE ROLE admin LOGIN; GRANT admin TO keeper');
    assert.ok(await isAdmin('keeper'));
    await restart();
    for (const user of ['root', 'second']) assert.ok(await isAdmin(user), user);
    assert.equal(await isAdmin('keeper'), false);
    assert.ok(await mayBackUp('keeper'));
    assert.match((await roles('^admin'))[1] ?? '', /^admin_\d+$/);
    assert.deepEqual(await roles('bosses|old'), []);
    const told = healed();
    assert.equal(told.length, 2, told.join('\n'));
    assert.match(told[0] ?? '', /\[T3,main\] role admin had been renamed to bosses .* is now admin_\d+/);
    assert.match(told[1] ?? '', /role atoll_backup had been renamed to old "backup" role and has its name/);
  });

  it('are made anew, and admins can grant them', async () => {
    await test.postgres(
      'DROP ROLE atoll_backup; DROP ROLE atoll_viewjob; DROP ROLE atoll_restore; CREATE ROLE atoll_restore LOGIN',
    );
    await restart();
    const [observer] = await test.postgres(
      `SELECT pg_has_role('atoll_observer', 'atoll_viewjob', 'MEMBER')::text AS holds`,
    );
    assert.equal(observer?.['holds'], 'true');
    assert.equal(await mayBackUp('keeper'), false, 'who had been granted it is not known any more');
    await test.postgres('GRANT atoll_backup TO keeper');
    assert.ok(await mayBackUp('keeper'));
    await assert.rejects(test.postgres('SELECT 1', { as: 'atoll_restore' }), { code: '28000' });
    assert.ok(healed().some((line) => line.includes('role atoll_backup was missing and is made anew')));
  });

  it('never include admin itself, which nobody can drop', async () => {
    await test.postgres('DROP OWNED BY admin', { database: 'postgres' });
    await test.postgres('DROP OWNED BY admin');
    await assert.rejects(test.postgres('DROP ROLE admin'), { code: '2BP01' });
    await assert.rejects(test.postgres('DROP ROLE atoll_reader'), { code: '42501' });
    await assert.rejects(test.postgres('ALTER ROLE atoll_reader RENAME TO x'), { code: '42501' });
    await restart();
    assert.ok(await isAdmin('root'));
  });

  it('are put right in the system virtual cluster when the node starts', async () => {
    await test.postgres('ALTER ROLE admin RENAME TO operators', SYSTEM);
    const hasAdmin = async () => {
      const [row] = await test.postgres(
        "SELECT count(*)::text AS n FROM pg_roles WHERE rolname = 'admin' AND pg_has_role('root', oid, 'MEMBER')",
        SYSTEM,
      );
      return row?.['n'] === '1';
    };
    assert.equal(await hasAdmin(), false);
    await test.stop();
    await test.start();
    assert.ok(await hasAdmin());
  });
});
