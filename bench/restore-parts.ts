import { chownSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestDaemon } from '../test/harness/daemon.ts';
import { LOAD, startPeer } from './backup.ts';
import { cpuOfWorkersMs, run, serverUser, timed } from './processes.ts';
import { type Figure, mebibytes, seconds } from './report.ts';

/** pgbench's scale, 15 MB each: 5 GB unless ATOLL_BENCH_SCALE says otherwise. */
const SCALE_BY_DEFAULT = 340;
const SMALL_ROWS = 100_000;
const SMALL_TABLE = `CREATE TABLE small AS SELECT n AS id, md5(n::text) AS text FROM generate_series(1, ${SMALL_ROWS}) n`;
/** Also how many processes pgBackRest uses. */
const PEER_JOBS = '2';

/** How long it takes to have everything back, the database, its largest table, a small one: out of one backup, beside pg_dump and pgBackRest. */
export async function benchRestoreParts(): Promise<Figure[]> {
  const scale = Number(process.env['ATOLL_BENCH_SCALE'] ?? SCALE_BY_DEFAULT);
  if (!Number.isSafeInteger(scale) || scale < 1)
    throw new Error('ATOLL_BENCH_SCALE is a whole number from 1');
  const ours = await measureOurs(scale);
  const theirs = await measurePeer(scale);
  const suite = `Restoring all, a database, one table, a small table (pgbench -s ${scale}; one round)`;
  const beside = (what: 'whole' | 'database' | 'large' | 'small', dump: number) => {
    const { ms, cpuMs } = ours[what];
    const ratio = (other: number) => `${(other / ms).toFixed(2)} × as fast`;
    return `${seconds(ms)}, CPU of its workers ${seconds(cpuMs)}; pg_restore -j${PEER_JOBS} ${seconds(dump)}: ${ratio(dump)}; pgBackRest restore of everything and start ${seconds(theirs.backrest)}: ${ratio(theirs.backrest)}`;
  };
  return [
    {
      suite,
      what: 'data: Atoll on PostgreSQL 18, peers on PostgreSQL 15',
      value: `${mebibytes(ours.bytes)}, ${mebibytes(theirs.bytes)}`,
    },
    {
      suite,
      what: 'BACKUP INTO nodelocal; pg_dump -Fd -j2; pgBackRest full',
      value: `${seconds(ours.backup.ms)}, CPU of its workers ${seconds(ours.backup.cpuMs)}; ${seconds(theirs.dump)}; ${seconds(theirs.full)}`,
    },
    { suite, what: 'RESTORE of everything', value: beside('whole', theirs.whole) },
    {
      suite,
      what: 'RESTORE DATABASE, which holds nearly all of it',
      value: beside('database', theirs.whole),
    },
    { suite, what: 'RESTORE TABLE pgbench_accounts, with its index', value: beside('large', theirs.large) },
    { suite, what: `RESTORE TABLE of ${SMALL_ROWS} rows`, value: beside('small', theirs.small) },
  ];
}

interface Taken {
  readonly ms: number;
  readonly cpuMs: number;
}

async function measureOurs(scale: number) {
  await using daemon = await TestDaemon.start();
  const main = { cluster: 'main' } as const;
  await run('pgbench', [...LOAD, '-s', String(scale), daemon.url(main)]);
  await daemon.query([SMALL_TABLE, 'CHECKPOINT'], main);
  const [size] = await daemon.query(
    'SELECT sum(pg_database_size(oid))::float8 AS bytes FROM pg_database',
    main,
  );
  const take = async (sql: string | readonly string[], cluster = 'main'): Promise<Taken> => {
    const before = cpuOfWorkersMs(daemon.pid);
    const ms = await timed(() => daemon.query(sql, { cluster }));
    return { ms, cpuMs: cpuOfWorkersMs(daemon.pid) - before };
  };
  const from = "FROM LATEST IN 'nodelocal://1/parts'";
  const backup = await take("BACKUP INTO 'nodelocal://1/parts'");
  await daemon.query(['CREATE DATABASE large', 'CREATE DATABASE little'], main);
  const large = await take(`RESTORE TABLE pgbench_accounts ${from} WITH into_db = 'large'`);
  const small = await take(`RESTORE TABLE small ${from} WITH into_db = 'little'`);
  const database = await take(`RESTORE DATABASE defaultdb ${from} WITH new_db_name = 'again'`);
  for (const name of ['large', 'again']) {
    await requireRows(daemon, {
      sql: 'SELECT count(*)::int AS rows FROM pgbench_accounts',
      database: name,
      rows: scale * 100_000,
    });
  }
  await requireRows(daemon, {
    sql: 'SELECT count(*)::int AS rows FROM small',
    database: 'little',
    rows: SMALL_ROWS,
  });
  await daemon.query(
    [
      'CREATE VIRTUAL CLUSTER whole',
      'ALTER VIRTUAL CLUSTER whole GRANT ALL CAPABILITIES',
      'ALTER VIRTUAL CLUSTER whole START SERVICE SHARED',
    ],
    { cluster: 'system' },
  );
  const whole = await take(`RESTORE ${from}`, 'whole');
  return { bytes: Number(size?.['bytes']), backup, whole, database, large, small };
}

/** A figure of something that was not restored would be worth nothing. */
async function requireRows(
  daemon: TestDaemon,
  { sql, database, rows }: { sql: string; database: string; rows: number },
): Promise<void> {
  const [row] = await daemon.query(sql, { cluster: 'main', database });
  if (row?.['rows'] !== rows) throw new Error(`${sql}: ${String(row?.['rows'])} instead of ${rows}`);
}

async function measurePeer(scale: number) {
  const folder = await mkdtemp(join(tmpdir(), 'atoll-bench-'));
  const user = serverUser();
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  const peer = await startPeer(folder, { scale });
  try {
    await peer.query(SMALL_TABLE);
    await peer.query('CHECKPOINT');
    const dumped = join(folder, 'peer/data/dump');
    const dump = await peer.client('pg_dump', '-Fd', '-j', PEER_JOBS, '-f', dumped, 'postgres');
    const restoreInto = async (database: string, ...args: string[]) => {
      await peer.query(`CREATE DATABASE ${database} TEMPLATE template0`);
      return peer.client('pg_restore', '-j', PEER_JOBS, '-d', database, ...args, dumped);
    };
    const large = await restoreInto('large', '-t', 'pgbench_accounts', '-I', 'pgbench_accounts_pkey');
    const small = await restoreInto('little', '-t', 'small');
    const whole = await restoreInto('whole');
    // What was restored beside is no part of what pgBackRest backs up.
    for (const database of ['large', 'little', 'whole']) await peer.query(`DROP DATABASE ${database}`);
    const full = (await peer.backup['pgBackRest full']?.()) ?? Number.NaN;
    const backrest = (await peer.restore['pgBackRest restore']?.()) ?? Number.NaN;
    return { bytes: peer.dataBytes, dump, full, whole, large, small, backrest };
  } finally {
    await peer.stop();
    await rm(folder, { recursive: true, force: true });
  }
}
