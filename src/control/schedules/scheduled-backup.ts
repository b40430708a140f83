/** Runs of backup schedules: each is the use case of BACKUP, asked by the schedule's owner. */
import { CorruptError, isAppError, required } from '../../base/index.ts';
import type { JobId, VirtualClusterId } from '../../base/index.ts';
import { formatTimestamp } from '../../base/index.ts';
import type { ScheduleRecord, ScheduledRun } from '../../catalog/index.ts';
import { type Statement, parseStatement, printStatement } from '../../sql/index.ts';
import { backup } from '../backup/backup.ts';
import type { ExecuteContext, Notice } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';

export type BackupStatement = Extract<Statement, { kind: 'backup' }>;

/** Reads the statement of a schedule. @throws CorruptError when it is none that this program wrote */
export function scheduledStatement(schedule: ScheduleRecord): BackupStatement {
  const node = parseStatement(schedule.statement)?.node;
  if (node?.kind !== 'backup')
    throw new CorruptError(`the statement of schedule ${schedule.id} is no BACKUP`);
  return node;
}

/**
 * Begins the backup that is due, as of the time it was due. Where that moment cannot be had (any more), it is of the present: late is
 * better than not at all.
 * @throws AppError what BACKUP is refused for; a schedule acts by it
 */
export async function startScheduledBackup(
  core: Core,
  options: {
    virtualClusterId: VirtualClusterId;
    schedule: ScheduleRecord;
    run: ScheduledRun;
    signal: AbortSignal;
  },
): Promise<JobId> {
  const { schedule, run } = options;
  const statement = scheduledStatement(schedule);
  const dated: BackupStatement = {
    ...statement,
    asOf: { kind: 'string', value: formatTimestamp(run.scheduledFor) },
  };
  try {
    return await startBackup(core, dated, options);
  } catch (error) {
    if (!isAppError(error, 'feature_not_supported', 'time_outside_window')) throw error;
    return startBackup(core, statement, options);
  }
}

async function startBackup(
  core: Core,
  statement: BackupStatement,
  options: {
    virtualClusterId: VirtualClusterId;
    schedule: ScheduleRecord;
    run: ScheduledRun;
    signal: AbortSignal;
  },
): Promise<JobId> {
  const result = await backup.run(core, statement, contextOf(core, statement, options));
  const jobId = result.kind === 'rows' ? result.rows[0]?.[0] : undefined;
  return BigInt(required(jobId, 'the job of a detached backup')) as JobId;
}

function contextOf(
  core: Core,
  statement: BackupStatement,
  options: {
    virtualClusterId: VirtualClusterId;
    schedule: ScheduleRecord;
    run: ScheduledRun;
    signal: AbortSignal;
  },
): ExecuteContext {
  const { virtualClusterId, schedule, run, signal } = options;
  const virtualClusterName = required(
    core.catalog.get(virtualClusterId)?.name,
    `name of virtual cluster ${virtualClusterId}`,
  );
  const logger = loggerOf(core, { id: virtualClusterId, name: virtualClusterName });
  return {
    session: {
      virtualClusterId,
      virtualClusterName,
      user: schedule.owner,
      database: schedule.database,
      applicationName: `schedule ${schedule.id}`,
    },
    transaction: 'idle',
    text: printStatement(statement),
    parameters: [],
    onNotice: (notice: Notice) => logger.info(`schedule ${schedule.id}: ${notice.message}`),
    signal,
    run,
  };
}
