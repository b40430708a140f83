import type { Clock } from '../base/index.ts';
import type { Instance } from './contract.ts';

const POLL_MS = 20;

/**
 * Brings Postgres's summaries of the log up to a checkpoint that it makes now: going back in time then reads them, in place of the log, to
 * find out what has changed. The checkpoint leaves that of a stop little to do. (`postmaster/walsummarizer.c`: a summary ends where a
 * checkpoint's replay would begin.) Where nobody summarises nothing is waited for.
 * @throws CancelledError when the signal aborts before; AppError when the server does not answer
 */
export async function summariseLog(
  instance: Pick<Instance, 'withSystemClient'>,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<void> {
  await instance.withSystemClient(
    async (client) => {
      await client.query('checkpoint');
      for (;;) {
        const [row] = await client.query(
          `select (summarizer_pid is null or coalesce(max(end_lsn) >= redo_lsn, false))::text as is_over
             from pg_catalog.pg_control_checkpoint()
            cross join pg_catalog.pg_get_wal_summarizer_state()
             left join pg_catalog.pg_available_wal_summaries() on tli = timeline_id
            group by redo_lsn, summarizer_pid`,
        );
        if (row?.['is_over'] === 'true') return;
        await clock.sleep(POLL_MS, { signal });
      }
    },
    { signal },
  );
}
