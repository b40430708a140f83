import { AppError, type ErrorCode, ERRORS, errnoOf, toError } from '../../base/index.ts';

/** An error as it travels between threads and processes. */
export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly detail: string | undefined;
  /** Where it came from, for the log. */
  readonly stack: string | undefined;
}

export function toWireError(thrown: unknown): WireError {
  const error = toError(thrown);
  const { code, message, hint, detail } = error instanceof AppError ? error : asAppError(error);
  return { code, message, hint, detail, stack: stackOf(error) };
}

/** The error again, with the other side's stack as its cause. */
export function fromWireError(wire: WireError): AppError {
  const cause = new Error(wire.stack ?? wire.message);
  const code: ErrorCode = isErrorCode(wire.code) ? wire.code : 'internal';
  return new AppError(code, wire.message, {
    cause,
    ...(wire.hint === undefined ? {} : { hint: wire.hint }),
    ...(wire.detail === undefined ? {} : { detail: wire.detail }),
  });
}

/** System calls fail for reasons that people can do something about. */
function asAppError(error: Error): AppError {
  const errno = errnoOf(error);
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new AppError('disk_full', `no space left on the disk: ${error.message}`, {
      cause: error,
      hint: 'free space and try again',
    });
  }
  const isSystem = errno !== undefined && /^E[A-Z0-9]+$/.test(errno);
  return new AppError(isSystem ? 'io' : 'internal', error.message, { cause: error });
}

function stackOf(error: Error): string | undefined {
  const cause = error.cause instanceof Error ? `\ncaused by: ${stackOf(error.cause) ?? ''}` : '';
  return error.stack === undefined ? undefined : error.stack + cause;
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}
