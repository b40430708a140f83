import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { chownSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestAuthority, writeCertificates } from '../test/harness/certificates.ts';
import { TestDaemon } from '../test/harness/daemon.ts';
import { waitFor } from '../test/harness/wait.ts';
import { run, serverUser } from './processes.ts';
import { type Figure, median } from './report.ts';

const ROUNDS = Number(process.env['ATOLL_BENCH_ROUNDS'] ?? 3);
const SECONDS = Number(process.env['ATOLL_BENCH_SECONDS'] ?? 4);

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
async function startPgbouncer(options: {
  socketDirectory: string;
  folder: string;
  /** Files of a certificate and its key; clients choose whether they encrypt. */
  certificate?: { readonly certificate: string; readonly key: string };
}) {
  const port = await freePort();
  const { certificate } = options;
  const tls =
    certificate === undefined
      ? ''
      : `client_tls_sslmode = allow\nclient_tls_cert_file = ${certificate.certificate}\nclient_tls_key_file = ${certificate.key}\n`;
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
${tls}`,
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
  // No certificate of a user whose home the servers' user cannot look into.
  const as = { ...serverUser(), env: { HOME: '/nonexistent' } };
  const output = await run('pgbench', ['-n', '-T', String(SECONDS), ...flags, ...target.args], as);
  return {
    tps: Number(/tps = ([\d.]+)/.exec(output)?.[1]),
    latencyMs: Number(/latency average = ([\d.]+)/.exec(output)?.[1]),
  };
}

interface Workload {
  readonly label: string;
  readonly script: readonly string[];
  readonly mode: 'simple' | 'prepared';
  readonly clients: number;
}

const SELECT_ONLY = { label: 'SELECT only', script: ['-S'] };
const TPC_B = { label: 'TPC-B', script: [] };

/** Every kind of work for one relay, and those with several clients for as many relays as there are cores. */
const WORKLOADS: readonly Workload[] = [
  ...(['simple', 'prepared'] as const).flatMap((mode) =>
    [1, 8, 64].map((clients) => ({ ...SELECT_ONLY, mode, clients })),
  ),
  ...[1, 8, 64].map((clients) => ({ ...TPC_B, mode: 'simple' as const, clients })),
];

/** `pgbench` through each target, interleaved; medians of tps and latency, in the order of `targets`. */
async function compare(
  targets: readonly Target[],
  { script, mode, clients }: Workload,
): Promise<readonly { tps: number; latencyMs: number }[]> {
  const flags = [...script, '-M', mode, '-c', String(clients), '-j', '1'];
  const rounds = targets.map(() => ({ tps: [] as number[], latencyMs: [] as number[] }));
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [at, target] of targets.entries()) {
      const { tps, latencyMs } = await transactionsPerSecond(target, flags);
      rounds[at]?.tps.push(tps);
      rounds[at]?.latencyMs.push(latencyMs);
    }
  }
  return rounds.map(({ tps, latencyMs }) => ({ tps: median(tps), latencyMs: median(latencyMs) }));
}

/** What encryption costs: the front door with and without it, beside pgbouncer with and without it. */
async function compareEncryption(folder: string, tell: (figure: Figure) => void): Promise<void> {
  const user = serverUser();
  const certs = join(folder, 'certs');
  const authority = await TestAuthority.make();
  await writeCertificates(certs, { 'ca.crt': authority.certificate, node: await authority.node() });
  const certificate = { certificate: join(certs, 'node.crt'), key: join(certs, 'node.key') };
  if (user !== undefined)
    for (const path of [certs, ...Object.values(certificate)]) chownSync(path, user.uid, user.gid);
  await using daemon = await TestDaemon.start({
    store: join(folder, 'encrypted'),
    security: 'password',
    flags: [`--certs-dir=${certs}`, '--accept-sql-without-tls'],
    ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
  });
  const operator = ['-h', join(daemon.store, 'run/sql'), '-p', String(daemon.port), '-U', 'root'];
  await run(
    'psql',
    ['-X', ...operator, '-d', 'defaultdb', '-c', "ALTER ROLE root PASSWORD 'bench'"],
    user ?? {},
  );
  await run('pgbench', ['-i', '-s', '10', '-q', ...operator, 'defaultdb'], user ?? {});
  const socketDirectory = join(daemon.store, 'run/3');
  const bouncer = await startPgbouncer({ socketDirectory, folder, certificate });
  try {
    const targets: Target[] = [daemon.port, bouncer.port].flatMap((port) =>
      ['require', 'disable'].map((mode) => ({
        name: `${port} ${mode}`,
        args: [`postgresql://root:bench@127.0.0.1:${port}/defaultdb?sslmode=${mode}`],
      })),
    );
    for (const workload of WORKLOADS.filter(({ mode }) => mode === 'prepared')) {
      const [ours, oursPlain, theirs, theirsPlain] = await compare(targets, workload);
      if (!ours || !oursPlain || !theirs || !theirsPlain) continue;
      tell({
        suite: 'Front door with TLS (pgbench, loopback TCP)',
        what: `${workload.label}, ${workload.mode}, ${workload.clients} clients, 1 relaying`,
        value:
          `front door ${ours.tps.toFixed(0)} tps, without TLS ${oursPlain.tps.toFixed(0)}: ${(ours.tps / oursPlain.tps).toFixed(2)}; ` +
          `pgbouncer ${theirs.tps.toFixed(0)}, ${theirsPlain.tps.toFixed(0)}: ${(theirs.tps / theirsPlain.tps).toFixed(2)}; ` +
          `front door ÷ pgbouncer = ${(ours.tps / theirs.tps).toFixed(2)}; ` +
          `TLS adds ${(ours.latencyMs - oursPlain.latencyMs).toFixed(3)} ms (pgbouncer ${(theirs.latencyMs - theirsPlain.latencyMs).toFixed(3)})`,
        goal: '≥ 0.95 × pgbouncer',
      });
    }
  } finally {
    bouncer.stop();
  }
}

/** The front door beside pgbouncer, and both beside the bare instance; the ratios are what counts. */
export async function benchFrontDoor(): Promise<Figure[]> {
  const user = serverUser();
  const folder = await mkdtemp(join(tmpdir(), 'atoll-bench-'));
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  const start = (relays: number) =>
    TestDaemon.start({
      store: join(folder, 'store'),
      // The daemon itself is one of them.
      flags: relays === 1 ? [] : [`--relay-processes=${relays - 1}`],
      ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
    });
  const figures: Figure[] = [];
  const tell = (figure: Figure) => {
    figures.push(figure);
    console.log(figure.what, figure.value);
  };
  try {
    for (const relays of new Set([1, availableParallelism()])) {
      await using daemon = await start(relays);
      const main = daemon.url({ cluster: 'main' });
      if (relays === 1) await run('pgbench', ['-i', '-s', '10', '-q', main]);
      const socketDirectory = join(daemon.store, 'run/3');
      const bouncer = await startPgbouncer({ socketDirectory, folder });
      const targets: Target[] = [
        { name: 'front door', args: [main] },
        { name: 'pgbouncer', args: [`postgresql://root@127.0.0.1:${bouncer.port}/defaultdb`] },
        { name: 'direct', args: ['-h', socketDirectory, '-U', 'root', 'defaultdb'] },
      ];
      for (const workload of WORKLOADS.filter(({ clients }) => relays === 1 || clients > 1)) {
        const [ours, theirs, plain] = await compare(targets, workload);
        if (ours === undefined || theirs === undefined || plain === undefined) continue;
        tell({
          suite: 'Front door (pgbench, loopback TCP; direct is the Unix socket)',
          what: `${workload.label}, ${workload.mode}, ${workload.clients} clients, ${relays} relaying`,
          value:
            `direct ${plain.tps.toFixed(0)}, front door ${ours.tps.toFixed(0)}, pgbouncer ${theirs.tps.toFixed(0)} tps; ` +
            `front door ÷ pgbouncer = ${(ours.tps / theirs.tps).toFixed(2)}; ` +
            `added over direct ${(ours.latencyMs - plain.latencyMs).toFixed(3)} ms (pgbouncer ${(theirs.latencyMs - plain.latencyMs).toFixed(3)})`,
          goal: `≥ ${relays === 1 ? '0.95' : '1'} × pgbouncer`,
        });
      }
      bouncer.stop();
    }
    await compareEncryption(folder, tell);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return figures;
}
