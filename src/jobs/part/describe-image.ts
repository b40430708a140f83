/**
 * What a backup of a whole virtual cluster says of its objects besides names: definitions, owners, privileges. The image does not list them,
 * for that would cost every capture what few ever ask; its catalogs are recovered apart and looked at.
 */
import type { InstanceHost } from '../../instance/index.ts';
import type {
  BackupObject,
  BulkWorker,
  ClusterKey,
  CollectionLocation,
  LogicalWorker,
} from '../../timeline/index.ts';
import { readDatabaseNames } from './read-copy.ts';
import { type PartOptions, withPart } from './with-part.ts';

export interface DescribeImageOptions {
  readonly instanceHost: Pick<InstanceHost, 'withServingCopy'>;
  readonly bulkWorker: Pick<BulkWorker, 'materialize'>;
  readonly logicalWorker: Pick<LogicalWorker, 'describeDatabases'>;
  readonly key: ClusterKey;
  /** In whose folder the copy is made. */
  readonly virtualClusterId: PartOptions<never>['virtualClusterId'];
  readonly collection: CollectionLocation;
  readonly subdirectory: string;
  /** Databases, by the names that SHOW BACKUP lists. */
  readonly databases: readonly string[];
  readonly signal: AbortSignal;
}

/** As of the end of the backup. The copy is gone when this returns or throws. @throws what `withPart` throws */
export async function describeImage(options: DescribeImageOptions): Promise<readonly BackupObject[]> {
  const { bulkWorker, logicalWorker, collection, subdirectory, key, signal } = options;
  const onProgress = () => undefined;
  return withPart({
    ...options,
    target: { kind: 'definitions', names: options.databases },
    async write(part, { dataDirectory: targetDirectory, uid }) {
      const { summary, coverage } = await bulkWorker.materialize(
        { collection, subdirectory, key, targetDirectory, uid, part, isFleeting: true },
        { onProgress, signal },
      );
      const { targetLsn: lsn, timelineId, logEndLsn } = summary;
      return { recovery: { lsn, timelineId, logEndLsn }, coverage };
    },
    async use({ system, socketDirectory, reader: role }) {
      const databases = await readDatabaseNames(system);
      return logicalWorker.describeDatabases({ socketDirectory, role, databases }, { signal });
    },
  });
}
