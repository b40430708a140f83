/** What BACKUP and RESTORE share: how they wait for their job, and what they return. */
import { AppError, InputError } from '../../base/index.ts';
import { type JobRecord, errorOf, isTerminal } from '../../catalog/index.ts';
import { type JobReference, readError, readRemoved, readTotals } from '../../jobs/index.ts';
import type { Option, RestoreTargets, Statement } from '../../sql/index.ts';
import type { Column, ExecuteContext, Notice, StatementResult } from '../contract.ts';
import type { Core } from '../core.ts';
import { columnsOf, rowsResult, timestampCell } from '../use-case.ts';
import { isFlagOn } from '../values.ts';

const BLOCKING = columnsOf({
  job_id: 'int8',
  status: 'text',
  fraction_completed: 'float8',
  rows: 'int8',
  index_entries: 'int8',
  bytes: 'int8',
});
/** How many things that were removed are named. */
const REMOVED_NAMED_MAX = 20;
/** How many databases a notice names. */
const DATABASES_NAMED_MAX = 10;
const DETACHED = columnsOf({ job_id: 'int8' });

export function bulkColumns(options: readonly Option[]): readonly Column[] {
  return isFlagOn(options, 'detached') ? DETACHED : BLOCKING;
}

/** In a transaction it is begun by the transaction's commit: the front door tells which transaction that is. */
export function joinsTransaction(statement: Statement): boolean {
  return (
    (statement.kind === 'backup' || (statement.kind === 'restore' && isOfObjects(statement.targets.kind))) &&
    isFlagOn(statement.options, 'detached')
  );
}

/** Not everything, whose session would not outlive it, and not users, who come back before the statement returns. */
function isOfObjects(kind: RestoreTargets['kind']): boolean {
  return kind === 'databases' || kind === 'tables';
}

/**
 * In a transaction these statements may only be detached, and then run when it has committed.
 * @throws InputError `transaction_active`, `feature_not_supported`
 */
export function requireBulkAllowed(
  context: ExecuteContext,
  options: { statement: string; options: readonly Option[] },
): void {
  if (context.transaction !== 'in_transaction' || context.transactionId !== undefined) return;
  if (isFlagOn(options.options, 'detached')) {
    throw new InputError(
      'feature_not_supported',
      `${options.statement} with DETACHED inside a multi-statement transaction is not available for these targets`,
      { hint: 'run it outside the transaction, where DETACHED returns at once' },
    );
  }
  throw new InputError(
    'transaction_active',
    `${options.statement} cannot be used inside a multi-statement transaction without DETACHED option`,
    { hint: 'end the transaction first' },
  );
}

/** Returns at once when detached, else when the job is over. The job goes on when the client does not. */
export async function resultOf(
  core: Core,
  options: {
    job: JobRecord;
    reference: JobReference;
    options: readonly Option[];
    tag: string;
    context: ExecuteContext;
  },
): Promise<StatementResult> {
  const { job, reference, tag, context } = options;
  if (isFlagOn(options.options, 'detached')) return rowsResult(DETACHED, [[String(job.id)]], tag);
  const ended = await untilSucceeded(core, { job, reference, context });
  const { rows, indexEntries, bytes, uncounted } = readTotals(ended.progress);
  tellRemoved(readRemoved(ended.progress), context);
  if (uncounted.length > 0) context.onNotice(uncountedNotice(uncounted));
  const cells = [ended.id, 'succeeded', ended.fractionCompleted, rows, indexEntries, bytes].map(String);
  return rowsResult(BLOCKING, [cells], tag);
}

/** Waits for a job. It goes on when the client does not. @throws AppError what ended it, under its own code */
export async function untilSucceeded(
  core: Core,
  { job, reference, context }: { job: JobRecord; reference: JobReference; context: ExecuteContext },
): Promise<JobRecord> {
  const ended = await core.runner
    .waitFor(reference, {
      until: (record) => isTerminal(record.state) || record.state.kind === 'paused',
      ...newsFor(job.id, context),
      signal: context.signal,
    })
    .catch((error: unknown) => {
      if (context.signal.aborted) tellItGoesOn(job, context);
      throw error;
    });
  requireSucceeded(ended);
  return ended;
}

/** Who gives up waiting, with Ctrl-C or by a time-out of the client's, has not given up the job. */
function tellItGoesOn({ id, type }: JobRecord, { onNotice }: ExecuteContext): void {
  onNotice({
    severity: 'NOTICE',
    sqlstate: '00000',
    message: `the ${type} goes on: only the wait for job ${id} has ended`,
    hint: `wait for it with SHOW JOB WHEN COMPLETE ${id}, or end it with CANCEL JOB ${id}`,
  });
}

/** Tells who waits what the job itself waits for. */
function newsFor(
  jobId: JobReference['jobId'],
  { onNotice }: ExecuteContext,
): { onChange: (record: JobRecord) => void; onStall: (reason: string | null) => void } {
  const tell = (message: string) => onNotice({ severity: 'NOTICE', sqlstate: '00000', message });
  let attempt = 0;
  return {
    onChange({ state, attempt: present }) {
      if (state.kind !== 'retry-running' || present === attempt) return;
      attempt = present;
      const at = timestampCell(state.retryAt);
      tell(`attempt ${attempt} of job ${jobId} failed and is repeated at ${at}: ${state.error}`);
    },
    onStall(reason) {
      tell(
        reason === null
          ? `job ${jobId} goes on`
          : `job ${jobId} waits, and goes on by itself: its record cannot be written: ${reason}`,
      );
    },
  };
}

/** What was restored is not served as it was: whoever restores it must know. */
function tellRemoved(removed: readonly string[], { onNotice }: ExecuteContext): void {
  const tell = (message: string) => onNotice({ severity: 'WARNING', sqlstate: '01000', message });
  for (const sentence of removed.slice(0, REMOVED_NAMED_MAX)) tell(sentence);
  const more = removed.length - REMOVED_NAMED_MAX;
  if (more > 0) tell(`and ${more} more, which the log names`);
}

/** Everything is in the backup; only what is shown of it is less. */
function uncountedNotice(databases: readonly string[]): Notice {
  const named = databases.slice(0, DATABASES_NAMED_MAX).map((name) => `"${name}"`);
  const more = databases.length > named.length ? ` and ${databases.length - named.length} more` : '';
  return {
    severity: 'WARNING',
    sqlstate: '01000',
    message: `rows and index entries do not count what is in database ${named.join(', ')}${more}, which admitted no session`,
    hint: 'its data is in the backup; look at its CONNECT privilege for atoll_reader, CONNECTION LIMIT and ALLOW_CONNECTIONS',
  };
}

/** @throws AppError what ended the job, under its own code */
function requireSucceeded(job: JobRecord): void {
  const { state } = job;
  const reason = errorOf(state);
  switch (state.kind) {
    case 'succeeded':
      return;
    case 'canceled':
      throw new AppError('cancelled', `job ${job.id} was canceled`);
    case 'paused':
      throw new AppError(
        'object_state',
        `job ${job.id} was paused before it completed${reason === undefined ? '' : ` with error: ${reason}`}`,
        { hint: `continue it with RESUME JOB ${job.id}, or give it up with CANCEL JOB ${job.id}` },
      );
    default:
      throw readError(job.progress, reason ?? `job ${job.id} ended as ${state.kind}`);
  }
}
