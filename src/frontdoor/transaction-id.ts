/** Which transaction a session is in, by a number under which its fate can be asked when the session is long gone. */
import { assert } from '../base/index.ts';
import { BACKEND } from '../pg/index.ts';
import type { Relay } from './relay.ts';
import { askInSession } from './run-in-session.ts';

/**
 * Gives the innermost open transaction, a savepoint's too, a number, and writes that to the log: a record of ours that is committed later is in
 * the log behind it, so that after a crash the number is never another transaction's.
 */
const NUMBER = "SELECT pg_catalog.pg_logical_emit_message(true, 'atoll', ''::pg_catalog.text)";

/** Every transaction and savepoint that has a number holds a lock on it; the youngest is the innermost. */
const READ = `SELECT (t.top + ((s.own - (t.top & 4294967295) + 4294967296) & 4294967295))::pg_catalog.text
  FROM (SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8 AS top) t,
    (SELECT l.transactionid::pg_catalog.text::pg_catalog.int8 AS own FROM pg_catalog.pg_locks l
      WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
      ORDER BY pg_catalog.age(l.transactionid) LIMIT 1) s`;

const COLUMN_AT = 7;

/**
 * The number, 64 bits in decimal, of the session's open transaction.
 * @throws BackendLostError; BackendError with what the backend said
 */
export async function transactionIdOf(relay: Relay): Promise<string> {
  await askInSession(relay, NUMBER);
  const [row] = await askInSession(relay, READ);
  assert(row !== undefined && row[0] === BACKEND.dataRow, 'an open transaction has a number');
  const bytes = row.readInt32BE(COLUMN_AT);
  return row.toString('latin1', COLUMN_AT + 4, COLUMN_AT + 4 + bytes);
}
