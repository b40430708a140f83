/** The part of a BACKUP job that takes everything from the timeline store, for backups of a moment and those with revision history. */
import { CorruptError, type Lsn, parseLsn, type VirtualClusterId } from '../base/index.ts';
import type { JobRecord } from '../catalog/index.ts';
import type { InstanceHost } from '../instance/index.ts';
import type {
  ClusterKey,
  CollectionLocation,
  IncarnationRecord,
  PublishedPart,
  PublishResult,
  TimelinePoint,
  TimelineReader,
  TimelineStoreLocation,
  TimelineWorker,
} from '../timeline/index.ts';
import type { JobContext } from './job-type.ts';
import { optionalTextField } from './payload.ts';
import { type PointJobDependencies, readPoint, recordPoint } from './point-job.ts';

export interface PublishDependencies {
  readonly worker: Pick<TimelineWorker, 'publish' | 'materializePoint'>;
  /** Where the copies serve that parts are taken from. */
  readonly instanceHost: Pick<InstanceHost, 'withScratchCopy' | 'withServingCopy'>;
  readonly reader: Pick<TimelineReader, 'incarnations'>;
  readonly storeOf: (virtualClusterId: VirtualClusterId) => TimelineStoreLocation;
  /** Keeps the base, and the log from `fromLsn` to the point, from being collected for as long as the job may take. */
  readonly pin: (
    job: JobRecord,
    options: { virtualClusterId: VirtualClusterId; point: TimelinePoint; fromLsn: Lsn },
  ) => Promise<void>;
  /** Harmless when nothing is pinned. */
  readonly unpin: PointJobDependencies['unpin'];
  readonly captureFirstBase: PointJobDependencies['captureFirstBase'];
}

/** Where the moment of a backup comes from. */
export type PublishedMoment =
  | TimelinePoint
  /** There is no base yet: one is captured first, and the moment is then. */
  | 'first_base';

export interface PublishJob {
  readonly collection: CollectionLocation;
  readonly subdirectory: string;
  readonly clusterId: string;
  readonly key: ClusterKey;
  readonly release: string;
  readonly packBytesMax: number;
  /** Finds out what of the moment belongs to databases or tables; left out for everything. */
  readonly partOf?: (moment: KeptMoment) => Promise<PublishedPart>;
  readonly onProgress: (progress: { fraction: number; phase: string }) => void;
}

/** As a job keeps it; null for a backup that is captured from the running virtual cluster. */
export function recordMoment(moment: PublishedMoment | null) {
  if (moment === null || moment === 'first_base') return moment;
  return recordPoint(moment);
}

/** Whether the job takes its backup from the timeline store. */
export function isPublished(job: Pick<JobRecord, 'payload'>): boolean {
  return (job.payload['moment'] ?? null) !== null;
}

/** Goes on where an earlier attempt ended, with the same moment. */
export async function publishBackup(
  context: JobContext,
  dependencies: PublishDependencies,
  what: PublishJob,
): Promise<PublishResult> {
  const { job, domain, signal } = context;
  const { onProgress, partOf, ...common } = what;
  return withMoment(context, dependencies, async (moment) => {
    const part = await partOf?.(moment);
    return dependencies.worker.publish(
      {
        ...common,
        ...moment,
        ...(part === undefined ? {} : { part }),
        onto: optionalTextField(job.payload, 'onto'),
        hasRevisionHistory: job.payload['hasRevisionHistory'] === true,
        virtualClusterName: domain.virtualClusterName,
        jobId: String(job.id),
        attempt: job.attempt,
      },
      { onProgress, signal },
    );
  });
}

/** Where a moment lies: base and log are kept for as long as it is used. */
export interface KeptMoment {
  readonly store: TimelineStoreLocation;
  readonly point: TimelinePoint;
  readonly incarnations: readonly IncarnationRecord[];
}

/** The moment that the job is of, the same for all attempts. When one fails it stays pinned for the next, or until the job is over. */
export async function withMoment<T>(
  context: JobContext,
  dependencies: PublishDependencies,
  use: (moment: KeptMoment) => Promise<T>,
): Promise<T> {
  const { job, domain } = context;
  const { virtualClusterId } = domain;
  const store = dependencies.storeOf(virtualClusterId);
  const point = await settleMoment(context, dependencies);
  const fromText = optionalTextField(job.payload, 'ontoLsn');
  const fromLsn = fromText === null ? point.lsn : parseLsn(fromText);
  await dependencies.pin(job, { virtualClusterId, point, fromLsn });
  const result = await use({ store, point, incarnations: await dependencies.reader.incarnations(store) });
  await dependencies.unpin(job, { virtualClusterId });
  return result;
}

async function settleMoment(context: JobContext, dependencies: PublishDependencies): Promise<TimelinePoint> {
  const { job, domain } = context;
  const settled = job.progress['point'] ?? job.payload['moment'];
  if (settled === undefined) throw new CorruptError("the job's record lacks its moment");
  if (settled !== 'first_base') return readPoint(settled);
  const point = await dependencies.captureFirstBase(domain.virtualClusterId, {
    context,
    onProgress: ({ fraction, phase }) =>
      context.report({ fraction: fraction / 2, runningStatus: `first base: ${phase}` }),
  });
  await context.save({ point: recordPoint(point) });
  return point;
}
