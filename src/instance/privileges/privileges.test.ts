import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  chown,
  copyFile,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MemoryLogger } from '../../../test/harness/instance-store.ts';
import { scratchDirectory } from '../../../test/harness/scratch.ts';
import { systemClock, systemRng } from '../../daemon/index.ts';
import { Store } from '../store.ts';
import { UID_BASE } from '../users.ts';
import { Folder } from './folder.ts';
import { Helper } from './helper.ts';
import { orderStore } from './order-store.ts';
import { give, take } from './ownership.ts';
import { type Request, toHelperSchema } from './requests.ts';

const DAEMON = { uid: 699_999, gid: 699_999 };
const INSTANCE = { uid: UID_BASE + 3, gid: UID_BASE + 3 };
const PARTIES = { daemon: DAEMON, instance: INSTANCE };
const INCARNATION = '11111111-2222-4333-8444-555555555555';
const NEVER = new AbortController().signal;

/** `uid:gid mode` of everything below a folder, by path; a link's mode means nothing. */
async function ownersIn(root: string): Promise<Record<string, string>> {
  const owners: Record<string, string> = {};
  for (const path of ['.', ...(await readdir(root, { recursive: true }))]) {
    const { uid, gid, mode } = await lstat(join(root, path));
    owners[path] = `${uid}:${gid} ${(mode & 0o7777).toString(8)}`;
  }
  return owners;
}

async function ownAll(root: string, { uid, gid }: { uid: number; gid: number }): Promise<void> {
  for (const path of ['.', ...(await readdir(root, { recursive: true }))])
    await chown(join(root, path), uid, gid);
}

describe('as root', { skip: process.getuid?.() !== 0 && 'only root can change owners' }, () => {
  let scratch: string;
  before(async () => {
    scratch = await scratchDirectory('atoll-privileges-');
    await chmod(scratch, 0o755);
  });
  after(async () => {
    await rm(scratch, { recursive: true });
  });

  test('a data directory changes hands whole, and what its links and second names lead to does not', async () => {
    const secret = join(scratch, 'secret');
    await writeFile(secret, 'secret', { mode: 0o600 });
    const data = join(scratch, 'data');
    await mkdir(join(data, 'base/1'), { recursive: true, mode: 0o700 });
    for (const name of ['PG_VERSION', 'base/1/1259'])
      await writeFile(join(data, name), name, { mode: 0o4600 });
    await ownAll(data, INSTANCE);
    await symlink(secret, join(data, 'base/1/link'));
    await symlink(scratch, join(data, 'base/folder'));
    await link(secret, join(data, 'base/1/name'));
    const outside = await ownersIn(scratch).then((owners) => owners['secret']);
    using folder = Folder.open(data);

    await take(folder, PARTIES);
    const taken = await ownersIn(data);
    for (const name of ['.', 'base', 'base/1']) assert.equal(taken[name], '699999:699999 700', name);
    for (const name of ['PG_VERSION', 'base/1/1259']) assert.equal(taken[name], '699999:699999 600', name);

    await give(folder, PARTIES);
    const given = await ownersIn(data);
    for (const name of ['.', 'base', 'base/1']) assert.equal(given[name], '700003:699999 2750', name);
    for (const name of ['PG_VERSION', 'base/1/1259']) assert.equal(given[name], '700003:699999 640', name);

    assert.equal(given['base/1/name'], '0:0 600', 'a second name of a file of somebody else');
    assert.equal((await ownersIn(scratch))['secret'], outside);
    assert.equal((await lstat(scratch)).uid, 0);
  });

  test('one that was given is not looked through again, one that is of somebody else is refused', async () => {
    const data = join(scratch, 'other');
    await mkdir(data);
    await writeFile(join(data, 'file'), '');
    using folder = Folder.open(data);
    await assert.rejects(give(folder, PARTIES), { code: 'io' });
    await assert.rejects(take(folder, PARTIES), { code: 'io' });
    await chown(data, INSTANCE.uid, DAEMON.gid);
    await give(folder, PARTIES);
    assert.equal((await lstat(join(data, 'file'))).uid, 0);
  });

  describe('the helper', () => {
    let root: string;
    let helper: Helper;
    const place = { cluster: '3', directory: INCARNATION };
    const data = () => join(root, 'vc/3', INCARNATION);
    before(async () => {
      root = join(scratch, 'store');
      await mkdir(join(root, 'vc/3', INCARNATION), { recursive: true });
      await mkdir(join(root, 'vc/3/conf'));
      for (const name of ['logs', 'run/3']) await mkdir(join(root, name), { recursive: true });
      await ownAll(root, DAEMON);
      helper = new Helper(
        {
          root,
          daemon: DAEMON,
          ownEngine: null,
          certificates: null,
          controlGroups: null,
          runFiles: { pid: null, listening_url: null },
        },
        { ended: () => undefined },
      );
    });

    test('takes no path, no program and no user', () => {
      const refused: unknown[] = [
        { verb: 'take', place: { cluster: '../3', directory: INCARNATION } },
        { verb: 'take', place: { cluster: '3', directory: '..' } },
        { verb: 'take', place: { cluster: '3', directory: `${INCARNATION}/base` } },
        { verb: 'take', place: { cluster: '3', directory: 'conf' } },
        { verb: 'take', place, uid: 0 },
        { verb: 'remove_files', place, names: ['PG_VERSION'] },
        { verb: 'sign', place, name: 'backup_label' },
        { verb: 'open_sockets', name: 'sql' },
        { verb: 'open_sockets', name: '../logs' },
        { verb: 'signal', pid: 1, startToken: null, signal: 'SIGKILL' },
        { verb: 'signal', pid: -5, startToken: null, signal: 'SIGKILL' },
        { verb: 'signal', pid: 5, startToken: null, signal: 'SIGSTOP' },
        { verb: 'launch', place, engine: '../../../bin', log: 'postgres-3.log', overrides: {}, limits: null },
        { verb: 'launch', place, engine: 'e', log: '../STORE', overrides: {}, limits: null },
        {
          verb: 'launch',
          place,
          engine: 'e',
          log: 'postgres-3.log',
          overrides: { '-D /': '' },
          limits: null,
        },
        {
          verb: 'launch',
          place,
          engine: 'e',
          log: 'postgres-3.log',
          overrides: {},
          limits: null,
          program: 'sh',
        },
        { verb: 'write_run_file', file: '/etc/passwd', content: '' },
        { verb: 'run', program: '/bin/sh' },
      ];
      for (const request of refused) {
        assert.equal(toHelperSchema.safeParse({ id: 1, request }).success, false, JSON.stringify(request));
      }
      assert.ok(toHelperSchema.safeParse({ id: 1, request: { verb: 'take', place } }).success);
    });

    test('signs and clears a data directory without following what lies there', async () => {
      const victim = join(scratch, 'victim');
      await writeFile(victim, 'whole');
      await ownAll(data(), INSTANCE);
      for (const name of ['standby.signal', 'postmaster.pid']) await symlink(victim, join(data(), name));
      await helper.serve({ verb: 'sign', place, name: 'standby.signal' });
      await helper.serve({ verb: 'remove_files', place, names: ['postmaster.pid', 'pg_hba.conf'] });
      const sign = await lstat(join(data(), 'standby.signal'));
      assert.ok(sign.isFile());
      assert.equal(sign.uid, INSTANCE.uid);
      assert.deepEqual(await readdir(data()), ['standby.signal']);
      assert.equal(await readFile(victim, 'utf8'), 'whole');
      assert.equal((await lstat(victim)).uid, 0);
    });

    test('looks into no folder that a link stands for', async () => {
      const elsewhere = join(scratch, 'elsewhere');
      await mkdir(join(elsewhere, INCARNATION), { recursive: true });
      await ownAll(elsewhere, DAEMON);
      await symlink(elsewhere, join(root, 'vc/4'));
      await symlink(elsewhere, join(root, 'run/4'));
      const owners = await ownersIn(elsewhere);
      const requests: Request[] = [
        { verb: 'take', place: { cluster: '4', directory: INCARNATION } },
        { verb: 'sign', place: { cluster: '4', directory: INCARNATION }, name: 'standby.signal' },
        { verb: 'open_configuration', cluster: '4' },
        { verb: 'open_sockets', name: '4' },
      ];
      for (const request of requests) {
        await assert.rejects(helper.serve(request), { code: 'ENOTDIR' }, request.verb);
      }
      assert.deepEqual(await ownersIn(elsewhere), owners);
    });

    test("a log is the daemon's own file, or there is no server", async () => {
      const launch: Request = {
        verb: 'launch',
        place,
        engine: 'none',
        log: 'postgres-3.log',
        overrides: {},
        limits: null,
      };
      const victim = join(scratch, 'victim');
      await rm(join(root, 'logs/postgres-3.log'), { force: true });
      await symlink(victim, join(root, 'logs/postgres-3.log'));
      await assert.rejects(helper.serve(launch), { code: 'EEXIST' });
      await rm(join(root, 'logs/postgres-3.log'));
      await link(victim, join(root, 'logs/postgres-3.log'));
      await assert.rejects(helper.serve(launch), { code: 'io' });
      await assert.rejects(helper.serve({ ...launch, log: 'postgres-5.log' }), { code: 'internal' });
      assert.equal(await readFile(victim, 'utf8'), 'whole');
      await rm(join(root, 'logs/postgres-3.log'));
    });

    test('signals instances of its store, and nobody else', async () => {
      const sleeping = async (options: { uid?: number; gid?: number; cwd: string }) => {
        const child = spawn('sleep', ['1000'], { stdio: 'ignore', ...options });
        await once(child, 'spawn');
        return child;
      };
      const strangers = [
        await sleeping({ cwd: '/' }),
        await sleeping({ ...INSTANCE, cwd: '/' }),
        await sleeping({ ...DAEMON, cwd: data() }),
      ];
      await ownAll(data(), INSTANCE);
      await chown(join(root, 'vc/3'), DAEMON.uid, INSTANCE.gid);
      await chmod(join(root, 'vc/3'), 0o710);
      const ours = await sleeping({ ...INSTANCE, cwd: data() });
      try {
        for (const { pid = 0 } of strangers) {
          const kill: Request = { verb: 'signal', pid, startToken: null, signal: 'SIGKILL' };
          await assert.rejects(helper.serve(kill), { code: 'insufficient_privilege' });
          assert.equal(await readlink(`/proc/${pid}/exe`).then(() => 'runs'), 'runs');
        }
        const pid = ours.pid ?? 0;
        assert.deepEqual(
          await helper.serve({ verb: 'processes', place }),
          [pid, strangers[2]?.pid ?? 0].toSorted((a, b) => a - b),
        );
        const ended = once(ours, 'exit');
        await helper.serve({ verb: 'signal', pid, startToken: 'of another', signal: 'SIGKILL' });
        await helper.serve({ verb: 'signal', pid, startToken: null, signal: 'SIGQUIT' });
        assert.deepEqual(await ended, [null, 'SIGQUIT']);
      } finally {
        for (const child of [...strangers, ours]) child.kill('SIGKILL');
      }
    });
  });

  test("a store of root becomes the daemon's, whatever a crash has cut off", async () => {
    const model = await mkdtemp(join(scratch, 'model-'));
    (await Store.open({ directory: model, rng: systemRng() })).close();
    const make = async () => {
      const root = await mkdtemp(join(scratch, 'upgrade-'));
      for (const name of ['STORE', 'cluster-key']) await copyFile(join(model, name), join(root, name));
      for (const name of ['engine', 'logs', 'run', 'vc']) await mkdir(join(root, name));
      const cluster = join(root, 'vc/3');
      const data = join(cluster, INCARNATION);
      await mkdir(join(data, 'base/1'), { recursive: true });
      for (const name of ['PG_VERSION', 'base/1/1259']) await writeFile(join(data, name), '');
      await ownAll(data, INSTANCE);
      // What a rewind had under its hands.
      const rewinding = join(cluster, `${INCARNATION}.rewinding`);
      await mkdir(rewinding);
      await writeFile(join(rewinding, 'theirs'), '');
      await ownAll(rewinding, INSTANCE);
      await chown(rewinding, 0, 0);
      await writeFile(join(rewinding, 'ours'), '');
      await link(join(scratch, 'precious'), join(rewinding, 'name'));
      await mkdir(join(cluster, 'conf'));
      for (const name of ['identity.json', 'conf/settings.json']) await writeFile(join(cluster, name), '{}');
      await mkdir(join(root, 'timeline/3'), { recursive: true });
      await writeFile(join(root, 'timeline/3/pack'), '');
      await mkdir(join(root, 'engine/e'));
      await link(join(scratch, 'precious'), join(root, 'engine/e/postgres'));
      return root;
    };
    await writeFile(join(scratch, 'precious'), '');
    class Crash extends Error {}
    const logger = new MemoryLogger();
    const run = (directory: string, onStep: () => void) =>
      orderStore({ directory, daemon: DAEMON, clock: systemClock(), logger, signal: NEVER, onStep });
    const strangersIn = async (root: string) =>
      Object.entries(await ownersIn(root))
        .filter(([, owner]) => !owner.startsWith('699999:'))
        .map(([path]) => path)
        .toSorted();

    let steps = 0;
    const whole = await make();
    await run(whole, () => (steps += 1));
    const expected = [`engine/e/postgres`, `vc/3/${INCARNATION}.rewinding/name`];
    assert.deepEqual(await strangersIn(whole), expected, 'what has a second name stays with its owner');
    assert.match(await readFile(join(whole, 'STORE'), 'utf8'), /"ownerUid": 699999/);
    assert.ok(steps > 20, `${steps} steps`);

    for (let last = 1; last <= steps; last++) {
      const root = await make();
      let step = 0;
      const crash = () => {
        if ((step += 1) === last) throw new Crash();
      };
      await assert.rejects(run(root, crash), Crash);
      assert.match(await readFile(join(root, 'STORE'), 'utf8'), /"ownerUid": 0/, 'the record is last');
      await run(root, () => undefined);
      assert.deepEqual(await strangersIn(root), expected, `cut off at step ${last}`);
      await rm(root, { recursive: true });
    }
    assert.equal((await lstat(join(scratch, 'precious'))).uid, 0);
  });

  test('what an operator has put into a store is given to the daemon, what serves is left alone', async () => {
    const root = await mkdtemp(join(scratch, 'again-'));
    const order = () =>
      orderStore({
        directory: root,
        daemon: DAEMON,
        clock: systemClock(),
        logger: new MemoryLogger(),
        signal: NEVER,
      });
    (await Store.open({ directory: root, rng: systemRng() })).close();
    await order();
    const data = join(root, 'vc/3', INCARNATION);
    await mkdir(join(root, 'vc/3/conf'), { recursive: true });
    await mkdir(data);
    await writeFile(join(root, 'vc/3/conf/pg_hba.conf'), '');
    await ownAll(join(root, 'vc'), DAEMON);
    await chown(join(root, 'vc/3/conf'), DAEMON.uid, INSTANCE.gid);
    await chown(data, INSTANCE.uid, DAEMON.gid);
    await writeFile(join(root, 'cluster-key.old'), 'x');
    await rename(join(root, 'cluster-key.old'), join(root, 'put-back'));
    await order();
    const owners = await ownersIn(root);
    assert.match(owners['put-back'] ?? '', /^699999:/);
    assert.match(owners['vc/3/conf'] ?? '', /^699999:700003 /);
    assert.match(owners[`vc/3/${INCARNATION}`] ?? '', /^700003:699999 /);
    await assert.rejects(
      orderStore({
        directory: root,
        daemon: { uid: 699_998, gid: 699_998 },
        clock: systemClock(),
        logger: new MemoryLogger(),
        signal: NEVER,
      }),
      { code: 'store_invalid' },
    );
  });
});
