/** What publishing of one timeline knows: the collection and what it holds, and how far the vault is. */
import {
  AppError,
  type Clock,
  type IncarnationId,
  isAppError,
  type Lsn,
  type Rng,
  type Semaphore,
  type Timestamp,
} from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import { completed } from '../collection/completed.ts';
import { claimCollection } from '../collection/owner.ts';
import type { IncarnationRecord, TimelineStoreLocation, VaultStatus } from '../store-contract.ts';
import { isOnTheWay, type LogStretch, stretchesTo } from '../store/lineage.ts';
import { incarnationsOf } from '../store/reader.ts';
import type { ContinuousTarget } from './contract.ts';
import { type HeldBase, listHeldBases } from './held-bases.ts';
import { HeldLog, linesFrom } from './held-log.ts';
import { CONTINUOUS_MARKER } from './layout.ts';

const MARKER = Buffer.from('atoll-continuous 1\n');

export interface SessionTools {
  readonly clock: Clock;
  readonly rng: Rng;
  /** How many pieces are made and sent at once, of all timelines together: each takes memory. */
  readonly places: Semaphore;
  readonly signal: AbortSignal;
}

/** The way to the present. */
export interface Present {
  readonly vault: VaultStatus;
  readonly incarnations: readonly IncarnationRecord[];
  readonly stretches: readonly LogStretch[];
}

/** Changes as things are published; only its own process writes to the collection. */
export interface Session {
  readonly target: ContinuousTarget;
  readonly blobs: BlobStore;
  readonly held: HeldLog;
  /** In the collection, oldest first. */
  bases: readonly HeldBase[];
  /** That nothing has happened since the newest log was said already. */
  isIdleSaid: boolean;
  /** What of the log this node keeps for it; null before the first claim. */
  pinned: { readonly incarnation: IncarnationId; readonly lsn: Lsn; readonly at: Timestamp } | null;
}

/**
 * Takes the collection for continuous backup, or finds it taken for this virtual cluster.
 * @throws AppError `object_state` when it is another's, or holds backups of the other kind
 */
export async function claimForContinuous(
  blobs: BlobStore,
  {
    target,
    signal,
  }: {
    target: Pick<ContinuousTarget, 'clusterId' | 'virtualClusterId' | 'virtualClusterName'>;
    signal: AbortSignal;
  },
): Promise<void> {
  const { clusterId, virtualClusterId, virtualClusterName } = target;
  await claimCollection(blobs, { owner: { clusterId, virtualClusterId, virtualClusterName }, signal });
  if (await isContinuous(blobs, { signal })) return;
  if (await holdsBackups(blobs, signal)) {
    throw new AppError('object_state', `${blobs.displayUri} holds backups that BACKUP has made`, {
      hint: 'give the continuous backup a collection URI of its own',
    });
  }
  try {
    await blobs.put(CONTINUOUS_MARKER, MARKER, { signal });
  } catch (error) {
    if (!isAppError(error, 'blob_exists')) throw error;
  }
}

/** Whether a collection is published to continuously; BACKUP keeps away from it. */
export async function isContinuous(
  blobs: BlobStore,
  { signal }: { readonly signal: AbortSignal },
): Promise<boolean> {
  return (await blobs.size(CONTINUOUS_MARKER, { signal })) !== null;
}

async function holdsBackups(blobs: BlobStore, signal: AbortSignal): Promise<boolean> {
  for await (const _ of completed(blobs, { order: 'ascending', signal })) return true;
  return false;
}

export async function openSession(
  target: ContinuousTarget,
  { blobs, signal }: { blobs: BlobStore; signal: AbortSignal },
): Promise<Session> {
  await claimForContinuous(blobs, { target, signal });
  await blobs.discardUploads(parseBlobKey('log'), { signal }).catch((error: unknown) => {
    // It only frees room, and needs rights that publishing does not.
    if (!isAppError(error, 'storage_refused')) throw error;
  });
  const bases = await listHeldBases(blobs, { key: target.key, signal });
  return {
    target,
    blobs,
    bases,
    held: await HeldLog.list(blobs, { signal }),
    pinned: null,
    isIdleSaid: false,
  };
}

/** Null while the vault has not begun with what is served. */
export async function presentOf(store: TimelineStoreLocation, vault: VaultStatus): Promise<Present | null> {
  const incarnations = await incarnationsOf(store);
  if (!incarnations.some(({ incarnation }) => incarnation === vault.incarnation)) return null;
  const { incarnation, timelineId, durableLsn: lsn } = vault;
  return { vault, incarnations, stretches: stretchesTo({ incarnation, timelineId, lsn }, incarnations) };
}

/** Those of the collection from which its log leads to the present without a gap, as far as it has come; oldest first. */
export function basesInUse(
  { bases, held }: Session,
  { stretches }: Pick<Present, 'stretches'>,
): readonly HeldBase[] {
  return bases.filter((base) => isOnTheWay(base, stretches) && leadsOn(base, { held, stretches }));
}

/** Through all lines, and in the last one, which is still being written, as far as anything is there. */
export function leadsOn(
  base: HeldBase,
  { held, stretches }: { held: HeldLog; stretches: readonly LogStretch[] },
): boolean {
  const lines = linesFrom(base, { stretches, segmentBytes: base.segmentBytes });
  const isWhole = lines.slice(0, -1).every((line) => held.reach(line) >= line.endLsn);
  const last = lines.at(-1);
  if (last === undefined || !isWhole) return false;
  return held.reach(last) > last.beginLsn && held.reach(last) >= held.furthest(last);
}

/** The newest moment that the log of these lines is known to reach. */
export function timeOfLines(held: HeldLog, lines: readonly LogStretch[]): Timestamp | null {
  return lines.reduce<Timestamp | null>((newest, line) => {
    const time = held.timeAt({ ...line, lsn: held.reach(line) });
    return time !== null && (newest === null || time > newest) ? time : newest;
  }, null);
}
