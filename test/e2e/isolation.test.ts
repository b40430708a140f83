import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { TestDaemon } from '../harness/daemon.ts';
import { droppedFlags, whyNotDropped } from '../harness/dropped-user.ts';
import { waitFor } from '../harness/wait.ts';

const isRoot = process.getuid?.() === 0;
/** CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID and SYS_PTRACE. */
const HELPER_CAPABILITIES = 0x800fbn;

interface RunningProcess {
  readonly pid: number;
  readonly name: string;
  readonly uid: number;
  readonly capabilities: bigint;
}

/** A process and all that it, or what it has started, has started. */
function treeOf(pid: number): RunningProcess[] {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const field = (name: string) => new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(status)?.[1] ?? '';
    const children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
    const own = {
      pid,
      name: field('Name'),
      uid: Number(field('Uid')),
      capabilities: BigInt(`0x${field('CapPrm')}`),
    };
    return [own, ...children.flatMap(treeOf)];
  } catch {
    return []; // It ended meanwhile.
  }
}

function uidOf(pid: number): number {
  return Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

describe('tenants', () => {
  let daemon: TestDaemon;
  before(async () => {
    daemon = await TestDaemon.start({ flags: droppedFlags() });
    await daemon.query(['CREATE VIRTUAL CLUSTER other', 'ALTER VIRTUAL CLUSTER other START SERVICE SHARED'], {
      cluster: 'system',
    });
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  test('with the same names for databases, users and tables they do not see each other', async () => {
    for (const cluster of ['main', 'other']) {
      await daemon.query(["CREATE ROLE app LOGIN PASSWORD 'x'", 'CREATE DATABASE bank'], { cluster });
      await daemon.query(['CREATE TABLE money (owner text)', `INSERT INTO money VALUES ('${cluster}')`], {
        cluster,
        database: 'bank',
      });
    }
    for (const cluster of ['main', 'other']) {
      assert.deepEqual(await daemon.query('SELECT owner FROM money', { cluster, database: 'bank' }), [
        { owner: cluster },
      ]);
      const [seen] = await daemon.query('SHOW virtual_cluster_name', { cluster });
      assert.deepEqual(seen, { virtual_cluster_name: cluster });
    }
    await daemon.query('DROP ROLE app', { cluster: 'other' });
    assert.equal(
      (await daemon.query("SELECT 1 FROM pg_roles WHERE rolname = 'app'", { cluster: 'main' })).length,
      1,
    );
    const ids = await Promise.all(
      ['main', 'other', 'system'].map(
        async (cluster) =>
          (
            await daemon.query('SELECT system_identifier::text AS id FROM pg_control_system()', { cluster })
          )[0]?.['id'],
      ),
    );
    assert.equal(new Set(ids).size, 3, 'every virtual cluster has a system identifier of its own');
    assert.notDeepEqual(
      await daemon.query('SELECT pid FROM pg_stat_activity', { cluster: 'main' }),
      await daemon.query('SELECT pid FROM pg_stat_activity', { cluster: 'other' }),
    );
  });

  test('statements about virtual clusters work in the system virtual cluster only', async () => {
    for (const sql of [
      'SHOW VIRTUAL CLUSTERS',
      'CREATE VIRTUAL CLUSTER x',
      'DROP VIRTUAL CLUSTER other IMMEDIATE',
      'ALTER VIRTUAL CLUSTER other STOP SERVICE',
    ]) {
      await assert.rejects(daemon.query(sql, { cluster: 'main' }), { code: '42501' }, sql);
    }
    await daemon.query('CREATE ROLE nobody LOGIN', { cluster: 'system' });
    await assert.rejects(
      daemon.query('SELECT 1', { cluster: 'system', user: 'nobody' }),
      (error: { code?: string }) => {
        assert.match(String(error.code), /^(28000|42501)$/);
        return true;
      },
    );
  });

  test('an instance runs unprivileged, and its folder and socket are its own', {
    skip: !isRoot && 'not root: all instances share one user',
  }, async () => {
    const uids = new Set<number>();
    for (const [id, pid] of await daemon.postmasters()) {
      const uid = Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
      assert.notEqual(uid, 0);
      assert.equal(
        statSync(join(daemon.store, 'vc', String(id))).mode & 0o007,
        0,
        'others may not enter the folder',
      );
      assert.equal(
        statSync(join(daemon.store, 'run', String(id))).mode & 0o007,
        0,
        'others may not reach the socket',
      );
      for (const folder of ['vc', 'run']) {
        assert.equal(
          statSync(join(daemon.store, folder, String(id))).gid,
          uid,
          'nor does anybody share its group',
        );
      }
      uids.add(uid);
    }
    assert.equal(uids.size, 3, 'every virtual cluster has a user of its own');
    assert.equal(statSync(join(daemon.store, 'cluster-key')).mode & 0o077, 0);
  });

  test('no process of the node is root but the helper, which nobody else talks to', {
    skip: whyNotDropped() ?? false,
  }, async () => {
    // What the daemon starts later cannot be root either: it is not.
    const tree = await waitFor('the vault and the servers to be seen', () => {
      const seen = treeOf(daemon.pid);
      const own = seen.filter(({ uid }) => uid === uidOf(daemon.pid));
      const servers = seen.filter(({ uid }) => uid > 700_000);
      return own.length > 1 && servers.length > 2 && seen;
    });
    const daemonUid = uidOf(daemon.pid);
    assert.ok(daemonUid !== 0 && daemonUid < 700_000);
    assert.equal(statSync(join(daemon.store, 'cluster-key')).uid, daemonUid);
    // A program that the helper is just starting has not become what it is.
    const roots = tree.filter(({ uid, name }) => uid === 0 && name.startsWith('atoll'));
    assert.deepEqual(
      roots.map(({ name }) => name),
      ['atoll-helper'],
    );
    const [helper] = roots;
    assert.ok(helper !== undefined);
    assert.equal(helper.capabilities, HELPER_CAPABILITIES);
    for (const { pid, name, uid, capabilities } of treeOf(daemon.pid)) {
      if (pid === helper.pid) continue;
      assert.ok(uid === daemonUid || uid > 700_000, `${name} runs as user ${uid}`);
      assert.equal(capabilities, 0n, name);
    }
    const network = ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((kind) =>
      readFileSync(`/proc/${helper.pid}/net/${kind}`, 'utf8')
        .split('\n')
        .slice(1)
        .map((line) => line.trim().split(/\s+/)[9]),
    );
    const sockets = readdirSync(`/proc/${helper.pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${helper.pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return []; // It was closed meanwhile.
      }
    });
    assert.ok(sockets.length > 0, 'it has one to the daemon');
    assert.deepEqual(
      sockets.filter((each) => network.includes(each)),
      [],
    );
  });
});

describe('a store of root', {
  skip: whyNotDropped() ?? false,
}, () => {
  test('becomes that of the daemon, which neither root nor another user opens any more', async () => {
    await using before = await TestDaemon.start({ flags: ['--user=root'] });
    await before.query(['CREATE TABLE kept (a int)', 'INSERT INTO kept VALUES (1)']);
    assert.equal(uidOf(before.pid), 0);
    const servers = [...(await before.postmasters()).values()];
    // Its instances go on, whose files no group can read.
    await before.kill();
    await using after = await TestDaemon.start({ store: before.store, flags: droppedFlags() });
    const daemonUid = uidOf(after.pid);
    assert.notEqual(daemonUid, 0);
    assert.deepEqual(await after.query('SELECT a FROM kept'), [{ a: 1 }]);
    const adopted = await after.postmasters();
    for (const pid of adopted.values()) assert.ok(!servers.includes(pid), 'it was started anew');
    await after.query('INSERT INTO kept VALUES (2)');

    // Without its helper a daemon ends; the instances do not.
    const helper = treeOf(after.pid).find(({ name }) => name === 'atoll-helper');
    assert.ok(helper !== undefined);
    process.kill(helper.pid, 'SIGKILL');
    await after.ended();
    await assert.rejects(
      TestDaemon.start({ store: before.store, flags: ['--user=root'] }),
      /belongs to user/,
    );
    await assert.rejects(
      TestDaemon.start({ store: before.store, flags: ['--user=nobody'] }),
      /belongs to user/,
    );
    await after.startAgain();
    assert.deepEqual(await after.postmasters(), adopted);
    assert.deepEqual(await after.query('SELECT a FROM kept ORDER BY a'), [{ a: 1 }, { a: 2 }]);
    assert.equal(await after.stop(), 0);
  });
});

describe('passwords', () => {
  test('without --insecure the front door checks SCRAM verifiers, and the operator gets in locally', async () => {
    await using daemon = await TestDaemon.start({ security: 'password' });
    const here = {
      host: join(daemon.store, 'run/sql'),
      port: daemon.port,
      user: 'root',
      database: 'defaultdb',
    };
    const local = new pg.Client({ ...here, options: '-ccluster=main' });
    await local.connect();
    await local.query("ALTER ROLE root PASSWORD 'correct horse'");
    await local.query("CREATE ROLE late LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'");
    await local.end();
    const login = async (user: string, password: string) => {
      const client = new pg.Client({
        host: '127.0.0.1',
        port: daemon.port,
        user,
        password,
        database: 'defaultdb',
        options: '-ccluster=main',
      });
      await client.connect();
      const { rows } = await client.query('SELECT current_user AS me');
      await client.end();
      return rows[0]?.me;
    };
    assert.equal(await login('root', 'correct horse'), 'root');
    for (const [user, password] of [
      ['root', 'wrong'],
      ['root', ''],
      ['nobody', 'correct horse'],
      ['late', 'x'],
    ] as const) {
      await assert.rejects(login(user, password), (error: { code?: string; message: string }) => {
        assert.ok(error.code === '28P01' || /SASL: .*password must be/.test(error.message), error.message);
        return true;
      });
    }
    const base = `http://${/http:\/\/(127\.0\.0\.1:\d+)/.exec(daemon.output)?.[1]}`;
    const post = (path: string, body: object, cookie = '') =>
      fetch(`${base}/_admin/v1/${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', cookie },
        body: JSON.stringify(body),
      });
    for (const [username, password, status] of [
      ['root', 'wrong', 401],
      ['nobody', 'correct horse', 401],
      ['late', 'x', 401],
      ['atoll', '', 401],
      ['root', 'correct horse', 200],
    ] as const) {
      assert.equal((await post('login', { username, password })).status, status, username);
    }
    // It is root of `main` whose password that is.
    assert.equal(
      (await post('login', { username: 'root', password: 'correct horse', cluster: 'system' })).status,
      401,
    );
    const session = await post('login', { username: 'root', password: 'correct horse' });
    const cookie = session.headers
      .getSetCookie()
      .map((each) => each.split(';')[0])
      .join('; ');
    const vars = async (query: string) =>
      await fetch(`${base}/_status/vars${query}`, { headers: { cookie } });
    assert.match(await (await vars('')).text(), /^sql_txn_commit_count\{tenant="main"\} \d+$/m);
    assert.doesNotMatch(await (await vars('?cluster=main')).text(), /tenant="system"|process_/);
    assert.equal((await vars('?cluster=system')).status, 403);
    // `main` has every capability.
    const node = await fetch(`${base}/_status/nodes`, { headers: { cookie } });
    assert.match(await node.text(), /"release":"26\.2"/);
    await post('logout', {}, cookie);
    assert.equal((await vars('')).status, 401);
    assert.equal((await fetch(`${base}/health`)).status, 200);
    // Guesses at this port count with those at the other: beyond one a minute they are refused. Who was right from here before does not.
    const operator = new pg.Client({ ...here, options: '-ccluster=system' });
    await operator.connect();
    await operator.query('SET CLUSTER SETTING server.user_login.failures_max = 1');
    await operator.query('SET CLUSTER SETTING server.user_login.failures_per_minute = 1');
    await operator.end();
    const guesses = [];
    for (const password of ['a', 'b'])
      guesses.push((await post('login', { username: 'nobody', password })).status);
    assert.deepEqual(guesses, [401, 503]);
    await assert.rejects(login('anybody', 'c'), { code: '53300' });
    assert.equal((await post('login', { username: 'root', password: 'correct horse' })).status, 200);
    assert.equal(await login('root', 'correct horse'), 'root');
    assert.doesNotMatch(daemon.output, /correct horse|SCRAM-SHA-256\$/);
  });
});
