/** What publishing of one timeline knows: the collection and what it holds, and how far the vault is. */
import {
  AppError,
  type Clock,
  CorruptError,
  type IncarnationId,
  isAppError,
  type Lsn,
  type Rng,
  type Semaphore,
  type Timestamp,
} from '../../base/index.ts';
import { type BlobStore, parseBlobKey, readBlob } from '../../blob/index.ts';
import { completed } from '../collection/completed.ts';
import { CONTINUOUS_CHAIN, ensureEncryptionInfo } from '../collection/encryption.ts';
import { claimCollection } from '../collection/owner.ts';
import type { IncarnationRecord, TimelineStoreLocation, VaultStatus } from '../store-contract.ts';
import { isOnTheWay, type LogStretch, stretchesTo } from '../store/lineage.ts';
import { incarnationsOf } from '../store/reader.ts';
import type { ContinuousClaim, ContinuousForm, ContinuousTarget } from './contract.ts';
import { type HeldBase, listHeldBases, type OnDamagedBase } from './held-bases.ts';
import { HeldLog, linesFrom } from './held-log.ts';
import { CONTINUOUS_MARKER } from './layout.ts';

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
  /** Objects of bases that were read again since they arrived: those that a base there names, and those of the one that is being sent. */
  readonly checked: Set<string>;
  /** That nothing has happened since the newest log was said already. */
  isIdleSaid: boolean;
  /** What of the log this node keeps for it; null before the first claim. */
  pinned: { readonly incarnation: IncarnationId; readonly lsn: Lsn; readonly at: Timestamp } | null;
}

/** What the marker says. Who writes it first decides, so that no object of one form comes among those of the other. */
const MARKERS: Readonly<Record<ContinuousForm, string>> = {
  open: 'atoll-continuous 1\n',
  encrypted: 'atoll-continuous 1 encrypted\n',
};
const MARKER_BYTES_MAX = 4096;

/**
 * Takes the collection for continuous backup, or finds it taken for this virtual cluster.
 * @throws AppError `object_state` when it is another's, of the other form, or holds backups of the other kind; CorruptError for another record of
 * the key
 */
export async function claimForContinuous(
  blobs: BlobStore,
  { owner, form, info, signal }: ContinuousClaim,
): Promise<void> {
  const { clusterId, virtualClusterId, virtualClusterName } = owner;
  await claimCollection(blobs, { owner: { clusterId, virtualClusterId, virtualClusterName }, signal });
  const found = await continuousForm(blobs, { signal });
  if (found !== null) return requireForm(blobs, { found, form });
  if (await holdsBackups(blobs, signal)) {
    throw new AppError('object_state', `${blobs.displayUri} holds backups that BACKUP has made`, {
      hint: 'give the continuous backup a collection URI of its own',
    });
  }
  if (info !== null) await ensureEncryptionInfo(blobs, { folder: CONTINUOUS_CHAIN, record: info, signal });
  try {
    await blobs.put(CONTINUOUS_MARKER, Buffer.from(MARKERS[form]), { signal });
  } catch (error) {
    if (!isAppError(error, 'blob_exists')) throw error;
    requireForm(blobs, { found: await continuousForm(blobs, { signal }), form });
  }
}

function requireForm(
  { displayUri }: BlobStore,
  { found, form }: { found: ContinuousForm | null; form: ContinuousForm },
): void {
  if (found === form) return;
  throw new AppError(
    'object_state',
    found === 'encrypted'
      ? `${displayUri} holds a continuous backup that is encrypted`
      : `${displayUri} holds a continuous backup that is not encrypted`,
    {
      hint:
        found === 'encrypted'
          ? 'give its passphrase or KMS keys, or name another collection'
          : 'leave encryption_passphrase and kms out, or name another collection',
    },
  );
}

/** Null for a collection that is not published to continuously. @throws CorruptError */
export async function continuousForm(
  blobs: BlobStore,
  { signal }: { readonly signal: AbortSignal },
): Promise<ContinuousForm | null> {
  if (!(await isContinuous(blobs, { signal }))) return null;
  const marker = await readBlob(blobs, CONTINUOUS_MARKER, { bytesMax: MARKER_BYTES_MAX, signal });
  const text = Buffer.from(marker).toString('latin1');
  const form = (['open', 'encrypted'] as const).find((each) => MARKERS[each] === text);
  if (form !== undefined) return form;
  throw new CorruptError(`${CONTINUOUS_MARKER} in ${blobs.displayUri} is damaged`);
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
  { blobs, onDamagedBase, signal }: { blobs: BlobStore; onDamagedBase: OnDamagedBase; signal: AbortSignal },
): Promise<Session> {
  const { encryption } = target.collection;
  const form = encryption === undefined ? 'open' : 'encrypted';
  await claimForContinuous(blobs, { owner: target, form, info: encryption?.info ?? null, signal });
  await blobs.discardUploads(parseBlobKey('log'), { signal }).catch((error: unknown) => {
    // It only frees room, and needs rights that publishing does not.
    if (!isAppError(error, 'storage_refused')) throw error;
  });
  const bases = await listHeldBases(blobs, { key: target.key, onDamagedBase, signal });
  return {
    target,
    blobs,
    bases,
    checked: new Set(bases.flatMap(({ files }) => files.map(({ path }) => path))),
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
