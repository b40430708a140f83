import { randomBytes } from 'node:crypto';
import { chownSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lockWithPassphrase } from '../src/keys/index.ts';
import { TestDaemon } from '../test/harness/daemon.ts';
import { type BarePack, barePipeline, bareUnpack, levelGround } from './pipeline.ts';
import {
  cpuOfEndedChildrenMs,
  cpuOfWorkersMs,
  whenWorkersEnded,
  peakMemoryBytes,
  peakMemoryOfWorkers,
  run,
  serverUser,
  timed,
} from './processes.ts';
import { type Figure, mebibytes, median, rate, seconds } from './report.ts';

/** pgbench's scale: 15 MB each. */
const SCALE = 70;
const ROUNDS = 3;
export const PEER_BIN = '/usr/lib/postgresql/15/bin';

async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}

export interface Peer {
  readonly backup: Readonly<Record<string, () => Promise<number>>>;
  readonly restore: Readonly<Record<string, () => Promise<number>>>;
  readonly dataBytes: number;
  /** On top of the newest one. */
  incremental(): Promise<number>;
  query(sql: string): Promise<unknown>;
  /** Runs a program of PostgreSQL's, told where the server is, in milliseconds. */
  client(program: string, ...args: string[]): Promise<number>;
  stop(): Promise<void>;
}

/** Rows are made by the server: sending them takes most of the time otherwise. */
export const LOAD = ['-i', '-q', '-I', 'dtGvp'] as const;

/** Debian's PostgreSQL 15 with the same data, and the tools people use there. */
export async function startPeer(folder: string, { scale = SCALE } = {}): Promise<Peer> {
  const user = serverUser();
  const as = user === undefined ? {} : { uid: user.uid, gid: user.gid };
  const own = (path: string) => user !== undefined && chownSync(path, user.uid, user.gid);
  const home = join(folder, 'peer');
  for (const name of ['', 'data', 'repo', 'log', 'lock', 'spool', 'sock']) {
    await mkdir(join(home, name), { recursive: true });
    own(join(home, name));
  }
  const data = join(home, 'data/pg');
  await run(join(PEER_BIN, 'initdb'), ['-D', data, '-U', 'postgres', '--data-checksums', '-A', 'trust'], as);
  const config = join(home, 'pgbackrest.conf');
  await writeFile(
    config,
    `[global]
repo1-path=${home}/repo
log-path=${home}/log
lock-path=${home}/lock
spool-path=${home}/spool
log-level-console=error
compress-type=zst
compress-level=1
process-max=2
repo1-bundle=y
start-fast=y
[main]
pg1-path=${data}
pg1-socket-path=${home}/sock
`,
  );
  const backrest = (...args: string[]) =>
    run('pgbackrest', [`--config=${config}`, '--stanza=main', ...args], as);
  await writeFile(
    join(data, 'postgresql.auto.conf'),
    `listen_addresses = ''\nunix_socket_directories = '${home}/sock'\nshared_buffers = '128MB'\nmax_wal_size = '2GB'\n` +
      `archive_mode = on\narchive_command = 'pgbackrest --config=${config} --stanza=main archive-push %p'\n`,
  );
  own(join(data, 'postgresql.auto.conf'));
  const control = (...args: string[]) =>
    run(join(PEER_BIN, 'pg_ctl'), ['-D', data, '-w', '-l', join(home, 'log/pg.log'), ...args], as);
  await control('start');
  await backrest('stanza-create');
  await run(
    'pgbench',
    [...LOAD, '-s', String(scale), '-h', join(home, 'sock'), '-U', 'postgres', 'postgres'],
    as,
  );
  const query = (sql: string) =>
    run('psql', ['-X', '-h', join(home, 'sock'), '-U', 'postgres', '-c', sql], as);
  await query('CHECKPOINT');
  const target = join(home, 'data/copy');
  return {
    dataBytes: await folderBytes(join(data, 'base')),
    backup: {
      'pgBackRest full': () => timed(() => backrest('backup', '--type=full', '--no-archive-check')),
      'pg_basebackup zstd 1': async () => {
        await rm(target, { recursive: true, force: true });
        return timed(() =>
          run(
            join(PEER_BIN, 'pg_basebackup'),
            [
              '-h',
              join(home, 'sock'),
              '-U',
              'postgres',
              '-D',
              target,
              '-Ft',
              '-X',
              'fetch',
              '-c',
              'fast',
              '--compress=server-zstd:1',
            ],
            as,
          ),
        );
      },
    },
    restore: {
      'pgBackRest restore': async () => {
        await rm(target, { recursive: true, force: true });
        await mkdir(target, { mode: 0o700 });
        own(target);
        const files = await timed(() => backrest('restore', `--pg1-path=${target}`, '--archive-mode=off'));
        const server = (...args: string[]) =>
          run(join(PEER_BIN, 'pg_ctl'), ['-D', target, '-w', '-l', join(home, 'log/copy.log'), ...args], as);
        const serving = await timed(() => server('start', '-o', '-p 5499'));
        await server('stop', '-m', 'immediate');
        // Now, not before the next: memory and room that were given back a moment ago make whoever comes next faster.
        await rm(target, { recursive: true });
        return files + serving;
      },
    },
    incremental: () => timed(() => backrest('backup', '--type=incr', '--no-archive-check')),
    query,
    client: (program, ...args) =>
      timed(() => run(join(PEER_BIN, program), ['-h', join(home, 'sock'), '-U', 'postgres', ...args], as)),
    async stop() {
      await control('stop', '-m', 'immediate').catch(() => undefined);
    },
  };
}

/** CPU time of the process that makes a passphrase a key, in milliseconds. */
async function cpuOfPassphrase(): Promise<number> {
  const before = cpuOfEndedChildrenMs(process.pid);
  await lockWithPassphrase(randomBytes(32), { passphrase: 'of the bench', randomBytes });
  return cpuOfEndedChildrenMs(process.pid) - before;
}

/** BACKUP and RESTORE of a gigabyte beside the bare pipeline and beside the tools of the field. */
export async function benchBackup(): Promise<Figure[]> {
  const suite = `Backup and restore (pgbench -s ${SCALE})`;
  const figures: Figure[] = [];
  const folder = await mkdtemp(join(tmpdir(), 'atoll-bench-'));
  const user = serverUser();
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  await using daemon = await TestDaemon.start();
  const peer = await startPeer(folder);
  try {
    await run('pgbench', ['-i', '-s', String(SCALE), '-q', daemon.url({ cluster: 'main' })]);
    await daemon.query('CHECKPOINT', { cluster: 'main' });
    const [size] = await daemon.query('SELECT sum(pg_database_size(oid))::float8 AS bytes FROM pg_database', {
      cluster: 'main',
    });
    const bytes = Number(size?.['bytes']);
    const vc = join(daemon.store, 'vc/3');
    const incarnation = (await readdir(vc)).find((name) => /^[0-9a-f-]{36}$/.test(name)) ?? '';
    const times = new Map<string, number[]>();
    const record = (name: string, ms: number) => times.set(name, [...(times.get(name) ?? []), ms]);
    const backUp = async (name: string, statement: string) => {
      const before = cpuOfWorkersMs(daemon.pid);
      record(name, await timed(() => daemon.query(statement, { cluster: 'main' })));
      await whenWorkersEnded(daemon.pid);
      record(`${name} CPU`, cpuOfWorkersMs(daemon.pid) - before);
    };
    let workerPeak = 0;
    let bare: BarePack | undefined;
    for (let round = 0; round < ROUNDS; round += 1) {
      record(
        'bare',
        await timed(async () => {
          bare = await barePipeline({ source: join(vc, incarnation), target: join(folder, 'bare') });
        }),
      );
      workerPeak = Math.max(
        workerPeak,
        await peakMemoryOfWorkers(daemon.pid, async () => {
          await backUp('BACKUP', `BACKUP INTO 'nodelocal://1/bench-${round}'`);
        }),
      );
      await backUp(
        'encrypted',
        `BACKUP INTO 'nodelocal://1/bench-encrypted-${round}' WITH encryption_passphrase = 'of the bench'`,
      );
      for (const [name, work] of Object.entries(peer.backup)) record(name, await work());
    }
    for (let round = 0; round < ROUNDS; round += 1) {
      const pack = bare;
      if (pack === undefined) throw new Error('nothing was packed');
      const level = () => levelGround({ target: join(folder, 'ground'), bytes });
      await level();
      record('bare unpack', await timed(() => bareUnpack(pack, { target: join(folder, 'unpacked') })));
      await rm(join(folder, 'unpacked'));
      const name = `restored${round}`;
      await daemon.query(
        [
          `CREATE VIRTUAL CLUSTER ${name}`,
          `ALTER VIRTUAL CLUSTER ${name} GRANT ALL CAPABILITIES`,
          `ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`,
        ],
        { cluster: 'system' },
      );
      await level();
      workerPeak = Math.max(
        workerPeak,
        await peakMemoryOfWorkers(daemon.pid, async () => {
          record(
            'RESTORE',
            await timed(() =>
              daemon.query(`RESTORE FROM LATEST IN 'nodelocal://1/bench-0'`, { cluster: name }),
            ),
          );
        }),
      );
      await daemon.query(
        [`ALTER VIRTUAL CLUSTER ${name} STOP SERVICE`, `DROP VIRTUAL CLUSTER ${name} IMMEDIATE`],
        { cluster: 'system' },
      );
      for (const [peerName, work] of Object.entries(peer.restore)) {
        await level();
        record(peerName, await work());
      }
    }
    const ms = (name: string) => median(times.get(name) ?? []);
    const backup = ms('BACKUP');
    // Once a statement, however long the backup is.
    const passphraseCpu = await cpuOfPassphrase();
    const encryptedCpu = ms('encrypted CPU') - passphraseCpu;
    const restore = ms('RESTORE');
    figures.push(
      {
        suite,
        what: `data: Atoll on PostgreSQL 18, peers on PostgreSQL 15`,
        value: `${mebibytes(bytes)}, ${mebibytes(peer.dataBytes)}`,
      },
      {
        suite,
        what: 'BACKUP INTO nodelocal, whole statement, with re-reading what was written',
        value: `${seconds(backup)}, ${rate({ bytes, ms: backup })}`,
      },
      {
        suite,
        what: 'encryption: the same WITH encryption_passphrase; CPU time of its workers, and of making the passphrase a key',
        value: `${seconds(ms('encrypted'))}; CPU ${seconds(encryptedCpu)} instead of ${seconds(ms('BACKUP CPU'))}, ${((encryptedCpu / ms('BACKUP CPU') - 1) * 100).toFixed(1)} % more; ${seconds(passphraseCpu)}`,
        goal: '< 15 % more CPU',
      },
      {
        suite,
        what: 'bare read + zstd 1 + write',
        value: `${seconds(ms('bare'))}, ${rate({ bytes, ms: ms('bare') })}; BACKUP has ${((ms('bare') / backup) * 100).toFixed(0)} % of it`,
        goal: '≥ 90 %',
      },
      {
        suite,
        what: 'pgBackRest full (zst 1, 2 processes, bundles)',
        value: `${seconds(ms('pgBackRest full'))}; BACKUP is ${(ms('pgBackRest full') / backup).toFixed(2)} × as fast`,
        goal: '≥ 1.5 ×',
      },
      {
        suite,
        what: 'pg_basebackup (server-zstd 1)',
        value: `${seconds(ms('pg_basebackup zstd 1'))}; BACKUP is ${(ms('pg_basebackup zstd 1') / backup).toFixed(2)} × as fast`,
        goal: '≥ 1 ×',
      },
      {
        suite,
        what: 'RESTORE, whole statement: materialize, recover, take over',
        value: `${seconds(restore)}, ${rate({ bytes, ms: restore })}`,
      },
      {
        suite,
        what: 'bare read + expand + write, synced',
        value: `${seconds(ms('bare unpack'))}, ${rate({ bytes, ms: ms('bare unpack') })}; RESTORE has ${((ms('bare unpack') / restore) * 100).toFixed(0)} % of it`,
        goal: '≥ 80 %',
      },
      {
        suite,
        what: 'pgBackRest restore, and start of the server until it serves',
        value: `${seconds(ms('pgBackRest restore'))}; RESTORE is ${(ms('pgBackRest restore') / restore).toFixed(2)} × as fast`,
        goal: '≥ 1 ×',
      },
      {
        suite,
        what: 'highest resident memory of a bulk worker',
        value: mebibytes(workerPeak),
        goal: 'bounded',
      },
      {
        suite,
        what: 'highest resident memory of the daemon',
        value: mebibytes(peakMemoryBytes(daemon.pid)),
        goal: '< 200 MiB',
      },
    );
  } finally {
    await peer.stop();
    await rm(folder, { recursive: true, force: true });
  }
  return figures;
}
