import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { chownSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestDaemon } from '../test/harness/daemon.ts';
import { waitFor } from '../test/harness/wait.ts';
import { run, serverUser } from './processes.ts';
import { type Figure, median } from './report.ts';

const ROUNDS = 3;
const SECONDS = 6;

interface Target {
  readonly name: string;
  readonly args: readonly string[];
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** pgbouncer in session mode before the same instance, as its users run it. */
async function startPgbouncer(options: { socketDirectory: string; folder: string }) {
  const port = await freePort();
  const user = serverUser();
  const ini = join(options.folder, 'pgbouncer.ini');
  await writeFile(
    ini,
    `[databases]
* = host=${options.socketDirectory} port=5432 user=root
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
auth_type = any
unix_socket_dir =
pool_mode = session
max_client_conn = 200
default_pool_size = 100
ignore_startup_parameters = extra_float_digits,options
logfile = ${join(options.folder, 'pgbouncer.log')}
`,
  );
  const child = spawn('pgbouncer', ['-q', ini], {
    stdio: 'ignore',
    ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
  });
  await waitFor('pgbouncer', async () => {
    await run('psql', ['-X', '-c', 'SELECT 1', `postgresql://root@127.0.0.1:${port}/defaultdb`]);
    return true;
  });
  return { port, stop: () => child.kill('SIGTERM') };
}

async function transactionsPerSecond(
  target: Target,
  flags: readonly string[],
): Promise<{ tps: number; latencyMs: number }> {
  const user = serverUser();
  const output = await run('pgbench', ['-n', '-T', String(SECONDS), ...flags, ...target.args], user ?? {});
  return {
    tps: Number(/tps = ([\d.]+)/.exec(output)?.[1]),
    latencyMs: Number(/latency average = ([\d.]+)/.exec(output)?.[1]),
  };
}

/** `pgbench` direct, through the front door and through pgbouncer, interleaved; the ratios are what counts. */
export async function benchFrontDoor(): Promise<Figure[]> {
  const user = serverUser();
  const folder = await mkdtemp(join(tmpdir(), 'atoll-bench-'));
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  const figures: Figure[] = [];
  try {
    await using daemon = await TestDaemon.start({
      store: join(folder, 'store'),
      ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
    });
    const socketDirectory = join(daemon.store, 'run/3');
    const direct: Target = { name: 'direct', args: ['-h', socketDirectory, '-U', 'root', 'defaultdb'] };
    const door: Target = { name: 'front door', args: [daemon.url({ cluster: 'main' })] };
    const bouncer = await startPgbouncer({ socketDirectory, folder });
    const pooled: Target = {
      name: 'pgbouncer',
      args: [`postgresql://root@127.0.0.1:${bouncer.port}/defaultdb`],
    };
    await run('pgbench', ['-i', '-s', '10', '-q', daemon.url({ cluster: 'main' })]);
    for (const [label, script] of [
      ['SELECT only', ['-S']],
      ['TPC-B', []],
    ] as const) {
      for (const mode of label === 'TPC-B' ? ['simple'] : ['simple', 'prepared']) {
        for (const clients of [1, 8, 64]) {
          const flags = [...script, '-M', mode, '-c', String(clients), '-j', '1'];
          const measured = new Map<string, { tps: number[]; latencyMs: number[] }>();
          for (let round = 0; round < ROUNDS; round += 1) {
            for (const target of [direct, door, pooled]) {
              const { tps, latencyMs } = await transactionsPerSecond(target, flags);
              const entry = measured.get(target.name) ?? { tps: [], latencyMs: [] };
              entry.tps.push(tps);
              entry.latencyMs.push(latencyMs);
              measured.set(target.name, entry);
            }
          }
          const of = (name: string) => {
            const entry = measured.get(name);
            return { tps: median(entry?.tps ?? []), latencyMs: median(entry?.latencyMs ?? []) };
          };
          const [plain, ours, theirs] = [of('direct'), of('front door'), of('pgbouncer')];
          figures.push({
            suite: 'Front door (pgbench, loopback TCP; direct is the Unix socket)',
            what: `${label}, ${mode}, ${clients} clients`,
            value:
              `direct ${plain.tps.toFixed(0)}, front door ${ours.tps.toFixed(0)}, pgbouncer ${theirs.tps.toFixed(0)} tps; ` +
              `front door ÷ pgbouncer = ${(ours.tps / theirs.tps).toFixed(2)}; ` +
              `added over direct ${(ours.latencyMs - plain.latencyMs).toFixed(3)} ms (pgbouncer ${(theirs.latencyMs - plain.latencyMs).toFixed(3)})`,
            goal: '≥ 0.95 × pgbouncer',
          });
          console.log(figures.at(-1)?.what, figures.at(-1)?.value);
        }
      }
    }
    bouncer.stop();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return figures;
}
