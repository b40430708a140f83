/** Google Cloud Storage. Source of the facts: Cloud Storage JSON API, "Objects" and "Resumable uploads". */
import { ApiError, type Bucket, Storage } from '@google-cloud/storage';
import { type AuthClient, GoogleAuth, Impersonated, JWT } from 'google-auth-library';
import { AppError, isAppError } from '../../base/index.ts';
import type { SignalOptions } from '../blob-store.ts';
import type {
  ListPage,
  ListRequest,
  NewObject,
  ObjectService,
  PartUpload,
  StoredObject,
} from '../service/object-service.ts';
import { faultWithoutAnswer, type ServiceFault, serviceError } from '../service/service-error.ts';
import type { GsLocation } from './gs-uri.ts';
import { ResumableUpload } from './resumable-upload.ts';

const TOKEN_METADATA = 'atoll-upload';
/** A multiple of 256 KiB, as the service demands of all parts but the last. */
const PART_BYTES = 8 * 1024 * 1024;
/** The service limits an object's length, not its parts. */
const PARTS_MAX = 600_000;
const SCOPE = 'https://www.googleapis.com/auth/devstorage.read_write';
const CLOUD_SCOPE = 'https://www.googleapis.com/auth/cloud-platform';
const UNUSED = { ifGenerationMatch: 0 };
const TOKEN_LIFETIME_SECONDS = 3600;

export async function openGs(
  location: GsLocation,
  { displayUri }: { readonly displayUri: string },
): Promise<ObjectService> {
  const storage = new Storage({
    projectId: 'unused', // Only calls about projects name one.
    authClient: await authClientOf(location),
    retryOptions: { autoRetry: false, maxRetries: 0 }, // Done above, with one limit for all services.
    ...(location.endpoint === null
      ? {}
      : { apiEndpoint: location.endpoint, useAuthWithCustomEndpoint: true }),
  } as ConstructorParameters<typeof Storage>[0]);
  return new GsService(storage.bucket(location.bucket), displayUri);
}

/** Credentials of a location: its key, or the node's, then the accounts in their order, each by the one before. */
async function authClientOf({ credentials, roles }: GsLocation): Promise<AuthClient> {
  const scopes = roles.length === 0 ? [SCOPE] : [CLOUD_SCOPE];
  let client: AuthClient =
    credentials === null
      ? await new GoogleAuth({ scopes }).getClient()
      : new JWT({ email: credentials.clientEmail, key: credentials.privateKey, scopes });
  for (const targetPrincipal of roles) {
    client = new Impersonated({
      sourceClient: client,
      targetPrincipal,
      lifetime: TOKEN_LIFETIME_SECONDS,
      delegates: [],
      targetScopes: [CLOUD_SCOPE],
    });
  }
  return client;
}

class GsService implements ObjectService {
  readonly displayUri: string;
  readonly partBytes = PART_BYTES;
  readonly partsAtOnce = 1; // A session takes its parts one after the other.
  readonly partsMax = PARTS_MAX;
  readonly #bucket: Bucket;

  constructor(bucket: Bucket, displayUri: string) {
    this.#bucket = bucket;
    this.displayUri = displayUri;
  }

  async putOnce(object: NewObject & { readonly bytes: Uint8Array }, options: SignalOptions): Promise<void> {
    const { name, bytes, token } = object;
    const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    await this.#asked(name, options, () =>
      this.#bucket.file(name).save(body, {
        resumable: false,
        validation: 'md5',
        preconditionOpts: UNUSED,
        metadata: { metadata: { [TOKEN_METADATA]: token } },
      }),
    );
  }

  async beginParts({ name, token }: NewObject, options: SignalOptions): Promise<PartUpload> {
    const [sessionUri] = await this.#asked(name, options, () =>
      this.#bucket.file(name).createResumableUpload({
        preconditionOpts: UNUSED,
        metadata: { metadata: { [TOKEN_METADATA]: token } },
      }),
    );
    return new ResumableUpload({
      sessionUri,
      asked: (each, request) => this.#asked(name, each, request),
      exists: () => this.#exists(name),
    });
  }

  async read(
    { name, range }: Parameters<ObjectService['read']>[0],
    options: SignalOptions,
  ): Promise<Uint8Array> {
    try {
      return await this.#asked(name, options, async () => {
        const end = range.offset + range.length - 1;
        const stream = this.#bucket
          .file(name)
          .createReadStream({ start: range.offset, end, validation: false, decompress: false });
        options.signal.addEventListener('abort', () => stream.destroy(new Error('aborted')), { once: true });
        const chunks: Uint8Array[] = [];
        for await (const chunk of stream) chunks.push(chunk as Buffer);
        return Buffer.concat(chunks);
      });
    } catch (error) {
      if (error instanceof RangeBehindEnd) return new Uint8Array(0);
      throw error;
    }
  }

  async describe(name: string, options: SignalOptions): Promise<StoredObject | null> {
    try {
      const [metadata] = await this.#asked(name, options, () => this.#bucket.file(name).getMetadata());
      const token = metadata.metadata?.[TOKEN_METADATA];
      return { sizeBytes: Number(metadata.size ?? 0), token: typeof token === 'string' ? token : null };
    } catch (error) {
      if (isAppError(error, 'blob_not_found')) return null;
      throw error;
    }
  }

  async listPage({ prefix, shallow, pageToken }: ListRequest, options: SignalOptions): Promise<ListPage> {
    const query = {
      prefix,
      autoPaginate: false,
      fields: 'items(name,size),prefixes,nextPageToken',
      ...(shallow ? { delimiter: '/' } : {}),
      ...(pageToken === null ? {} : { pageToken }),
    };
    const [files, next, answer] = await this.#asked(prefix, options, () => this.#bucket.getFiles(query));
    const { prefixes = [] } = (answer ?? {}) as { readonly prefixes?: readonly string[] };
    const { pageToken: nextPageToken = null } = (next ?? {}) as { readonly pageToken?: string };
    return {
      objects: files.map(({ name, metadata }) => ({ name, sizeBytes: Number(metadata.size ?? 0) })),
      folders: prefixes,
      nextPageToken,
    };
  }

  async remove(name: string, options: SignalOptions): Promise<void> {
    await this.#asked(name, options, () => this.#bucket.file(name).delete({ ignoreNotFound: true }));
  }

  async discardParts(): Promise<void> {
    // A session that nobody ends is dropped by the service after a week.
  }

  close(): void {
    // The library keeps its connections for all clients of the process.
  }

  #exists(name: string): AppError {
    return new AppError('blob_exists', `object ${name} already exists in ${this.displayUri}`);
  }

  /** The library's calls take no signal: when it aborts, their answer is no longer waited for. */
  async #asked<T>(name: string, { signal }: SignalOptions, request: () => Promise<T>): Promise<T> {
    try {
      return await Promise.race([request(), rejectedBy(signal)]);
    } catch (error) {
      if (error instanceof AppError) throw error;
      const fault = faultOf(error);
      if (fault.status === 412) throw this.#exists(name);
      if (fault.status === 416) throw new RangeBehindEnd();
      throw serviceError(fault, `${name} in ${this.displayUri}`);
    }
  }
}

class RangeBehindEnd extends AppError<'data_corrupt'> {
  constructor() {
    super('data_corrupt', 'the range begins behind the end of the object');
  }
}

function rejectedBy(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const refuse = () => reject(new DOMException('aborted', 'AbortError'));
    if (signal.aborted) refuse();
    else signal.addEventListener('abort', refuse, { once: true });
  });
}

/** The library gives the status as `code`, its token client as `status`. */
function faultOf(error: unknown): ServiceFault {
  const { code, status } = (error ?? {}) as { readonly code?: unknown; readonly status?: unknown };
  const found = [code, status]
    .map(Number)
    .find((value) => Number.isInteger(value) && value >= 400 && value < 600);
  if (found === undefined) return faultWithoutAnswer(error);
  const reason = error instanceof ApiError ? error.errors?.[0]?.reason : undefined;
  return { word: reason ?? (found === 404 ? 'notFound' : 'Error'), status: found };
}
