import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { ATOLL, TestDaemon } from '../../test/harness/daemon.ts';
import { waitFor } from '../../test/harness/wait.ts';

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function atoll(...argv: string[]): Promise<Ended> {
  const child = spawn(ATOLL, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += String(chunk)));
  child.stderr.on('data', (chunk: Buffer) => (stderr += String(chunk)));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'atoll-daemon-'));
  chmodSync(directory, 0o755); // As root, instances run as others, who pass through here.
  return directory;
}

const ANY_PORTS = ['--listen-addr=127.0.0.1:0', '--http-addr=127.0.0.1:0'];
const ENTRY =
  /^[IWEF]\d{6} \d\d:\d\d:\d\d\.\d{6} \d+ [a-z-]+\/[a-z/-]+\.ts:\d+ ⋮ \[T\d+,[a-z0-9_-]+,n1\] \d+ [ +]/;

describe('a node of its own', () => {
  let daemon: TestDaemon;
  const pidFile = join(tmpdir(), `atoll-daemon-test-${process.pid}.pid`);

  before(async () => {
    daemon = await TestDaemon.start({ flags: [`--pid-file=${pidFile}`, '--cgroup-parent=/proc/nobody/has'] });
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  const httpBase = () => /HTTP +(http:\S+)/.exec(daemon.output)?.[1] ?? '';

  test('serves SQL, tells its health and its figures', async () => {
    assert.deepEqual(await daemon.query('SELECT 1 AS one'), [{ one: 1 }]);
    const names = await daemon.query('SHOW VIRTUAL CLUSTERS', { cluster: 'system' });
    assert.deepEqual(
      names.map(({ name }) => name),
      ['system', 'main'],
    );
    assert.equal((await fetch(`${httpBase()}/health?ready=1`)).status, 200);
    const main = await (await fetch(`${httpBase()}/_status/vars`)).text();
    assert.match(main, /^sql_txn_commit_count\{tenant="main"\} \d+$/m);
    assert.doesNotMatch(main, /tenant="system"/);
    const all = await (await fetch(`${httpBase()}/_status/vars?cluster=system`)).text();
    assert.match(all, /^sql_txn_commit_count\{tenant="system"\} \d+$/m);
    assert.match(all, /^instances\{state="running"\} 2$/m);
    assert.match(all, /^sql_connections_accepted_count [1-9]/m);
    assert.match(all, /^jobs_backup_currently_running\{tenant="main"\} 0$/m);
    // A dropped virtual cluster is kept for a while; its figures are not added to those of one that has its name now.
    for (const statement of ['START SERVICE SHARED', 'STOP SERVICE']) {
      await daemon.query('CREATE VIRTUAL CLUSTER IF NOT EXISTS again', { cluster: 'system' });
      await daemon.query(`ALTER VIRTUAL CLUSTER again ${statement}`, { cluster: 'system' });
    }
    await daemon.query('DROP VIRTUAL CLUSTER again', { cluster: 'system' });
    await daemon.query('CREATE VIRTUAL CLUSTER again', { cluster: 'system' });
    const later = await (await fetch(`${httpBase()}/_status/vars?cluster=system`)).text();
    assert.match(later, /^instance_starts_count\{tenant="again"\} 0$/m);
  });

  test('says what runs and writes its process number', () => {
    assert.equal(readFileSync(pidFile, 'utf8'), `${daemon.pid}\n`);
    assert.match(daemon.output, /^Atoll 26\.2 is running, insecure: no passwords\.$/m);
    assert.ok(daemon.output.includes(`psql "postgresql://root@127.0.0.1:${daemon.port}/defaultdb"`));
  });

  test('logs in the documented layout, lines of its instances included', async () => {
    const path = join(daemon.store, 'logs', 'atoll.log');
    const text = await waitFor('the log of main', () => {
      const log = readFileSync(path, 'utf8');
      return /\[T3,main,n1\] \d+ {2}.*ready to accept connections/.test(log) && log;
    });
    for (const line of text.trimEnd().split('\n')) assert.match(line, ENTRY);
    assert.match(text, /daemon\/node\.ts:\d+ ⋮ \[T1,system,n1\] \d+ {2}serving/);
    // What it cannot have it says once, and goes on.
    assert.equal(text.match(/^W.*virtual clusters have no control groups; niceness stands for/gm)?.length, 1);
  });

  test('tells the audit who asked for which change, and what came of it', async () => {
    await daemon.query("CREATE ROLE clerk LOGIN CREATEDB PASSWORD 'hush'");
    await daemon.query('ALTER ROLE clerk CONNECTION LIMIT 7; GRANT clerk TO root');
    const client = await daemon.connect();
    await assert.rejects(client.query("BACKUP INTO 's3://b/p?AWS_SECRET_ACCESS_KEY=hush'"));
    await client.query({ name: 'by name', text: 'DROP ROLE clerk' });
    await client.query('SHOW JOBS');
    await client.end();
    const text = readFileSync(join(daemon.store, 'logs', 'atoll-audit.log'), 'utf8');
    for (const line of text.trimEnd().split('\n')) assert.match(line, ENTRY);
    const told = text
      .matchAll(/\[T3,main,n1\] \d+ {2}user ‹root›: (.*)/g)
      .map(([, what]) => what)
      .toArray();
    const [created, altered, granted, backup, dropped, ...rest] = told;
    assert.match(created ?? '', /^‹CREATE ROLE clerk .*PASSWORD 'redacted'.*›: (?:done after|passed on)/);
    assert.match(altered ?? '', /^‹ALTER ROLE clerk CONNECTION LIMIT 7›: /);
    assert.match(granted ?? '', /^‹GRANT clerk TO root›: /);
    assert.match(
      backup ?? '',
      /^‹BACKUP INTO 's3:.*AWS_SECRET_ACCESS_KEY=redacted'›: failed \(\w+: ‹.*›\) after/,
    );
    assert.equal(dropped, '‹DROP ROLE clerk›: passed on to PostgreSQL');
    assert.deepEqual(rest, []);
    assert.doesNotMatch(text, /hush/);
  });

  test('keeps its folders to itself', () => {
    for (const name of ['run/sql', 'run/node', 'logs', 'extern']) {
      assert.equal(statSync(join(daemon.store, name)).mode & 0o077, 0, name);
    }
  });

  test('a second one on the same store is refused', async () => {
    const { code, stderr } = await atoll('start-single-node', `--store=${daemon.store}`, ...ANY_PORTS);
    assert.equal(code, 73);
    assert.equal(
      stderr,
      `atoll: store ${daemon.store} is in use by process ${daemon.pid}\n` +
        '  hint: stop that process first, or name another folder with --store\n',
    );
    assert.equal(readFileSync(pidFile, 'utf8'), `${daemon.pid}\n`);
  });

  test('ports in use are named with their flags', async () => {
    const http = new URL(httpBase()).port;
    const store = temporaryDirectory();
    try {
      for (const [flag, port] of [
        ['listen-addr', String(daemon.port)],
        ['http-addr', http],
      ] as const) {
        const argv = [...ANY_PORTS, `--${flag}=127.0.0.1:${port}`, `--store=${store}`, '--insecure'];
        const { code, stderr } = await atoll('start-single-node', ...argv);
        assert.equal(code, 69, stderr);
        assert.match(
          stderr,
          new RegExp(`^atoll: the (SQL|HTTP) address is in use: .*${port}\n.*--${flag}\n$`),
        );
      }
    } finally {
      rmSync(store, { recursive: true, force: true });
    }
  });

  test('stops in order on SIGTERM, and comes back with what it held', async () => {
    await daemon.query(['CREATE TABLE kept (n int)', 'INSERT INTO kept VALUES (7)']);
    const idle = await daemon.connect();
    assert.equal(await daemon.stop(), 0);
    await assert.rejects(idle.query('SELECT 1'));
    assert.equal((await daemon.postmasters()).size, 0);
    assert.equal(existsSync(pidFile), false);
    await daemon.startAgain();
    assert.deepEqual(await daemon.query('TABLE kept'), [{ n: 7 }]);
  });

  test('a second signal stops it at once', async () => {
    const session = await daemon.connect();
    await session.query('SELECT pg_backend_pid()');
    process.kill(daemon.pid, 'SIGTERM');
    assert.equal(await daemon.stop(), 0); // By the second signal.
    assert.equal((await daemon.postmasters()).size, 0);
  });
});

describe('a node that waits to be initialised', () => {
  const directory = temporaryDirectory();
  const store = join(directory, 'store');
  const pidFile = join(directory, 'pid');
  const urlFile = join(directory, 'url');
  const files = [`--pid-file=${pidFile}`, `--listening-url-file=${urlFile}`];

  after(async () => {
    const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : 0;
    if (pid > 0) {
      process.kill(pid, 'SIGTERM');
      await waitFor('the node to end', () => !existsSync(pidFile));
    }
    rmSync(directory, { recursive: true, force: true });
  });

  const connect = async (options: { host?: string; password?: string; cluster?: string }) => {
    const url = new URL(readFileSync(urlFile, 'utf8'));
    const client = new pg.Client({
      host: options.host ?? '127.0.0.1',
      port: Number(url.port),
      user: 'root',
      database: 'defaultdb',
      password: options.password ?? '',
      ...(options.cluster === undefined ? {} : { options: `-ccluster=${options.cluster}` }),
    });
    await client.connect();
    return client;
  };

  test('comes up in the background and refuses clients until atoll init', async () => {
    const log = [`--log-dir=${join(directory, 'log')}`, '--log-format=json'];
    const started = await atoll('start', `--store=${store}`, '--background', ...ANY_PORTS, ...files, ...log);
    assert.equal(started.code, 0, started.stderr);
    assert.match(started.stdout, /waits to be initialised/);
    const http = /HTTP +(http:\S+)/.exec(started.stdout)?.[1];
    assert.equal((await fetch(`${http}/health`)).status, 200);
    assert.equal((await fetch(`${http}/health?ready=1`)).status, 503);
    await assert.rejects(connect({}), /not initialized/);

    const initialized = await atoll('init', `--store=${store}`, '--virtualized');
    assert.equal(initialized.code, 0, initialized.stderr);
    assert.match(initialized.stdout, /is running\.\n/);
    assert.equal((await fetch(`${http}/health?ready=1`)).status, 200);
    const again = await atoll('init', `--store=${store}`);
    assert.deepEqual([again.code, again.stdout], [1, '']);
    assert.match(again.stderr, /^atoll: the physical cluster is initialized already\n/);
  });

  test('asks for passwords at the port, and for none at the local socket', async () => {
    await assert.rejects(connect({ password: 'anything' }), /password authentication failed/);
    const operator = await connect({ host: join(store, 'run', 'sql') });
    await operator.query("ALTER ROLE root PASSWORD 'correct'");
    await operator.end();
    await assert.rejects(connect({ password: 'wrong' }), /password authentication failed/);
    const root = await connect({ password: 'correct' });
    assert.deepEqual((await root.query('SHOW virtual_cluster_name')).rows, [
      { virtual_cluster_name: 'main' },
    ]);
    await root.end();
  });

  test('writes its log in JSON where it is told to', () => {
    assert.ok(!existsSync(join(store, 'logs', 'atoll.log')));
    const read = (name: string) =>
      readFileSync(join(directory, 'log', name), 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.ok(read('atoll.log').some(({ channel }) => channel === 'POSTGRES'));
    const [told] = read('atoll-audit.log').filter(({ message }) => /PASSWORD/.test(String(message)));
    assert.equal(told?.['virtual_cluster_name'], 'main');
    assert.match(String(told?.['message']), /^user ‹root›: ‹ALTER ROLE root .*PASSWORD 'redacted'›: /);
  });
});

test('goes on, and stops in order, when nobody reads what it prints any more', async () => {
  const directory = temporaryDirectory();
  const pidFile = join(directory, 'pid');
  try {
    const flags = [`--store=${join(directory, 'store')}`, `--pid-file=${pidFile}`, '--log-to-stderr=info'];
    const child = spawn(ATOLL, ['start-single-node', '--insecure', ...ANY_PORTS, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    const [said] = (await once(child.stdout, 'data')) as [Buffer];
    child.stdout.destroy();
    child.stderr.destroy();
    const [http] = /http:\S+/.exec(String(said)) ?? [];
    assert.equal((await fetch(new URL('/health', http))).status, 200);
    process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    assert.match(readFileSync(join(directory, 'store', 'logs', 'atoll.log'), 'utf8'), / stopped\n$/);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('a log that cannot be written to is refused, with the flag', async () => {
  const directory = temporaryDirectory();
  try {
    const store = `--store=${join(directory, 'store')}`;
    for (const flags of [['--log-dir=/dev/null/logs'], ['--log-group-max-size=17MiB']]) {
      const { code, stderr } = await atoll('start', store, ...ANY_PORTS, ...flags);
      assert.equal(code, 64, stderr);
      assert.match(stderr, /--log-/);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('a failed start in the background tells why', async () => {
  const directory = temporaryDirectory();
  try {
    writeFileSync(join(directory, 'precious'), 'data');
    const { code, stdout, stderr } = await atoll(
      'start',
      `--store=${directory}`,
      '--background',
      ...ANY_PORTS,
    );
    assert.deepEqual([code, stdout], [74, '']);
    assert.match(
      stderr,
      /^atoll: \S+ is not a store of Atoll and not empty\n {2}it holds "precious".*\n {2}hint: /,
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('a store or engine that cannot be used is refused with the right code', async () => {
  const directory = temporaryDirectory();
  try {
    const newer = join(directory, 'newer');
    mkdirSync(newer);
    writeFileSync(join(newer, 'STORE'), 'no record of ours');
    const corrupt = await atoll('start-single-node', `--store=${newer}`, ...ANY_PORTS);
    assert.equal(corrupt.code, 74, corrupt.stderr);
    assert.match(corrupt.stderr, /STORE/);
    const engine = await atoll(
      'start-single-node',
      `--store=${join(directory, 'engine')}`,
      `--postgres-18-dir=${directory}`,
      ...ANY_PORTS,
    );
    assert.equal(engine.code, 69, engine.stderr);
    assert.match(engine.stderr, /^atoll: /);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('a full disk is named', { skip: canMountSmallDisk() ? false : 'needs the right to mount' }, async () => {
  const directory = temporaryDirectory();
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m,mode=755', 'tmpfs', directory]);
  try {
    const { code, stderr } = await atoll(
      'start-single-node',
      `--store=${join(directory, 's')}`,
      ...ANY_PORTS,
    );
    assert.equal(code, 74, stderr);
    assert.match(stderr, /no space left/i);
  } finally {
    spawnSync('umount', [directory]);
    rmSync(directory, { recursive: true, force: true });
  }
});

function canMountSmallDisk(): boolean {
  const directory = temporaryDirectory();
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory]);
  if (status === 0) spawnSync('umount', [directory]);
  rmSync(directory, { recursive: true, force: true });
  return status === 0;
}
