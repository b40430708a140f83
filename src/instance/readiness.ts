import { DatabaseError } from 'pg';
import { AppError, type Clock, isAppError, toError } from '../base/index.ts';
import { type Login, readLogins } from './login.ts';
import { readPostmasterPid } from './postmaster-pid.ts';
import { withSystemSession } from './sessions.ts';

/** Waits between attempts grow from the first to the last: most starts take a tenth of a second, recoveries longer. A look costs next to nothing. */
const POLL_MS_MIN = 5;
const POLL_MS_MAX = 20;
const SUPERUSER_OID = '10';

/**
 * Waits until a server lets us in, by really logging in, and checks that it serves the data we mean. Gives how we got in.
 * @throws AppError `instance_failed` when it lets nobody in and never will, or serves other data
 */
export async function untilServing(options: {
  dataDirectory: string;
  socketDirectory: string;
  clusterName: string;
  /** Null when any will do. */
  systemIdentifier: bigint | null;
  clock: Clock;
  signal: AbortSignal;
}): Promise<Login> {
  const { systemIdentifier, clusterName, clock, signal } = options;
  for (let pollMs = POLL_MS_MIN; ; pollMs = Math.min(pollMs * 1.5, POLL_MS_MAX)) {
    const claim = await readPostmasterPid(options.dataDirectory);
    if (claim?.isReady !== true) {
      await clock.sleep(pollMs, { signal });
      continue;
    }
    try {
      const { served, login } = await logIn(options);
      if (systemIdentifier === null || served === systemIdentifier) return login;
    } catch (error) {
      if (!isPassing(error)) throw error;
      await clock.sleep(pollMs, { signal });
      continue;
    }
    throw new AppError('instance_failed', `virtual cluster "${clusterName}" serves data of another system`, {
      hint: 'its data directory was exchanged; compare it with identity.json',
    });
  }
}

/** As the first of those who may be the superuser, and is. */
async function logIn(options: {
  dataDirectory: string;
  socketDirectory: string;
  clusterName: string;
  signal: AbortSignal;
}): Promise<{ served: bigint; login: Login }> {
  let refusal: unknown;
  for (const login of await readLogins(options.dataDirectory)) {
    try {
      const [row] = await withSystemSession({ ...options, login }, (client) =>
        client.query(
          `SELECT s.system_identifier, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = session_user)::text AS role
             FROM pg_catalog.pg_control_system() s`,
        ),
      );
      const served = BigInt.asUintN(64, BigInt(row?.['system_identifier'] ?? 0));
      if (row?.['role'] === SUPERUSER_OID) return { served, login };
    } catch (error) {
      if (!isUnknown(error)) throw error;
      refusal ??= error;
    }
  }
  throw refusal ?? new AppError('instance_failed', 'the server has no superuser that its daemon knows');
}

/** There is no such role, or no such database. */
function isUnknown(error: unknown): boolean {
  const refusal = isAppError(error) ? error.cause : undefined;
  return refusal instanceof DatabaseError && ['28000', '3D000', '42501'].includes(refusal.code ?? '');
}

/** A server that starts refuses connections in many ways. One that answers who may log in has started. */
function isPassing(error: unknown): boolean {
  if (!isAppError(error, 'connection_failure', 'cannot_connect_now', 'too_many_connections')) return false;
  const refusal = error.cause;
  // It refuses us, or what it needs to let anybody in is damaged or missing.
  const isFinal = refusal instanceof DatabaseError && /^(?:28|58P|XX)/.test(refusal.code ?? '');
  if (!isFinal) return true;
  throw new AppError(
    'instance_failed',
    `the server does not let its own daemon in: ${toError(refusal).message}`,
    {
      cause: error,
    },
  );
}
