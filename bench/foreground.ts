import { chownSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestDaemon } from '../test/harness/daemon.ts';
import { run, serverUser } from './processes.ts';
import { type Figure, median } from './report.ts';

/** Half a gigabyte: a capture then lasts long enough to be felt. */
const SCALE = 35;
const CLIENTS = 8;
const ROUNDS = 3;
const SECONDS = Number(process.env['ATOLL_BENCH_SECONDS'] ?? 10);
/** `-P` and `--log` write one line for each transaction: its latency in microseconds is the third field, its lateness the seventh. */
const LOG_FIELD = { latencyUs: 2, latenessUs: 6 } as const;

interface Latencies {
  /** From when a transaction was due to its end, lateness included, in milliseconds. */
  readonly p50: number;
  readonly p99: number;
}

/** What sessions feel of captures: latency at half of the most that the machine gives, without any and with one after the other. */
export async function benchForeground(): Promise<Figure[]> {
  const suite = `Sessions while bases are captured (pgbench -s ${SCALE}, ${CLIENTS} clients, half of the maximum)`;
  const folder = await mkdtemp(join(tmpdir(), 'atoll-bench-'));
  const user = serverUser();
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  await using daemon = await TestDaemon.start();
  try {
    const url = daemon.url({ cluster: 'main' });
    await run('pgbench', ['-i', '-s', String(SCALE), '-q', url]);
    const most = await mostTransactions(url);
    const without: Latencies[] = [];
    const during: Latencies[] = [];
    let captures = 0;
    for (let round = 0; round < ROUNDS; round++) {
      without.push(await latencies(url, { folder, perSecond: most / 2 }));
      const capturing = new AbortController();
      const backups = backUpUntil(daemon, { round, signal: capturing.signal });
      during.push(await latencies(url, { folder, perSecond: most / 2 }));
      capturing.abort();
      captures += await backups;
    }
    const [quiet, busy] = [median(without.map(({ p99 }) => p99)), median(during.map(({ p99 }) => p99))];
    const [half, halfBusy] = [median(without.map(({ p50 }) => p50)), median(during.map(({ p50 }) => p50))];
    return [
      { suite, what: 'most transactions', value: `${most.toFixed(0)} tps` },
      {
        suite,
        what: `99th percentile of latency, without and with ${captures} full captures in ${ROUNDS * SECONDS} s`,
        value: `${quiet.toFixed(2)} ms, ${busy.toFixed(2)} ms: ${(busy / quiet).toFixed(2)} ×`,
        goal: '< 1.5 ×',
      },
      { suite, what: 'median of latency', value: `${half.toFixed(2)} ms, ${halfBusy.toFixed(2)} ms` },
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function mostTransactions(url: string): Promise<number> {
  const output = await run('pgbench', ['-n', '-c', String(CLIENTS), '-j', '2', '-T', String(SECONDS), url]);
  const tps = /tps = ([\d.]+)/.exec(output)?.[1];
  if (tps === undefined) throw new Error(`pgbench told no tps:\n${output}`);
  return Number(tps);
}

async function latencies(
  url: string,
  { folder, perSecond }: { folder: string; perSecond: number },
): Promise<Latencies> {
  const logs = await mkdtemp(join(folder, 'log-'));
  const rate = ['-R', perSecond.toFixed(0), '--log', `--log-prefix=${join(logs, 'transactions')}`];
  await run('pgbench', ['-n', '-c', String(CLIENTS), '-j', '2', '-T', String(SECONDS), ...rate, url]);
  const all: number[] = [];
  for (const name of await readdir(logs)) {
    for (const line of (await readFile(join(logs, name), 'latin1')).trim().split('\n')) {
      const fields = line.split(' ').map(Number);
      all.push(((fields[LOG_FIELD.latencyUs] ?? 0) + (fields[LOG_FIELD.latenessUs] ?? 0)) / 1000);
    }
  }
  all.sort((left, right) => left - right);
  const at = (share: number) => all[Math.floor(all.length * share)] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99) };
}

/** Full backups, one after the other; tells how many. */
async function backUpUntil(
  daemon: TestDaemon,
  { round, signal }: { round: number; signal: AbortSignal },
): Promise<number> {
  let count = 0;
  for (; !signal.aborted; count++) {
    await daemon.query(`BACKUP INTO 'nodelocal://1/foreground-${round}-${count}'`, { cluster: 'main' });
  }
  return count;
}
