/** Figures of jobs and schedules, by virtual cluster, under the names that dashboards of the original look for. */
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import { BACKUP_JOB, type JobCounts, RESTORE_JOB, type SchedulerCounts } from '../../jobs/index.ts';
import type { Core } from '../core.ts';
import { INGESTION_JOB } from '../replication/replication-consumer.ts';
import { PRODUCER_JOB } from '../replication/replication-producer.ts';

/** What is told of each virtual cluster that serves, under a name, out of something that is known of it. */
interface Figure<Of> {
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  readonly value: (of: Of) => number;
}

interface JobFamily extends Omit<Figure<unknown>, 'value'> {
  readonly samples: readonly { readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

/** Named `schedules_...`. */
const SCHEDULE_FIGURES: readonly Figure<SchedulerCounts>[] = [
  { name: 'BACKUP_started', type: 'counter', help: 'Backups begun by schedules', value: (of) => of.started },
  {
    name: 'BACKUP_succeeded',
    type: 'counter',
    help: 'Backups of schedules that succeeded',
    value: (of) => of.succeeded,
  },
  {
    name: 'BACKUP_failed',
    type: 'counter',
    help: 'Backups of schedules that failed or could not begin',
    value: (of) => of.failed,
  },
  {
    name: 'BACKUP_last_completed_time',
    type: 'gauge',
    help: 'Seconds since 1970 of the newest success of a schedule with updates_cluster_last_backup_time_metric; 0 before one',
    value: (of) => Number(of.lastCompletedUs / 1_000_000n),
  },
  {
    name: 'round_jobs_started',
    type: 'gauge',
    help: 'Jobs begun in the newest round of the scheduler',
    value: (of) => of.jobsStartedInRound,
  },
  {
    name: 'round_reschedule_skip',
    type: 'gauge',
    help: 'Schedules put off to their next time because a run goes on',
    value: (of) => of.skippedInRound,
  },
  {
    name: 'round_reschedule_wait',
    type: 'gauge',
    help: 'Schedules that wait for a run to end',
    value: (of) => of.waitingInRound,
  },
  {
    name: 'error',
    type: 'counter',
    help: 'Runs that could not begin, and rounds of the scheduler that failed',
    value: (of) => of.errors,
  },
  {
    name: 'malformed',
    type: 'counter',
    help: 'Schedules that could not be read',
    value: (of) => of.malformed,
  },
];

/** What schedules hold of the past. */
interface HeldHistory {
  readonly count: number;
  readonly ageUs: bigint;
}

/** Named `schedules_...`. */
const HELD_FIGURES: readonly Figure<HeldHistory>[] = [
  {
    name: 'BACKUP_protected_record_count',
    type: 'gauge',
    help: 'Schedules that hold history',
    value: (of) => of.count,
  },
  {
    name: 'BACKUP_protected_age_sec',
    type: 'gauge',
    help: 'Age of the oldest history that a schedule holds; 0 when none does',
    value: (of) => Number(of.ageUs / 1_000_000n),
  },
];

/** Of one type in one virtual cluster. */
interface JobFigures extends JobCounts {
  readonly running: number;
  readonly paused: number;
}

/** Named `jobs_<type>_...`; the help goes on from the type. */
const JOB_FIGURES: readonly Figure<JobFigures>[] = [
  { name: 'currently_running', type: 'gauge', help: 'under way', value: (of) => of.running },
  { name: 'currently_paused', type: 'gauge', help: 'that are paused', value: (of) => of.paused },
  // What dashboards ask for and jobs here do not have: they copy the log they need instead of holding it, and none waits idly.
  { name: 'currently_idle', type: 'gauge', help: 'that wait idly: always 0', value: () => 0 },
  {
    name: 'protected_age_sec',
    type: 'gauge',
    help: 'age of the history they hold: always 0',
    value: () => 0,
  },
  { name: 'protected_record_count', type: 'gauge', help: 'that hold history: always 0', value: () => 0 },
  {
    name: 'expired_pts_records',
    type: 'gauge',
    help: 'ended because of the age of the history they hold: always 0',
    value: () => 0,
  },
  { name: 'resume_completed', type: 'counter', help: 'that succeeded', value: (of) => of.resumeCompleted },
  { name: 'resume_failed', type: 'counter', help: 'that failed for good', value: (of) => of.resumeFailed },
  {
    name: 'resume_retry_error',
    type: 'counter',
    help: 'attempts that failed and are repeated',
    value: (of) => of.resumeRetryError,
  },
  {
    name: 'fail_or_cancel_completed',
    type: 'counter',
    help: 'cleaned up after',
    value: (of) => of.failOrCancelCompleted,
  },
  {
    name: 'fail_or_cancel_failed',
    type: 'counter',
    help: 'that left something behind',
    value: (of) => of.failOrCancelFailed,
  },
  {
    name: 'fail_or_cancel_retry_error',
    type: 'counter',
    help: 'whose clean-up failed and is repeated',
    value: (of) => of.failOrCancelRetryError,
  },
];

const JOB_TYPES = [BACKUP_JOB, RESTORE_JOB, INGESTION_JOB, PRODUCER_JOB] as const;

/** All of them, also those that stand at zero: an alert on a figure that is not there never fires. */
export function jobFamilies(core: Core, serving: readonly VirtualClusterRecord[]): readonly JobFamily[] {
  const { runner, scheduler, kmsFailures } = core;
  const now = core.options.clock.now();
  const held = ({ id }: VirtualClusterRecord): HeldHistory => {
    const { count, since = now } = scheduler.held(id);
    return { count, ageUs: now - since };
  };
  const jobsOf =
    (type: string) =>
    ({ id }: VirtualClusterRecord): JobFigures => ({
      ...runner.counts(id, type),
      running: runner.active(id).filter((job) => job.type === type).length,
      paused: runner.pausedCount(id, type),
    });
  return [
    ...SCHEDULE_FIGURES.map((figure) =>
      familyOf(named(figure, 'schedules_'), { serving, of: ({ id }) => scheduler.counts(id) }),
    ),
    ...HELD_FIGURES.map((figure) => familyOf(named(figure, 'schedules_'), { serving, of: held })),
    familyOf<bigint>(
      {
        name: 'backup_last_failed_time_kms_inaccessible',
        help: 'Seconds since 1970 of the newest backup with updates_cluster_monitoring_metrics that a service for keys gave no key; 0 before one',
        type: 'gauge',
        value: (failedUs) => Number(failedUs / 1_000_000n),
      },
      { serving, of: ({ id }) => kmsFailures.get(id) ?? 0n },
    ),
    familyOf<number>(
      {
        name: 'jobs_running_non_idle',
        help: 'Jobs under way, of all types',
        type: 'gauge',
        value: (count) => count,
      },
      { serving, of: ({ id }) => runner.active(id).length },
    ),
    ...JOB_TYPES.flatMap((type) =>
      JOB_FIGURES.map((figure) =>
        familyOf(
          named(
            { ...figure, help: `${type} jobs ${figure.help}` },
            `jobs_${type.toLowerCase().replaceAll(' ', '_')}_`,
          ),
          { serving, of: jobsOf(type) },
        ),
      ),
    ),
  ];
}

function named<Of>(figure: Figure<Of>, prefix: string): Figure<Of> {
  return { ...figure, name: `${prefix}${figure.name}` };
}

/** One series for each virtual cluster of which something is known. */
function familyOf<Of>(
  { value, ...family }: Figure<Of>,
  options: {
    readonly serving: readonly VirtualClusterRecord[];
    readonly of: (record: VirtualClusterRecord) => Of | undefined;
  },
): JobFamily {
  const samples = options.serving.flatMap((record) => {
    const of = options.of(record);
    return of === undefined ? [] : [{ labels: { tenant: record.name }, value: value(of) }];
  });
  return { ...family, samples };
}
