/**
 * Fetches the image of a running instance over the network, into a data directory that will follow that instance. Every file is compared with
 * the manifest that the source sends behind the files. Where an earlier attempt was cut off, the source is told what has arrived, and sends of
 * that only what has changed since. Runs in a bulk worker.
 */
import { readdirSync, rmSync } from 'node:fs';
import { chown, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import { AppError, CancelledError, isAppError, parseLsn, required, toError } from '../../base/index.ts';
import { tlsAttempts } from '../../pg/index.ts';
import type { BackupProgress } from '../contract.ts';
import {
  emptyDirectory,
  finishFile,
  handOver,
  type Owner,
  requireRoom,
  takeOverInPlace,
} from '../materialize/target-directory.ts';
import type { ReceiveBaseRequest, ReceiveBaseResult, ReplicationSource } from '../store-contract.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { forEachConcurrently } from '../worker/thread-pool.ts';
import { BaseBackupQuery, submitTo } from './base-backup-query.ts';
import { printManifest } from './base-manifest.ts';
import { applyIncremental, incrementalTarget } from './incremental-file.ts';
import { type KeptFiles, NOTHING_KEPT, removeOthers, soundFiles } from './kept-files.ts';
import { type ImageStart, ReceiveProgress } from './receive-progress.ts';
import { ReceivedImage } from './received-image.ts';
import { uploadManifest } from './upload-manifest-query.ts';

const CONNECT_MS_MAX = 30_000;
/** Silence of the source. */
const SILENCE_MS_MAX = 60_000;
const SYNCS_AT_ONCE = 16;
const BACKUP_LABEL = 'backup_label';

export interface ReceiveTools {
  readonly onProgress: (progress: BackupProgress) => void;
  readonly signal: AbortSignal;
}

/** Of one attempt. */
interface Target {
  readonly directory: string;
  readonly owner: Owner;
  readonly tools: ReceiveTools;
}

/**
 * Run again after it failed, it goes on with the files that are whole, as long as the source can tell what has changed since.
 * @throws AppError `connection_failure`, `disk_full`, `object_state` what the source refuses
 * @throws CorruptError when what arrived is not what was sent
 */
export async function runReceiveBase(
  request: ReceiveBaseRequest,
  tools: ReceiveTools,
): Promise<ReceiveBaseResult> {
  const { targetDirectory: directory, uid, identity } = request;
  const owner = await takeOverInPlace(directory, { uid });
  const target: Target = { directory, owner, tools };
  const arrived = await ReceiveProgress.find(directory, identity);
  const nothingNew = { receivedBytes: 0n, keptBytes: 0n, anewBecause: null };
  if (arrived.kind === 'finished') {
    await handOver(directory, { folders: [], owner });
    return { ...arrived.start, ...nothingNew };
  }
  if (arrived.kind === 'all') {
    using progress = ReceiveProgress.reopen(directory);
    await finish(target, { start: arrived.start, progress });
    return { ...arrived.start, ...nothingNew };
  }
  if (arrived.kind === 'nothing') await emptyDirectory(directory);
  const attempts = arrived.kind === 'some' ? arrived.attempts : [];
  try {
    return await attemptOrAnew(request, { target, attempts });
  } catch (error) {
    // What fills the disk must not stay, and what is not what was sent is not gone on with.
    if (!isAppError(error, 'cancelled', 'connection_failure')) await emptyDirectory(directory);
    throw error;
  }
}

async function attemptOrAnew(
  request: ReceiveBaseRequest,
  { target, attempts }: { target: Target; attempts: KeptFiles['attempts'] },
): Promise<ReceiveBaseResult> {
  const { tools } = target;
  try {
    return await attempt(request, { target, attempts });
  } catch (error) {
    if (!(error instanceof CannotGoOnError)) throw error;
    const anewBecause = error.message;
    tools.onProgress({ fraction: 0, phase: `initial scan, begun anew because ${anewBecause}` });
    return { ...(await attempt(request, { target, attempts: [] })), anewBecause };
  }
}

/** The source cannot say what has changed in what is here. */
class CannotGoOnError extends Error {}

async function attempt(
  request: ReceiveBaseRequest,
  { target, attempts }: { target: Target; attempts: KeptFiles['attempts'] },
): Promise<ReceiveBaseResult> {
  const { directory, tools } = target;
  const { identity } = request;
  const client = await connect(request, tools);
  const lostBy = new AbortController();
  client.on('error', (error) => lostBy.abort(lost(error)));
  client.on('end', () => lostBy.abort(lost(undefined)));
  const signal = AbortSignal.any([tools.signal, lostBy.signal]);
  try {
    const kept = await goOnWith(client, { directory, attempts, identity, signal: tools.signal });
    await removeOthers(directory, kept.files);
    using progress = await ReceiveProgress.begin(directory, { identity, kept: kept.attempts });
    const image = new ReceivedImage(directory, { kept: kept.files, onFile: (file) => progress.add(file) });
    const start = await takeImage(client, { image, kept, progress, target, signal });
    faultPoint('receive.before_sync');
    image.checkManifest();
    image.removeGone();
    tools.onProgress({ fraction: 0.95, phase: 'syncing' });
    await makeDurable(target, image);
    progress.complete(start);
    faultPoint('receive.after_sync');
    await finish(target, { start, progress });
    const { receivedBytes, keptBytes } = image;
    return { ...start, receivedBytes, keptBytes: BigInt(keptBytes), anewBecause: null };
  } catch (error) {
    if (error instanceof CannotGoOnError) throw error;
    throw translated(error);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** The files that need not come again, of which the source has been told. @throws CannotGoOnError */
async function goOnWith(
  client: pg.Client,
  options: {
    directory: string;
    attempts: KeptFiles['attempts'];
    identity: ReceiveBaseRequest['identity'];
    signal: AbortSignal;
  },
): Promise<KeptFiles> {
  const { directory, attempts, identity, signal } = options;
  if (attempts.length === 0) return NOTHING_KEPT;
  const hasChecksums = (await settingOf(client, 'data_checksums')) === 'on';
  if ((await settingOf(client, 'summarize_wal')) !== 'on') {
    throw new CannotGoOnError('the source keeps no account of what changes (summarize_wal is off)');
  }
  const kept = await soundFiles(directory, { attempts, hasChecksums, signal });
  if (kept.since === null) return NOTHING_KEPT;
  const { systemIdentifier } = identity;
  const manifest = printManifest({ systemIdentifier, start: kept.since, files: kept.files.values() });
  try {
    await uploadManifest(client, manifest);
  } catch (error) {
    throw asCannotGoOn(error);
  }
  return kept;
}

/** Null where the source knows no such setting. */
async function settingOf(client: pg.Client, name: string): Promise<string | null> {
  try {
    const { rows } = await client.query<Record<string, string>>(`SHOW ${name}`);
    return rows[0]?.[name] ?? null;
  } catch (error) {
    if (error instanceof pg.DatabaseError && !isPassing(error)) return null;
    throw error;
  }
}

async function takeImage(
  client: pg.Client,
  options: {
    image: ReceivedImage;
    kept: KeptFiles;
    progress: ReceiveProgress;
    target: Target;
    signal: AbortSignal;
  },
): Promise<ImageStart> {
  const { image, kept, progress, target, signal } = options;
  const { directory, tools } = target;
  const query = new BaseBackupQuery(commandFor(kept));
  const onAbort = () => {
    const isLost = !tools.signal.aborted;
    query.fail(isLost ? toError(signal.reason) : new CancelledError('cancelled', { cause: signal.reason }));
  };
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  let totalBytes: number | null = null;
  try {
    submitTo(client, query);
    for await (const part of query) {
      if (totalBytes === null) {
        totalBytes = Number(sizeOf(query));
        await requireRoom(directory, { bytes: BigInt(Math.max(0, totalBytes - kept.bytes)) });
        progress.beginAttempt(startOf(query));
      }
      if (part.kind === 'archive') image.beginArchive(part.name);
      else if (part.kind === 'manifest') image.beginManifest();
      else image.push(part.bytes);
      const { keptBytes } = image;
      const received = { receivedBytes: Number(image.receivedBytes), totalBytes: totalBytes - keptBytes };
      const fraction = totalBytes === 0 ? 0 : (received.receivedBytes + keptBytes) / totalBytes;
      tools.onProgress({ fraction: Math.min(fraction, 1) * 0.95, phase: 'initial scan', received });
    }
  } catch (error) {
    if (totalBytes === null && kept.since !== null) throw asCannotGoOn(error);
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
  return startOf(query);
}

function commandFor({ since }: KeptFiles): string {
  const incremental = since === null ? '' : ', INCREMENTAL';
  return `BASE_BACKUP (LABEL 'atoll replication', PROGRESS, CHECKPOINT 'fast', WAL false, MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256'${incremental})`;
}

/** What the source refuses, it refuses of the files that are here; anything else is trouble as any. */
function asCannotGoOn(error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError) || isPassing(error)) return error;
  return new CannotGoOnError(`the source refused: ${error.message}`, { cause: error });
}

/** Everything that came is here for good, whatever happens, and its owner's. */
async function makeDurable({ directory, owner }: Target, image: ReceivedImage): Promise<void> {
  if (image.received.includes(BACKUP_LABEL)) await makeWhole(join(directory, BACKUP_LABEL));
  const files = [...image.received, ...image.kept];
  await forEachConcurrently(files, { concurrency: SYNCS_AT_ONCE }, (path) =>
    finishFile(join(directory, path), { length: null, owner }),
  );
  await handOver(directory, { folders: image.folders, owner: null });
}

/** With changes put into their files the image is a whole one: Postgres does not start what calls itself incremental. */
async function makeWhole(labelPath: string): Promise<void> {
  const label = await readFile(labelPath, 'utf8');
  await writeFile(labelPath, label.replace(/^INCREMENTAL FROM .*\n/gm, ''));
}

/** Puts changes into the files that were kept. May be done again wherever it was cut off. */
async function finish(
  { directory, owner, tools }: Target,
  { start, progress }: { start: ImageStart; progress: ReceiveProgress },
): Promise<void> {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  const pathOf = (entry: (typeof entries)[number]) =>
    join(entry.parentPath, entry.name).slice(directory.length + 1);
  for (const entry of entries) {
    const path = pathOf(entry);
    const changed = entry.isFile() ? incrementalTarget(path) : null;
    if (changed === null) continue;
    if (tools.signal.aborted) throw new CancelledError('cancelled', { cause: tools.signal.reason });
    applyIncremental(join(directory, path), { target: join(directory, changed) });
    faultPoint('receive.after_first_change');
    rmSync(join(directory, path));
  }
  const folders = entries
    .filter((entry) => entry.isDirectory())
    .map(pathOf)
    .sort();
  if (owner !== null) {
    for (const folder of folders) await chown(join(directory, folder), owner.uid, owner.gid);
  }
  await handOver(directory, { folders, owner: null });
  progress.finish(start);
  await handOver(directory, { folders: [], owner });
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

function startOf({ results }: BaseBackupQuery): ImageStart {
  const [lsn, timelineId] = required(results[0], 'start of a base backup');
  return { startLsn: parseLsn(lsn ?? ''), timelineId: Number(timelineId) };
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
    const code = isPassing(error) ? 'connection_failure' : 'object_state';
    return new AppError(code, `the source refused: ${error.message}`, { cause: error });
  }
  if ('code' in error && error.code === 'ENOSPC') {
    return new AppError('disk_full', 'no space is left for the image of the source', { cause: error });
  }
  return lost(error);
}

/** By its code it may go better later. */
function isPassing({ code = '' }: pg.DatabaseError): boolean {
  return /^(57|08|53)/.test(code);
}

function lost(cause: unknown): AppError {
  return new AppError('connection_failure', 'the connection to the source was lost during the initial scan', {
    cause,
  });
}
