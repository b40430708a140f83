/** Where two histories part, by their lives alone: neither names of virtual clusters nor timelines of Postgres tell. */
import type { IncarnationId, Lsn } from '../base/index.ts';
import type { StreamLife } from './stream-terms.ts';

export interface CommonHistory {
  /** The newest life that both have. */
  readonly incarnation: IncarnationId;
  /** The first of the two that left it did so here. */
  readonly lsn: Lsn;
}

/**
 * Each history begins with its present life, followed by its ancestors. `ownEndLsn` is how far our present life went; theirs goes on. Null
 * when the two have nothing in common that is known.
 */
export function commonHistory(
  own: readonly StreamLife[],
  { ownEndLsn, theirs }: { ownEndLsn: Lsn; theirs: readonly StreamLife[] },
): CommonHistory | null {
  let ownLeftLsn = ownEndLsn;
  for (const life of own) {
    const at = theirs.findIndex(({ incarnation }) => incarnation === life.incarnation);
    if (at !== -1) {
      const theirLeftLsn = at === 0 ? null : (theirs[at - 1]?.forkLsn ?? null);
      const lsn = theirLeftLsn !== null && theirLeftLsn < ownLeftLsn ? theirLeftLsn : ownLeftLsn;
      return { incarnation: life.incarnation, lsn };
    }
    if (life.forkLsn === null) return null;
    ownLeftLsn = life.forkLsn;
  }
  return null;
}
