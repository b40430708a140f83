/** Backups in services of storage, over the loopback, beside the same in a folder: what the way there and back costs, in time, CPU and memory. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAzurite } from '../test/harness/azurite.ts';
import { TestDaemon } from '../test/harness/daemon.ts';
import { startRadosGateway } from '../test/harness/radosgw.ts';
import { levelGround } from './pipeline.ts';
import { cpuOfWorkersMs, peakMemoryBytes, peakMemoryOfWorkers, run, timed } from './processes.ts';
import { type Figure, mebibytes, median, rate, seconds } from './report.ts';

/** 15 MB each: 5 GB unless ATOLL_BENCH_SCALE says otherwise. */
const SCALE_BY_DEFAULT = 330;
/** Rows that shrink to half, for each of the scale: pgbench's own shrink to a twentieth, and would send next to nothing. */
const ROWS_OF_SCALE = 50_000;
/** Of small data one round tells whether it works, and no more. */
const roundsOf = (scale: number) => (scale < 50 ? 1 : 3);
const KEYS = "encryption_passphrase = 'of the bench'";

interface Place {
  readonly name: string;
  /** Of a collection that nobody uses. */
  newUri(): string;
  /** BACKUP and RESTORE take this behind WITH, or nothing. */
  readonly options: string;
}

interface Spent {
  readonly wallMs: number;
  /** Of the daemon's workers, without the service's own. */
  readonly cpuMs: number;
}

export async function benchStorage(): Promise<Figure[]> {
  const scale = Number(process.env['ATOLL_BENCH_SCALE'] ?? SCALE_BY_DEFAULT);
  if (!Number.isInteger(scale) || scale < 1) throw new Error('ATOLL_BENCH_SCALE is a whole number from 1');
  const folder = await mkdtemp(join(tmpdir(), 'atoll-bench-'));
  await using gateway = await startRadosGateway();
  await using azurite = await startAzurite();
  await using daemon = await TestDaemon.start();
  try {
    const bytes = await fill(daemon, scale);
    let folders = 0;
    const nodelocal = () => `nodelocal://1/bench-${folders++}`;
    const s3 = () => gateway.newUri();
    const places: readonly Place[] = [
      { name: 'nodelocal', newUri: nodelocal, options: '' },
      { name: 'S3 (Ceph)', newUri: s3, options: '' },
      { name: 'Azure (Azurite)', newUri: () => azurite.newUri(), options: '' },
      { name: 'nodelocal, encrypted', newUri: nodelocal, options: KEYS },
      { name: 'S3 (Ceph), encrypted', newUri: s3, options: KEYS },
    ];
    const backups = new Map<string, Spent[]>();
    const restores = new Map<string, Spent[]>();
    const record = (of: Map<string, Spent[]>, { name }: Place, spent: Spent) =>
      of.set(name, [...(of.get(name) ?? []), spent]);
    const level = () => levelGround({ target: join(folder, 'ground'), bytes });
    let workerPeak = 0;
    const measured = async (work: () => Promise<unknown>): Promise<Spent> => {
      await level();
      const before = cpuOfWorkersMs(daemon.pid);
      let wallMs = 0;
      const peak = await peakMemoryOfWorkers(daemon.pid, async () => {
        wallMs = await timed(work);
      });
      workerPeak = Math.max(workerPeak, peak);
      return { wallMs, cpuMs: cpuOfWorkersMs(daemon.pid) - before };
    };
    for (let round = 0; round < roundsOf(scale); round += 1) {
      // One after the other, so that whatever else the machine does meets them all.
      for (const place of places) {
        const uri = place.newUri();
        const options = place.options === '' ? '' : ` WITH ${place.options}`;
        const backUp = () => daemon.query(`BACKUP INTO '${uri}'${options}`, { cluster: 'main' });
        record(backups, place, await measured(backUp));
        await withEmptyCluster(daemon, async (cluster) => {
          const restore = () => daemon.query(`RESTORE FROM LATEST IN '${uri}'${options}`, { cluster });
          record(restores, place, await measured(restore));
        });
      }
    }
    return [
      ...figuresOf({ scale, bytes, backups, restores, places }),
      {
        suite: suiteOf(scale),
        what: 'highest resident memory of a bulk worker',
        value: mebibytes(workerPeak),
        goal: 'bounded',
      },
      {
        suite: suiteOf(scale),
        what: 'highest resident memory of the daemon',
        value: mebibytes(peakMemoryBytes(daemon.pid)),
        goal: '< 200 MiB',
      },
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const suiteOf = (scale: number) =>
  `Storage services over the loopback (pgbench -s ${scale} and rows that shrink to half)`;

/** Gives the size of all databases. */
async function fill(daemon: TestDaemon, scale: number): Promise<number> {
  await run('pgbench', ['-i', '-s', String(scale), '-q', '-I', 'dtGvp', daemon.url({ cluster: 'main' })]);
  await daemon.query(
    [
      `CREATE TABLE noise AS SELECT n, md5(n::text) || md5((n + 1)::text) AS h FROM generate_series(1, ${scale * ROWS_OF_SCALE}) n`,
      'CHECKPOINT',
    ],
    { cluster: 'main' },
  );
  const [size] = await daemon.query('SELECT sum(pg_database_size(oid))::float8 AS bytes FROM pg_database', {
    cluster: 'main',
  });
  return Number(size?.['bytes']);
}

async function withEmptyCluster(daemon: TestDaemon, work: (name: string) => Promise<void>): Promise<void> {
  const system = (...statements: string[]) => daemon.query(statements, { cluster: 'system' });
  await system(
    'CREATE VIRTUAL CLUSTER restored',
    'ALTER VIRTUAL CLUSTER restored GRANT ALL CAPABILITIES',
    'ALTER VIRTUAL CLUSTER restored START SERVICE SHARED',
  );
  await work('restored');
  await system('ALTER VIRTUAL CLUSTER restored STOP SERVICE', 'DROP VIRTUAL CLUSTER restored IMMEDIATE');
}

function figuresOf(measured: {
  scale: number;
  bytes: number;
  places: readonly Place[];
  backups: ReadonlyMap<string, readonly Spent[]>;
  restores: ReadonlyMap<string, readonly Spent[]>;
}): Figure[] {
  const { scale, bytes, places, backups, restores } = measured;
  const suite = suiteOf(scale);
  const figures: Figure[] = [{ suite, what: 'data', value: mebibytes(bytes) }];
  for (const [verb, spents] of [
    ['BACKUP', backups],
    ['RESTORE', restores],
  ] as const) {
    const middle = (name: string): Spent => ({
      wallMs: median((spents.get(name) ?? []).map(({ wallMs }) => wallMs)),
      cpuMs: median((spents.get(name) ?? []).map(({ cpuMs }) => cpuMs)),
    });
    const local = middle('nodelocal');
    for (const { name, options } of places) {
      const { wallMs, cpuMs } = middle(name);
      const open = options === '' ? local : middle(name.replace(', encrypted', ''));
      const isRestoreFromS3 = verb === 'RESTORE' && name === 'S3 (Ceph)';
      figures.push({
        suite,
        what: `${verb}, ${name}`,
        value: [
          `${seconds(wallMs)}, ${rate({ bytes, ms: wallMs })}, ${(local.wallMs / wallMs).toFixed(2)} × nodelocal`,
          `CPU of workers ${seconds(cpuMs)}, ${((cpuMs / open.cpuMs - 1) * 100).toFixed(1)} % more than ${options === '' ? 'nodelocal' : 'open'}`,
        ].join('; '),
        goal: isRestoreFromS3 ? '≥ 0.8 × nodelocal' : options === '' ? '' : '< 15 % more CPU',
      });
    }
  }
  return figures;
}
