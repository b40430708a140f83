/**
 * What a restored data directory must not keep of where it comes from, done by the bootstrap superuser in database `system` before anybody
 * can log in. Only backups with this physical cluster's seal get here, so what they hold was written under our own rules.
 */
import type { IncarnationId, Timestamp } from '../base/index.ts';
import {
  type SqlClient,
  inTransaction,
  migrate,
  modifiedNext,
  textOf,
  unfinishedJobs,
  writeJob,
} from '../catalog/index.ts';
import { nextJobState } from './job-state.ts';

/** What SHOW JOBS says of a job that was going on when the backup was taken: it may well have ended since, over there. */
export const UNFINISHED_AT_BACKUP =
  'the job was not finished when the backup was taken that this virtual cluster was restored from; it does not run here';

export interface RestoredLife {
  readonly incarnation: IncarnationId;
  readonly now: Timestamp;
  /**
   * What becomes of the jobs of the life it comes from. A backup brings none of them: what was going on while it was taken, and that is at
   * least the BACKUP itself, has ended over there, as this copy cannot know how. What is the same virtual cluster at an earlier time, or
   * a standby of it, keeps them.
   */
  readonly jobs?: 'close' | 'forget';
}

/** Gives what was found and changed, a sentence each, for the log. May run twice. */
export async function prepareRestored(client: SqlClient, life: RestoredLife): Promise<readonly string[]> {
  await migrate(client, { set: 'virtual_cluster', now: life.now });
  return inTransaction(client, async () => {
    const disarmed = await disarmSuperusers(client);
    if (life.jobs !== 'forget') return [...disarmed, ...(await closeJobs(client, life))];
    await forgetJobs(client, life.incarnation);
    return disarmed;
  });
}

/**
 * Lets the schedules of what was restored go on by themselves in their new life, because nobody else runs them any more. Those that were
 * paused stay so. May run twice.
 */
export async function adoptSchedules(
  client: SqlClient,
  { from, to }: { readonly from: IncarnationId; readonly to: IncarnationId },
): Promise<void> {
  await client.query('update public.scheduled_jobs set incarnation = $2::uuid where incarnation = $1::uuid', [
    from,
    to,
  ]);
}

async function forgetJobs(client: SqlClient, own: IncarnationId): Promise<void> {
  await client.query('delete from public.jobs where incarnation <> $1::uuid', [own]);
}

/** Nobody but the bootstrap superuser (OID 10) is one in a virtual cluster. */
async function disarmSuperusers(client: SqlClient): Promise<string[]> {
  const rows = await client.query(
    `select rolname, pg_catalog.quote_ident(rolname) as quoted from pg_catalog.pg_authid where rolsuper and oid <> 10`,
  );
  for (const row of rows) await client.query(`alter role ${textOf(row, 'quoted')} nosuperuser`);
  return rows.map((row) => `role ${textOf(row, 'quoted')} is no superuser any more`);
}

/** Jobs that were going on when the backup was taken belong to that life of the data. */
async function closeJobs(
  client: SqlClient,
  options: { incarnation: IncarnationId; now: Timestamp },
): Promise<string[]> {
  const closed: string[] = [];
  for (const job of await unfinishedJobs(client)) {
    if (job.incarnation === options.incarnation) continue;
    const state = nextJobState(job.state, { kind: 'closed', error: UNFINISHED_AT_BACKUP });
    await writeJob(client, {
      ...job,
      state,
      finished: options.now,
      modified: modifiedNext(job, options.now),
    });
    closed.push(`job ${job.id} (${job.type}) of the backup's time is closed`);
  }
  return closed;
}
