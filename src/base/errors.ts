/**
 * Every error a user can meet, in one table: the code we switch on, the SQLSTATE a client sees, the HTTP status, the
 * exit code of the command line, and whether trying again can help. `docs/reference/errors.md` is made from it.
 */
export type RetryClass = 'never' | 'backoff' | 'other_copy';

interface ErrorRow {
  readonly sqlstate: string;
  readonly http: number;
  readonly exit: number;
  readonly retry: RetryClass;
}

const bad = (sqlstate: string): ErrorRow => ({ sqlstate, http: 400, exit: 2, retry: 'never' });
const refused = (sqlstate: string): ErrorRow => ({ sqlstate, http: 403, exit: 77, retry: 'never' });
const conflict = (sqlstate: string): ErrorRow => ({ sqlstate, http: 409, exit: 1, retry: 'never' });
const missing = (sqlstate: string): ErrorRow => ({ sqlstate, http: 404, exit: 1, retry: 'never' });
const broken = (sqlstate: string): ErrorRow => ({ sqlstate, http: 500, exit: 70, retry: 'never' });
const unavailable = (sqlstate: string): ErrorRow => ({ sqlstate, http: 503, exit: 75, retry: 'backoff' });

export const ERRORS = {
  internal: broken('XX000'),
  cancelled: { sqlstate: '57014', http: 499, exit: 130, retry: 'never' },
  timed_out: { sqlstate: '57014', http: 504, exit: 75, retry: 'backoff' },

  syntax: bad('42601'),
  feature_not_supported: { sqlstate: '0A000', http: 501, exit: 2, retry: 'never' },
  feature_disabled: refused('57000'),
  parameter_invalid: bad('22023'),
  lsn_malformed: bad('22P02'),
  timestamp_malformed: bad('22007'),
  time_outside_window: bad('22023'),
  incarnation_malformed: bad('22P02'),
  virtual_cluster_name_invalid: bad('42602'),
  name_invalid: bad('42602'),
  undefined_parameter: bad('42P02'),

  insufficient_privilege: refused('42501'),
  grant_invalid: bad('0LP01'),
  grant_dependent: conflict('2BP01'),
  authentication_failed: { ...refused('28P01'), http: 401 },
  authorization_invalid: refused('28000'),

  object_not_found: missing('42704'),
  database_not_found: missing('3D000'),
  table_not_found: missing('42P01'),
  object_exists: conflict('42710'),
  table_exists: conflict('42P07'),
  object_missing: conflict('55000'),
  object_in_use: conflict('55006'),
  object_state: conflict('55000'),
  parameter_read_only: conflict('55P02'),
  read_only: conflict('25006'),
  transaction_active: conflict('25001'),
  transaction_failed: conflict('25P02'),
  limit_exceeded: conflict('54000'),

  service_unavailable: unavailable('08004'),
  cannot_connect_now: unavailable('57P03'),
  connection_failure: unavailable('08006'),
  too_many_connections: unavailable('53300'),
  protocol_violation: bad('08P01'),
  cursor_undefined: bad('34000'),
  shutting_down: unavailable('57P01'),
  instance_ended: unavailable('57P02'),
  worker_lost: unavailable('57P02'),

  blob_not_found: missing('58P01'),
  blob_exists: conflict('58P02'),
  blob_unavailable: unavailable('58030'),
  storage_refused: refused('42501'),
  storage_unusable: { sqlstate: '58030', http: 502, exit: 74, retry: 'never' },
  disk_full: { sqlstate: '53100', http: 507, exit: 74, retry: 'never' },
  io: { sqlstate: '58030', http: 500, exit: 74, retry: 'never' },

  kms_unavailable: unavailable('58030'),
  kms_refused: refused('42501'),

  data_corrupt: { sqlstate: 'XX001', http: 500, exit: 74, retry: 'other_copy' },
  format_unsupported: { sqlstate: '0A000', http: 500, exit: 74, retry: 'never' },
  backup_not_found: missing('42704'),
  backup_untrusted: refused('42501'),
  changes_unknown: conflict('55000'),
  copy_failed: conflict('55000'),

  store_in_use: { sqlstate: '55006', http: 500, exit: 73, retry: 'never' },
  store_invalid: { sqlstate: '58030', http: 500, exit: 74, retry: 'never' },
  engine_invalid: { sqlstate: '58P01', http: 500, exit: 69, retry: 'never' },
  instance_failed: unavailable('57P03'),
  instance_unresponsive: unavailable('57P03'),
  proof_failed: { sqlstate: '58000', http: 500, exit: 74, retry: 'never' },
  address_in_use: { sqlstate: '55006', http: 500, exit: 69, retry: 'never' },
  usage: { sqlstate: '22023', http: 400, exit: 64, retry: 'never' },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

export interface ErrorOptions {
  readonly cause?: unknown;
  /** What to do next, one sentence without a full stop. */
  readonly hint?: string;
  readonly detail?: string;
  /** One-based character of the statement's text that the error points at. */
  readonly position?: number;
}

/** A fact of life, as opposed to a bug. Messages: lower case, no full stop, naming the object. */
export class AppError<Code extends ErrorCode = ErrorCode> extends Error {
  readonly code: Code;
  readonly hint: string | undefined;
  readonly detail: string | undefined;
  readonly position: number | undefined;

  constructor(code: Code, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
    this.detail = options.detail;
    this.position = options.position;
  }

  get sqlstate(): string {
    return ERRORS[this.code].sqlstate;
  }

  get row(): ErrorRow {
    return ERRORS[this.code];
  }
}

/** What somebody outside gave us is wrong, and nothing was changed. */
export class InputError<Code extends ErrorCode = ErrorCode> extends AppError<Code> {}

/** Bytes on disk or in storage are not what was written. */
export class CorruptError extends AppError<'data_corrupt'> {
  constructor(message: string, options: ErrorOptions = {}) {
    super('data_corrupt', message, options);
  }
}

export class CancelledError extends AppError<'cancelled'> {
  constructor(message = 'cancelled', options: ErrorOptions = {}) {
    super('cancelled', message, options);
  }
}

/** True for an error of ours with one of these codes; never compare messages. */
export function isAppError<Code extends ErrorCode>(
  error: unknown,
  ...codes: Code[]
): error is AppError<Code> {
  return error instanceof AppError && (codes.length === 0 || (codes as ErrorCode[]).includes(error.code));
}

/** The errno name (`ENOENT`, ...) of a failed system call, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Names of a full disk: errno of a system call, SQLSTATE of Postgres. */
const DISK_FULL: readonly (string | undefined)[] = ['ENOSPC', 'EDQUOT', '53100'];
/** Causes that are looked at; errors are wrapped once for each layer they cross. */
const CAUSES_MAX = 8;

/** True when a full disk, or a quota that is used up, is what an error comes from. */
export function isDiskFull(error: unknown): boolean {
  let at = error;
  for (let depth = 0; depth < CAUSES_MAX && at instanceof Error; depth += 1) {
    if (isAppError(at, 'disk_full') || DISK_FULL.includes(errnoOf(at))) return true;
    at = at.cause;
  }
  return false;
}

/** For catch clauses: whatever was thrown, as an Error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
