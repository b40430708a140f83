/**
 * Tries out whether a point of a timeline can be restored: makes a copy of it, recovers it, looks for damage, and throws it away. What came
 * of it is recorded, also when it is bad.
 */
import {
  AppError,
  type Clock,
  CorruptError,
  isAppError,
  type Timestamp,
  toError,
  type VirtualClusterId,
} from '../../base/index.ts';
import type { JobRecord, JsonObject, TimelineCheckCounts, TimelineCheckRecord } from '../../catalog/index.ts';
import type { InstanceHost } from '../../instance/index.ts';
import type {
  ClusterKey,
  TimelinePoint,
  TimelineReader,
  TimelineStoreLocation,
  TimelineWorker,
  VerifyWorker,
} from '../../timeline/index.ts';
import type { JobContext, JobType } from '../job-type.ts';
import { textField } from '../payload.ts';
import { type PointPayload, readPoint, recordPoint } from '../point-job.ts';
import { checkCopy } from './check-copy.ts';

/** ALTER VIRTUAL CLUSTER … CHECK TIMELINE */
export const TIMELINE_CHECK_JOB = 'TIMELINE CHECK';

/** More are counted, not kept. */
const FINDINGS_MAX = 50;
/** Shares of the work in what is shown as progress. */
const FRACTION = { materialized: 0.4, checked: 0.8 } as const;

export interface TimelineCheckJobDependencies {
  readonly worker: Pick<TimelineWorker, 'materializePoint'> & Pick<VerifyWorker, 'checkDirectory'>;
  readonly reader: Pick<TimelineReader, 'incarnations'>;
  readonly instanceHost: Pick<InstanceHost, 'get' | 'withScratchCopy'>;
  readonly clock: Clock;
  readonly key: ClusterKey;
  readonly storeOf: (virtualClusterId: VirtualClusterId) => TimelineStoreLocation;
  /** Keeps what leads to the point from being collected, for as long as the job may take. */
  readonly pin: (
    job: JobRecord,
    options: { virtualClusterId: VirtualClusterId; point: TimelinePoint },
  ) => Promise<void>;
  /** Harmless when nothing is pinned. */
  readonly unpin: (job: JobRecord, options: { virtualClusterId: VirtualClusterId }) => Promise<void>;
  readonly record: (check: TimelineCheckRecord) => Promise<void>;
}

export type TimelineCheckPayload = Pick<PointPayload, 'sourceVirtualClusterId'> & {
  readonly point: TimelinePoint;
};

export function timelineCheckPayload({ sourceVirtualClusterId, point }: TimelineCheckPayload): JsonObject {
  return { sourceVirtualClusterId: String(sourceVirtualClusterId), point: recordPoint(point) };
}

/** Whose timeline a job of this type checks. */
export function checkedVirtualCluster(job: Pick<JobRecord, 'payload'>): VirtualClusterId {
  return Number(textField(job.payload, 'sourceVirtualClusterId')) as VirtualClusterId;
}

export function timelineCheckJobType(dependencies: TimelineCheckJobDependencies): JobType {
  return {
    name: TIMELINE_CHECK_JOB,
    attemptsMax: 3,
    onExhausted: 'fail',
    async run(context) {
      const { job } = context;
      const virtualClusterId = checkedVirtualCluster(job);
      const point = readPoint(job.payload['point']);
      if (dependencies.instanceHost.get(virtualClusterId) === undefined) {
        throw new AppError('object_not_found', `virtual cluster ${virtualClusterId} is gone`);
      }
      await dependencies.pin(job, { virtualClusterId, point });
      const result = await runCheck(context, { ...dependencies, virtualClusterId, point });
      await dependencies.unpin(job, { virtualClusterId });
      return result;
    },
    revert: ({ job }) => dependencies.unpin(job, { virtualClusterId: checkedVirtualCluster(job) }),
  };
}

type CheckRun = TimelineCheckJobDependencies & {
  readonly virtualClusterId: VirtualClusterId;
  readonly point: TimelinePoint;
};

interface Found {
  readonly counts: TimelineCheckCounts;
  readonly findings: readonly string[];
}

/** @throws CorruptError that tells the first of what is wrong */
async function runCheck(context: JobContext, run: CheckRun): Promise<JsonObject> {
  const { job, logger } = context;
  const started = run.clock.now();
  let found: Found;
  try {
    found = await lookAtCopy(context, run);
  } catch (error) {
    if (isAppError(error, 'cancelled')) throw error;
    const none = { databases: 0, tables: 0, indexes: 0, pages: 0 };
    await record({ counts: none, findings: [toError(error).message] }, { job, run, started });
    throw error;
  }
  await record(found, { job, run, started });
  const [first] = found.findings;
  if (first === undefined) return { ...found.counts };
  for (const finding of found.findings) logger.error(`TIMELINE CHECK job ${job.id}: ${finding}`);
  const more = found.findings.length > 1 ? `, and ${found.findings.length - 1} more` : '';
  throw new CorruptError(`what was restored is damaged: ${first}${more}`, {
    hint: 'SHOW TIMELINE CHECKS lists what was found; the virtual cluster itself may be sound: BACKUP it now',
  });
}

async function record(
  { counts, findings }: Found,
  { job, run, started }: { job: JobRecord; run: CheckRun; started: Timestamp },
): Promise<void> {
  await run.record({
    jobId: job.id,
    virtualClusterId: run.virtualClusterId,
    started,
    finished: run.clock.now(),
    point: run.point,
    state: findings.length === 0 ? 'succeeded' : 'failed',
    counts,
    findings: findings.slice(0, FINDINGS_MAX),
  });
}

async function lookAtCopy(context: JobContext, run: CheckRun): Promise<Found> {
  const { signal } = context;
  const { virtualClusterId, worker, reader, point, key, storeOf, instanceHost } = run;
  const check = { databases: 0, tables: 0, indexes: 0, findings: [] as string[] };
  return instanceHost.withScratchCopy<Found>({
    virtualClusterId,
    async fill({ dataDirectory: targetDirectory, uid }) {
      const store = storeOf(virtualClusterId);
      const incarnations = await reader.incarnations(store);
      const { recovery } = await worker.materializePoint(
        { store, point, incarnations, key, targetDirectory, uid },
        {
          onProgress: ({ fraction, phase }) =>
            context.report({ fraction: fraction * FRACTION.materialized, runningStatus: phase }),
          signal,
        },
      );
      context.report({ fraction: FRACTION.materialized, runningStatus: 'recovering' });
      return recovery;
    },
    whileServing: (copy) =>
      checkCopy(copy, {
        check,
        onRelation: (share, runningStatus) => {
          const fraction = FRACTION.materialized + share * (FRACTION.checked - FRACTION.materialized);
          context.report({ fraction, runningStatus });
        },
        onUnchecked: (sentence) =>
          context.logger.warning(`TIMELINE CHECK job ${context.job.id} could not check ${sentence}`),
      }),
    async whenStopped(dataDirectory) {
      const { pages, findings: badPages } = await worker.checkDirectory(
        { dataDirectory },
        {
          onProgress: ({ fraction, phase }) => {
            const share = (1 - FRACTION.checked) * fraction;
            context.report({ fraction: FRACTION.checked + share, runningStatus: phase });
          },
          signal,
        },
      );
      const { findings, ...counts } = check;
      return { counts: { ...counts, pages }, findings: [...findings, ...badPages] };
    },
    signal,
  });
}
