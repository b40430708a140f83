/** The newest error of a job, kept beside its message so that whoever waits for the job gets it under its own code. */
import { AppError, ERRORS, type ErrorCode, isDiskFull, toError } from '../base/index.ts';
import type { JsonObject, PausePoint } from '../catalog/index.ts';

/** A full disk under its own code, whoever met it; everything else as it was thrown. */
export function withDiskFullNamed(thrown: unknown): unknown {
  if (!isDiskFull(thrown) || (thrown instanceof AppError && thrown.code === 'disk_full')) return thrown;
  return new AppError('disk_full', toError(thrown).message, {
    cause: thrown,
    hint: 'free space and try again',
  });
}

export function recordError(thrown: unknown): JsonObject {
  if (!(thrown instanceof AppError)) return { errorCode: 'internal', errorHint: null };
  return { errorCode: thrown.code, errorHint: thrown.hint ?? null };
}

export function readError(progress: JsonObject, message: string): AppError {
  const code = progress['errorCode'];
  const hint = progress['errorHint'];
  const isKnown = typeof code === 'string' && code in ERRORS;
  return new AppError(
    isKnown ? (code as ErrorCode) : 'internal',
    message,
    typeof hint === 'string' ? { hint } : {},
  );
}

/** Thrown out of a job's work at a place where an operator holds it. */
export class PausePointError extends AppError<'object_state'> {
  constructor(point: PausePoint) {
    super('object_state', `pause point "${point}" hit`, {
      hint: 'RESET CLUSTER SETTING jobs.debug.pausepoints, then RESUME JOB',
    });
  }
}
