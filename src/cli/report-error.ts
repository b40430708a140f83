import type { Writable } from 'node:stream';
import { AppError, ERRORS } from '../base/index.ts';
import { formatError } from './sql/error-text.ts';
import pg from 'pg';

/**
 * Tells the operator what went wrong: one line and a hint for a fact of life, the stack for a bug.
 * @returns the exit code
 */
export function reportError(error: unknown, stderr: Writable): number {
  if (error instanceof AppError) {
    stderr.write(`atoll: ${error.message}\n`);
    if (error.detail !== undefined) stderr.write(`  ${error.detail}\n`);
    if (error.hint !== undefined) stderr.write(`  hint: ${error.hint}\n`);
    return error.row.exit;
  }
  if (error instanceof pg.DatabaseError) {
    stderr.write(formatError(error));
    const isRefusal = error.code?.startsWith('28') === true;
    return isRefusal ? ERRORS.authentication_failed.exit : ERRORS.connection_failure.exit;
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  stderr.write(`atoll: internal error, please report it\n${stack}\n`);
  return ERRORS.internal.exit;
}
