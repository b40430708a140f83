/** What of a continuous backup nobody needs any more. Planned purely, then removed in an order that leaves a backup at every step. */
import type { Timestamp } from '../../base/index.ts';
import { type BlobKey, type BlobStore, parseBlobKey } from '../../blob/index.ts';
import { tidy } from '../collection/attempt.ts';
import { MANIFEST_NAME, manifestKey } from '../collection/layout.ts';
import { isOnTheWay, type LogStretch } from '../store/lineage.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { HeldBase } from './held-bases.ts';
import { linesFrom } from './held-log.ts';
import { pieceKey, type PieceName } from './layout.ts';

export interface Held {
  /** Oldest first. */
  readonly bases: readonly HeldBase[];
  readonly pieces: readonly PieceName[];
  /** From the oldest life that is known to the present. */
  readonly stretches: readonly LogStretch[];
}

export interface PrunePlan {
  readonly surplus: readonly HeldBase[];
  readonly kept: readonly HeldBase[];
  readonly pieces: readonly PieceName[];
}

/**
 * Every moment from the horizon on that leads to the present stays restorable: the newest base at or before it stays, all that came later, and
 * the log from where replay of the first of these begins. What lies on no way to the present goes when it is older than the horizon.
 */
export function planPrune({ bases, pieces, stretches }: Held, horizon: Timestamp): PrunePlan {
  const onTheWay = bases.filter((base) => isOnTheWay(base, stretches));
  const anchor = onTheWay.findLastIndex(({ endTime }) => endTime <= horizon);
  const needed = onTheWay.slice(Math.max(anchor, 0));
  const isKept = (base: HeldBase) =>
    needed.includes(base) || (!onTheWay.includes(base) && base.endTime > horizon);
  const kept = bases.filter(isKept);
  const [first] = needed;
  return {
    kept,
    surplus: bases.filter((base) => !isKept(base)),
    // Before its first base is there, log is all there is.
    pieces: first === undefined ? [] : piecesWithout(first, { pieces, stretches, horizon }),
  };
}

/** Those that lie before what is needed, and those of lines that were left before the horizon. */
function piecesWithout(
  first: HeldBase,
  { pieces, stretches, horizon }: Omit<Held, 'bases'> & { horizon: Timestamp },
): readonly PieceName[] {
  const lines = linesFrom(first, { stretches, segmentBytes: first.segmentBytes });
  return pieces.filter((piece) => {
    const line = lines.find((each) => isOf(piece, each));
    if (line !== undefined)
      return (
        piece.endLsn < line.beginLsn || (piece.endLsn === line.beginLsn && piece.beginLsn < line.beginLsn)
      );
    return pieces.every(
      ({ through, ...other }) => !isOf(other, piece) || through === null || through <= horizon,
    );
  });
}

function isOf(
  piece: Pick<PieceName, 'incarnation' | 'timelineId'>,
  line: Pick<PieceName, 'incarnation' | 'timelineId'>,
): boolean {
  return piece.incarnation === line.incarnation && piece.timelineId === line.timelineId;
}

/**
 * Manifests first, then what no manifest names, then log. Cut off anywhere, what is left is a continuous backup. Where deleting is refused, as
 * under object lock, all stays for the rules of the bucket. Gives whether everything went.
 */
export async function prune(
  blobs: BlobStore,
  plan: PrunePlan,
  { signal }: { readonly signal: AbortSignal },
): Promise<boolean> {
  let isDone = false;
  await tidy(async () => {
    for (const { subdirectory } of plan.surplus) {
      await blobs.delete(manifestKey(subdirectory), { signal });
      faultPoint('continuous.after_pruned_manifest');
    }
    for (const key of await unneededObjects(blobs, plan, { signal })) await blobs.delete(key, { signal });
    faultPoint('continuous.after_pruned_objects');
    for (const piece of plan.pieces) await blobs.delete(pieceKey(piece), { signal });
    isDone = true;
  });
  return isDone;
}

/** Those that no manifest names. In a folder whose manifest was not looked at everything stays. */
async function unneededObjects(
  blobs: BlobStore,
  { kept }: PrunePlan,
  { signal }: { readonly signal: AbortSignal },
): Promise<readonly BlobKey[]> {
  const needed = new Set(kept.flatMap(({ files }) => files.map(({ path }) => path)));
  const known = new Set(kept.map(({ subdirectory }) => subdirectory));
  const unknown = new Set<string>();
  const objects: BlobKey[] = [];
  for await (const { key } of blobs.list('', { deep: true, signal })) {
    const folder = /^(\d{4}\/\d\d\/[^/]+)\//.exec(key)?.[1];
    if (folder === undefined) continue;
    if (!key.endsWith(`/${MANIFEST_NAME}`)) objects.push(parseBlobKey(key));
    else if (!known.has(folder)) unknown.add(folder);
  }
  return objects.filter((key) => !needed.has(key) && !unknown.has(key.split('/').slice(0, 3).join('/')));
}
