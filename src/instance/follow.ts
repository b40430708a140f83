/** The steps by which a data directory becomes a follower, and a follower an instance of its own. The host lets one through at a time. */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, assert, CorruptError, type IncarnationId, type Lsn, parseLsn } from '../base/index.ts';
import { formatTimelineHistoryName, walSegmentNoOf } from '../pg/index.ts';
import { adoptServer } from './adopt-server.ts';
import type { Following, InternalClient, ProvedIncarnation } from './contract.ts';
import { isPresent, readControlFile } from './data-directory.ts';
import { renameDurably, syncDirectory, writeFileDurably } from './durable-files.ts';
import { writeIdentity } from './identity.ts';
import type { InstanceEnvironment, LocalInstance } from './local-instance.ts';
import { isOwnLogin } from './login.ts';
import { removeForeignCode } from './foreign-code.ts';
import { replaceLife } from './replace-life.ts';

interface Step {
  readonly instance: LocalInstance;
  readonly environment: InstanceEnvironment;
  readonly signal: AbortSignal;
}

/** Keeps, on the promoted side, the log from the fork on for whoever comes to follow it: that is what a failback needs. */
export const FORK_SLOT = 'atoll_fork';

const PROMOTE_SECONDS_MAX = 600;

/** A log whose segments are of this number or later is not what the new source has written. */
export async function fence(
  step: Step & {
    incarnation: IncarnationId;
    forkLsn: Lsn | null;
    history: { readonly timelineId: number; readonly text: string };
  },
): Promise<void> {
  const { instance, incarnation, forkLsn, history } = step;
  const dataDirectory = instance.layout.begun(incarnation);
  const { walSegmentBytes } = await readControlFile(dataDirectory);
  const log = join(dataDirectory, 'pg_wal');
  const forkSegment =
    forkLsn === null ? null : walSegmentNoOf({ lsn: forkLsn, segmentBytes: walSegmentBytes });
  for (const name of await readdir(log)) {
    const segmentNo = segmentNoOf(name, walSegmentBytes);
    if (segmentNo !== null && forkSegment !== null && segmentNo >= forkSegment) await rm(join(log, name));
    if (name.endsWith('.history')) await rm(join(log, name));
  }
  await syncDirectory(log);
  // The first timeline has none.
  if (history.timelineId === 1) return;
  const path = join(log, formatTimelineHistoryName(history.timelineId));
  await writeFileDurably({ path, content: history.text, mode: 0o600, owner: instance.user });
}

/** `000000010000000000000003`: timeline, and the number in two halves. Null for other files. */
function segmentNoOf(name: string, segmentBytes: number): bigint | null {
  const match = /^[0-9A-F]{8}([0-9A-F]{8})([0-9A-F]{8})(?:\.partial)?$/.exec(name);
  if (match === null) return null;
  const segmentsPerId = 0x1_0000_0000n / BigInt(segmentBytes);
  return BigInt(`0x${match[1]}`) * segmentsPerId + BigInt(`0x${match[2]}`);
}

/** Makes what was filled current, as a follower. The record of what it follows comes first: without it nothing of it ever starts. */
export async function commitFollower(
  step: Step & { following: Following; parentIncarnation: IncarnationId | null; forkLsn: Lsn | null },
): Promise<void> {
  const { instance, following, signal } = step;
  const { layout, identity: before } = instance;
  const { incarnation } = following;
  if (before.incarnation === incarnation) {
    await instance.setFollowing(following);
    return;
  }
  await instance.stop({ mode: 'orderly', signal });
  await instance.setFollowing(following);
  const { systemIdentifier } = await readControlFile(layout.begun(incarnation));
  const { parentIncarnation, forkLsn } = step;
  const identity = { ...before, incarnation, parentIncarnation, forkLsn, systemIdentifier };
  await replaceLife(layout, { before, identity, onStep: step.environment.onReplacement });
  instance.replaceIdentity(identity);
}

/**
 * Promotes a follower that receives nothing any more, lets `prepare` work in it, stops it, and makes it a life of its own. May run any
 * number of times, whatever an earlier one came to.
 */
export async function promote(
  step: Step & {
    incarnation: IncarnationId;
    prepare: (client: InternalClient) => Promise<void>;
    /** Told what was changed, before `prepare`, of what the superuser of the source has made: of a plain server's data, all that it takes to adopt it. */
    onAdopted: (findings: readonly string[]) => void;
    disableSubscriptions: (client: InternalClient) => Promise<void>;
  },
): Promise<ProvedIncarnation> {
  const { instance, incarnation, signal } = step;
  const { layout, identity: before, following } = instance;
  // Of this name it is left alone by whoever starts after a crash.
  const apart = layout.rewinding(incarnation);
  if (before.incarnation !== incarnation) {
    if (following === null) {
      throw new AppError('object_state', `virtual cluster "${before.virtualClusterName}" follows nothing`);
    }
    if (!(await isPresent(apart))) {
      await promoteInPlace(step);
      await instance.stop({ mode: 'orderly', signal });
      await renameDurably({ from: layout.current(before.incarnation), to: apart });
    }
    const { state, timelineId } = await readControlFile(apart);
    if (state !== 'shut_down') {
      throw new AppError('instance_failed', `${apart} was not stopped cleanly but is ${state}`);
    }
    const forkLsn = await leftAt(apart, { timelineId, parentTimelineId: following.timelineId });
    const identity = { ...before, incarnation, parentIncarnation: before.incarnation, forkLsn };
    await writeIdentity(layout.directory, identity);
    instance.replaceIdentity(identity);
  }
  if (await isPresent(apart)) await renameDurably({ from: apart, to: layout.current(incarnation) });
  await instance.setFollowing(null);
  const { forkLsn } = instance.identity;
  assert(forkLsn !== null, 'a promoted life knows where it left its parent');
  const { timelineId } = await readControlFile(instance.dataDirectory);
  return { timelineId, forkLsn };
}

async function promoteInPlace({
  instance,
  signal,
  prepare,
  onAdopted,
  disableSubscriptions,
}: Parameters<typeof promote>[0]): Promise<void> {
  const { following } = instance;
  assert(following !== null, 'looked at before');
  // From here on every start of it either goes on with the promotion or finds it done.
  if (following.phase !== 'promoting') await instance.setFollowing({ ...following, phase: 'promoting' });
  await instance.reload();
  await instance.start({ signal });
  const { login } = instance;
  const isForeign = !isOwnLogin(login);
  await instance.withSystemClient(
    async (client) => {
      if (!(await isInRecovery(client))) return;
      await expelReaders(client);
      // To a plain server nobody goes back.
      await finishRecovery(client, { keepsFork: !isForeign });
    },
    { signal },
  );
  const clusterName = instance.identity.virtualClusterName;
  const place = { socketDirectory: instance.socketDirectory, clusterName, signal };
  if (isForeign) {
    await adoptServer(place, { login, onFindings: onAdopted });
    instance.logInAsOwn();
  }
  await instance.withSystemClient(
    async (client) => {
      // The superuser of what it followed was another cluster's.
      if (!isForeign) onAdopted(await removeForeignCode(client, { ...place, isOfOtherCluster: true }));
      await prepare(client);
      await disableSubscriptions(client);
      await client.query('CHECKPOINT');
    },
    { signal },
  );
}

/**
 * Who reads would be able to write as soon as recovery has ended, and that would be in no history. Nobody comes anew once the server has taken
 * up its configuration, which lets in the daemon alone.
 */
async function expelReaders(client: InternalClient): Promise<void> {
  const loaded = async () =>
    (await client.query('SELECT pg_catalog.pg_conf_load_time()::text AS at'))[0]?.['at'];
  const before = await loaded();
  await client.query('SELECT pg_catalog.pg_reload_conf()');
  while ((await loaded()) === before) await client.query('SELECT pg_catalog.pg_sleep(0.005)');
  for (let ended = 1; ended > 0; ) {
    const rows = await client.query(
      `SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity
        WHERE backend_type = 'client backend' AND usesysid IS DISTINCT FROM 10`,
    );
    ended = rows.length;
  }
}

async function finishRecovery(client: InternalClient, { keepsFork }: { keepsFork: boolean }): Promise<void> {
  // Begins where replay would begin now, which is before the fork.
  const slots = await client.query('SELECT slot_name, slot_type FROM pg_catalog.pg_replication_slots');
  for (const { slot_name: name = null, slot_type: type } of slots) {
    // Logical ones were made by those who read: nobody would ever consume them.
    const isStale = name === FORK_SLOT || type === 'logical';
    if (isStale) await client.query('SELECT pg_catalog.pg_drop_replication_slot($1)', [name]);
  }
  if (keepsFork) {
    await client.query('SELECT pg_catalog.pg_create_physical_replication_slot($1, true)', [FORK_SLOT]);
  }
  const [row] = await client.query(`SELECT pg_catalog.pg_promote(true, ${PROMOTE_SECONDS_MAX}) AS is_done`);
  if (row?.['is_done'] !== 't')
    throw new AppError('instance_failed', 'the follower was not promoted in time');
}

export async function isInRecovery(client: InternalClient): Promise<boolean> {
  const [row] = await client.query('SELECT pg_catalog.pg_is_in_recovery() AS is_in_recovery');
  return row?.['is_in_recovery'] === 't';
}

/** Where the log left a timeline, as the history of a later one tells. @throws CorruptError when it does not */
async function leftAt(
  dataDirectory: string,
  { timelineId, parentTimelineId }: { timelineId: number; parentTimelineId: number },
): Promise<Lsn> {
  const path = join(dataDirectory, 'pg_wal', formatTimelineHistoryName(timelineId));
  const lines = (await readFile(path, 'utf8')).split('\n').map((line) => line.split('\t'));
  const position = lines.find(([id]) => Number(id) === parentTimelineId)?.[1];
  if (position === undefined)
    throw new CorruptError(`${path} does not tell where timeline ${parentTimelineId} ends`);
  return parseLsn(position);
}
