/** Jobs that a transaction has asked for: they begin when it has committed, and end when it is rolled back. */
import type { JobRecord, JsonObject } from '../catalog/index.ts';
import type { Instance } from '../instance/index.ts';

/** What became of a transaction; null when that is so long ago that Postgres has forgotten it. */
export type TransactionOutcome = 'in progress' | 'committed' | 'aborted' | null;

/** Part of the payload of a job that waits for a transaction; nothing without one. */
export function transactionPayload(transactionId: string | undefined): JsonObject {
  return transactionId === undefined ? {} : { afterTransaction: transactionId };
}

/** Part of the progress, from when the transaction is known to have committed: nobody asks again. */
export const COMMITTED: JsonObject = { transactionCommitted: true };

/** The transaction that has to commit first; null when there is none, or it has. */
export function awaitedTransaction({ payload, progress }: JobRecord): string | null {
  const { afterTransaction } = payload;
  if (typeof afterTransaction !== 'string' || progress['transactionCommitted'] === true) return null;
  return afterTransaction;
}

/**
 * As the commit log says. A number that was given out before a crash and is not in the log would be one to come: whoever kept it wrote after
 * that, so there is none.
 */
export async function readTransactionOutcome(
  instance: Instance,
  transactionId: string,
  { signal }: { signal: AbortSignal },
): Promise<TransactionOutcome> {
  const [row] = await instance.withSystemClient(
    (client) =>
      client.query('SELECT pg_catalog.pg_xact_status($1::pg_catalog.xid8) AS outcome', [transactionId]),
    { signal },
  );
  const outcome = row?.['outcome'] ?? null;
  return outcome === 'in progress' || outcome === 'committed' || outcome === 'aborted' ? outcome : null;
}
