/** S3 and what speaks its protocol. Source of the facts: Amazon S3 API Reference. */
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  type ListMultipartUploadsCommandInput,
  type ListMultipartUploadsCommandOutput,
  type MultipartUpload,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { AppError, isAppError } from '../../base/index.ts';
import type { SignalOptions } from '../blob-store.ts';
import { collectBody } from '../service/collect-body.ts';
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
import { type RangeRequest, RangeTransport } from '../service/range-transport.ts';
import { faultWithoutAnswer, type ServiceFault, serviceError } from '../service/service-error.ts';
import { s3Credentials } from './s3-credentials.ts';
import type { S3Location } from './s3-uri.ts';

const TOKEN_METADATA = 'atoll-upload';
/** The service's own minimum is 5 MiB. */
const PART_BYTES = 8 * 1024 * 1024;
const PARTS_AT_ONCE = 3;
const PARTS_MAX = 10_000;
/** Uploads that are given up at a time. */
const ABORTS_AT_ONCE = 16;
const CONNECT_MS_MAX = 10_000;
/** Without traffic for so long a connection is given up. */
const IDLE_MS_MAX = 60_000;
const DEFAULT_REGION = 'us-east-1';
/** Words for a write without `Content-MD5` where there has to be one: buckets with object lock, of Amazon and of MinIO. */
const DIGEST_DEMANDED = ['InvalidRequest', 'MissingContentMD5'];

export interface S3Options {
  readonly displayUri: string;
  /** Certificates that are believed; undefined for the usual ones. */
  readonly authorities: readonly string[] | undefined;
}

export function openS3(location: S3Location, options: S3Options): ObjectService {
  return new S3Service(location, options);
}

class S3Service implements ObjectService {
  readonly displayUri: string;
  readonly partBytes = PART_BYTES;
  readonly partsAtOnce = PARTS_AT_ONCE;
  readonly partsMax = PARTS_MAX;
  readonly #location: S3Location;
  readonly #client: S3Client;
  readonly #ranges: RangeTransport;
  #sendsDigests = false;

  constructor(location: S3Location, { displayUri, authorities }: S3Options) {
    this.displayUri = displayUri;
    this.#location = location;
    this.#client = clientOf(location, authorities);
    this.#ranges = new RangeTransport({ authorities });
  }

  async putOnce(object: NewObject & { readonly bytes: Uint8Array }, options: SignalOptions): Promise<void> {
    const { name, bytes } = object;
    const request = { ...this.#newObject(object), Body: bytes };
    await this.#writing(name, options, async (condition) => {
      await this.#checked(bytes, (digest) =>
        this.#client.send(new PutObjectCommand({ ...request, ...condition, ...digest }), abortedBy(options)),
      );
    });
  }

  async beginParts(object: NewObject, options: SignalOptions): Promise<PartUpload> {
    const { name } = object;
    const { UploadId: id } = await this.#asked(name, () =>
      this.#client.send(new CreateMultipartUploadCommand(this.#newObject(object)), abortedBy(options)),
    );
    const upload = { Bucket: this.#location.bucket, Key: name, UploadId: id };
    const etags = new Map<number, string | undefined>();
    return {
      putPart: async ({ index, bytes }, each) => {
        const part = { ...upload, PartNumber: index + 1, Body: bytes };
        const { ETag } = await this.#asked(name, () =>
          this.#checked(bytes, (digest) =>
            this.#client.send(new UploadPartCommand({ ...part, ...digest }), abortedBy(each)),
          ),
        );
        etags.set(index, ETag);
      },
      complete: async (each) => {
        const Parts = [...etags]
          .sort(([left], [right]) => left - right)
          .map(([index, ETag]) => ({ PartNumber: index + 1, ETag }));
        // Not every service heeds the condition here; the question before makes a double write at least unlikely there.
        if ((await this.describe(name, each)) !== null) throw this.#exists(name);
        await this.#writing(name, each, async (condition) => {
          const request = { ...upload, MultipartUpload: { Parts }, ...condition };
          await this.#client.send(new CompleteMultipartUploadCommand(request), abortedBy(each));
        });
      },
      abort: async (each) => {
        await this.#asked(name, () =>
          this.#client.send(new AbortMultipartUploadCommand(upload), abortedBy(each)),
        );
      },
    };
  }

  async read(
    { name, range }: Parameters<ObjectService['read']>[0],
    options: SignalOptions,
  ): Promise<ReadAnswer> {
    const Range = `bytes=${range.offset}-${range.offset + range.length - 1}`;
    const request = { Bucket: this.#location.bucket, Key: name, Range };
    try {
      return await this.#asked(name, async () => {
        const command = new GetObjectCommand(request);
        const direct = readDirectly(command, (signed) =>
          this.#ranges.get(signed, { ...options, bytesMax: range.length }),
        );
        const { Body, ContentRange = null } = await this.#client.send(command, abortedBy(options));
        if (direct.answer !== null) return direct.answer;
        const body = Body as Readable | undefined; // As the library gives it in Node.
        return {
          chunks: await collectBody(body, { name, bytesMax: range.length }),
          contentRange: ContentRange,
        };
      });
    } catch (error) {
      if (error instanceof RangeBehindEnd) return NOTHING_READ;
      throw error;
    }
  }

  async describe(name: string, options: SignalOptions): Promise<StoredObject | null> {
    try {
      return await this.#asked(name, async () => {
        const request = new HeadObjectCommand({ Bucket: this.#location.bucket, Key: name });
        const { ContentLength, Metadata } = await this.#client.send(request, abortedBy(options));
        return { sizeBytes: ContentLength ?? 0, token: Metadata?.[TOKEN_METADATA] ?? null };
      });
    } catch (error) {
      if (isAppError(error, 'blob_not_found')) return null;
      throw error;
    }
  }

  async listPage({ prefix, shallow, pageToken }: ListRequest, options: SignalOptions): Promise<ListPage> {
    const request = {
      Bucket: this.#location.bucket,
      Prefix: prefix,
      ...(shallow ? { Delimiter: '/' } : {}),
      ...(pageToken === null ? {} : { ContinuationToken: pageToken }),
    };
    const page = await this.#asked(prefix, () =>
      this.#client.send(new ListObjectsV2Command(request), abortedBy(options)),
    );
    return {
      objects: (page.Contents ?? []).map(({ Key, Size }) => ({ name: Key ?? '', sizeBytes: Size ?? 0 })),
      folders: (page.CommonPrefixes ?? []).map(({ Prefix }) => Prefix ?? ''),
      nextPageToken: page.IsTruncated === true ? (page.NextContinuationToken ?? null) : null,
    };
  }

  async remove(name: string, options: SignalOptions): Promise<void> {
    await this.#asked(name, () =>
      this.#client.send(
        new DeleteObjectCommand({ Bucket: this.#location.bucket, Key: name }),
        abortedBy(options),
      ),
    );
  }

  async discardParts(prefix: string, options: SignalOptions): Promise<void> {
    const { bucket: Bucket } = this.#location;
    const abort = ({ Key, UploadId }: MultipartUpload) =>
      this.#asked(Key ?? '', () =>
        this.#client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }), abortedBy(options)),
      );
    let page = await this.#listParts({ Bucket, Prefix: prefix }, options);
    for (;;) {
      const uploads = page.Uploads ?? [];
      for (let at = 0; at < uploads.length; at += ABORTS_AT_ONCE) {
        await Promise.all(uploads.slice(at, at + ABORTS_AT_ONCE).map(abort));
      }
      const { IsTruncated, NextKeyMarker: KeyMarker, NextUploadIdMarker: UploadIdMarker } = page;
      if (IsTruncated !== true || KeyMarker === undefined) return;
      page = await this.#listParts({ Bucket, Prefix: prefix, KeyMarker, UploadIdMarker }, options);
    }
  }

  /** A page of at most a thousand. */
  #listParts(
    request: ListMultipartUploadsCommandInput,
    options: SignalOptions,
  ): Promise<ListMultipartUploadsCommandOutput> {
    return this.#asked(request.Prefix ?? '', () =>
      this.#client.send(new ListMultipartUploadsCommand(request), abortedBy(options)),
    );
  }

  close(): void {
    this.#client.destroy();
    this.#ranges.close();
  }

  #newObject({ name, token }: NewObject) {
    const { bucket, storageClass, serverSideEncryption: encryption } = this.#location;
    return {
      Bucket: bucket,
      Key: name,
      Metadata: { [TOKEN_METADATA]: token },
      ...(storageClass === null ? {} : { StorageClass: storageClass }),
      ...(encryption === null ? {} : { ServerSideEncryption: encryption.mode }),
      ...(encryption?.kmsKeyId == null ? {} : { SSEKMSKeyId: encryption.kmsKeyId }),
    };
  }

  /**
   * Sends content. The SHA-256 of it is signed with the request, so the service checks what arrives; an MD5 as well would
   * cost more than twice as much again. Where one is demanded all the same, it is sent from then on.
   */
  async #checked<T>(
    bytes: Uint8Array,
    send: (digest: { readonly ContentMD5?: string }) => Promise<T>,
  ): Promise<T> {
    const digest = () => ({ ContentMD5: createHash('md5').update(bytes).digest('base64') });
    if (this.#location.skipsChecksum) return send({});
    if (this.#sendsDigests) return send(digest());
    try {
      return await send({});
    } catch (error) {
      const { word, status } = faultOf(error);
      if (status !== 400 || !DIGEST_DEMANDED.includes(word)) throw error;
    }
    const sent = await send(digest());
    this.#sendsDigests = true;
    return sent;
  }

  /** A write that must not replace anything. A service without conditional writes is asked first, and written to plainly. */
  async #writing(
    name: string,
    options: SignalOptions,
    write: (condition: { readonly IfNoneMatch?: '*' }) => Promise<void>,
  ): Promise<void> {
    try {
      await this.#asked(name, () => write({ IfNoneMatch: '*' }));
    } catch (error) {
      if (!(error instanceof ConditionUnknown)) throw error;
      if ((await this.describe(name, options)) !== null) throw this.#exists(name);
      await this.#asked(name, () => write({}));
    }
  }

  #exists(name: string): AppError {
    return new AppError('blob_exists', `object ${name} already exists in ${this.displayUri}`);
  }

  /** Does a request, with its errors made ours. */
  async #asked<T>(name: string, request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (error) {
      if (error instanceof AppError) throw error;
      const fault = faultOf(error);
      if (fault.status === 412) throw this.#exists(name);
      if (fault.status === 416) throw new RangeBehindEnd();
      if (fault.status === 501) throw new ConditionUnknown();
      throw serviceError(fault, `${name} in ${this.displayUri}`);
    }
  }
}

/**
 * Lets the request go another way once the library has signed it. Where the answer is none that is understood there, the library sends it as
 * it always does.
 */
function readDirectly(
  command: GetObjectCommand,
  get: (request: RangeRequest) => Promise<ReadAnswer | null>,
): { readonly answer: ReadAnswer | null } {
  const direct: { answer: ReadAnswer | null } = { answer: null };
  command.middlewareStack.add(
    (next) => async (args) => {
      direct.answer = await get(rangeRequestOf(args.request));
      return direct.answer === null ? next(args) : { response: args.request, output: { $metadata: {} } };
    },
    { step: 'deserialize', priority: 'high', name: 'readDirectly' },
  );
  return direct;
}

/** As the library's own handler would send it. */
function rangeRequestOf(signed: unknown): RangeRequest {
  const { protocol, hostname, port, path, query, headers } = signed as SignedRequest;
  const isTls = protocol === 'https:';
  const parameters = Object.entries(query ?? {}).map(([name, value]) => `${escaped(name)}=${escaped(value)}`);
  const search = parameters.length === 0 ? '' : `?${parameters.join('&')}`;
  return { isTls, hostname, port: port ?? (isTls ? 443 : 80), path: `${path}${search}`, headers };
}

/** Of the library's HttpRequest; the parameters of reading an object are single. */
interface SignedRequest {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;
}

function escaped(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (found) => `%${found.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

class RangeBehindEnd extends AppError<'data_corrupt'> {
  constructor() {
    super('data_corrupt', 'the range begins behind the end of the object');
  }
}

class ConditionUnknown extends AppError<'storage_unusable'> {
  constructor() {
    super('storage_unusable', 'the service does not know conditional writes');
  }
}

/** Of S3, or of the service that gives out the credentials of roles: their libraries share no class but a shape. */
function faultOf(error: unknown): ServiceFault {
  const metadata: unknown = error instanceof Error && '$metadata' in error ? error.$metadata : undefined;
  const status = (metadata as { readonly httpStatusCode?: number } | undefined)?.httpStatusCode;
  if (!(error instanceof Error) || status === undefined) return faultWithoutAnswer(error);
  return { word: error.name, status };
}

function abortedBy({ signal }: SignalOptions): { readonly abortSignal: AbortSignal } {
  return { abortSignal: signal };
}

/** The library must not try again by itself: that is done, with one limit for all services, above it. */
function clientOf(location: S3Location, authorities: S3Options['authorities']): S3Client {
  const tls = authorities === undefined ? {} : { httpsAgent: { ca: [...authorities], keepAlive: true } };
  const requestHandler = { connectionTimeout: CONNECT_MS_MAX, socketTimeout: IDLE_MS_MAX, ...tls };
  return new S3Client({
    region: location.region ?? DEFAULT_REGION,
    followRegionRedirects: location.endpoint === null,
    ...(location.endpoint === null ? {} : { endpoint: location.endpoint }),
    forcePathStyle: location.usesPathStyle,
    credentials: s3Credentials(location, {
      region: location.region ?? DEFAULT_REGION,
      endpoint: location.endpoint,
      requestHandler,
    }),
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler,
  });
}
