/** A part of a virtual cluster as it was at a point of its timeline, as a step of a job: written, recovered, proved, lent, removed. */
import { formatTimestamp, type Lsn, type VirtualClusterId } from '../../base/index.ts';
import type { InstanceHost } from '../../instance/index.ts';
import type {
  ClusterKey,
  IncarnationRecord,
  TimelinePoint,
  TimelineStoreLocation,
  TimelineWorker,
} from '../../timeline/index.ts';
import type { JobContext } from '../job-type.ts';
import type { PartTarget } from './part-target.ts';
import { type ServedPart, withPart } from './with-part.ts';

export interface PartOfTimelineOptions {
  readonly instanceHost: Pick<InstanceHost, 'withServingCopy'>;
  readonly worker: Pick<TimelineWorker, 'materializePoint'>;
  readonly key: ClusterKey;
  readonly virtualClusterId: VirtualClusterId;
  readonly store: TimelineStoreLocation;
  readonly incarnations: readonly IncarnationRecord[];
  readonly point: TimelinePoint;
  readonly target: PartTarget;
  readonly context: Pick<JobContext, 'job' | 'report' | 'logger' | 'signal'>;
  /** Of the job, until the part is served. */
  readonly fraction: number;
}

/** @param use is told as well since when everything that was open at the point is in the log; null when nobody knows */
export async function withPartOfTimeline<T>(
  options: PartOfTimelineOptions,
  use: (part: ServedPart, quietLsn: Lsn | null) => Promise<T>,
): Promise<T> {
  const { worker, context, store, incarnations, point, key, fraction: whole } = options;
  const { job, logger, signal } = context;
  let quietLsn: Lsn | null = null;
  return withPart<T>({
    ...options,
    place: {
      name: `the virtual cluster at ${formatTimestamp(point.time)}`,
      hint: 'names are those of that moment',
    },
    signal,
    async write(part, { dataDirectory: targetDirectory, uid }) {
      const { recovery, coverage = null } = await worker.materializePoint(
        { store, point, incarnations, key, targetDirectory, uid, part, isFleeting: true },
        {
          onProgress: ({ fraction, phase }) =>
            context.report({ fraction: fraction * whole, runningStatus: phase }),
          signal,
        },
      );
      quietLsn = coverage?.origins.quietLsn ?? null;
      context.report({ fraction: whole, runningStatus: 'recovering' });
      return { recovery, coverage };
    },
    onAgain(added) {
      const databases = new Set(added.map(({ databaseOid }) => databaseOid));
      logger.info(
        `${job.type} job ${job.id}: what was named lay elsewhere when the base was captured: more of database ${[...databases].join(', ')} is read`,
      );
    },
    use: (part) => use(part, quietLsn),
  });
}
