/** What a collection that is published to continuously can be restored to, found out from its objects alone. */
import {
  AppError,
  type CorruptError,
  type IncarnationId,
  isAppError,
  required,
  type Timestamp,
} from '../../base/index.ts';
import { type BlobStore, readBlob } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { IncarnationRecord } from '../store-contract.ts';
import { isOnTheWay, type LogStretch, stretchesTo } from '../store/lineage.ts';
import type { ContinuousWindow } from './contract.ts';
import { type HeldBase, listHeldBases } from './held-bases.ts';
import { HeldLog, linesFrom, logBytesOf, wantedPieces } from './held-log.ts';
import { pieceKey, type PieceName } from './layout.ts';
import { decodePiece, type LogPiece, PIECE_BYTES_MAX } from './piece.ts';
import { leadsOn, timeOfLines } from './session.ts';

/** So many pieces are asked what they know of their life, when the newest are damaged. */
const RECORD_PIECES_MAX = 8;

export interface ReadOptions {
  readonly key: ClusterKey;
  readonly signal: AbortSignal;
}

/** The life that was served last, and how it came about. */
export interface HeldPresent {
  readonly held: HeldLog;
  readonly incarnation: IncarnationId;
  readonly incarnations: readonly IncarnationRecord[];
  readonly stretches: readonly LogStretch[];
}

/** Checks seal and checksums. @throws as `decodePiece`; AppError `blob_not_found` */
export async function readPiece(
  blobs: BlobStore,
  name: PieceName,
  { key, signal }: ReadOptions,
): Promise<LogPiece> {
  const object = await readBlob(blobs, pieceKey(name), { bytesMax: PIECE_BYTES_MAX, signal });
  return decodePiece(object, { name, key });
}

/** A piece that is there is not what was published. */
export function isDamage(error: unknown): error is CorruptError | AppError<'backup_untrusted'> {
  return isAppError(error, 'data_corrupt', 'backup_untrusted');
}

/**
 * @throws AppError `backup_not_found` while no log is there; as `decodePiece`, when none of the newest pieces of a life tells what came before
 * it
 */
export async function readPresent(blobs: BlobStore, options: ReadOptions): Promise<HeldPresent> {
  const held = await HeldLog.list(blobs, options);
  const newest = newestLife(held);
  if (newest === undefined) {
    throw new AppError('backup_not_found', `${blobs.displayUri} holds no log of a continuous backup`, {
      hint: 'SHOW TIMELINE tells how far publishing has come',
    });
  }
  const incarnations: IncarnationRecord[] = [];
  for (let at: IncarnationId | null = newest.incarnation; at !== null; ) {
    const record: IncarnationRecord | null = await readRecord(blobs, { held, incarnation: at }, options);
    const isKnown = incarnations.some(({ incarnation }) => incarnation === record?.incarnation);
    if (record === null || isKnown) break;
    incarnations.push(record);
    at = record.parentIncarnation;
  }
  const { incarnation, timelineId, endLsn: lsn } = newest;
  return {
    held,
    incarnation,
    incarnations,
    stretches: stretchesTo({ incarnation, timelineId, lsn }, incarnations),
  };
}

/**
 * What the newest piece of a life knows of it, or one before that lies on the same timeline and so knows the same: a damaged end of the log must
 * not take the moments before it along. Null when there is none.
 */
async function readRecord(
  blobs: BlobStore,
  { held, incarnation }: { readonly held: HeldLog; readonly incarnation: IncarnationId },
  options: ReadOptions,
): Promise<IncarnationRecord | null> {
  const pieces = held.newestFirst(incarnation);
  const [newest] = pieces;
  const knowing = pieces.filter(({ timelineId }) => timelineId === newest?.timelineId);
  let damage: unknown = null;
  let untrusted: unknown = null;
  for (const piece of knowing.slice(0, RECORD_PIECES_MAX)) {
    try {
      return (await readPiece(blobs, piece, options)).record;
    } catch (error) {
      if (!isDamage(error)) throw error;
      damage ??= error;
      if (isAppError(error, 'backup_untrusted')) untrusted ??= error;
    }
  }
  // With another key they may all be sound: who has further ones tries them when told so.
  if (damage !== null) throw untrusted ?? damage;
  return null;
}

/** The life whose log is known to reach furthest in time; while no time is known, as in the first seconds, the one that reaches furthest. */
function newestLife(held: HeldLog): PieceName | undefined {
  const isLater = (piece: PieceName, other: PieceName) =>
    piece.through === other.through
      ? piece.endLsn > other.endLsn
      : (piece.through ?? -1n) > (other.through ?? -1n);
  const last = held
    .all()
    .reduce<PieceName | undefined>(
      (newest, piece) => (newest === undefined || isLater(piece, newest) ? piece : newest),
      undefined,
    );
  return last === undefined ? undefined : held.newest(last.incarnation);
}

/** @throws AppError `backup_not_found` while it leads nowhere yet */
export async function readWindow(
  blobs: BlobStore,
  options: ReadOptions & { readonly time: Timestamp | null },
): Promise<ContinuousWindow> {
  const present = await readPresent(blobs, options);
  const bases = await usableBases(blobs, { present, ...options });
  const [first] = bases;
  if (first === undefined) {
    throw new AppError(
      'backup_not_found',
      `${blobs.displayUri} holds no complete base of a continuous backup yet`,
      {
        hint: 'SHOW TIMELINE tells how far publishing has come',
      },
    );
  }
  const lines = linesFrom(first, { stretches: present.stretches, segmentBytes: first.segmentBytes });
  const through = timeOfLines(present.held, lines) ?? first.endTime;
  return {
    bases: bases.map((base) => ({ ...base, replayBytes: replayBytesOf(base, { present, ...options }) })),
    incarnation: present.incarnation,
    through: latest(through, required(bases.at(-1), 'a base').endTime),
  };
}

/** Log that leads from a base to the moment. */
function replayBytesOf(
  base: HeldBase,
  { present: { held, stretches }, time }: { readonly present: HeldPresent; readonly time: Timestamp | null },
): bigint {
  const { segmentBytes, startLsn: fromLsn } = base;
  return logBytesOf(wantedPieces(linesFrom(base, { stretches, segmentBytes }), { held, time }), { fromLsn });
}

function latest(left: Timestamp, right: Timestamp): Timestamp {
  return left > right ? left : right;
}

/**
 * Those from which the log leads to the present without a gap, oldest first. A damaged one is missed when it is the only one: its moments are
 * reached from the one before, with more log.
 * @throws CorruptError
 */
export async function usableBases(
  blobs: BlobStore,
  { present, ...options }: ReadOptions & { readonly present: HeldPresent },
): Promise<readonly HeldBase[]> {
  const { held, stretches } = present;
  const damage: CorruptError[] = [];
  const onDamagedBase = (_subdirectory: string, error: CorruptError) => damage.push(error);
  const bases = await listHeldBases(blobs, { ...options, onDamagedBase });
  const usable = bases.filter((base) => isOnTheWay(base, stretches) && leadsOn(base, { held, stretches }));
  const [first] = damage;
  if (usable.length === 0 && first !== undefined) throw first;
  return usable;
}
