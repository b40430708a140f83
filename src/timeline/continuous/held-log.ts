/** Which log a collection holds, as far as the names of its pieces tell. */
import type { IncarnationId, Lsn, Timestamp } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import type { LogStretch } from '../store/lineage.ts';
import { LOG_FOLDER, parsePieceKey, type PieceName } from './layout.ts';

/** Log of one incarnation on one timeline. */
type Line = Pick<PieceName, 'incarnation' | 'timelineId'>;

/**
 * Pieces may overlap: a process that was cut off may have put one more than its successor saw. What they hold at a position is the same,
 * for an incarnation writes each position once.
 */
export class HeldLog {
  readonly #lines = new Map<string, PieceName[]>();

  static async list(blobs: BlobStore, { signal }: { readonly signal: AbortSignal }): Promise<HeldLog> {
    const held = new HeldLog();
    for await (const { key } of blobs.list(LOG_FOLDER, { deep: true, signal })) {
      const name = parsePieceKey(key);
      if (name !== null) held.add(name);
    }
    return held;
  }

  add(name: PieceName): void {
    const of = this.#lines.get(lineKey(name)) ?? [];
    of.push(name);
    this.#lines.set(lineKey(name), of);
  }

  remove(name: PieceName): void {
    const of = this.#lines.get(lineKey(name));
    const index = of?.indexOf(name) ?? -1;
    if (index >= 0) of?.splice(index, 1);
  }

  all(): readonly PieceName[] {
    return [...this.#lines.values()].flat();
  }

  incarnations(): ReadonlySet<IncarnationId> {
    return new Set(this.all().map(({ incarnation }) => incarnation));
  }

  /** Pieces that lead on from a position without a gap, in order, none of them in vain; those of idleness are left out. */
  run(line: Line & { readonly beginLsn: Lsn; readonly endLsn?: Lsn }): readonly PieceName[] {
    const pieces = this.#lines.get(lineKey(line)) ?? [];
    const run: PieceName[] = [];
    const ordered = pieces.toSorted((left, right) => order(left.beginLsn, right.beginLsn));
    let at = line.beginLsn;
    let best: PieceName | undefined;
    for (const piece of [...ordered, null]) {
      if (piece !== null && piece.beginLsn <= at) {
        if (piece.endLsn > (best?.endLsn ?? at)) best = piece;
        continue;
      }
      if (best !== undefined) {
        run.push(best);
        at = best.endLsn;
        best = undefined;
      }
      if (piece === null || piece.beginLsn > at) break;
      if (piece.endLsn > at) best = piece;
    }
    const { endLsn } = line;
    return endLsn === undefined ? run : run.filter(({ beginLsn }) => beginLsn < endLsn);
  }

  /** How far it reaches from a position without a gap: the position itself when it holds nothing there. */
  reach(line: Line & { readonly beginLsn: Lsn }): Lsn {
    return this.run(line).at(-1)?.endLsn ?? line.beginLsn;
  }

  /** Where the last piece of a line ends, be there a gap before it or not; 0 when there is none. */
  furthest(line: Line): Lsn {
    const pieces = this.#lines.get(lineKey(line)) ?? [];
    return pieces.reduce<Lsn>((most, { endLsn }) => (endLsn > most ? endLsn : most), 0n as Lsn);
  }

  /** The newest time that is known of the log up to a position; null when none is. */
  timeAt({ lsn, ...line }: Line & { readonly lsn: Lsn }): Timestamp | null {
    const pieces = this.#lines.get(lineKey(line)) ?? [];
    return pieces.reduce<Timestamp | null>((newest, { endLsn, through }) => {
      if (endLsn > lsn || through === null) return newest;
      return newest === null || through > newest ? through : newest;
    }, null);
  }

  /** The piece that knows most of its incarnation: the newest one. */
  newest(incarnation: IncarnationId): PieceName | undefined {
    return this.newestFirst(incarnation)[0];
  }

  newestFirst(incarnation: IncarnationId): readonly PieceName[] {
    return this.all()
      .filter((piece) => piece.incarnation === incarnation)
      .toSorted(byAge);
  }
}

/** Where publishing of a stretch begins: its file is restored from its first byte on. */
export function segmentBegin(lsn: Lsn, segmentBytes: number): Lsn {
  return (lsn - (lsn % BigInt(segmentBytes))) as Lsn;
}

/** The stretches from a base on, each from the beginning of its first segment. */
export function linesFrom(
  base: { readonly incarnation: IncarnationId; readonly timelineId: number; readonly startLsn: Lsn },
  { stretches, segmentBytes }: { readonly stretches: readonly LogStretch[]; readonly segmentBytes: number },
): readonly LogStretch[] {
  const first = stretches.findIndex(
    ({ incarnation, timelineId }) => incarnation === base.incarnation && timelineId === base.timelineId,
  );
  return stretches.slice(Math.max(first, 0)).map((stretch, index) => ({
    ...stretch,
    beginLsn: segmentBegin(index === 0 && first >= 0 ? base.startLsn : stretch.beginLsn, segmentBytes),
  }));
}

/** A piece, and the stretch that it is read for. */
export interface WantedPiece {
  readonly line: LogStretch;
  readonly name: PieceName;
}

/** Up to the first of which it is known that nothing before the moment was committed behind it; all there are when the time is null. */
export function wantedPieces(
  lines: readonly LogStretch[],
  { held, time }: { readonly held: HeldLog; readonly time: Timestamp | null },
): readonly WantedPiece[] {
  const wanted: WantedPiece[] = [];
  for (const line of lines) {
    const isLast = line === lines.at(-1);
    const { endLsn, ...from } = line;
    for (const name of held.run(isLast ? from : { ...from, endLsn })) {
      wanted.push({ line, name });
      if (isLast && time !== null && name.through !== null && name.through >= time) return wanted;
    }
  }
  return wanted;
}

/** Log from a position on that such pieces lead through; a stretch goes on where the one before it was left. */
export function logBytesOf(wanted: readonly WantedPiece[], { fromLsn }: { readonly fromLsn: Lsn }): bigint {
  const last = wanted.at(-1);
  if (last === undefined) return 0n;
  const bytes = last.name.endLsn - fromLsn;
  return bytes > 0n ? bytes : 0n;
}

function lineKey({ incarnation, timelineId }: Line): string {
  return `${incarnation}/${timelineId}`;
}

/** The newest first. */
function byAge(left: PieceName, right: PieceName): number {
  if (left.timelineId !== right.timelineId) return right.timelineId - left.timelineId;
  if (left.endLsn !== right.endLsn) return left.endLsn > right.endLsn ? -1 : 1;
  return order((right.through ?? 0n) as Lsn, (left.through ?? 0n) as Lsn);
}

function order(left: Lsn, right: Lsn): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
