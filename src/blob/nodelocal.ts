import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, rmdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, assert, CorruptError, errnoOf, type Rng } from '../base/index.ts';
import { type BlobKey, keyInside, keyPartProblem, UPLOAD_PREFIX } from './blob-key.ts';
import {
  BLOB_CHUNK_BYTES_MAX,
  type BlobEntry,
  type BlobRange,
  type BlobStore,
  type BlobUpload,
  type SignalOptions,
} from './blob-store.ts';
import { compareKeys } from './memory.ts';
import { asBlobError, makeFolder, pathInside, syncFolder } from './nodelocal-path.ts';
import { putWhole, throwIfAborted } from './read.ts';

const FILE_MODE = 0o600;
/** A folder may be pruned between being made and being used; more often than this it is not bad luck. */
const FOLDER_ATTEMPTS_MAX = 5;

/**
 * Objects as files below a folder of this node. The folder is made when first written to. An upload is written under
 * a temporary name beside its key, synced, then linked to its name, which fails when the name is taken.
 */
export function nodelocalBlobStore(options: {
  readonly directory: string;
  readonly displayUri: string;
  readonly rng: Rng;
}): BlobStore {
  return new NodelocalBlobStore(options);
}

class NodelocalBlobStore implements BlobStore {
  readonly displayUri: string;
  readonly #directory: string;
  readonly #rng: Rng;

  constructor(options: { directory: string; displayUri: string; rng: Rng }) {
    this.displayUri = options.displayUri;
    this.#directory = options.directory;
    this.#rng = options.rng;
  }

  put(key: BlobKey, content: Uint8Array | AsyncIterable<Uint8Array>, options: SignalOptions): Promise<void> {
    return putWhole(this, key, { content, ...options });
  }

  async beginUpload(key: BlobKey, { signal }: SignalOptions): Promise<BlobUpload> {
    throwIfAborted(signal);
    return this.#translated(key, async () => {
      const path = await pathInside(this.#directory, key);
      if ((await statusOf(path)) !== null) {
        throw new AppError('blob_exists', `object ${key} already exists in ${this.displayUri}`);
      }
      const name = `${UPLOAD_PREFIX}${Buffer.from(this.#rng.bytes(12)).toString('hex')}`;
      const { handle, temporaryPath } = await openTemporary(join(dirname(path), name));
      const translate = (error: unknown) => asBlobError(error, { key, displayUri: this.displayUri });
      return new NodelocalUpload({ handle, temporaryPath, path, signal, translate });
    });
  }

  async *get(
    key: BlobKey,
    { range, signal }: SignalOptions & { readonly range?: BlobRange },
  ): AsyncIterable<Uint8Array> {
    throwIfAborted(signal);
    await using handle = await this.#translated(key, async () => {
      const path = await pathInside(this.#directory, key);
      return open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    });
    const sizeBytes = await this.#translated(key, async () => {
      const status = await handle.stat();
      if (!status.isFile()) throw new AppError('blob_not_found', `no object ${key} in ${this.displayUri}`);
      return status.size;
    });
    const begin = range?.offset ?? 0;
    const end = begin + (range?.length ?? sizeBytes);
    for (let at = begin; at < end; ) {
      throwIfAborted(signal);
      const buffer = Buffer.allocUnsafe(Math.min(BLOB_CHUNK_BYTES_MAX, end - at));
      const { bytesRead } = await this.#translated(key, () => handle.read(buffer, 0, buffer.length, at));
      if (bytesRead === 0) {
        throw new CorruptError(`${key} in ${this.displayUri} ends at byte ${at}, expected at least ${end}`);
      }
      at += bytesRead;
      yield bytesRead === buffer.length ? buffer : buffer.subarray(0, bytesRead);
    }
  }

  async size(key: BlobKey, { signal }: SignalOptions): Promise<number | null> {
    throwIfAborted(signal);
    return this.#translated(key, async () => {
      const status = await statusOf(await pathInside(this.#directory, key));
      return status?.isFile() === true ? status.size : null;
    });
  }

  async *list(
    folder: BlobKey | '',
    { deep, signal }: SignalOptions & { readonly deep: boolean },
  ): AsyncIterable<BlobEntry> {
    throwIfAborted(signal);
    const path = await this.#translated(folder, () => pathInside(this.#directory, folder));
    for (const name of await this.#translated(folder, () => sortedNames(path))) {
      throwIfAborted(signal);
      const isFolder = name.endsWith('/');
      const key = keyInside(folder, isFolder ? name.slice(0, -1) : name);
      if (isFolder && deep) {
        yield* this.list(key, { deep, signal });
      } else if (isFolder) {
        if (await this.#holdsBlobs(key, signal)) yield { kind: 'folder', key };
      } else {
        const sizeBytes = await this.size(key, { signal });
        if (sizeBytes !== null) yield { kind: 'blob', key, sizeBytes };
      }
    }
  }

  async delete(key: BlobKey, { signal }: SignalOptions): Promise<void> {
    throwIfAborted(signal);
    await this.#translated(key, async () => {
      const path = await pathInside(this.#directory, key);
      if ((await statusOf(path))?.isFile() !== true) return;
      await unlink(path);
      await syncFolder(dirname(path));
      await this.#pruneFolders(dirname(path));
    });
  }

  async discardUploads(folder: BlobKey | '', { signal }: SignalOptions): Promise<void> {
    throwIfAborted(signal);
    await this.#translated(folder, async () => {
      const path = await pathInside(this.#directory, folder);
      for (const entry of await entriesOf(path)) {
        if (entry.isFile() && entry.name.startsWith(UPLOAD_PREFIX)) await unlink(join(path, entry.name));
        else if (entry.isDirectory() && keyPartProblem(entry.name) === null) {
          await this.discardUploads(keyInside(folder, entry.name), { signal });
        }
      }
      await this.#pruneFolders(path);
    });
  }

  async #holdsBlobs(folder: BlobKey, signal: AbortSignal): Promise<boolean> {
    for await (const _entry of this.list(folder, { deep: true, signal })) return true;
    return false;
  }

  /** Removes folders that became empty, upwards, the store's own excepted: on other storage they do not exist either. */
  async #pruneFolders(path: string): Promise<void> {
    for (let at = path; at !== this.#directory && at.startsWith(this.#directory); at = dirname(at)) {
      try {
        await rmdir(at);
      } catch (error) {
        if (['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(errnoOf(error) ?? '')) return;
        throw error;
      }
    }
  }

  async #translated<T>(key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw asBlobError(error, { key, displayUri: this.displayUri });
    }
  }
}

class NodelocalUpload implements BlobUpload {
  readonly #handle: FileHandle;
  readonly #temporaryPath: string;
  readonly #path: string;
  readonly #signal: AbortSignal;
  readonly #translate: (error: unknown) => Error;
  #ended = false;

  constructor(options: {
    handle: FileHandle;
    temporaryPath: string;
    path: string;
    signal: AbortSignal;
    translate: (error: unknown) => Error;
  }) {
    this.#handle = options.handle;
    this.#temporaryPath = options.temporaryPath;
    this.#path = options.path;
    this.#signal = options.signal;
    this.#translate = options.translate;
  }

  async append(chunk: Uint8Array): Promise<void> {
    throwIfAborted(this.#signal);
    assert(!this.#ended, 'append to an ended upload');
    try {
      for (let at = 0; at < chunk.length; ) {
        const { bytesWritten } = await this.#handle.write(chunk, at, chunk.length - at, null);
        at += bytesWritten;
      }
    } catch (error) {
      throw this.#translate(error);
    }
  }

  async commit(): Promise<void> {
    throwIfAborted(this.#signal);
    assert(!this.#ended, 'commit of an ended upload');
    try {
      await this.#handle.sync();
      await link(this.#temporaryPath, this.#path);
      await this.abort();
      await syncFolder(dirname(this.#path));
    } catch (error) {
      throw this.#translate(error);
    }
  }

  async abort(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#handle.close();
    await unlink(this.#temporaryPath);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort();
  }
}

async function openTemporary(temporaryPath: string): Promise<{ handle: FileHandle; temporaryPath: string }> {
  for (let attempt = 1; ; attempt++) {
    await makeFolder(dirname(temporaryPath));
    try {
      return { handle: await open(temporaryPath, 'wx', FILE_MODE), temporaryPath };
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' || attempt === FOLDER_ATTEMPTS_MAX) throw error;
    }
  }
}

async function statusOf(path: string) {
  try {
    return await lstat(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return null;
    throw error;
  }
}

async function entriesOf(path: string) {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
}

/** Names that are keys, folders with a slash at the end so that they sort as the keys below them do. */
async function sortedNames(path: string): Promise<string[]> {
  const names: string[] = [];
  for (const entry of await entriesOf(path)) {
    if (keyPartProblem(entry.name) !== null) continue;
    if (entry.isDirectory()) names.push(`${entry.name}/`);
    else if (entry.isFile()) names.push(entry.name);
  }
  return names.sort(compareKeys);
}
