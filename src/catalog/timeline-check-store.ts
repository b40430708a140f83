/** What came of restores of timelines that were tried out, in the control plane's tables. */
import {
  formatLsn,
  formatTimestamp,
  type IncarnationId,
  type JobId,
  type Lsn,
  type Timestamp,
  type VirtualClusterId,
} from '../base/index.ts';
import { microsecondsOf, storable, type SqlClient, textOf, timestampOf } from './database.ts';

/** How many results are kept for each virtual cluster. */
const CHECKS_KEPT = 100;

export interface TimelineCheckCounts {
  readonly databases: number;
  readonly tables: number;
  readonly indexes: number;
  readonly pages: number;
}

export interface TimelineCheckRecord {
  readonly jobId: JobId;
  readonly virtualClusterId: VirtualClusterId;
  readonly started: Timestamp;
  readonly finished: Timestamp;
  /** What was restored. */
  readonly point: { readonly time: Timestamp; readonly incarnation: IncarnationId; readonly lsn: Lsn };
  readonly state: 'succeeded' | 'failed';
  readonly counts: TimelineCheckCounts;
  /** What is wrong, a sentence each; empty when it succeeded. */
  readonly findings: readonly string[];
}

/** As `SHOW` has it: its position in text. */
export interface ListedTimelineCheck extends Omit<TimelineCheckRecord, 'jobId' | 'point'> {
  readonly jobId: string;
  readonly time: Timestamp;
  readonly position: string;
}

/** A later attempt of the same job replaces what an earlier one said. Of a virtual cluster that is gone nothing is kept. */
export async function writeTimelineCheck(client: SqlClient, check: TimelineCheckRecord): Promise<void> {
  const { point } = check;
  await client.query(
    `insert into public.timeline_checks
      (job_id, virtual_cluster_id, started, finished, as_of, position, state, counts, findings)
      select $1::int8, $2::int8, $3::timestamptz, $4::timestamptz, $5::timestamptz, $6::text, $7::text, $8::jsonb, $9::jsonb
        where exists (select from public.virtual_clusters where id = $2::int8)
      on conflict (job_id) do update set started = excluded.started, finished = excluded.finished, state = excluded.state,
        counts = excluded.counts, findings = excluded.findings`,
    [
      String(check.jobId),
      String(check.virtualClusterId),
      formatTimestamp(check.started),
      formatTimestamp(check.finished),
      formatTimestamp(point.time),
      `${point.incarnation}@${formatLsn(point.lsn)}`,
      check.state,
      JSON.stringify(check.counts),
      storable(JSON.stringify(check.findings)),
    ],
  );
  await client.query(
    `delete from public.timeline_checks where job_id in (
      select job_id from public.timeline_checks where virtual_cluster_id = $1 order by started desc offset ${CHECKS_KEPT})`,
    [String(check.virtualClusterId)],
  );
}

/** Newest first; of all virtual clusters when none is named. */
export async function listTimelineChecks(
  client: SqlClient,
  { virtualClusterId }: { virtualClusterId: VirtualClusterId | null },
): Promise<readonly ListedTimelineCheck[]> {
  const rows = await client.query(
    `select job_id, virtual_cluster_id, ${microsecondsOf('started')} as started, ${microsecondsOf('finished')} as finished,
        ${microsecondsOf('as_of')} as as_of, position, state, counts, findings
      from public.timeline_checks where $1::int8 is null or virtual_cluster_id = $1::int8 order by started desc, job_id desc`,
    [virtualClusterId === null ? null : String(virtualClusterId)],
  );
  return rows.map((row) => ({
    jobId: textOf(row, 'job_id'),
    virtualClusterId: Number(textOf(row, 'virtual_cluster_id')) as VirtualClusterId,
    started: timestampOf(textOf(row, 'started')) as Timestamp, // Not null, as the others.
    finished: timestampOf(textOf(row, 'finished')) as Timestamp,
    time: timestampOf(textOf(row, 'as_of')) as Timestamp,
    position: textOf(row, 'position'),
    state: textOf(row, 'state') === 'succeeded' ? 'succeeded' : 'failed',
    counts: JSON.parse(textOf(row, 'counts')) as TimelineCheckCounts, // Written above.
    findings: JSON.parse(textOf(row, 'findings')) as readonly string[],
  }));
}
