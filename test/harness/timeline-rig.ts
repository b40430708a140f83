import { copyFile, mkdir, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { type IncarnationId, type Lsn, parseLsn, type Timestamp } from '../../src/base/index.ts';
import { nodelocalBlobStore, parseBlobKey } from '../../src/blob/index.ts';
import { systemClock, systemRng } from '../../src/daemon/index.ts';
import type { Instance, ProvedIncarnation } from '../../src/instance/index.ts';
import { parseWalSegmentName, walSegmentStart } from '../../src/pg/index.ts';
import { openWalSegment } from '../../src/timeline/capture/read-wal.ts';
import type {
  BackupProgress,
  CaptureBaseResult,
  IncarnationRecord,
  PointResult,
  PublishRequest,
  PublishResult,
  TimelinePoint,
  TimelineStoreLocation,
} from '../../src/timeline/index.ts';
import {
  createCaptureWorker,
  createPointWorker,
  Confinement,
  SpareProcess,
  createTimelineReader,
  newestSharedBase,
} from '../../src/timeline/index.ts';
import { writeWalObject } from '../../src/timeline/objects/wal-writer.ts';
import {
  closedSegmentName,
  openSegmentName,
  timelineStoreLocation,
  walDirectory,
} from '../../src/timeline/store/layout.ts';
import { BackupRig, type RestoreTarget } from './backup-rig.ts';
import { NEVER } from './instance-store.ts';

const SEGMENT_BYTES = 16 * 1024 * 1024;
/** As somebody who may use whatever the bootstrap superuser may. */
const OWN = { user: 'atoll', database: 'system' };

/** What may differ from an ordinary publication. */
export type PublishVariation = Partial<
  Omit<PublishRequest, 'store' | 'point' | 'key' | 'clusterId' | 'release'>
> & {
  readonly onProgress?: (progress: BackupProgress) => void;
  readonly signal?: AbortSignal;
};

/**
 * A serving virtual cluster with a timeline store that the test fills itself: bases as backups are taken, log from the instance's own
 * folder, whenever the test says so.
 */
export class TimelineRig implements AsyncDisposable {
  readonly rig: BackupRig;
  readonly location: TimelineStoreLocation;
  readonly worker;
  readonly #capture;
  #nextBase = 1;
  readonly #records = new Map<IncarnationId, IncarnationRecord>();

  private constructor(rig: BackupRig) {
    this.rig = rig;
    this.location = timelineStoreLocation({
      storeDirectory: rig.store.directory,
      virtualClusterId: rig.source.identity.virtualClusterId,
    });
    const { logger } = rig.store;
    const clock = systemClock();
    const tools = {
      clock,
      logger,
      isLimited: false,
      spare: new SpareProcess({ clock }),
      confinement: new Confinement({ logger: logger }),
    };
    this.worker = createPointWorker(tools);
    this.#capture = createCaptureWorker(tools);
  }

  static async open(): Promise<TimelineRig> {
    const rig = new TimelineRig(await BackupRig.open());
    await rig.follow(rig.source);
    return rig;
  }

  get source(): Instance {
    return this.rig.source;
  }

  get incarnations(): readonly IncarnationRecord[] {
    return [...this.#records.values()];
  }

  /** Keeps the log of an instance from being removed, and records its incarnation. */
  async follow(instance: Instance, proved?: ProvedIncarnation): Promise<void> {
    const { identity } = instance;
    await withOwn(instance, `SELECT pg_create_physical_replication_slot('rig', true)`);
    this.#records.set(identity.incarnation, {
      incarnation: identity.incarnation,
      parentIncarnation: identity.parentIncarnation,
      forkLsn: identity.forkLsn,
      systemIdentifier: identity.systemIdentifier,
      engineMajor: identity.engineMajor,
      timelines: [{ timelineId: proved?.timelineId ?? 1, beginLsn: proved?.forkLsn ?? (0n as Lsn) }],
    });
  }

  /** A base of the served virtual cluster; on top of an older one when that is named. */
  async captureBase({
    onto = null,
    of = this.source,
  }: {
    onto?: string | null;
    of?: Instance;
  } = {}): Promise<CaptureBaseResult> {
    const { identity, dataDirectory, socketDirectory } = of;
    const { rig, location: store, incarnations } = this;
    return this.#capture.captureBase(
      {
        source: { ...identity, dataDirectory, socketDirectory },
        store,
        subdirectory: rig.newSubdirectory(),
        clusterId: rig.store.host.clusterId,
        key: rig.key,
        jobId: `base-${this.#nextBase++}`,
        attempt: 1,
        packBytesMax: 16 * 1024 * 1024,
        release: '26.2',
        onto,
        incarnations,
      },
      { onProgress: () => undefined, signal: NEVER },
    );
  }

  /** A backup of a point, from the store into a collection. */
  publish(point: TimelinePoint, variation: PublishVariation = {}): Promise<PublishResult> {
    const { rig, location: store, incarnations } = this;
    const { onProgress = () => undefined, signal = NEVER, ...rest } = variation;
    return this.worker.publish(
      {
        store,
        point,
        incarnations,
        collection: rig.collection,
        subdirectory: rest.subdirectory ?? rig.newSubdirectory(),
        onto: null,
        hasRevisionHistory: false,
        clusterId: rig.store.host.clusterId,
        virtualClusterName: rig.source.identity.virtualClusterName,
        key: rig.key,
        jobId: `publish-${this.#nextBase++}`,
        attempt: 1,
        packBytesMax: 16 * 1024 * 1024,
        release: '26.2',
        ...rest,
      },
      { onProgress, signal },
    );
  }

  /** Reads every page of a running virtual cluster and checks its checksum, as a backup of it does. */
  async verifyChecksums(instance: Instance): Promise<void> {
    const { identity, dataDirectory, socketDirectory } = instance;
    const collection = this.rig.newCollection(`checksums-${identity.incarnation}`);
    await this.rig.backup({ collection, source: { ...identity, dataDirectory, socketDirectory } });
  }

  /** Position at which the next record will begin; all before it is durable when this returns. */
  async position(source: Instance = this.source): Promise<Lsn> {
    const [row] = await withOwn(source, 'SELECT pg_current_wal_insert_lsn()::text AS lsn');
    await withOwn(source, `SELECT pg_logical_emit_message(true, 'rig', 'flush', true)`);
    return parseLsn(String(row?.['lsn']));
  }

  /** Puts all the log that is durable into the vault. With `endLsn` none of it beyond. */
  async receive(source: Instance = this.source, options: { endLsn?: Lsn } = {}): Promise<Lsn> {
    const { incarnation, systemIdentifier } = source.identity;
    const durable = source.state.kind === 'running' ? await flushedLsn(source) : undefined;
    const endLsn = options.endLsn ?? durable;
    const directory = walDirectory(this.location, incarnation);
    await mkdir(directory, { recursive: true });
    const store = nodelocalBlobStore({ displayUri: directory, directory, rng: systemRng() });
    const present = await readdir(directory);
    const names = await readdir(join(source.dataDirectory, 'pg_wal'));
    for (const name of names.filter((each) => /^[0-9A-F]{24}$/.test(each)).toSorted()) {
      const segment = parseWalSegmentName({ name, segmentBytes: SEGMENT_BYTES });
      const beginLsn = walSegmentStart(segment);
      const path = join(source.dataDirectory, 'pg_wal', name);
      if (endLsn !== undefined && endLsn <= beginLsn) continue;
      if (segment.timelineId !== this.#records.get(incarnation)?.timelines[0]?.timelineId) continue;
      const nextLsn = (beginLsn + BigInt(SEGMENT_BYTES)) as Lsn;
      if (endLsn === undefined || endLsn < nextLsn) {
        const partial = join(directory, openSegmentName(segment));
        await copyFile(path, partial);
        if (endLsn === undefined) continue;
        await using file = await open(partial, 'r+');
        await file.truncate(Number(endLsn - beginLsn));
        continue;
      }
      if (present.includes(closedSegmentName(segment))) continue;
      const header = { ...segment, endLsn: nextLsn, systemIdentifier, incarnation };
      using reading = openWalSegment(path, header);
      const key = parseBlobKey(closedSegmentName(segment));
      await writeWalObject({ store, key, header, read: reading.read, signal: NEVER });
    }
    return endLsn ?? (0n as Lsn);
  }

  point(lsn: Lsn, source: Instance = this.source): TimelinePoint {
    const { incarnation } = source.identity;
    const timelineId = this.#records.get(incarnation)?.timelines[0]?.timelineId ?? 1;
    return { incarnation, timelineId, lsn, time: 0n as Timestamp };
  }

  /** A new virtual cluster that holds what there was at the point; nobody serves it yet. */
  async materialize(point: TimelinePoint): Promise<{ target: RestoreTarget; result: PointResult }> {
    const target = await this.rig.beginTarget();
    return { target, result: await this.materializeInto(target, point) };
  }

  materializeInto(target: RestoreTarget, point: TimelinePoint): Promise<PointResult> {
    const { targetDirectory, uid } = target;
    const { location: store, incarnations } = this;
    return this.worker.materializePoint(
      { store, point, incarnations, key: this.rig.key, targetDirectory, uid },
      { onProgress: () => undefined, signal: NEVER },
    );
  }

  /** Recovers and serves what was materialized. */
  async serve(
    target: RestoreTarget,
    result: PointResult,
    options: { parent: TimelinePoint; isNewSystem?: boolean },
  ): Promise<{ instance: Instance; proved: ProvedIncarnation }> {
    const { virtualClusterId, incarnation } = target;
    const { host } = this.rig.store;
    const { parent, isNewSystem = false } = options;
    const proved = await host.proveIncarnation({
      virtualClusterId,
      incarnation,
      recovery: result.recovery,
      prepare: () => Promise.resolve(),
      isNewSystem,
      signal: NEVER,
    });
    await host.commitIncarnation({
      virtualClusterId,
      incarnation,
      parentIncarnation: parent.incarnation,
      forkLsn: proved.forkLsn,
      signal: NEVER,
    });
    const instance = host.get(virtualClusterId);
    if (instance === undefined) throw new Error('the materialized virtual cluster is gone');
    return { instance, proved };
  }

  /** Takes a served virtual cluster back in its own place and starts it; attempts that are cut off are for the caller. */
  async rewind(
    instance: Instance,
    options: { point: TimelinePoint; current: TimelinePoint; incarnation: IncarnationId; base?: string },
  ): Promise<PointResult> {
    const { point, current, incarnation } = options;
    const { virtualClusterId } = instance.identity;
    const { host } = this.rig.store;
    const apart = await host.beginRewind({ virtualClusterId, incarnation });
    if (apart === null) throw new Error('there is nothing to rewind');
    const { location: store, incarnations } = this;
    const { dataDirectory: targetDirectory, uid } = apart;
    const { key } = this.rig;
    const baseSubdirectory = options.base ?? (await this.sharedBase({ point, current }));
    return this.worker.rewind(
      { store, point, current, incarnations, key, baseSubdirectory, targetDirectory, uid },
      { onProgress: () => undefined, signal: NEVER },
    );
  }

  /** Folder of the newest base that leads to both. */
  async sharedBase(ends: { point: TimelinePoint; current: TimelinePoint }): Promise<string> {
    const { location: store, incarnations } = this;
    const reader = createTimelineReader({ rng: systemRng() });
    const bases = await reader.bases(store, { key: this.rig.key, signal: NEVER });
    const base = newestSharedBase(ends, { bases, incarnations, avoid: [] });
    if (base === undefined) throw new Error('no base leads to both');
    return base.subdirectory;
  }

  /** Recovers and serves what was rewound. */
  async serveRewound(
    instance: Instance,
    result: PointResult,
    options: { parent: TimelinePoint; incarnation: IncarnationId },
  ): Promise<{ instance: Instance; proved: ProvedIncarnation }> {
    const { virtualClusterId } = instance.identity;
    const { incarnation, parent } = options;
    await this.rig.store.host.endRewind({ virtualClusterId, incarnation });
    return this.serve({ virtualClusterId, incarnation, targetDirectory: '', uid: null }, result, { parent });
  }

  /** All of it at once. */
  async travel(point: TimelinePoint): Promise<{ instance: Instance; proved: ProvedIncarnation }> {
    const { target, result } = await this.materialize(point);
    return this.serve(target, result, { parent: point });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.rig[Symbol.asyncDispose]();
  }
}

async function flushedLsn(source: Instance): Promise<Lsn> {
  const [row] = await withOwn(source, 'SELECT pg_current_wal_flush_lsn()::text AS lsn');
  return parseLsn(String(row?.['lsn']));
}

async function withOwn(instance: Instance, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ host: instance.socketDirectory, ...OWN });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}
