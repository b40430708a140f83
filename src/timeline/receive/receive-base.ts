/**
 * Fetches the image of a running instance over the network, into an empty data directory that will follow that instance. Every file is
 * compared with the manifest that the source sends behind the files. Runs in a bulk worker.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, constants, mkdirSync, openSync, writeSync } from 'node:fs';
import { chown } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import {
  AppError,
  CancelledError,
  CorruptError,
  type Lsn,
  parseLsn,
  required,
  toError,
} from '../../base/index.ts';
import { tlsAttempts } from '../../pg/index.ts';
import type { BackupProgress } from '../contract.ts';
import { DATA_DIRECTORY_FOLDERS } from '../data-directory/rules.ts';
import {
  emptyDirectory,
  finishFile,
  handOver,
  type Owner,
  requireRoom,
  takeOver,
} from '../materialize/target-directory.ts';
import type { ReceiveBaseRequest, ReceiveBaseResult, ReplicationSource } from '../store-contract.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { forEachConcurrently } from '../worker/thread-pool.ts';
import { BaseBackupQuery, submitTo } from './base-backup-query.ts';
import { TarReader } from './tar-reader.ts';

const CONNECT_MS_MAX = 30_000;
/** Silence of the source. */
const SILENCE_MS_MAX = 60_000;
const MANIFEST_BYTES_MAX = 1024 * 1024 * 1024;
const SYNCS_AT_ONCE = 16;

const COMMAND = `BASE_BACKUP (LABEL 'atoll replication', PROGRESS, CHECKPOINT 'fast', WAL false, MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256')`;

export interface ReceiveTools {
  readonly onProgress: (progress: BackupProgress) => void;
  readonly signal: AbortSignal;
}

/**
 * Run again it begins anew; when it fails, the directory is left empty.
 * @throws AppError `connection_failure`, `disk_full`, `object_state` what the source refuses
 * @throws CorruptError when what arrived is not what was sent
 */
export async function runReceiveBase(
  request: ReceiveBaseRequest,
  tools: ReceiveTools,
): Promise<ReceiveBaseResult> {
  const { targetDirectory, uid } = request;
  const owner = await takeOver(targetDirectory, { uid });
  try {
    return await receive(request, { owner, tools });
  } catch (error) {
    await emptyDirectory(targetDirectory).catch(() => undefined);
    throw error;
  }
}

async function receive(
  request: ReceiveBaseRequest,
  { owner, tools }: { owner: Owner; tools: ReceiveTools },
): Promise<ReceiveBaseResult> {
  const { targetDirectory } = request;
  const client = await connect(request, tools);
  const query = new BaseBackupQuery(COMMAND);
  const onAbort = () => query.fail(new CancelledError('cancelled', { cause: tools.signal.reason }));
  tools.signal.addEventListener('abort', onAbort, { once: true });
  client.on('error', (error) => query.fail(lost(error)));
  client.on('end', () => query.fail(lost(undefined)));
  const image = new ReceivedImage(targetDirectory);
  try {
    submitTo(client, query);
    await takeParts(query, { image, tools, targetDirectory });
  } catch (error) {
    throw translated(error);
  } finally {
    tools.signal.removeEventListener('abort', onAbort);
    await client.end().catch(() => undefined);
  }
  const { startLsn, timelineId } = startOf(query);
  faultPoint('receive.before_sync');
  image.checkManifest();
  tools.onProgress({ fraction: 0.95, phase: 'syncing' });
  await forEachConcurrently(image.files, { concurrency: SYNCS_AT_ONCE }, (path) =>
    finishFile(join(targetDirectory, path), { length: null, owner }),
  );
  if (owner !== null) {
    for (const folder of image.folders) await chown(join(targetDirectory, folder), owner.uid, owner.gid);
  }
  await handOver(targetDirectory, { folders: image.folders, owner });
  return { startLsn, timelineId, receivedBytes: image.receivedBytes };
}

async function takeParts(
  query: BaseBackupQuery,
  options: { image: ReceivedImage; tools: ReceiveTools; targetDirectory: string },
): Promise<void> {
  const { image, tools, targetDirectory } = options;
  let totalBytes: bigint | null = null;
  for await (const part of query) {
    if (totalBytes === null) {
      totalBytes = sizeOf(query);
      await requireRoom(targetDirectory, { bytes: totalBytes });
    }
    if (part.kind === 'archive') image.beginArchive(part.name);
    else if (part.kind === 'manifest') image.beginManifest();
    else image.push(part.bytes);
    const received = { receivedBytes: Number(image.receivedBytes), totalBytes: Number(totalBytes) };
    const fraction = totalBytes === 0n ? 0 : received.receivedBytes / received.totalBytes;
    tools.onProgress({ fraction: Math.min(fraction, 1) * 0.95, phase: 'initial scan', received });
  }
}

/** The second result lists tablespaces: one row, of the data directory itself, with its size in KiB. */
function sizeOf({ results }: BaseBackupQuery): bigint {
  const tablespaces = results.slice(1);
  if (tablespaces.length !== 1) {
    throw new AppError('object_state', 'the source has tablespaces, which cannot be replicated', {
      hint: 'move what lies in them to the default tablespace, and drop them',
    });
  }
  return BigInt(tablespaces[0]?.[2] ?? 0) * 1024n;
}

function startOf({ results }: BaseBackupQuery): { startLsn: Lsn; timelineId: number } {
  const [lsn, timelineId] = required(results[0], 'start of a base backup');
  return { startLsn: parseLsn(lsn ?? ''), timelineId: Number(timelineId) };
}

class ReceivedImage {
  readonly #directory: string;
  readonly #hashes = new Map<string, string>();
  readonly #sizes = new Map<string, number>();
  readonly folders: string[] = [];
  readonly #manifest: Buffer[] = [];
  #manifestBytes = 0;
  #tar: TarReader | null = null;
  #file: { path: string; descriptor: number; hash: Hash; bytes: number } | null = null;
  receivedBytes = 0n;

  constructor(directory: string) {
    this.#directory = directory;
  }

  get files(): readonly string[] {
    return [...this.#hashes.keys()];
  }

  beginArchive(name: string): void {
    if (name !== 'base.tar' || this.#tar !== null) {
      throw new AppError('protocol_violation', 'the source sent more than its data directory');
    }
    for (const folder of DATA_DIRECTORY_FOLDERS) this.#makeFolder(folder);
    this.#tar = new TarReader((event) => {
      if (event.kind === 'folder') this.#makeFolder(event.path);
      else if (event.kind === 'file') this.#beginFile(event.path);
      else if (event.kind === 'content') this.#write(event.bytes);
      else this.#endFile();
    });
  }

  beginManifest(): void {
    if (this.#tar?.isWhole === false) throw new CorruptError('the image from the source ends inside a file');
    this.#tar = null;
  }

  push(bytes: Buffer): void {
    this.receivedBytes += BigInt(bytes.length);
    if (this.#tar !== null) return this.#tar.push(bytes);
    this.#manifestBytes += bytes.length;
    if (this.#manifestBytes > MANIFEST_BYTES_MAX) {
      throw new AppError('limit_exceeded', 'the manifest of the source is too long');
    }
    this.#manifest.push(bytes);
  }

  /** Every file that the source has sent is here, byte for byte, and no other. @throws CorruptError */
  checkManifest(): void {
    const listed = readManifest(Buffer.concat(this.#manifest).toString('utf8'));
    for (const { path, size, checksum } of listed) {
      if (this.#sizes.get(path) !== size || this.#hashes.get(path) !== checksum) {
        throw new CorruptError(`file ${path} is not what the source sent`, {
          hint: 'it is fetched again; if it happens again, look at the network between the two',
        });
      }
    }
    const known = new Set(listed.map(({ path }) => path));
    // The manifest tells of itself nothing.
    const foreign = this.files.find((path) => !known.has(path));
    if (foreign !== undefined) throw new CorruptError(`file ${foreign} is not in the manifest of the source`);
  }

  #makeFolder(path: string): void {
    mkdirSync(join(this.#directory, path), { recursive: true, mode: 0o700 });
    if (!this.folders.includes(path)) this.folders.push(path);
  }

  #beginFile(path: string): void {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const descriptor = openSync(join(this.#directory, path), flags, 0o600);
    this.#file = { path, descriptor, hash: createHash('sha256'), bytes: 0 };
  }

  #write(bytes: Uint8Array): void {
    const file = required(this.#file, 'file that is being received');
    file.hash.update(bytes);
    file.bytes += bytes.length;
    for (let at = 0; at < bytes.length; ) at += writeSync(file.descriptor, bytes, at);
  }

  #endFile(): void {
    const { path, descriptor, hash, bytes } = required(this.#file, 'file that is being received');
    closeSync(descriptor);
    this.#file = null;
    this.#hashes.set(path, hash.digest('hex'));
    this.#sizes.set(path, bytes);
  }
}

interface ManifestFile {
  readonly path: string;
  readonly size: number;
  readonly checksum: string;
}

/** @throws CorruptError */
function readManifest(text: string): readonly ManifestFile[] {
  let manifest: { Files?: unknown };
  try {
    manifest = JSON.parse(text) as { Files?: unknown };
  } catch (error) {
    throw new CorruptError('the manifest of the source is no JSON', { cause: error });
  }
  if (!Array.isArray(manifest.Files)) throw new CorruptError('the manifest of the source lists no files');
  return manifest.Files.map((file: Record<string, unknown>) => {
    const { Path: path, Size: size, Checksum: checksum } = file;
    if (typeof path !== 'string' || typeof size !== 'number' || typeof checksum !== 'string') {
      throw new CorruptError('the manifest of the source has an entry that cannot be read');
    }
    return { path, size, checksum };
  });
}

async function connect({ source }: ReceiveBaseRequest, { signal }: ReceiveTools): Promise<pg.Client> {
  if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
  let failure: unknown;
  for (const ssl of tlsAttempts(source.tls)) {
    const client = clientOf(source, ssl);
    try {
      await client.connect();
      return client;
    } catch (error) {
      await client.end().catch(() => undefined);
      failure = error;
      if (error instanceof pg.DatabaseError) break;
    }
  }
  throw translated(failure);
}

function clientOf(source: ReplicationSource, ssl: false | ConnectionOptions): pg.Client {
  const { host, port, user, password, options } = source;
  // Not among the types of `pg`; it stands in the start-up message.
  const replication = { replication: 'true' };
  const client = new pg.Client({
    ...replication,
    host,
    port,
    user,
    database: 'replication',
    ...(password === null ? {} : { password }),
    ssl,
    application_name: 'atoll replication scan',
    options,
    connectionTimeoutMillis: CONNECT_MS_MAX,
    keepAlive: true,
    keepAliveInitialDelayMillis: SILENCE_MS_MAX / 4,
  });
  client.on('error', () => undefined);
  return client;
}

function translated(thrown: unknown): Error {
  if (thrown instanceof AppError) return thrown;
  const error = toError(thrown);
  if (error instanceof pg.DatabaseError) {
    const code = /^(57|08|53)/.test(error.code ?? '') ? 'connection_failure' : 'object_state';
    return new AppError(code, `the source refused: ${error.message}`, { cause: error });
  }
  if ('code' in error && error.code === 'ENOSPC') {
    return new AppError('disk_full', 'no space is left for the image of the source', { cause: error });
  }
  return lost(error);
}

function lost(cause: unknown): AppError {
  return new AppError('connection_failure', 'the connection to the source was lost during the initial scan', {
    cause,
  });
}
