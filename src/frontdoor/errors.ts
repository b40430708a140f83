import { AppError, type Logger, toError } from '../base/index.ts';
import type { Notice } from '../control/index.ts';
import { encodeErrorResponse, encodeNoticeResponse } from '../pg/index.ts';

/** An error that a backend reported; it reaches the client byte for byte. */
export class BackendError extends Error {
  override readonly name = 'BackendError';
  readonly response: Buffer;

  constructor(response: Buffer) {
    super('an error of the backend');
    this.response = response;
  }
}

/** How much ends: the statement, or the session. */
export type ErrorSeverity = 'ERROR' | 'FATAL';

/** What a client is told. What is no error of ours is a bug: it is logged, and the client hears no more than that. */
export function errorResponse(thrown: unknown, options: { severity: ErrorSeverity; logger: Logger }): Buffer {
  if (thrown instanceof BackendError) return thrown.response;
  if (!(thrown instanceof AppError)) options.logger.error('a statement or session failed by a bug', thrown);
  const error =
    thrown instanceof AppError
      ? thrown
      : new AppError('internal', 'internal error', {
          cause: toError(thrown),
          hint: 'see the log of the node',
        });
  const fields = new Map([
    ['S', options.severity],
    ['V', options.severity],
    ['C', error.sqlstate],
    ['M', error.message],
  ]);
  if (error.detail !== undefined) fields.set('D', error.detail);
  if (error.hint !== undefined) fields.set('H', error.hint);
  if (error.position !== undefined) fields.set('P', String(error.position));
  return encodeErrorResponse(fields);
}

export function noticeResponse(notice: Notice): Buffer {
  const fields = new Map([
    ['S', notice.severity],
    ['V', notice.severity],
    ['C', notice.sqlstate],
    ['M', notice.message],
  ]);
  if (notice.hint !== undefined) fields.set('H', notice.hint);
  return encodeNoticeResponse(fields);
}
