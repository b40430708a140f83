/** What `pgbench` tells of one server under one load. */
import { mkdtemp, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './processes.ts';

/**
 * `-R` and `--log` write one line for each transaction: the third field is its latency in microseconds, counted from when it was due. (The
 * seventh, how late it began, is part of that.)
 */
const LATENCY_FIELD = 2;

export interface Load {
  readonly url: string;
  readonly clients: number;
  readonly seconds: number;
  /** `-S` and the like; TPC-B by default. */
  readonly script?: readonly string[];
}

export interface Latencies {
  /** From when a transaction was due to its end, lateness included, in milliseconds. */
  readonly p50: number;
  readonly p99: number;
}

const flagsOf = ({ clients, seconds, script = [] }: Load) => [
  '-n',
  '-c',
  String(clients),
  '-j',
  '2',
  '-T',
  String(seconds),
  ...script,
];

/** As many transactions a second as there can be. */
export async function mostTransactions(load: Load): Promise<number> {
  const output = await run('pgbench', [...flagsOf(load), load.url]);
  const tps = /tps = ([\d.]+)/.exec(output)?.[1];
  if (tps === undefined) throw new Error(`pgbench told no tps:\n${output}`);
  return Number(tps);
}

/** Latencies at a rate that is kept up whatever comes of it. `folder` is for files. */
export async function latencies(
  load: Load,
  { folder, perSecond }: { folder: string; perSecond: number },
): Promise<Latencies> {
  const logs = await mkdtemp(join(folder, 'log-'));
  const rate = ['-R', perSecond.toFixed(0), '--log', `--log-prefix=${join(logs, 'transactions')}`];
  await run('pgbench', [...flagsOf(load), ...rate, load.url]);
  const all: number[] = [];
  for (const name of await readdir(logs)) {
    for (const line of (await readFile(join(logs, name), 'latin1')).trim().split('\n')) {
      all.push(Number(line.split(' ')[LATENCY_FIELD]) / 1000);
    }
  }
  if (all.length === 0) throw new Error('pgbench logged no transaction');
  all.sort((left, right) => left - right);
  const at = (share: number) => all[Math.floor(all.length * share)] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99) };
}
