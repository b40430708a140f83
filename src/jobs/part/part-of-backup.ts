/** A part of a whole virtual cluster out of a collection, as a step of a job: written, recovered, proved, lent, removed. */
import type { Timestamp } from '../../base/index.ts';
import type { InstanceHost } from '../../instance/index.ts';
import type { BackupSummary, BulkWorker, ClusterKey, CollectionLocation } from '../../timeline/index.ts';
import type { JobContext } from '../job-type.ts';
import type { PartTarget } from './part-target.ts';
import { type PartOptions, type ServedPart, withPart } from './with-part.ts';

export interface PartOfBackupOptions {
  readonly instanceHost: Pick<InstanceHost, 'withServingCopy'>;
  readonly bulkWorker: Pick<BulkWorker, 'materialize'>;
  readonly key: ClusterKey;
  readonly virtualClusterId: PartOptions<never>['virtualClusterId'];
  readonly collection: CollectionLocation;
  readonly subdirectory: string;
  /** A moment of the backup's revision history; null for its end. */
  readonly asOf: Timestamp | null;
  readonly target: PartTarget;
  readonly context: Pick<JobContext, 'job' | 'report' | 'logger' | 'signal'>;
  /** Of the job, until the part is served. */
  readonly fraction: number;
}

/**
 * The scratch copy is gone when this returns or throws, and nothing of it outlives a crash. Progress starts anew with every round.
 * @throws what `withPart` throws
 */
export async function withPartOfBackup<T>(
  options: PartOfBackupOptions,
  use: (part: ServedPart, summary: BackupSummary) => Promise<T>,
): Promise<T> {
  const { bulkWorker, context, collection, subdirectory, asOf, key, fraction: whole } = options;
  const { job, logger, signal } = context;
  let summary: BackupSummary | null = null;
  return withPart<T>({
    ...options,
    signal,
    async write(part, { dataDirectory: targetDirectory, uid }) {
      const result = await bulkWorker.materialize(
        { collection, subdirectory, asOf, key, targetDirectory, uid, part, isFleeting: true },
        {
          onProgress: ({ fraction, phase }) =>
            context.report({ fraction: fraction * whole, runningStatus: phase }),
          signal,
        },
      );
      summary = result.summary;
      context.report({ fraction: whole, runningStatus: 'recovering' });
      const { targetLsn: lsn, timelineId, logEndLsn } = result.summary;
      return { recovery: { lsn, timelineId, logEndLsn }, coverage: result.coverage };
    },
    onAgain(added) {
      const databases = new Set(added.map(({ databaseOid }) => databaseOid));
      logger.info(
        `${job.type} job ${job.id}: what was named lies elsewhere than when the backup was taken: more of database ${[...databases].join(', ')} is read`,
      );
    },
    async use(part) {
      // It was written before it could be served.
      return use(part, summary as BackupSummary);
    },
  });
}
