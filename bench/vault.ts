import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { systemClock } from '../src/daemon/index.ts';
import { BareEngine } from '../test/harness/bare-engine.ts';
import { MemoryLogger } from '../test/harness/instance-store.ts';
import { scratchDirectory } from '../test/harness/scratch.ts';
import { vaultPids } from '../test/harness/vault-rig.ts';
import { waitFor } from '../test/harness/wait.ts';
import { type IncarnationId, type Lsn, parseLsn, type VirtualClusterId } from '../src/base/index.ts';
import { openVaultHost } from '../src/timeline/index.ts';
import { peakMemoryBytes } from './processes.ts';
import { type Figure, mebibytes, rate } from './report.ts';

const ID = 3 as VirtualClusterId;
const ROWS = 4_000_000;
/** `USER_HZ` of Linux. */
const TICKS_PER_SECOND = 100;

/** How fast a vault takes a backlog of log, in how much CPU and memory. */
export async function benchVault(): Promise<Figure[]> {
  await using engine = await BareEngine.open({
    settings: { wal_level: 'logical', wal_keep_size: '8GB', max_wal_size: '8GB', autovacuum: 'off' },
  });
  await engine.start();
  const one = async (sql: string) =>
    engine.use('postgres', async (client) =>
      String((await client.query({ text: sql, rowMode: 'array' })).rows[0]?.[0]),
    );
  const beginLsn = parseLsn(await one('SELECT pg_current_wal_flush_lsn()::text'));
  await one('CREATE TABLE pages (n int, filler text)');
  await one(
    `INSERT INTO pages SELECT n, md5(n::text) || md5((n * 7)::text) FROM generate_series(1, ${ROWS}) n`,
  );
  const endLsn = parseLsn(await one('SELECT pg_current_wal_flush_lsn()::text'));
  const directory = await scratchDirectory('atoll-bench-vault-');
  const host = await openVaultHost({ directory, clock: systemClock(), logger: new MemoryLogger() });
  try {
    const begin = performance.now();
    await host.follow({
      dataDirectory: engine.dataDirectory,
      socketDirectory: engine.directory,
      virtualClusterId: ID,
      virtualClusterName: 'main',
      incarnation: '0b1c2d3e-4f50-4162-8374-95a6b7c8d9e0' as IncarnationId,
      systemIdentifier: BigInt(await one('SELECT system_identifier::text FROM pg_control_system()')),
      engineMajor: 18,
      forkLsn: beginLsn,
      store: { virtualClusterId: ID, directory: `${directory}/3` },
      bytesMax: 1n << 50n,
    });
    await waitFor('the backlog to be durable', () => (host.status(ID)?.durableLsn ?? (0n as Lsn)) >= endLsn);
    const ms = performance.now() - begin;
    const bytes = Number(endLsn - beginLsn);
    const receivedSeconds = cpuSeconds();
    await waitFor('all of it to be compressed', () => {
      const stored = host.status(ID)?.storedBytes;
      return stored !== undefined && Number(stored) < bytes / 2;
    });
    const [pid = 0] = vaultPids(process.pid);
    const suite = 'vault';
    return [
      {
        suite,
        what: `log received and synced, a backlog of ${mebibytes(bytes)}`,
        value: rate({ bytes, ms }),
        goal: '≥ 200 MiB/s',
      },
      {
        suite,
        what: 'CPU of the vault per MiB received, checked and indexed',
        value: perMebibyte(receivedSeconds, bytes),
      },
      {
        suite,
        what: 'CPU of the vault per MiB, compression included',
        value: perMebibyte(cpuSeconds(), bytes),
      },
      { suite, what: 'highest memory of the vault', value: mebibytes(peakMemoryBytes(pid)) },
    ];
  } finally {
    await host.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** What the vault's process has used so far, in seconds. */
function cpuSeconds(): number {
  const [pid] = vaultPids(process.pid);
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function perMebibyte(cpu: number, bytes: number): string {
  return `${((cpu * 1000) / (bytes / 2 ** 20)).toFixed(1)} ms`;
}
