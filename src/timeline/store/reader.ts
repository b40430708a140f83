/** Answers what a timeline store holds, and which position a moment is. */
import { join } from 'node:path';
import {
  formatLsn,
  formatTimestamp,
  type IncarnationId,
  InputError,
  type Lsn,
  type Rng,
  type Timestamp,
} from '../../base/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type {
  BaseSummary,
  IncarnationRecord,
  TimelinePoint,
  TimelineReader,
  TimelineStoreLocation,
  TimelineTarget,
  VaultHost,
} from '../store-contract.ts';
import { syncFile } from '../vault/files.ts';
import { readRecord } from '../vault/incarnation-file.ts';
import { BaseIndex } from './base-index.ts';
import { heldFrom } from './held-from.ts';
import { openSegmentName, walDirectory } from './layout.ts';
import { isOnTheWay, stretchesTo } from './lineage.ts';
import { endOfTimes, isAmbiguous, type LogOfLife, placeOfTime } from './resolve.ts';
import { contiguousRun, listIncarnations, listWalFolder } from './wal-folder.ts';

/** Lives that one lineage may have. Beyond, the records lead in a circle or are not ours. */
const LIVES_MAX = 10_000;

/**
 * Reads timeline stores. While a vault receives, it tells how far the log is durable and known; without one, what lies on disk is made
 * durable before it is relied on.
 */
export function createTimelineReader(options: {
  readonly rng: Rng;
  readonly vault?: Pick<VaultHost, 'status'>;
}): TimelineReader {
  const index = new BaseIndex(options);
  const { vault } = options;
  return {
    bases: (store, each) => index.bases(store, each),
    incarnations: (store) => incarnationsOf(store),
    basesTo: async (store, { point, ...each }) =>
      basesTo(store, {
        point,
        bases: await index.bases(store, each),
        incarnations: await incarnationsOf(store),
      }),
    resolve: (store, each) => new Resolution({ ...each, store, index, vault }).run(),
  };
}

/** The records of all incarnations that have log here. @throws CorruptError, AppError `format_unsupported` */
export async function incarnationsOf(store: TimelineStoreLocation): Promise<readonly IncarnationRecord[]> {
  const records: IncarnationRecord[] = [];
  for (const incarnation of await listIncarnations(store)) {
    const record = await readRecord(walDirectory(store, incarnation));
    if (record !== null) records.push(record);
  }
  return records;
}

/** See `TimelineReader.basesTo`. */
async function basesTo(
  store: TimelineStoreLocation,
  options: {
    point: Pick<TimelinePoint, 'incarnation' | 'timelineId' | 'lsn'>;
    bases: readonly BaseSummary[];
    incarnations: readonly IncarnationRecord[];
  },
): Promise<readonly BaseSummary[]> {
  const { point, bases, incarnations } = options;
  const stretches = stretchesTo(point, incarnations);
  const heldLsn = await heldFrom(store, { point, stretches });
  return bases.filter((base) => base.startLsn >= heldLsn && isOnTheWay(base, stretches));
}

/** The newest time that lives before the current one know: one in which nothing was committed yet is at the time where it began. */
async function newestTimeOf(logs: readonly LogOfLife[]): Promise<Timestamp | null> {
  for (const log of logs.toReversed()) {
    const { time } = await endOfTimes(log);
    if (time !== null) return time;
  }
  return null;
}

interface ResolutionOptions {
  readonly store: TimelineStoreLocation;
  readonly target: TimelineTarget;
  readonly current: IncarnationId;
  readonly key: ClusterKey;
  readonly index: BaseIndex;
  readonly vault: Pick<VaultHost, 'status'> | undefined;
  readonly signal: AbortSignal;
}

/** One question, with what had to be looked up for it. */
class Resolution {
  readonly #options: ResolutionOptions;
  #records: readonly IncarnationRecord[] = [];
  #bases: readonly BaseSummary[] = [];

  constructor(options: ResolutionOptions) {
    this.#options = options;
  }

  async run(): Promise<TimelinePoint> {
    const { store, target, index } = this.#options;
    this.#records = await incarnationsOf(store);
    this.#bases = await index.bases(store, this.#options);
    const logs = await this.#lineage();
    const end = await this.#end(logs);
    switch (target.kind) {
      case 'latest':
        return this.#requireReachable(end.point, end);
      case 'lsn':
        return this.#pointAt(target, { logs, end });
      case 'time':
        return this.#pointOf(target.time, { logs, end });
    }
  }

  /** The logs of the lives that lead to the current one, oldest first; each ends where the next one begins. */
  async #lineage(): Promise<readonly LogOfLife[]> {
    const { store, current, vault, signal } = this.#options;
    const logs: LogOfLife[] = [];
    const status = vault?.status(store.virtualClusterId);
    let record = this.#records.find(({ incarnation }) => incarnation === current);
    if (record === undefined) throw await this.#outside('nothing of it was received yet');
    // 0 while a vault that met an error reads its log again: then nobody tells.
    const isTold = status?.incarnation === current && status.durableLsn > 0n;
    let endLsn = isTold ? status.durableLsn : null;
    if (endLsn === null) await syncNewest(store, record);
    for (let lives = 0; record !== undefined && lives < LIVES_MAX; lives++) {
      logs.unshift({ store, record, endLsn, signal });
      endLsn = record.timelines[0]?.beginLsn ?? record.forkLsn;
      const { parentIncarnation }: IncarnationRecord = record;
      record = this.#records.find(({ incarnation }) => incarnation === parentIncarnation);
    }
    return logs;
  }

  /** How far the current life is known. */
  async #end(logs: readonly LogOfLife[]): Promise<End> {
    const { store, current, vault } = this.#options;
    const log = logs.at(-1);
    if (log === undefined) throw await this.#outside('nothing of it was received yet');
    const place = await endOfTimes(log);
    const time = place.time ?? (await newestTimeOf(logs.slice(0, -1)));
    const status = vault?.status(store.virtualClusterId);
    const told = status?.incarnation === current ? status.restorableThrough : null;
    const through = told !== null && (time === null || told > time) ? told : time;
    return { point: pointOn(log.record, { lsn: place.lsn, time: through ?? NEVER }), through };
  }

  async #pointOf(
    time: Timestamp,
    { logs, end }: { logs: readonly LogOfLife[]; end: End },
  ): Promise<TimelinePoint> {
    if (end.through === null || time > end.through) {
      throw await this.#outside(`${formatTimestamp(time)} is later than what is known`, end);
    }
    for (const log of logs) {
      const place = await placeOfTime(log, time);
      if (place === null) continue;
      const point = pointOn(log.record, { lsn: place.lsn, time });
      // Log before the first commit that is known may have been collected, with commits after the time.
      if (place.time === null) await this.#requireKnown(point, end);
      const marked = (await isAmbiguous(log, time)) ? { ...point, isAmbiguous: true as const } : point;
      return this.#requireReachable(marked, end);
    }
    return this.#requireReachable({ ...end.point, time }, end);
  }

  async #pointAt(
    target: { readonly incarnation: IncarnationId; readonly lsn: Lsn },
    { logs, end }: { logs: readonly LogOfLife[]; end: End },
  ): Promise<TimelinePoint> {
    const { incarnation, lsn } = target;
    const log = logs.find(({ record }) => record.incarnation === incarnation);
    if (log === undefined)
      throw await this.#outside(`incarnation ${incarnation} does not lead to the current one`, end);
    const endLsn = log.record === logs.at(-1)?.record ? end.point.lsn : log.endLsn;
    if (endLsn !== null && lsn > endLsn)
      throw await this.#outside(`${formatLsn(lsn)} lies behind the end of its log`, end);
    const { time } = await endOfTimes({ ...log, endLsn: lsn });
    return this.#requireReachable(pointOn(log.record, { lsn, time: time ?? NEVER }), end);
  }

  /** A base that is of an earlier moment knows all commits before it. */
  async #requireKnown(point: TimelinePoint, end: End): Promise<void> {
    const stretches = stretchesTo(point, this.#records);
    const isKnown = this.#bases.some((base) => base.endTime <= point.time && isOnTheWay(base, stretches));
    if (!isKnown)
      throw await this.#outside(`${formatTimestamp(point.time)} is earlier than what is known`, end);
  }

  /** There must be a base before it, and log without a gap from there on. */
  async #requireReachable(point: TimelinePoint, end: End): Promise<TimelinePoint> {
    const { length } = await this.#basesTo(point);
    if (length > 0) return point;
    throw await this.#outside(`no base leads to ${formatLsn(point.lsn)}`, end);
  }

  #basesTo(point: TimelinePoint): Promise<readonly BaseSummary[]> {
    return basesTo(this.#options.store, { point, bases: this.#bases, incarnations: this.#records });
  }

  async #outside(reason: string, end?: End): Promise<InputError<'time_outside_window'>> {
    const { window, hint } = await this.#window(end);
    return new InputError(
      'time_outside_window',
      `outside the window that can be restored: ${reason}; ${window}`,
      { hint },
    );
  }

  async #window(end: End | undefined): Promise<{ readonly window: string; readonly hint: string }> {
    const through = end?.through ?? null;
    if (end === undefined || through === null || this.#bases.length === 0) {
      return { window: 'nothing can be restored yet', hint: 'wait until the first base is captured' };
    }
    const [first] = await this.#basesTo(end.point);
    if (first === undefined) {
      return {
        window: 'log that leads to the present is missing',
        hint: 'wait until the next base is captured; SHOW TIMELINE tells what can be restored',
      };
    }
    // What was committed last may lie before the first base; since then nothing is known.
    const last = through > first.endTime ? through : first.endTime;
    return {
      window: `the window is from ${formatTimestamp(first.endTime)} to ${formatTimestamp(last)}`,
      hint: 'name a moment in the window; gc.ttlseconds decides how far back it reaches',
    };
  }
}

interface End {
  readonly point: TimelinePoint;
  readonly through: Timestamp | null;
}

/** The time of a place that no commit precedes. */
const NEVER = 0n as Timestamp;

function pointOn(record: IncarnationRecord, place: { lsn: Lsn; time: Timestamp }): TimelinePoint {
  const { incarnation, timelines } = record;
  const timeline = timelines.findLast(({ beginLsn }) => beginLsn < place.lsn) ?? timelines[0];
  return { incarnation, timelineId: timeline?.timelineId ?? 1, ...place };
}

/** What a vault that is gone has left may not have been synced. */
async function syncNewest(store: TimelineStoreLocation, record: IncarnationRecord): Promise<void> {
  const folder = await listWalFolder(walDirectory(store, record.incarnation));
  const newest = contiguousRun(folder, record.timelines).at(-1);
  if (newest === undefined || newest.isClosed) return;
  await syncFile(join(folder.directory, openSegmentName({ ...newest, segmentBytes: folder.segmentBytes })));
}
