import { chownSync } from 'node:fs';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NEVER, withTenant } from '../test/harness/instance-store.ts';
import { TestDaemon } from '../test/harness/daemon.ts';
import { TimelineRig } from '../test/harness/timeline-rig.ts';
import { waitFor } from '../test/harness/wait.ts';
import type { IncarnationId, Lsn } from '../src/base/index.ts';
import { systemClock } from '../src/daemon/index.ts';
import { summariseLog } from '../src/instance/index.ts';
import { startPeer } from './backup.ts';
import { run, serverUser, timed } from './processes.ts';
import { type Figure, mebibytes, median, seconds } from './report.ts';

const SCALE = Number(process.env['ATOLL_BENCH_SCALE'] ?? 70);
const ROUNDS = 3;
const clock = systemClock();
const ROOT = { user: 'root', database: 'defaultdb' };
/** Rows of one part in ten of all pages, which lie one after the other as the rows of a busy customer may. */
const CHURN = (round: number) =>
  `UPDATE pgbench_accounts SET abalance = abalance + ${round + 1} WHERE aid <= ${SCALE * 100_000} / 10`;

/** A day of work in so many seconds: as much of the day as its window is is kept, 4 hours of 24, or a minute when that is more. */
const DAY_SECONDS = Number(process.env['ATOLL_BENCH_DAY_SECONDS'] ?? 240);
const DAY_SCALE = 20;

/** Going back in time: in place, beside, and beside what people restore with today. */
export async function benchTimeMachine(): Promise<Figure[]> {
  return [...(await benchTravel()), ...(await benchSpace())];
}

async function benchTravel(): Promise<Figure[]> {
  const suite = `Going back in time (pgbench -s ${SCALE})`;
  const folder = await mkdtemp(join(tmpdir(), 'atoll-bench-'));
  const user = serverUser();
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  await using rig = await TimelineRig.open();
  const peer = await startPeer(folder);
  try {
    await peer.backup['pgBackRest full']?.();
    const { socketDirectory } = rig.source;
    await run('pgbench', ['-i', '-s', String(SCALE), '-q', '-h', socketDirectory, '-U', 'root', 'defaultdb']);
    await withTenant(rig.source, ROOT, (client) => client.query('CHECKPOINT'));
    const times = new Map<string, number[]>();
    const record = (name: string, ms: number) => times.set(name, [...(times.get(name) ?? []), ms]);
    let put = 0;
    let dataBytes = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const instance = rig.rig.store.host.get(rig.source.identity.virtualClusterId);
      if (instance === undefined) throw new Error('the virtual cluster is gone');
      await rig.captureBase({ of: instance });
      // A commit behind the base: the moment that is gone back to.
      await withTenant(instance, ROOT, (client) => client.query('CREATE TABLE IF NOT EXISTS mark ()'));
      const lsn = await rig.position(instance);
      await withTenant(instance, ROOT, (client) => client.query(CHURN(round)));
      // As STOP SERVICE does while it still serves.
      record('summarise', await timed(() => summariseLog(instance, { clock, signal: NEVER })));
      await instance.stop({ mode: 'orderly', signal: NEVER });
      await rig.receive(instance);
      const last = await rig.rig.store.host.lastRecordLsn(instance.identity.virtualClusterId);
      const point = rig.point(lsn, instance);
      const current = rig.point((last + 1n) as Lsn, instance);
      const target = await rig.rig.beginTarget();
      let files: Awaited<ReturnType<typeof rig.materializeInto>> | undefined;
      record('materialize', await timed(async () => (files = await rig.materializeInto(target, point))));
      if (files === undefined) throw new Error('nothing was materialized');
      const materialized = files;
      dataBytes = Number(materialized.base.bytes);
      record(
        'materialize and serve',
        (times.get('materialize')?.at(-1) ?? 0) +
          (await timed(async () => rig.serve(target, materialized, { parent: point }))),
      );
      await rig.rig.store.host.remove({ virtualClusterId: target.virtualClusterId, signal: NEVER });
      const incarnation = `00000000-0000-4000-9000-${String(round).padStart(12, '0')}` as IncarnationId;
      let back: Awaited<ReturnType<typeof rig.rewind>> | undefined;
      record(
        'rewind',
        await timed(async () => (back = await rig.rewind(instance, { point, current, incarnation }))),
      );
      if (back === undefined) throw new Error('nothing was rewound');
      const rewound = back;
      put = dataBytes - Number(rewound.keptBytes);
      let served: Awaited<ReturnType<typeof rig.serveRewound>> | undefined;
      record(
        'rewind and serve',
        (times.get('rewind')?.at(-1) ?? 0) +
          (await timed(
            async () => (served = await rig.serveRewound(instance, rewound, { parent: point, incarnation })),
          )),
      );
      if (served !== undefined) await rig.follow(served.instance, served.proved);
      for (const [name, work] of Object.entries(peer.restore)) record(name, await work());
    }
    const ms = (name: string) => median(times.get(name) ?? []);
    return [
      {
        suite,
        what: 'materialize of the whole: files, then also recovered and serving',
        value: `${seconds(ms('materialize'))}, ${seconds(ms('materialize and serve'))}; ${mebibytes(dataBytes)}`,
      },
      {
        suite,
        what: 'pgBackRest restore (PostgreSQL 15), and start of the server until it serves',
        value: `${seconds(ms('pgBackRest restore'))}; ours is ${(ms('pgBackRest restore') / ms('materialize and serve')).toFixed(2)} × as fast`,
        goal: '≥ 1 ×',
      },
      {
        suite,
        what: `rewind in place, one page in ten changed: files, ${mebibytes(put)} put back`,
        value: `${seconds(ms('rewind'))}: ${(ms('materialize') / ms('rewind')).toFixed(1)} × as fast as the files of a materialize`,
        goal: '≥ 5 ×',
      },
      {
        suite,
        what: 'what STOP SERVICE does before it: checkpoint, and summaries of the log',
        value: seconds(ms('summarise')),
      },
      {
        suite,
        what: 'rewind in place, also recovered and serving',
        value: `${seconds(ms('rewind and serve'))}: ${(ms('materialize and serve') / ms('rewind and serve')).toFixed(1)} × as fast`,
      },
    ];
  } finally {
    await peer.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** What the time machine keeps of a day of work, of which the window is a part. */
async function benchSpace(): Promise<Figure[]> {
  const suite = `Room that the time machine takes (pgbench -s ${DAY_SCALE}, a day in ${DAY_SECONDS} s)`;
  await using daemon = await TestDaemon.start();
  const main = { cluster: 'main' };
  const url = daemon.url(main);
  const windowSeconds = Math.max(60, Math.round(DAY_SECONDS / 6));
  await daemon.query(`ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING gc.ttlseconds = ${windowSeconds}`, {
    cluster: 'system',
  });
  await run('pgbench', ['-i', '-s', String(DAY_SCALE), '-q', url]);
  await daemon.query('CHECKPOINT', main);
  const position = async () =>
    Number((await daemon.query(`SELECT pg_current_wal_lsn() - '0/0' AS bytes`, main))[0]?.['bytes']);
  const [{ bytes: data } = { bytes: 0 }] = await daemon.query(
    'SELECT sum(pg_database_size(oid))::float8 AS bytes FROM pg_database',
    main,
  );
  const before = await position();
  const samples: number[] = [];
  const sampling = setInterval(
    () =>
      void folderBytes(join(daemon.store, 'timeline/3')).then(
        (bytes) => samples.push(bytes),
        () => undefined, // Something was removed while we looked.
      ),
    1000,
  );
  try {
    await run('pgbench', ['-n', '-c', '8', '-j', '2', '-T', String(DAY_SECONDS), url]);
  } finally {
    clearInterval(sampling);
  }
  const logged = (await position()) - before;
  await waitFor('a sample', () => samples.length > 0);
  const [typical, most] = [median(samples.slice(samples.length / 3)), Math.max(...samples)];
  const inWindow = (logged * windowSeconds) / DAY_SECONDS;
  return [
    {
      suite,
      what: `data; log of the day; of the window of ${windowSeconds} s`,
      value: `${mebibytes(Number(data))}, ${mebibytes(logged)}, ${mebibytes(inWindow)}`,
    },
    {
      suite,
      what: 'bases and log of the timeline (median of the last two thirds, most)',
      value: `${mebibytes(typical)}, ${mebibytes(most)}: ${(typical / Number(data)).toFixed(2)} × the data, ${(typical / inWindow).toFixed(2)} × the log of the window`,
    },
  ];
}

async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}
