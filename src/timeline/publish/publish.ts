/**
 * A backup of a moment, made of what the timeline store holds: the newest base that leads there, and the log up to it. Frames are copied as
 * they are stored. The virtual cluster is asked for nothing and no file of it is read. Runs in a bulk worker.
 */
import { AppError, formatLsn, formatTimestamp, required, type Rng } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import { walSegmentNoOf } from '../../pg/index.ts';
import { abandonAttempt, beginAttempt, markLatest, publishManifest } from '../collection/attempt.ts';
import { openCollection } from '../collection/open.ts';
import { claimCollection } from '../collection/owner.ts';
import { openManifest } from '../collection/completed.ts';
import { summaryOf } from '../collection/summary.ts';
import type { BackupProgress } from '../contract.ts';
import { checkManifest } from '../format/check-manifest.ts';
import type { Manifest } from '../format/manifest.ts';
import { type ManifestHead, readManifest } from '../format/manifest-file.ts';
import { packTagKey } from '../format/pack.ts';
import { chooseBase } from '../materialize/materialize-point.ts';
import { checkPack } from '../objects/pack-check.ts';
import { requireObject } from '../objects/require-object.ts';
import { checkWalObject, type ExpectedWal } from '../objects/wal-reader.ts';
import type { PublishRequest, PublishResult } from '../store-contract.ts';
import { openBases } from '../store/bases.ts';
import { restrictImage } from '../part/restrict-image.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { RestCell } from '../worker/limiter.ts';
import { type CopiedPack, readCheckpoints, removeCheckpoints, writeCheckpoint } from './copied-pack.ts';
import { copyFrames } from './copy-frames.ts';
import { copyLog, endOfLogFor, hasSegments, type VaultSource } from './copy-log.ts';
import { describePublished } from './describe.ts';
import { placeOf, planPublish, type PublishPlan } from './plan-publish.ts';

export interface PublishTools {
  readonly rng: Rng;
  readonly restCell: RestCell;
  readonly onProgress: (progress: BackupProgress) => void;
  readonly signal: AbortSignal;
}

/** Shares of the work in what is shown as progress. */
const PROGRESS = { copied: 0.7, logged: 0.85, verified: 0.99 } as const;

/**
 * Returns when the backup could be restored: everything written was read again. Asked again after an attempt that ended anywhere, it goes
 * on using the packs that were complete; asked for a backup that is there, it answers with that one.
 * @throws AppError `time_outside_window` when no base of the moment's own life leads to it, or log is missing
 * @throws AppError `object_state` when the backup to build on is no ancestor of the moment
 * @throws CorruptError when the store is damaged
 */
export async function runPublish(request: PublishRequest, tools: PublishTools): Promise<PublishResult> {
  const { clusterId, virtualClusterName, subdirectory, jobId, attempt, key } = request;
  const { virtualClusterId } = request.store;
  const { signal } = tools;
  const store = openCollection(request.collection, tools);
  await claimCollection(store, { owner: { clusterId, virtualClusterId, virtualClusterName }, signal });
  faultPoint('backup.after_claim');
  const attempted = { store, subdirectory, jobId, attempt, key, signal };
  const resumed = await readCheckpoints(attempted);
  const kept = new Set(resumed.map(({ path }) => path));
  const completed = await beginAttempt(attempted, { kept });
  faultPoint('backup.after_lock');
  if (completed !== null) return finish(request, { store, head: completed, signal });
  try {
    const published = await publish(request, { store, resumed, tools });
    faultPoint('publish.before_manifest');
    await publishManifest(attempted, published.manifest);
    faultPoint('publish.after_manifest');
    return {
      ...(await finish(request, { store, head: published.manifest, signal })),
      copiedBytes: published.copiedBytes,
      resumedBytes: published.resumedBytes,
    };
  } catch (error) {
    // Not with the signal of the work, which may be what ended it. Complete packs stay for the next attempt.
    const { signal: unaborted } = new AbortController();
    const left = { ...attempted, signal: unaborted };
    await readCheckpoints(left)
      .then((packs) => abandonAttempt(left, { kept: new Set(packs.map(({ path }) => path)) }))
      .catch(() => undefined);
    throw error;
  }
}

/** What comes after the manifest: done again, it does no harm. */
async function finish(
  request: PublishRequest,
  { store, head, signal }: { store: BlobStore; head: ManifestHead; signal: AbortSignal },
): Promise<PublishResult> {
  const place = { ...request, store, signal };
  if (request.onto === null) await markLatest(place);
  faultPoint('publish.after_latest');
  await removeCheckpoints(place);
  return { summary: summaryOf(head), copiedBytes: 0n, resumedBytes: 0n };
}

interface Published {
  readonly manifest: Manifest;
  readonly copiedBytes: bigint;
  readonly resumedBytes: bigint;
}

async function publish(
  request: PublishRequest,
  { store, resumed, tools }: { store: BlobStore; resumed: readonly CopiedPack[]; tools: PublishTools },
): Promise<Published> {
  const { point, key, subdirectory, attempt } = request;
  const { signal, onProgress } = tools;
  const bases = openBases(request.store, tools);
  const whole = await readWhole(bases, { subdirectory: await requireBase(request, tools), key, signal });
  const base = request.part === undefined ? whole : restrictImage(whole, request.part);
  const older =
    request.onto === null ? null : await readWhole(store, { subdirectory: request.onto, key, signal });
  if (older !== null) requireAncestor(older, { request, base });
  const source = vaultOf(request, { base, signal });
  const end = await endOfLogFor(source, point);
  const lastSegmentNo = walSegmentNoOf({ lsn: (end.walEndLsn - 1n) as typeof end.walEndLsn, ...source });
  const oldestNo = older === null ? null : walSegmentNoOf({ lsn: older.header.startLsn, ...source });
  const known = await knownFrom(source, { oldestNo, lastSegmentNo });
  const plan = planPublish({
    ...request,
    base,
    older,
    hasLogFrom: (segmentNo) => known !== null && segmentNo >= known,
  });
  faultPoint('publish.after_plan');
  const packs = await copyMissing(request, { store, bases, plan, resumed, tools });
  const copy = (range: { begin: bigint; end: bigint }) =>
    copyLog({
      source,
      into: store,
      subdirectory,
      attempt,
      range,
      ...end,
      rng: tools.rng,
      onCopied: () => onProgress({ fraction: PROGRESS.copied, phase: 'copying the log' }),
    });
  const earlier = await copy(plan.history?.segmentNos ?? { begin: 0n, end: 0n });
  const own = await copy({ begin: plan.firstSegmentNo, end: lastSegmentNo + 1n });
  onProgress({ fraction: PROGRESS.logged, phase: 'verifying' });
  const manifest = describePublished(request, {
    plan,
    older,
    packs,
    wal: own.wal,
    historyWal: earlier.wal,
    end,
  });
  faultPoint('verify.before');
  await verify(manifest, { store, packs, wal: [...earlier.expected, ...own.expected], key, tools });
  const bytesOf = (all: readonly CopiedPack[]) =>
    all.flatMap(({ frames }) => frames).reduce((sum, { length }) => sum + BigInt(length), 0n);
  return {
    manifest,
    copiedBytes: bytesOf(packs),
    resumedBytes: bytesOf(packs.filter((pack) => resumed.includes(pack))),
  };
}

/** The base's folder. Log of another life than the moment's is not mixed into one backup. */
async function requireBase(request: PublishRequest, tools: PublishTools): Promise<string> {
  const { point } = request;
  const base = await chooseBase(request, tools);
  if (base.incarnation === point.incarnation && base.timelineId === point.timelineId)
    return base.subdirectory;
  throw new AppError(
    'time_outside_window',
    `no base of incarnation ${point.incarnation} leads to ${formatTimestamp(point.time)}: the newest before it is of an earlier life of the data`,
    { hint: 'wait for the next base, which SHOW TIMELINE lists, or back up the present state' },
  );
}

/** @throws AppError `object_state` */
function requireAncestor(
  older: Manifest,
  { request, base }: { request: PublishRequest; base: Manifest },
): void {
  const { point, clusterId, store } = request;
  const { header } = older;
  const isOurs =
    header.clusterId === clusterId &&
    header.virtualClusterId === store.virtualClusterId &&
    header.incarnation === point.incarnation &&
    header.timelineId === point.timelineId &&
    header.engine.catalogVersion === base.header.engine.catalogVersion &&
    older.copies === undefined;
  if (isOurs && header.targetLsn <= point.lsn && header.endTime <= point.time) return;
  throw new AppError(
    'object_state',
    `backup ${header.subdirectory}, of ${formatTimestamp(header.endTime)} at ${formatLsn(header.targetLsn)}, does not come before ${formatTimestamp(point.time)} at ${formatLsn(point.lsn)}`,
    { hint: 'take a full backup, or name a later moment' },
  );
}

async function readWhole(
  store: BlobStore,
  {
    subdirectory,
    key,
    signal,
  }: { subdirectory: string } & Pick<PublishRequest, 'key'> & { signal: AbortSignal },
): Promise<Manifest> {
  const { chunks, name } = await openManifest(store, { subdirectory, signal });
  const manifest = await readManifest(chunks, { key, name });
  checkManifest(manifest, name);
  return manifest;
}

function vaultOf(
  { store, point, incarnations }: PublishRequest,
  { base, signal }: { base: Manifest; signal: AbortSignal },
): VaultSource {
  const record = required(
    incarnations.find(({ incarnation }) => incarnation === point.incarnation),
    `record of incarnation ${point.incarnation}`,
  );
  const segmentBytes = base.header.engine.walSegmentBytes;
  return { store, record, timelineId: point.timelineId, segmentBytes, signal };
}

/** The first segment from which on the vault has all, looked for no further back than an older backup needs. */
async function knownFrom(
  source: VaultSource,
  { oldestNo, lastSegmentNo }: { oldestNo: bigint | null; lastSegmentNo: bigint },
): Promise<bigint | null> {
  let known: bigint | null = null;
  for (let segmentNo = lastSegmentNo; segmentNo >= (oldestNo ?? lastSegmentNo); segmentNo--) {
    if (!(await hasSegments(source, { begin: segmentNo, end: segmentNo + 1n }))) return known;
    known = segmentNo;
  }
  return known;
}

/** Copies what neither the chain nor an earlier attempt has. */
async function copyMissing(
  request: PublishRequest,
  parts: {
    store: BlobStore;
    bases: BlobStore;
    plan: PublishPlan;
    resumed: readonly CopiedPack[];
    tools: PublishTools;
  },
): Promise<readonly CopiedPack[]> {
  const { store, bases, plan, tools } = parts;
  const { image, copied } = plan;
  const wanted = new Set(copied.map((row) => placeOf(image, row)));
  const resumed = parts.resumed.filter(({ frames }) => frames.some(({ source }) => wanted.has(source)));
  const present = new Set(resumed.flatMap(({ frames }) => frames.map(({ source }) => source)));
  const rows = copied.filter((row) => !present.has(placeOf(image, row)));
  const total = rows.reduce((sum, row) => sum + (image.frames.lengths[row] ?? 0), 0);
  let done = 0;
  const place = { ...request, store, signal: tools.signal };
  const packs = await copyFrames({
    ...request,
    ...tools,
    from: bases,
    into: store,
    image,
    rows,
    async onPack(pack) {
      await writeCheckpoint(place, pack);
      faultPoint('publish.after_checkpoint');
    },
    onCopied(bytes) {
      done += bytes;
      const fraction = (PROGRESS.copied * done) / Math.max(total, 1);
      tools.onProgress({ fraction, phase: 'copying frames' });
    },
  });
  return [...resumed, ...packs];
}

/** Reads again, and checks, every byte that was stored; what the chain has must be there. */
async function verify(
  manifest: Manifest,
  options: {
    store: BlobStore;
    packs: readonly CopiedPack[];
    wal: readonly ExpectedWal[];
    key: PublishRequest['key'];
    tools: PublishTools;
  },
): Promise<void> {
  const { store, packs, wal, key, tools } = options;
  const { signal, onProgress } = tools;
  const steps = packs.length + wal.length;
  let done = 0;
  const step = () => {
    done++;
    const share = (PROGRESS.verified - PROGRESS.logged) * (done / steps);
    onProgress({ fraction: PROGRESS.logged + share, phase: 'verifying' });
  };
  for (const pack of packs) {
    const id = Buffer.from(pack.id, 'hex');
    const column = (value: (frame: CopiedPack['frames'][number]) => number) =>
      Uint32Array.from(pack.frames, value);
    const frames = {
      offsets: column(({ offset }) => offset),
      lengths: column(({ length }) => length),
      crcs: column(({ crc }) => crc),
      tags: Buffer.concat(pack.frames.map(({ tag }) => tag)),
    };
    const tagKey = packTagKey({ key, id });
    await checkPack(
      store,
      { key: parseBlobKey(pack.path), id, bytes: pack.bytes, tagKey, frames },
      { signal },
    );
    step();
  }
  for (const object of wal) {
    await checkWalObject(store, object, { signal });
    step();
  }
  const own = new Set([...packs.map(({ path }) => path), ...wal.map(({ key: path }) => String(path))]);
  for (const object of [...manifest.packs, ...manifest.wal]) {
    if (!own.has(object.path)) await requireObject(store, object, { signal });
  }
}
