import { chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Site } from '../test/harness/sites.ts';
import { TcpProxy } from '../test/harness/tcp-proxy.ts';
import { PEER_BIN } from './backup.ts';
import { run, serverUser, timed } from './processes.ts';
import { type Figure, median, mebibytes, milliseconds, rate, seconds } from './report.ts';

const SCALE = Number(process.env['ATOLL_BENCH_SCALE'] ?? 30);
/** How long each load lasts. */
const LOAD_SECONDS = Number(process.env['ATOLL_BENCH_LOAD_SECONDS'] ?? 20);
const CLIENTS = 4;
const LAG_POLL_MS = 20;
const PGBENCH = 'defaultdb';
const DRAIN = 'ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST WITH DRAIN';
const LATEST = 'ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST';
const START = 'ALTER VIRTUAL CLUSTER main START SERVICE SHARED';
const STOP = 'ALTER VIRTUAL CLUSTER main STOP SERVICE';
/** Parts in a hundred of all rows that are changed before a failback. */
const CHURNS = [1, 10] as const;

const suite = `Replication into another physical cluster (pgbench -s ${SCALE}, ${CLIENTS} clients)`;

/** What a stream costs, how far it lags, how long a failover and a failback take: two physical clusters on one machine. */
export async function benchReplication(): Promise<Figure[]> {
  await using primary = await Site.start();
  await using standby = await Site.start({ flags: ['--virtualized-empty'] });
  await using network = await TcpProxy.start(() => primary.daemon.port);
  const figures: Figure[] = [];
  const figure = (what: string, value: string, goal = '') => figures.push({ suite, what, value, goal });

  await run('pgbench', ['-i', '-s', String(SCALE), '-q', ...target(primary)]);
  await primary.main('CHECKPOINT');
  await primary.whenProtected();
  const [alone, full] = [await throughput(primary), 'full load'];

  const scan = await measureScan(primary, { standby, network });
  figure('first image, until it follows', `${seconds(scan.ms)}, ${rate(scan)}`);
  const peer = await measureBaseBackup();
  figure(
    'pg_basebackup of PostgreSQL 15, the same rows, over its own socket',
    `${seconds(peer.ms)}, ${rate(peer)}`,
  );

  const before = { bytes: network.receivedBytes, lsn: await position(primary) };
  const loaded = await underLoad(primary, { standby });
  const walBytes = Number((await position(primary)) - before.lsn);
  await standby.whenCaughtUp(primary);
  const wireBytes = network.receivedBytes - before.bytes;
  figure(`lag at ${full}, median and 99th percentile`, percentiles(loaded.lagsMs), 'p99 < 1 s');
  figure(
    'bytes on the wire for each byte of log',
    `${(wireBytes / walBytes).toFixed(2)} (${mebibytes(walBytes)} of log)`,
  );
  figure('transactions a second without and with a stream', `${alone.toFixed(0)}, ${loaded.tps.toFixed(0)}`);
  const half = await underLoad(primary, { standby, tps: Math.max(1, Math.round(alone / 2)) });
  figure(
    'lag at half of what the machine does without a stream, median and 99th percentile',
    percentiles(half.lagsMs),
    'p99 < 1 s',
  );

  const planned = await failOver(standby, DRAIN);
  figure(
    'planned failover (WITH DRAIN), from the statement to the first accepted write',
    seconds(planned),
    '< 2 s',
  );
  await standby.whenProtected();
  await failBack(primary, { to: standby });
  await primary.whenProtected();
  const back = await failOver(primary, LATEST);
  figure('failover to the latest moment, the same', seconds(back), '< 2 s');
  const failbacks = new Map<number, Arrival>();
  for (const churn of CHURNS) {
    // Both have gone their own ways: what one has written is taken back, and what the other has is fetched.
    await standby.system(START);
    const rows = (SCALE * 100_000 * churn) / 100;
    for (const site of [standby, primary]) {
      await site.main(`UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid <= ${rows}`);
    }
    await standby.whenRestorable();
    await standby.system(STOP);
    failbacks.set(churn, await failBack(standby, { to: primary }));
    await standby.whenProtected();
    await standby.system(LATEST);
    await standby.whenIn('ready');
  }
  await standby.system('DROP VIRTUAL CLUSTER main IMMEDIATE');
  const { ms: seedMs } = await untilFollowed(standby, {
    of: primary,
    sql: `CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${primary.uri()}'`,
  });
  figure('a new follower instead, until it follows', seconds(seedMs));
  for (const [churn, { ms, isCopied }] of failbacks) {
    const way = isCopied ? ', all data was copied' : '';
    const ratio = `${(seedMs / ms).toFixed(1)} × faster than a new follower${way}`;
    figure(
      `failback with ${churn} % of the rows changed since, on both sides`,
      `${seconds(ms)}, ${ratio}`,
      churn === 10 ? '≥ 5 ×' : '',
    );
  }
  return figures;
}

function target(site: Site): string[] {
  return ['-h', '127.0.0.1', '-p', String(site.daemon.port), '-U', 'root', `cluster:main/${PGBENCH}`];
}

/** Transactions a second for as long as a load lasts; `tps` limits them. */
async function throughput(site: Site, tps?: number): Promise<number> {
  const limit = tps === undefined ? [] : ['-R', String(tps)];
  const load = ['-n', '-c', String(CLIENTS), '-T', String(LOAD_SECONDS), ...limit];
  const output = await run('pgbench', [...load, ...target(site)]);
  const match = /tps = ([\d.]+)/.exec(output);
  if (match === null) throw new Error(`pgbench does not tell its tps:\n${output}`);
  return Number(match[1]);
}

/**
 * The lag that somebody would lose: how long ago the newest commit was made here that the other side has replayed. Read from the follower's own
 * server, for SHOW looks twice a second.
 */
async function underLoad(
  site: Site,
  options: { standby: Site; tps?: number },
): Promise<{ tps: number; lagsMs: number[] }> {
  const lagsMs: number[] = [];
  let isOver = false;
  const watching = (async () => {
    const follower = await options.standby.connectAsNode();
    while (!isOver) {
      const { rows } = await follower.query<{ ms: number }>(
        'SELECT (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::float8 AS ms',
      );
      lagsMs.push(Number(rows[0]?.ms));
      await new Promise((resolve) => setTimeout(resolve, LAG_POLL_MS));
    }
    await follower.end();
  })();
  try {
    return { tps: await throughput(site, options.tps), lagsMs };
  } finally {
    isOver = true;
    await watching;
  }
}

function percentiles(lagsMs: readonly number[]): string {
  const sorted = lagsMs.toSorted((a, b) => a - b);
  const high = sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN;
  return `${milliseconds(median(sorted))}, ${milliseconds(high)}`;
}

async function measureScan(
  primary: Site,
  { standby, network }: { standby: Site; network: TcpProxy },
): Promise<{ ms: number; bytes: number }> {
  const ms = await timed(async () => {
    await standby.system(
      `CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${primary.uri(network.port)}'`,
    );
    await standby.whenIn('replicating');
  });
  return { ms, bytes: network.receivedBytes };
}

/** What PostgreSQL's own program takes for the same rows, from a server of its own version, over its own socket. */
async function measureBaseBackup(): Promise<{ ms: number; bytes: number }> {
  const folder = await mkdtemp(join(tmpdir(), 'atoll-bench-'));
  const user = serverUser();
  if (user !== undefined) await chown(folder, user.uid, user.gid);
  const as = user === undefined ? {} : { uid: user.uid, gid: user.gid };
  const data = join(folder, 'data');
  const control = (...args: string[]) =>
    run(join(PEER_BIN, 'pg_ctl'), ['-D', data, '-w', '-l', join(folder, 'log'), ...args], as);
  try {
    await run(
      join(PEER_BIN, 'initdb'),
      ['-D', data, '-U', 'postgres', '--data-checksums', '-A', 'trust'],
      as,
    );
    const settings = `-c listen_addresses='' -c unix_socket_directories='${folder}' -c max_wal_size=2GB`;
    await control('-o', settings, 'start');
    const target = ['-h', folder, '-U', 'postgres'];
    await run('pgbench', ['-i', '-s', String(SCALE), '-q', ...target, 'postgres'], as);
    const copy = join(folder, 'copy');
    const options = ['-D', copy, '-X', 'none', '-c', 'fast', '--manifest-checksums=SHA256'];
    const ms = await timed(() => run('pg_basebackup', [...target, ...options], as));
    const used = await run('du', ['-sb', copy], as);
    return { ms, bytes: Number.parseInt(used, 10) };
  } finally {
    await control('-m', 'immediate', 'stop').catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  }
}

async function position(site: Site): Promise<bigint> {
  const [row] = await site.main(`SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text AS bytes`);
  return BigInt(String(row?.['bytes']));
}

interface Arrival {
  readonly ms: number;
  /** Of a failback: no base led back, so that it took the long way. */
  readonly isCopied: boolean;
}

/** Until somebody can write there. Nothing of it is waiting between two looks. */
async function failOver(standby: Site, statement: string): Promise<number> {
  const client = await standby.daemon.connect({ cluster: 'system' });
  try {
    return await timed(async () => {
      await client.query(statement);
      for (let state = ''; state !== 'ready'; ) {
        const { rows } = await client.query<{ data_state: string }>('SHOW VIRTUAL CLUSTER main');
        state = rows[0]?.data_state ?? '';
      }
      await client.query(START);
      await standby.main('UPDATE pgbench_branches SET bbalance = bbalance + 1 WHERE bid = 1');
    });
  } finally {
    await client.end();
  }
}

/** Until it follows, and holds what the other side had written when it was asked for. */
async function failBack(site: Site, { to }: { to: Site }): Promise<Arrival> {
  return untilFollowed(site, {
    of: to,
    sql: `ALTER VIRTUAL CLUSTER main START REPLICATION OF main ON '${to.uri()}'`,
  });
}

async function untilFollowed(site: Site, { of, sql }: { of: Site; sql: string }): Promise<Arrival> {
  const end = await position(of);
  const client = await site.daemon.connect({ cluster: 'system' });
  let isCopied = false;
  client.on('notice', ({ message }) => {
    isCopied ||= /all data is copied/.test(message ?? '');
  });
  try {
    const ms = await timed(async () => {
      await client.query(sql);
      for (let status = ''; status !== 'replicating'; ) {
        const { rows } = await client.query<{ status: string }>(
          'SHOW VIRTUAL CLUSTER main WITH REPLICATION STATUS',
        );
        status = rows[0]?.status ?? '';
        if (status === 'replication error') throw new Error('the stream was given up');
      }
      const follower = await site.connectAsNode();
      for (let replayed = 0n; replayed < end; ) {
        const { rows } = await follower.query<{ bytes: string }>(
          "SELECT (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::text AS bytes",
        );
        replayed = BigInt(rows[0]?.bytes ?? 0);
      }
      await follower.end();
    });
    return { ms, isCopied };
  } finally {
    await client.end();
  }
}
