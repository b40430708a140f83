/** What of the log goes into the time index, and up to which moment the log is known. No I/O. */
import type { Lsn, Timestamp } from '../../base/index.ts';
import { commitTimeOf, type WalRecord } from '../../pg/index.ts';
import type { TimeIndexEntry } from '../format/time-index.ts';

/** Commits closer together than this share an entry. */
export const INDEX_INTERVAL_US = 100_000n;
/** An entry at least every so many bytes that hold a commit: what is read to resolve a time. */
export const INDEX_DISTANCE_BYTES = 1024n * 1024n;
/**
 * A commit whose time lies this much before a former one's was stamped by a clock that had been set back. Below, it is the order of
 * stamping and inserting, which differ by as long as a process may stand still between the two.
 */
export const CLOCK_STEP_US_MIN = 1_000_000n;

export interface ClockStep {
  readonly lsn: Lsn;
  /** Moments between the two were lived through twice. */
  readonly from: Timestamp;
  readonly to: Timestamp;
}

/** Follows the commits of a log in its order. */
export class CommitTracker {
  readonly #onClockStep: (step: ClockStep) => void;
  #last: Pick<TimeIndexEntry, 'kind' | 'lsn' | 'time'> | null;
  #maxTime: Timestamp | null;
  #isStepped = false;
  #idle: { lsn: Lsn; time: Timestamp; timelineId: number } | null = null;
  #entries: TimeIndexEntry[] = [];
  #commits = 0;

  /** Goes on behind the last entry there is. */
  constructor(options: {
    readonly last: TimeIndexEntry | null;
    readonly onClockStep: (step: ClockStep) => void;
  }) {
    this.#last = options.last;
    this.#maxTime = options.last?.time ?? null;
    this.#onClockStep = options.onClockStep;
  }

  /** The running maximum of commit times and of idleness that an entry tells of; null before the first. */
  get maxTime(): Timestamp | null {
    return this.#maxTime;
  }

  /** That were not passed over. */
  get commits(): number {
    return this.#commits;
  }

  /** The moment up to which nothing more was committed, when that is later than all commits. */
  get idleThrough(): Timestamp | null {
    return this.#idle?.time ?? null;
  }

  /** To be shown every record, or at least every commit, in order. What is indexed already is passed over. */
  take(record: WalRecord): void {
    const ownTime = commitTimeOf(record);
    if (ownTime === null) return;
    const { lsn, timelineId } = record;
    if (this.#isIndexed(lsn)) return;
    this.#commits += 1;
    this.#settleIdle();
    const maxTime = this.#maxTime;
    if (maxTime !== null && ownTime <= maxTime - CLOCK_STEP_US_MIN) {
      this.#takeStep({ lsn, timelineId, ownTime, time: maxTime });
      return;
    }
    this.#isStepped = false;
    const time = maxTime === null || ownTime > maxTime ? ownTime : maxTime;
    this.#maxTime = time;
    const last = this.#last;
    const isDue =
      last === null || time >= last.time + INDEX_INTERVAL_US || lsn >= last.lsn + INDEX_DISTANCE_BYTES;
    if (isDue) this.#add({ kind: 'commit', timelineId, lsn, time, ownTime });
  }

  /** Everything up to `lsn` is there, and nothing was committed since, up to `time`. */
  noteIdle(idle: { lsn: Lsn; time: Timestamp; timelineId: number }): void {
    if (this.#maxTime === null || idle.time > this.#maxTime) this.#idle = idle;
  }

  /** A segment ends; reading may begin at `lsn`, where the record lies that is not complete yet. */
  endSegment({ lsn, timelineId }: { lsn: Lsn; timelineId: number }): void {
    this.#settleIdle();
    const time = this.#maxTime;
    if (time !== null) this.#add({ kind: 'segment_end', timelineId, lsn, time, ownTime: time });
  }

  /** Makes an entry of what is known of idleness, so that it outlives this process. */
  settleIdle(): void {
    this.#settleIdle();
  }

  /** Entries made since the last call, in order. */
  drain(): readonly TimeIndexEntry[] {
    const entries = this.#entries;
    this.#entries = [];
    return entries;
  }

  /** Idleness and the end of a segment are noted at the place where a commit may begin that nobody has seen yet. */
  #isIndexed(lsn: Lsn): boolean {
    const last = this.#last;
    if (last === null || lsn > last.lsn) return false;
    return lsn < last.lsn || last.kind === 'commit' || last.kind === 'clock_step';
  }

  #settleIdle(): void {
    const idle = this.#idle;
    this.#idle = null;
    if (idle === null || (this.#maxTime !== null && idle.time <= this.#maxTime)) return;
    this.#maxTime = idle.time;
    this.#add({ kind: 'idle', ...idle, ownTime: idle.time });
  }

  /** Only the first commit of a time lived through again is an event; each is indexed at most as often as others. */
  #takeStep(step: { lsn: Lsn; timelineId: number; ownTime: Timestamp; time: Timestamp }): void {
    if (this.#isStepped) return;
    this.#isStepped = true;
    this.#onClockStep({ lsn: step.lsn, from: step.ownTime, to: step.time });
    this.#add({ kind: 'clock_step', ...step });
  }

  #add(entry: TimeIndexEntry): void {
    this.#last = entry;
    this.#entries.push(entry);
  }
}
