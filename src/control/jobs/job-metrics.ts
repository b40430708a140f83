/** Figures of jobs and schedules, by virtual cluster, under the names that dashboards of the original look for. */
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import { BACKUP_JOB, type JobCounts, RESTORE_JOB, type SchedulerCounts } from '../../jobs/index.ts';
import type { Core } from '../core.ts';
import { INGESTION_JOB } from '../replication/replication-consumer.ts';
import { PRODUCER_JOB } from '../replication/replication-producer.ts';

interface Figure<Of> {
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  readonly value: (of: Of) => number;
}

interface JobFamily extends Omit<Figure<unknown>, 'value'> {
  readonly samples: readonly { readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

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

const JOB_FIGURES: readonly Omit<Figure<JobCounts>, 'type'>[] = [
  { name: 'resume_completed', help: 'that succeeded', value: (of) => of.resumeCompleted },
  { name: 'resume_failed', help: 'that failed for good', value: (of) => of.resumeFailed },
  {
    name: 'resume_retry_error',
    help: 'attempts that failed and are repeated',
    value: (of) => of.resumeRetryError,
  },
  { name: 'fail_or_cancel_completed', help: 'cleaned up after', value: (of) => of.failOrCancelCompleted },
  { name: 'fail_or_cancel_failed', help: 'that left something behind', value: (of) => of.failOrCancelFailed },
  {
    name: 'fail_or_cancel_retry_error',
    help: 'whose clean-up failed and is repeated',
    value: (of) => of.failOrCancelRetryError,
  },
];

/** What dashboards ask for and jobs here do not have: they copy the log they need instead of holding it, and none waits idly. */
const ALWAYS_ZERO = [
  { name: 'currently_idle', help: 'that wait idly: always 0' },
  { name: 'protected_age_sec', help: 'age of the history they hold: always 0' },
  { name: 'protected_record_count', help: 'that hold history: always 0' },
  { name: 'expired_pts_records', help: 'ended because of the age of the history they hold: always 0' },
] as const;

/** All of them, also those that stand at zero: an alert on a figure that is not there never fires. */
export function jobFamilies(core: Core, serving: readonly VirtualClusterRecord[]): readonly JobFamily[] {
  return [
    ...SCHEDULE_FIGURES.map(({ name, type, help, value }) => ({
      name: `schedules_${name}`,
      help,
      type,
      samples: serving.flatMap((record) => {
        const counts = core.scheduler.counts(record.id);
        return counts === undefined ? [] : [{ labels: { tenant: record.name }, value: value(counts) }];
      }),
    })),
    ...protectionFamilies(core, serving),
    {
      name: 'backup_last_failed_time_kms_inaccessible',
      help: 'Seconds since 1970 of the newest backup with updates_cluster_monitoring_metrics that a service for keys gave no key; 0 before one',
      type: 'gauge' as const,
      samples: serving.map(({ id, name }) => ({
        labels: { tenant: name },
        value: Number((core.kmsFailures.get(id) ?? 0n) / 1_000_000n),
      })),
    },
    ...[BACKUP_JOB, RESTORE_JOB, INGESTION_JOB, PRODUCER_JOB].flatMap((type) =>
      familiesOfType(core, { type, serving }),
    ),
  ];
}

function protectionFamilies(core: Core, serving: readonly VirtualClusterRecord[]): readonly JobFamily[] {
  const now = core.options.clock.now();
  const samples = (value: (held: { count: number; since: bigint | undefined }) => number) =>
    serving.map(({ id, name }) => ({ labels: { tenant: name }, value: value(core.scheduler.held(id)) }));
  return [
    {
      name: 'schedules_BACKUP_protected_record_count',
      help: 'Schedules that hold history',
      type: 'gauge',
      samples: samples(({ count }) => count),
    },
    {
      name: 'schedules_BACKUP_protected_age_sec',
      help: 'Age of the oldest history that a schedule holds; 0 when none does',
      type: 'gauge',
      samples: samples(({ since }) => (since === undefined ? 0 : Number((now - since) / 1_000_000n))),
    },
  ];
}

function familiesOfType(
  core: Core,
  { type, serving }: { type: string; serving: readonly VirtualClusterRecord[] },
): readonly JobFamily[] {
  const family = (figure: Figure<VirtualClusterRecord>): JobFamily => ({
    name: `jobs_${type.toLowerCase().replaceAll(' ', '_')}_${figure.name}`,
    help: `${type} jobs ${figure.help}`,
    type: figure.type,
    samples: serving.map((record) => ({ labels: { tenant: record.name }, value: figure.value(record) })),
  });
  return [
    family({
      name: 'currently_running',
      help: 'under way',
      type: 'gauge',
      value: ({ id }) => core.runner.active(id).filter((job) => job.type === type).length,
    }),
    family({
      name: 'currently_paused',
      help: 'that are paused',
      type: 'gauge',
      value: ({ id }) => core.runner.pausedCount(id, type),
    }),
    ...ALWAYS_ZERO.map(({ name, help }) => family({ name, help, type: 'gauge', value: () => 0 })),
    ...JOB_FIGURES.map(({ name, help, value }) =>
      family({ name, help, type: 'counter', value: ({ id }) => value(core.runner.counts(id, type)) }),
    ),
  ];
}
