import { mkdtemp, rm } from 'node:fs/promises';
import { chownSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupRig } from '../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../test/harness/instance-store.ts';
import { startPeer } from './backup.ts';
import { run, serverUser, timed } from './processes.ts';
import { type Figure, mebibytes, median, seconds } from './report.ts';

const ROUNDS = 5;
/** One row of a hundred, each on a page of its own as far as that goes: a page of pgbench holds 61 rows. */
const UPDATE = (round: number) =>
  `UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 6100 = ${round}`;

/** Bases of the timeline with one page in a hundred changed, beside full ones and beside pgBackRest's incremental backups. */
export async function benchIncremental(): Promise<Figure[]> {
  const suite = 'Incremental capture, 1 % of pages changed';
  const folder = await mkdtemp(join(tmpdir(), 'atoll-bench-'));
  const user = serverUser();
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  await using rig = await BackupRig.open();
  const peer = await startPeer(folder);
  try {
    const { socketDirectory } = rig.source;
    const login = { user: 'root', database: 'defaultdb' };
    const scale = ['-i', '-s', '70', '-q', '-h', socketDirectory, '-U', login.user, login.database];
    await run('pgbench', scale);
    const sql = (text: string) => withTenant(rig.source, login, (client) => client.query(text));
    await sql('CHECKPOINT');
    let newest = '';
    let fullPages = 0;
    const full: number[] = [];
    for (let round = 0; round < 3; round++) {
      full.push(
        await timed(async () => {
          const { base, pagesRead } = await rig.captureBase(null);
          newest = base.subdirectory;
          fullPages = pagesRead;
        }),
      );
    }
    await peer.backup['pgBackRest full']?.();
    const incremental: number[] = [];
    const peers: number[] = [];
    let pages = 0;
    let stored = 0;
    for (let round = 0; round < ROUNDS; round++) {
      await sql(UPDATE(round));
      await peer.query(UPDATE(round));
      incremental.push(
        await timed(async () => {
          const { base, pagesRead, fullReason } = await rig.captureBase(newest);
          if (fullReason !== null) throw new Error(fullReason);
          newest = base.subdirectory;
          pages = pagesRead;
          stored = Number(base.storedBytes);
        }),
      );
      peers.push(await peer.incremental());
    }
    await rig.source.stop({ mode: 'immediate', signal: NEVER });
    const [ours, theirs, whole] = [median(incremental), median(peers), median(full)];
    return [
      { suite, what: 'full base', value: `${seconds(whole)}, ${fullPages} pages read` },
      {
        suite,
        what: 'incremental base',
        value: `${seconds(ours)}, ${(whole / ours).toFixed(1)} × as fast as full; ${pages} pages read, ${mebibytes(stored)} stored`,
        goal: 'pages read ∝ pages changed',
      },
      {
        suite,
        what: 'pgBackRest incremental of the same change (PostgreSQL 15; block incremental from 2.46 on)',
        value: `${seconds(theirs)}; ours is ${(theirs / ours).toFixed(1)} × as fast`,
        goal: '≥ 10 ×',
      },
    ];
  } finally {
    await peer.stop();
    await rm(folder, { recursive: true, force: true });
  }
}
