import { AppError, type ErrorOptions, errnoOf } from '../../base/index.ts';
import { UnavailableAnswer } from './range-transport.ts';

/** What a client library's error says, whatever the library. */
export interface ServiceFault {
  /** The service's own word for it: `AccessDenied`. Never its message, which can hold what was sent. */
  readonly word: string;
  /** HTTP status, or null when no answer came. */
  readonly status: number | null;
}

/** Words of the services that tell more than their status does. */
const CLOCK_SKEWED = ['RequestTimeTooSkewed'];
const CREDENTIALS_EXPIRED = ['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired'];
const BUCKET_MISSING = ['NoSuchBucket', 'ContainerNotFound'];
const QUOTA_USED_UP = ['QuotaExceeded', 'InsufficientCapacity', 'StorageQuotaExceeded', 'AccountIsFull'];
/** The node's own rights were looked for, and not found or not reached. */
const WITHOUT_RIGHTS = [
  'NoCredentials',
  'CredentialsProviderError',
  'AggregateAuthenticationError',
  'CredentialUnavailableError',
];
const TRANSIENT = [
  'SlowDown',
  'RequestTimeout',
  'InternalError',
  'ServerBusy',
  'OperationTimedOut',
  'ConditionalRequestConflict',
  'OperationAborted',
  // What arrived is not what was sent.
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'Md5Mismatch',
];

/**
 * Our error for a service's. `what` names the object and the place. The library's error is not kept as the cause: it holds
 * the request, and with it credentials.
 */
export function serviceError(fault: ServiceFault, what: string): AppError {
  const { word, status } = fault;
  const detail =
    status === null ? `the service could not be reached: ${word}` : `the service answered ${status} ${word}`;
  const refused = (hint: string) =>
    new AppError('storage_refused', `${what}: access was refused`, { detail, hint });
  const unusable = (message: string, options: ErrorOptions) =>
    new AppError('storage_unusable', `${what}: ${message}`, { detail, ...options });
  if (CLOCK_SKEWED.includes(word))
    return refused('set the clock of the node: the service found it too far from its own');
  if (CREDENTIALS_EXPIRED.includes(word)) return refused('the credentials have expired: give new ones');
  if (BUCKET_MISSING.includes(word)) {
    return unusable('the bucket does not exist', { hint: 'create it, or correct its name in the URI' });
  }
  if (QUOTA_USED_UP.includes(word) || status === 507) {
    return new AppError('disk_full', `${what}: the storage is full`, { detail });
  }
  // An answer that cannot be read although all went well was damaged on its way.
  const isUnreadable = status !== null && status < 300;
  const isTransient =
    status === null ||
    isUnreadable ||
    status >= 500 ||
    status === 408 ||
    status === 429 ||
    TRANSIENT.includes(word);
  if (isTransient && status !== 501) {
    const hint = WITHOUT_RIGHTS.includes(word)
      ? "give credentials in the URI (AUTH=specified), or set up the node's own"
      : 'check the address in the URI, the network of the node, and whether the service runs';
    return new AppError('blob_unavailable', `${what}: object storage is not available`, {
      detail,
      ...(status === null ? { hint } : {}),
    });
  }
  if (status === 401 || status === 403) {
    return refused(
      'check the credentials of the URI and the rights of their owner: writing needs put, get and list, reading get and list',
    );
  }
  if (status === 404) return new AppError('blob_not_found', `${what}: there is no such object`);
  return unusable('the service refused the request', {});
}

/** The word for what a library throws while it looks for credentials, before anything is asked of the service. */
export function faultWithoutRights(error: unknown): ServiceFault {
  return { word: errnoOf(error) ?? 'NoCredentials', status: null };
}

/** The word for a failure without an answer that was read: the errno where there is one. */
export function faultWithoutAnswer(error: unknown): ServiceFault {
  if (error instanceof UnavailableAnswer) return { word: 'Unavailable', status: error.status };
  const name = error instanceof Error ? error.name : 'unknown';
  return { word: errnoOf(error) ?? name, status: null };
}
