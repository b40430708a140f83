/** Azure Blob Storage, as block blobs. Source of the facts: Azure Storage REST API, "Operations on block blobs". */
import { createHash } from 'node:crypto';
import {
  BlobServiceClient,
  type ContainerClient,
  RestError,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
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
import { RangeTransport } from '../service/range-transport.ts';
import { faultWithoutAnswer, type ServiceFault, serviceError } from '../service/service-error.ts';
import type { AzureTls } from './azure-credentials.ts';
import { AzureRanges } from './azure-ranges.ts';
import type { AzureLocation } from './azure-uri.ts';

/** Names of metadata are C# identifiers there. */
const TOKEN_METADATA = 'atollupload';
const PART_BYTES = 8 * 1024 * 1024;
const PARTS_MAX = 50_000;
const UNUSED = { conditions: { ifNoneMatch: '*' } };
const LIST_PAGE_SIZE = 1000;

export interface AzureOptions {
  readonly displayUri: string;
  /** Parts of one upload under way at a time: setting `cloudstorage.azure.concurrent_upload_buffers`. */
  readonly partsAtOnce: number;
  /** Certificates that are believed; undefined for the usual ones. */
  readonly authorities: readonly string[] | undefined;
}

export async function openAzure(location: AzureLocation, options: AzureOptions): Promise<ObjectService> {
  // The library hands these on to its transport, though its type does not say so.
  const tls = options.authorities === undefined ? {} : { tlsOptions: { ca: [...options.authorities] } };
  const credential = await credentialOf(location, tls);
  const service = new BlobServiceClient(location.accountUrl, credential, {
    retryOptions: { maxTries: 1 }, // Trying again is done above, with one limit for all services.
    ...tls,
  });
  const ranges = new AzureRanges(new RangeTransport(options), credential);
  return new AzureService({ container: service.getContainerClient(location.container), ranges }, options);
}

/** The library for tokens is large: it is loaded where one is needed. */
async function credentialOf({ accountName, credentials }: AzureLocation, tls: AzureTls) {
  if (credentials.kind === 'account_key') {
    return new StorageSharedKeyCredential(accountName, credentials.accountKey);
  }
  return (await import('./azure-credentials.ts')).azureTokenCredential(credentials, tls);
}

class AzureService implements ObjectService {
  readonly displayUri: string;
  readonly partBytes = PART_BYTES;
  readonly partsAtOnce: number;
  readonly partsMax = PARTS_MAX;
  readonly #container: ContainerClient;
  readonly #ranges: AzureRanges;

  constructor(
    { container, ranges }: { readonly container: ContainerClient; readonly ranges: AzureRanges },
    { displayUri, partsAtOnce }: AzureOptions,
  ) {
    this.displayUri = displayUri;
    this.partsAtOnce = partsAtOnce;
    this.#container = container;
    this.#ranges = ranges;
  }

  async putOnce(object: NewObject & { readonly bytes: Uint8Array }, options: SignalOptions): Promise<void> {
    const { name, bytes, token } = object;
    const request = {
      ...UNUSED,
      metadata: { [TOKEN_METADATA]: token },
      transactionalContentMD5: createHash('md5').update(bytes).digest(),
      abortSignal: options.signal,
    };
    await this.#asked(name, () =>
      this.#container
        .getBlockBlobClient(name)
        .upload(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), bytes.length, request),
    );
  }

  /** Blocks of several uploads to one name lie beside each other until one commits, so ids begin with the token. */
  async beginParts({ name, token }: NewObject): Promise<PartUpload> {
    const blob = this.#container.getBlockBlobClient(name);
    const ids: string[] = [];
    return {
      putPart: async ({ index, bytes }, { signal }) => {
        const id = Buffer.from(`${token}-${String(index).padStart(5, '0')}`).toString('base64');
        const transactionalContentMD5 = createHash('md5').update(bytes).digest();
        const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
        await this.#asked(name, () =>
          blob.stageBlock(id, body, body.length, { transactionalContentMD5, abortSignal: signal }),
        );
        ids[index] = id;
      },
      complete: async (options) => {
        const request = { ...UNUSED, metadata: { [TOKEN_METADATA]: token }, abortSignal: options.signal };
        try {
          await this.#asked(name, () => blob.commitBlockList(ids, request));
        } catch (error) {
          // Whoever else made the blob in the meantime has thrown our blocks away.
          if (!isAppError(error, 'storage_unusable') || (await this.describe(name, options)) === null)
            throw error;
          throw this.#exists(name);
        }
      },
      abort: async () => undefined, // The service drops blocks that nobody commits after a week.
    };
  }

  async read(
    { name, range }: Parameters<ObjectService['read']>[0],
    { signal }: SignalOptions,
  ): Promise<ReadAnswer> {
    try {
      return await this.#asked(name, async () => {
        const blob = this.#container.getBlockBlobClient(name);
        const direct = await this.#ranges.get({ url: blob.url, range }, { signal });
        if (direct !== null) return direct;
        const { readableStreamBody: body, contentRange = null } = await blob.download(
          range.offset,
          range.length,
          {
            abortSignal: signal,
            maxRetryRequests: 0,
          },
        );
        return { chunks: await collectBody(body, { name, bytesMax: range.length }), contentRange };
      });
    } catch (error) {
      if (error instanceof RangeBehindEnd) return NOTHING_READ;
      throw error;
    }
  }

  async describe(name: string, { signal }: SignalOptions): Promise<StoredObject | null> {
    try {
      return await this.#asked(name, async () => {
        const blob = this.#container.getBlockBlobClient(name);
        const { contentLength, metadata } = await blob.getProperties({ abortSignal: signal });
        return { sizeBytes: contentLength ?? 0, token: metadata?.[TOKEN_METADATA] ?? null };
      });
    } catch (error) {
      if (isAppError(error, 'blob_not_found')) return null;
      throw error;
    }
  }

  async listPage({ prefix, shallow, pageToken }: ListRequest, { signal }: SignalOptions): Promise<ListPage> {
    const settings = {
      maxPageSize: LIST_PAGE_SIZE,
      ...(pageToken === null ? {} : { continuationToken: pageToken }),
    };
    const options = { prefix, abortSignal: signal };
    const pages = shallow
      ? this.#container.listBlobsByHierarchy('/', options).byPage(settings)
      : this.#container.listBlobsFlat(options).byPage(settings);
    const { value: page } = await this.#asked(prefix, () => pages.next());
    if (page === undefined) return { objects: [], folders: [], nextPageToken: null };
    const { blobItems, blobPrefixes = [] } = page.segment as HierarchySegment;
    return {
      objects: blobItems.map(({ name, properties }) => ({ name, sizeBytes: properties.contentLength ?? 0 })),
      folders: blobPrefixes.map(({ name }) => name),
      nextPageToken: page.continuationToken === '' ? null : (page.continuationToken ?? null),
    };
  }

  async remove(name: string, { signal }: SignalOptions): Promise<void> {
    await this.#asked(name, () =>
      this.#container.getBlockBlobClient(name).deleteIfExists({ abortSignal: signal }),
    );
  }

  async discardParts(): Promise<void> {
    // The service drops blocks that nobody commits after a week.
  }

  close(): void {
    // The library keeps its own connections for all clients of the process.
    this.#ranges.close();
  }

  #exists(name: string): AppError {
    return new AppError('blob_exists', `object ${name} already exists in ${this.displayUri}`);
  }

  async #asked<T>(name: string, request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (error) {
      if (error instanceof AppError) throw error;
      const fault = faultOf(error);
      if (fault.status === 412 || fault.word === 'BlobAlreadyExists') throw this.#exists(name);
      if (fault.status === 416) throw new RangeBehindEnd();
      throw serviceError(fault, `${name} in ${this.displayUri}`);
    }
  }
}

/** Both kinds of listing have the first part, the one by folders has the second. */
interface HierarchySegment {
  readonly blobItems: readonly {
    readonly name: string;
    readonly properties: { readonly contentLength?: number };
  }[];
  readonly blobPrefixes?: readonly { readonly name: string }[];
}

class RangeBehindEnd extends AppError<'data_corrupt'> {
  constructor() {
    super('data_corrupt', 'the range begins behind the end of the object');
  }
}

function faultOf(error: unknown): ServiceFault {
  if (!(error instanceof RestError) || error.statusCode === undefined) return faultWithoutAnswer(error);
  const details = error.details as { readonly errorCode?: string } | undefined;
  return { word: error.code ?? details?.errorCode ?? 'Error', status: error.statusCode };
}
