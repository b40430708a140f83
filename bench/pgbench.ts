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
  /**
   * Whose share of the processor pgbench has. It is no part of what is measured, but the machine's: in the bench's `session`, with the daemon, each takes from the
   * other; `apart` it has a session's share of its own; `first` it comes before all others, as one on another machine would. The default is `session`.
   */
  readonly place?: 'session' | 'apart' | 'first';
}

/** Where the kernel has no shares by session, or who runs us may not change them, it is as any other. */
const FIRST = ['sh', '-c', '{ echo -19 > /proc/self/autogroup; } 2>/dev/null; exec "$@"', 'sh'];

function pgbench(load: Load, flags: readonly string[] = []): Promise<string> {
  const command = ['pgbench', ...flagsOf(load), ...flags, load.url];
  const { place = 'session' } = load;
  const [program = '', ...words] = place === 'first' ? [...FIRST, ...command] : command;
  return run(program, words, { isApart: place !== 'session' });
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
  const output = await pgbench(load);
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
  await pgbench(load, rate);
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
