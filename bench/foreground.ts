import { chownSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestDaemon } from '../test/harness/daemon.ts';
import { type Latencies, type Load, latencies, mostTransactions } from './pgbench.ts';
import { run, serverUser } from './processes.ts';
import { type Figure, median } from './report.ts';

/** Half a gigabyte: a capture then lasts long enough to be felt. */
const SCALE = 35;
const CLIENTS = 8;
const ROUNDS = 3;
const SECONDS = Number(process.env['ATOLL_BENCH_SECONDS'] ?? 10);
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
    const load: Load = { url, clients: CLIENTS, seconds: SECONDS };
    const most = await mostTransactions(load);
    const without: Latencies[] = [];
    const during: Latencies[] = [];
    let captures = 0;
    for (let round = 0; round < ROUNDS; round++) {
      without.push(await latencies(load, { folder, perSecond: most / 2 }));
      const capturing = new AbortController();
      const backups = backUpUntil(daemon, { round, signal: capturing.signal });
      during.push(await latencies(load, { folder, perSecond: most / 2 }));
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
