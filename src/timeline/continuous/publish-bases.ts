/** Sends bases of a timeline on to its collection, and removes there what nobody needs any more. */
import type { Timestamp } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import { putPin } from '../retention/pins.ts';
import { isOnTheWay } from '../store/lineage.ts';
import { copyBase } from './copy-base.ts';
import type { HeldBase } from './held-bases.ts';
import { planPrune, prune } from './prune.ts';
import { PATIENCE_US, PIN_OWNER } from './publish-log.ts';
import type { Present, Session, SessionTools } from './session.ts';

export const BASE_PIN = 'continuous-base';

/** The newest base that leads to the present and that the collection lacks; older ones are passed over. */
export function baseToSend(
  session: Session,
  { present, local }: { present: Present; local: readonly HeldBase[] },
): HeldBase | undefined {
  const newest = local.findLast((base) => isOnTheWay(base, present.stretches));
  const isThere = session.bases.some(({ subdirectory }) => subdirectory === newest?.subdirectory);
  return isThere ? undefined : newest;
}

/** @throws as `copyBase`, and as the collection's storage does */
export async function sendBase(
  session: Session,
  {
    base,
    from,
    onCopied,
    tools,
  }: { base: HeldBase; from: BlobStore; onCopied: (bytes: number) => void; tools: SessionTools },
): Promise<void> {
  const { target, blobs, checked } = session;
  const { incarnation, stopLsn } = base;
  const expiresAt = (tools.clock.now() + PATIENCE_US) as Timestamp;
  const claim = { incarnation, fromLsn: stopLsn, throughLsn: stopLsn, expiresAt };
  await putPin(target.store, { id: BASE_PIN, owner: PIN_OWNER, ...claim }, tools);
  const { key } = target;
  await copyBase(base, { from, into: blobs, key, checked, onCopied, signal: tools.signal });
  session.bases = [...session.bases, base].toSorted((left, right) =>
    left.subdirectory < right.subdirectory ? -1 : 1,
  );
}

/** Everything older than the window that nothing younger needs. */
export async function pruneCollection(
  session: Session,
  { present, tools }: { present: Present; tools: SessionTools },
): Promise<void> {
  const { bases, held, blobs, target } = session;
  const horizon = (tools.clock.now() - target.windowUs) as Timestamp;
  const plan = planPrune({ bases, pieces: held.all(), stretches: present.stretches }, horizon);
  const isDone = await prune(blobs, plan, tools);
  if (!isDone) return;
  session.bases = plan.kept;
  for (const piece of plan.pieces) held.remove(piece);
}
