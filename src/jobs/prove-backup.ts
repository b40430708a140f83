/** Proves a backup by what it is for: restores it beside, recovers it, looks for damage, and throws the copy away. */
import { CorruptError, isAppError, toError } from '../base/index.ts';
import type { InstanceHost } from '../instance/index.ts';
import type { BulkWorker, ClusterKey, CollectionLocation, VerifyWorker } from '../timeline/index.ts';
import type { JobContext } from './job-type.ts';
import { checkCopy } from './timeline-check/check-copy.ts';

export interface ProveDependencies {
  readonly bulkWorker: Pick<BulkWorker, 'materialize'>;
  readonly verifier: Pick<VerifyWorker, 'checkDirectory'>;
  readonly instanceHost: Pick<InstanceHost, 'withScratchCopy'>;
  readonly key: ClusterKey;
}

/** Shares of the proof in what is shown as its progress. */
const FRACTION = { materialized: 0.5, checked: 0.8 } as const;

/**
 * Returns when the copy served, every table and index of it was checked, and every page has the checksum it should have.
 * @throws CorruptError telling what is wrong with the backup, which stays where it is
 */
export async function proveBackup(
  context: JobContext,
  dependencies: ProveDependencies,
  backup: {
    readonly collection: CollectionLocation;
    readonly subdirectory: string;
    readonly onProgress: (progress: { fraction: number; phase: string }) => void;
  },
): Promise<void> {
  const { job, domain, logger, signal } = context;
  const { bulkWorker, verifier, instanceHost, key } = dependencies;
  const { collection, subdirectory, onProgress } = backup;
  const check = { databases: 0, tables: 0, indexes: 0, findings: [] as string[] };
  const within = (begin: number, end: number) => (share: number, phase: string) =>
    onProgress({ fraction: begin + (end - begin) * share, phase });
  const materializing = within(0, FRACTION.materialized);
  const checking = within(FRACTION.materialized, FRACTION.checked);
  const reading = within(FRACTION.checked, 1);
  try {
    await instanceHost.withScratchCopy<void>({
      virtualClusterId: domain.virtualClusterId,
      async fill({ dataDirectory: targetDirectory, uid }) {
        const { summary } = await bulkWorker.materialize(
          { collection, subdirectory, key, targetDirectory, uid },
          {
            onProgress: ({ fraction, phase }) => materializing(fraction, `trial restore: ${phase}`),
            signal,
          },
        );
        const { targetLsn: lsn, timelineId, logEndLsn } = summary;
        return { lsn, timelineId, logEndLsn };
      },
      whileServing: (copy) =>
        checkCopy(copy, {
          check,
          onRelation: checking,
          onUnchecked: (sentence) =>
            logger.warning(`BACKUP job ${job.id} could not check in its trial restore ${sentence}`),
        }),
      async whenStopped(dataDirectory) {
        const { findings } = await verifier.checkDirectory(
          { dataDirectory },
          { onProgress: ({ fraction, phase }) => reading(fraction, phase), signal },
        );
        check.findings.push(...findings);
      },
      signal,
    });
  } catch (error) {
    if (isAppError(error) && error.row.retry === 'backoff') throw error;
    if (isAppError(error, 'cancelled', 'disk_full')) throw error;
    throw notProved(subdirectory, toError(error).message, error);
  }
  const [first] = check.findings;
  if (first === undefined) {
    const { databases, tables, indexes } = check;
    return logger.info(
      `BACKUP job ${job.id}: a trial restore of ${subdirectory} is sound, ${databases} databases, ${tables} tables, ${indexes} indexes`,
    );
  }
  for (const finding of check.findings) logger.error(`BACKUP job ${job.id}, trial restore: ${finding}`);
  const more = check.findings.length > 1 ? `, and ${check.findings.length - 1} more` : '';
  throw notProved(subdirectory, `${first}${more}`);
}

function notProved(subdirectory: string, reason: string, cause?: unknown): CorruptError {
  return new CorruptError(`backup ${subdirectory} was written, but a trial restore of it failed: ${reason}`, {
    cause,
    hint: 'do not rely on this backup; the virtual cluster may be damaged itself: ALTER VIRTUAL CLUSTER ... CHECK TIMELINE tells',
  });
}
