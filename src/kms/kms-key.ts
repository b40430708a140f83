/** A key that somebody else keeps: it wraps and unwraps data keys, and never leaves its service. */
import { AppError, CancelledError, type Clock, errnoOf, isAppError } from '../base/index.ts';
import type { KmsLocation } from './kms-uri.ts';
import { kmsDisplayUri, kmsKeyId } from './kms-uri.ts';

export interface KmsKey {
  /** Tells keys apart, and does not tell their names. */
  readonly id: string;
  /** For messages, without secrets. */
  readonly displayUri: string;
  /** @throws AppError `kms_refused`, `kms_unavailable`, `cancelled` */
  wrap(secret: Uint8Array, options: { readonly signal: AbortSignal }): Promise<Uint8Array>;
  /** @throws AppError `kms_refused` also for what this key has not wrapped; `kms_unavailable`, `cancelled` */
  unwrap(wrapped: Uint8Array, options: { readonly signal: AbortSignal }): Promise<Uint8Array>;
}

/** One service for keys, as its driver speaks with it: each call is one request, and throws errors of ours. */
export type KmsService = Pick<KmsKey, 'wrap' | 'unwrap'>;

const ATTEMPTS_MAX = 4;
const ATTEMPT_MS_MAX = 20_000;
const FIRST_DELAY_MS = 200;

/** Requests that got no answer are made again. The client library, which may be large, is loaded at the first use. */
export function openKmsKey(
  location: KmsLocation,
  { clock, open = openService }: { readonly clock: Clock; readonly open?: typeof openService },
): KmsKey {
  const displayUri = kmsDisplayUri(location);
  let service: Promise<KmsService> | undefined;
  const opened = () => {
    service ??= open(location, { displayUri }).catch((error: unknown) => {
      service = undefined; // Another attempt may find what this one did not.
      throw withoutRights(error, displayUri);
    });
    return service;
  };
  const ask = async (
    work: (service: KmsService, signal: AbortSignal) => Promise<Uint8Array>,
    signal: AbortSignal,
  ) => {
    for (let attempt = 1; ; attempt++) {
      if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
      const timeout = AbortSignal.timeout(ATTEMPT_MS_MAX);
      try {
        return await work(await opened(), AbortSignal.any([signal, timeout]));
      } catch (error) {
        if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
        if (!isAppError(error, 'kms_unavailable') || attempt === ATTEMPTS_MAX) throw error;
      }
      await clock.sleep(FIRST_DELAY_MS * 2 ** (attempt - 1), { signal });
    }
  };
  return {
    id: kmsKeyId(location),
    displayUri,
    wrap: (secret, options) => ask((found, signal) => found.wrap(secret, { signal }), options.signal),
    unwrap: (wrapped, options) => ask((found, signal) => found.unwrap(wrapped, { signal }), options.signal),
  };
}

async function openService(
  location: KmsLocation,
  { displayUri }: { readonly displayUri: string },
): Promise<KmsService> {
  switch (location.kind) {
    case 'aws':
      return (await import('./aws-kms.ts')).openAwsKms(location, { displayUri });
    case 'gcp':
      return (await import('./gcp-kms.ts')).openGcpKms(location, { displayUri });
    case 'azure':
      return (await import('./azure-kms.ts')).openAzureKms(location, { displayUri });
  }
}

/**
 * Our error for a service's. The library's own is not kept as the cause: it holds the request, and with it credentials.
 * `status` is null when no answer came; `word` is the service's own word for it, never its message.
 */
export function kmsError(
  { status, word }: { readonly status: number | null; readonly word: string },
  displayUri: string,
): AppError {
  const detail =
    status === null ? `the service could not be reached: ${word}` : `the service answered ${status} ${word}`;
  if (status === null || status >= 500 || status === 408 || status === 429 || THROTTLED.includes(word)) {
    return new AppError('kms_unavailable', `KMS key ${displayUri} is not available`, {
      detail,
      ...(status === null ? { hint: 'check the network of the node, and the address in the URI' } : {}),
    });
  }
  return new AppError('kms_refused', `the service refused to use KMS key ${displayUri}`, {
    detail,
    hint: 'check that the key exists and is enabled, and that the credentials may encrypt and decrypt with it',
  });
}

/** What a library says before the first request: it looks for the node's own rights, which may be missing, or out of reach. */
function withoutRights(error: unknown, displayUri: string): AppError {
  if (error instanceof AppError) return error;
  const word = errnoOf(error) ?? (error instanceof Error ? error.name : 'unknown');
  return new AppError('kms_unavailable', `KMS key ${displayUri} is not available`, {
    detail: `no credentials for the service were found: ${word}`,
    hint: "give credentials in the URI (AUTH=specified), or set up the node's own",
  });
}

const THROTTLED = ['ThrottlingException', 'KMSInternalException', 'DependencyTimeoutException'];
