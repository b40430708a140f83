/**
 * Google Cloud Storage by its JSON API, with Google's library for the rights. Source of the facts: Cloud Storage JSON API,
 * "Objects" and "Resumable uploads".
 */
import { createHash } from 'node:crypto';
import { Agent } from 'node:https';
import type { AuthClient } from 'google-auth-library';
import { z } from 'zod';
import { AppError, isAppError } from '../../base/index.ts';
import type { SignalOptions } from '../blob-store.ts';
import {
  type ListPage,
  type ListRequest,
  type NewObject,
  NOTHING_READ,
  type ObjectService,
  type PartUpload,
  type ReadAnswer,
  type StoredObject,
} from '../service/object-service.ts';
import { faultWithoutAnswer, type ServiceFault, serviceError } from '../service/service-error.ts';
import { type Fetch, fetchBy } from './fetch-by-agent.ts';
import { googleClient } from './gs-credentials.ts';
import type { GsLocation } from './gs-uri.ts';
import { ResumableUpload } from './resumable-upload.ts';

const GOOGLE = 'https://storage.googleapis.com';
const TOKEN_METADATA = 'atoll-upload';
/** A multiple of 256 KiB, as the service demands of all parts but the last. */
const PART_BYTES = 8 * 1024 * 1024;
/** The service limits an object's length, not its parts. */
const PARTS_MAX = 600_000;
const SCOPE = 'https://www.googleapis.com/auth/devstorage.read_write';

const objectSchema = z.looseObject({
  name: z.string(),
  size: z.string().transform(Number),
  metadata: z.record(z.string(), z.string()).default({}),
});
const listSchema = z.looseObject({
  items: z.array(objectSchema).default([]),
  prefixes: z.array(z.string()).default([]),
  nextPageToken: z.string().optional(),
});
const failureSchema = z.looseObject({
  error: z.looseObject({ errors: z.array(z.looseObject({ reason: z.string() })).min(1) }),
});

export interface GsOptions {
  readonly displayUri: string;
  /** Certificates that are believed; left out for the usual ones. */
  readonly authorities?: readonly string[] | undefined;
  /** Takes the place of the location's credentials. */
  readonly authClient?: AuthClient;
}

export async function openGs(
  location: GsLocation,
  { displayUri, authorities, authClient }: GsOptions,
): Promise<ObjectService> {
  const agent = authorities === undefined ? undefined : new Agent({ ca: [...authorities], keepAlive: true });
  const transporterOptions = agent === undefined ? {} : { agent };
  return new GsService(location, {
    displayUri,
    client: authClient ?? (await googleClient(location, { scope: SCOPE, transporterOptions })),
    fetch: agent === undefined ? fetch : fetchBy(agent),
  });
}

interface GsRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

class GsService implements ObjectService {
  readonly displayUri: string;
  readonly partBytes = PART_BYTES;
  readonly partsAtOnce = 1; // A session takes its parts one after the other.
  readonly partsMax = PARTS_MAX;
  readonly #client: AuthClient;
  readonly #endpoint: string;
  readonly #fetch: Fetch;
  readonly #objects: string;

  constructor(
    { bucket, endpoint }: GsLocation,
    {
      displayUri,
      client,
      fetch: asked,
    }: {
      readonly displayUri: string;
      readonly client: AuthClient;
      readonly fetch: Fetch;
    },
  ) {
    this.#fetch = asked;
    this.displayUri = displayUri;
    this.#client = client;
    this.#endpoint = endpoint ?? GOOGLE;
    this.#objects = `/storage/v1/b/${encodeURIComponent(bucket)}/o`;
  }

  async putOnce(object: NewObject & { readonly bytes: Uint8Array }, options: SignalOptions): Promise<void> {
    const { name, bytes, token } = object;
    const md5Hash = createHash('md5').update(bytes).digest('base64');
    const boundary = `atoll-${token}`;
    const head = [
      `--${boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n`,
      `${JSON.stringify({ metadata: { [TOKEN_METADATA]: token }, md5Hash })}\r\n`,
      `--${boundary}\r\ncontent-type: application/octet-stream\r\n\r\n`,
    ].join('');
    await this.#asked(name, options, {
      method: 'POST',
      path: `/upload${this.#objects}`,
      parameters: { uploadType: 'multipart', name, ifGenerationMatch: '0' },
      headers: { 'content-type': `multipart/related; boundary=${boundary}` },
      body: Buffer.concat([Buffer.from(head), bytes, Buffer.from(`\r\n--${boundary}--\r\n`)]),
    });
  }

  async beginParts({ name, token }: NewObject, options: SignalOptions): Promise<PartUpload> {
    const answer = await this.#asked(name, options, {
      method: 'POST',
      path: `/upload${this.#objects}`,
      parameters: { uploadType: 'resumable', name, ifGenerationMatch: '0' },
      headers: { 'content-type': 'application/json; charset=UTF-8' },
      body: Buffer.from(JSON.stringify({ metadata: { [TOKEN_METADATA]: token } })),
    });
    const sessionUri = answer.headers.get('location');
    if (sessionUri === null) throw this.#failure({ word: 'NoSession', status: answer.status }, name);
    return new ResumableUpload({
      sessionUri,
      fetch: this.#fetch,
      refused: (fault) => this.#failure(fault, name),
      remove: (each) => this.remove(name, each),
    });
  }

  async read(
    { name, range }: Parameters<ObjectService['read']>[0],
    options: SignalOptions,
  ): Promise<ReadAnswer> {
    try {
      const { bytes, headers } = await this.#asked(name, options, {
        method: 'GET',
        path: this.#pathOf(name),
        parameters: { alt: 'media' },
        headers: { range: `bytes=${range.offset}-${range.offset + range.length - 1}` },
      });
      return { chunks: [bytes], contentRange: headers.get('content-range') };
    } catch (error) {
      if (error instanceof RangeBehindEnd) return NOTHING_READ;
      throw error;
    }
  }

  async describe(name: string, options: SignalOptions): Promise<StoredObject | null> {
    try {
      const { bytes } = await this.#asked(name, options, { method: 'GET', path: this.#pathOf(name) });
      const { size, metadata } = this.#told(objectSchema, { name, bytes });
      return { sizeBytes: size, token: metadata[TOKEN_METADATA] ?? null };
    } catch (error) {
      if (isAppError(error, 'blob_not_found')) return null;
      throw error;
    }
  }

  async listPage({ prefix, shallow, pageToken }: ListRequest, options: SignalOptions): Promise<ListPage> {
    const parameters = {
      prefix,
      fields: 'items(name,size),prefixes,nextPageToken',
      ...(shallow ? { delimiter: '/' } : {}),
      ...(pageToken === null ? {} : { pageToken }),
    };
    const { bytes } = await this.#asked(prefix, options, { method: 'GET', path: this.#objects, parameters });
    const page = this.#told(listSchema, { name: prefix, bytes });
    return {
      objects: page.items.map(({ name, size }) => ({ name, sizeBytes: size })),
      folders: page.prefixes,
      nextPageToken: page.nextPageToken ?? null,
    };
  }

  async remove(name: string, options: SignalOptions): Promise<void> {
    try {
      await this.#asked(name, options, { method: 'DELETE', path: this.#pathOf(name) });
    } catch (error) {
      if (!isAppError(error, 'blob_not_found')) throw error;
    }
  }

  async discardParts(): Promise<void> {
    // A session that nobody ends is dropped by the service after a week.
  }

  close(): void {
    // Connections belong to the runtime.
  }

  #pathOf(name: string): string {
    return `${this.#objects}/${encodeURIComponent(name)}`;
  }

  /** Does one request. The library adds the token, and renews it; it must not try again by itself. */
  async #asked(
    name: string,
    { signal }: SignalOptions,
    { method, path, parameters = {}, headers = {}, body }: GsRequest,
  ): Promise<{ readonly status: number; readonly headers: Headers; readonly bytes: Uint8Array }> {
    let answer: { status: number; headers: Headers; data: ArrayBuffer };
    try {
      answer = await this.#client.request<ArrayBuffer>({
        url: `${this.#endpoint}${path}?${new URLSearchParams(parameters).toString()}`,
        method,
        headers: { ...headers },
        ...(body === undefined ? {} : { data: body }),
        responseType: 'arraybuffer',
        signal,
        retry: false,
        // The library's own ends the process when a request with a body is given up.
        fetchImplementation: this.#fetch as typeof fetch, // It is asked as above, and for nothing else.
        validateStatus: () => true,
      });
    } catch (error) {
      throw this.#failure(tokenFault(error), name);
    }
    const bytes = new Uint8Array(answer.data ?? new ArrayBuffer(0));
    if (answer.status < 300) return { status: answer.status, headers: answer.headers, bytes };
    throw this.#failure({ status: answer.status, word: reasonOf(bytes) }, name);
  }

  /** What an answer says. One that cannot be read was damaged on its way: it is asked for again. */
  #told<T>(schema: z.ZodType<T>, { name, bytes }: { readonly name: string; readonly bytes: Uint8Array }): T {
    try {
      return schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
    } catch {
      throw this.#failure({ word: 'UnreadableAnswer', status: null }, name);
    }
  }

  #failure(fault: ServiceFault, name: string): AppError {
    if (fault.status === 412) {
      return new AppError('blob_exists', `object ${name} already exists in ${this.displayUri}`);
    }
    if (fault.status === 416) return new RangeBehindEnd();
    const isBucket = fault.status === 404 && (name === '' || name.endsWith('/'));
    return serviceError(
      isBucket ? { ...fault, word: 'NoSuchBucket' } : fault,
      `${name} in ${this.displayUri}`,
    );
  }
}

class RangeBehindEnd extends AppError<'data_corrupt'> {
  constructor() {
    super('data_corrupt', 'the range begins behind the end of the object');
  }
}

/** A failure before the service was asked: no connection, or no token. */
function tokenFault(error: unknown): ServiceFault {
  const { status } = (error ?? {}) as { readonly status?: unknown };
  return typeof status === 'number' && status >= 400
    ? { word: 'TokenRefused', status }
    : faultWithoutAnswer(error);
}

/** The service's word for a failure. */
function reasonOf(bytes: Uint8Array): string {
  try {
    const { error } = failureSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
    return error.errors[0]?.reason ?? 'Error';
  } catch {
    return 'Error';
  }
}
