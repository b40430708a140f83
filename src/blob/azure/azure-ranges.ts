/** Ranges of blobs, without the library. Source of the facts: Azure Storage REST API, "Authorize with Shared Key", "Get Blob". */
import type { StorageSharedKeyCredential } from '@azure/storage-blob';
import type { BlobRange, SignalOptions } from '../blob-store.ts';
import type { RangeResponse, RangeTransport } from '../service/range-transport.ts';

/** Of the REST API: what is asked for here has not changed since. */
const API_VERSION = '2021-12-02';
const TOKEN_SCOPE = 'https://storage.azure.com/.default';
/** A token is not used in its last minutes. */
const TOKEN_REST_MS = 120_000;
/** Whatever leads through a proxy is the library's, which knows how. */
const PROXY_VARIABLES = ['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY'];

/** As the library for tokens gives it. */
interface TokenCredential {
  getToken(
    scope: string,
    options?: { readonly abortSignal?: AbortSignal },
  ): Promise<{ readonly token: string; readonly expiresOnTimestamp: number } | null>;
}

export class AzureRanges {
  readonly #transport: RangeTransport;
  readonly #credential: StorageSharedKeyCredential | TokenCredential;
  readonly #isProxied: boolean;
  #token: { readonly token: string; readonly expiresOnTimestamp: number } | null = null;

  constructor(transport: RangeTransport, credential: StorageSharedKeyCredential | TokenCredential) {
    this.#transport = transport;
    this.#credential = credential;
    this.#isProxied = PROXY_VARIABLES.some(
      (name) => process.env[name] !== undefined || process.env[name.toLowerCase()] !== undefined,
    );
  }

  /** Null when the library shall do it. @throws what the network throws, and the library for tokens */
  async get(
    { url, range }: { readonly url: string; readonly range: BlobRange },
    { signal }: SignalOptions,
  ): Promise<RangeResponse | null> {
    if (this.#isProxied) return null;
    const { protocol, hostname, port, host, pathname, search } = new URL(url);
    if (search !== '') return null;
    const isTls = protocol === 'https:';
    const fields = {
      'x-ms-date': new Date(nowMs()).toUTCString(),
      'x-ms-range': `bytes=${range.offset}-${range.offset + range.length - 1}`,
      'x-ms-version': API_VERSION,
    };
    const authorization = await this.#authorization(fields, { pathname, signal });
    if (authorization === null) return null;
    const place = { isTls, hostname, port: port === '' ? (isTls ? 443 : 80) : Number(port), path: pathname };
    const headers = { host, ...fields, authorization };
    return this.#transport.get({ ...place, headers }, { bytesMax: range.length, signal });
  }

  close(): void {
    this.#transport.close();
  }

  async #authorization(
    fields: Readonly<Record<string, string>>,
    { pathname, signal }: SignalOptions & { readonly pathname: string },
  ): Promise<string | null> {
    const credential = this.#credential;
    if ('getToken' in credential) {
      if (this.#token === null || this.#token.expiresOnTimestamp - nowMs() < TOKEN_REST_MS)
        this.#token = await credential.getToken(TOKEN_SCOPE, { abortSignal: signal });
      return this.#token === null ? null : `Bearer ${this.#token.token}`;
    }
    const { accountName } = credential;
    // Eleven fields of HTTP's own, of which this request has none.
    const lines = ['GET', ...Array.from({ length: 11 }, () => ''), ...linesOf(fields)];
    const signature = credential.computeHMACSHA256(`${lines.join('\n')}\n/${accountName}${pathname}`);
    return `SharedKey ${accountName}:${signature}`;
  }
}

/** In the order of their names. */
function linesOf(fields: Readonly<Record<string, string>>): readonly string[] {
  return Object.keys(fields)
    .toSorted()
    .map((name) => `${name}:${fields[name]}`);
}

/** The service compares it with its own clock. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
