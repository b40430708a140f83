import { join } from 'node:path';
import type { IncarnationId, Timestamp, VirtualClusterId, VirtualClusterName } from '../../src/base/index.ts';
import { systemClock, systemRng } from '../../src/daemon/index.ts';
import { DEFAULT_INSTANCE_SETTINGS, type Instance } from '../../src/instance/index.ts';
import { clusterKeyOf } from '../../src/keys/index.ts';
import {
  type BackupProgress,
  type BackupRequest,
  type BackupSummary,
  basesCollection,
  type CaptureBaseRequest,
  type CaptureBaseResult,
  type CollectionLocation,
  type FolderLocation,
  createBulkWorker,
  createCaptureWorker,
  createCollectionReader,
  formatBackupSubdirectory,
  type MaterializeResult,
  Confinement,
  SpareProcess,
  timelineStoreLocation,
  type TimelineStoreLocation,
} from '../../src/timeline/index.ts';
import { NEVER, TestStore } from './instance-store.ts';

/** What may differ from an ordinary backup. */
export interface BackupVariation {
  readonly collection?: CollectionLocation;
  readonly subdirectory?: string;
  readonly onto?: string;
  readonly jobId?: string;
  readonly attempt?: number;
  readonly packBytesMax?: number;
  readonly source?: Partial<BackupRequest['source']>;
  readonly onProgress?: (progress: BackupProgress) => void;
  readonly signal?: AbortSignal;
}

/** What may differ from an ordinary base. */
export interface BaseVariation
  extends Partial<
    Pick<CaptureBaseRequest, 'subdirectory' | 'jobId' | 'attempt' | 'packBytesMax' | 'incarnations'>
  > {
  readonly source?: Partial<BackupRequest['source']>;
}

/** A store with one serving virtual cluster, and all that is needed to back it up and restore it beside. */
export class BackupRig implements AsyncDisposable {
  readonly store: TestStore;
  readonly source: Instance;
  readonly collection: FolderLocation;
  readonly reader = createCollectionReader({ rng: systemRng() });
  readonly worker;
  readonly capturer;
  #nextJob = 1;
  #nextVirtualCluster = 10;
  #lastTime = 0n;

  private constructor(store: TestStore, source: Instance) {
    this.store = store;
    this.source = source;
    const clock = systemClock();
    const tools = {
      clock,
      logger: store.logger,
      isLimited: false,
      spare: new SpareProcess({ clock }),
      confinement: new Confinement({ logger: store.logger }),
    };
    this.worker = createBulkWorker(tools);
    this.capturer = createCaptureWorker(tools);
    this.collection = this.newCollection('main');
  }

  static async open(parameters: Readonly<Record<string, string>> = {}): Promise<BackupRig> {
    const store = await TestStore.open();
    try {
      return new BackupRig(store, await store.serve(3, 'main', parameters));
    } catch (error) {
      await store[Symbol.asyncDispose]();
      throw error;
    }
  }

  get key() {
    return clusterKeyOf(this.store.host.clusterKey.secret);
  }

  newCollection(name: string): FolderLocation {
    return { displayUri: `nodelocal://1/${name}`, directory: join(this.store.directory, 'extern', name) };
  }

  /** A folder for a backup that no other has. */
  newSubdirectory(): string {
    const now = systemClock().now();
    this.#lastTime = now > this.#lastTime + 10_000n ? now : this.#lastTime + 10_000n;
    return formatBackupSubdirectory(this.#lastTime as Timestamp);
  }

  async backup(variation: BackupVariation = {}): Promise<BackupSummary> {
    const { identity, dataDirectory, socketDirectory } = this.source;
    const { source, onProgress = () => undefined, signal = NEVER, ...rest } = variation;
    const request: BackupRequest = {
      source: { ...identity, dataDirectory, socketDirectory, ...source },
      collection: this.collection,
      subdirectory: rest.subdirectory ?? this.newSubdirectory(),
      onto: null,
      clusterId: this.store.host.clusterId,
      key: this.key,
      jobId: String(this.#nextJob++),
      attempt: 1,
      packBytesMax: 16 * 1024 * 1024,
      release: '26.2',
      ...rest,
    };
    return (await this.worker.backup(request, { onProgress, signal })).summary;
  }

  /** Where the timeline of the source is kept. */
  get timeline(): TimelineStoreLocation {
    const { virtualClusterId } = this.source.identity;
    return timelineStoreLocation({ storeDirectory: this.store.directory, virtualClusterId });
  }

  /** The bases of the timeline, as a collection. */
  get bases(): FolderLocation {
    return basesCollection(this.timeline);
  }

  /** What asks for a base of the source in its timeline, on top of another or full. */
  baseRequest(onto: string | null, variation: BaseVariation = {}): CaptureBaseRequest {
    const { identity, dataDirectory, socketDirectory } = this.source;
    const { source, ...rest } = variation;
    return {
      source: { ...identity, dataDirectory, socketDirectory, ...source },
      store: this.timeline,
      subdirectory: rest.subdirectory ?? this.newSubdirectory(),
      clusterId: this.store.host.clusterId,
      key: this.key,
      jobId: String(this.#nextJob++),
      attempt: 1,
      packBytesMax: 16 * 1024 * 1024,
      release: '26.2',
      onto,
      incarnations: [],
      ...rest,
    };
  }

  captureBase(onto: string | null, variation: BaseVariation = {}): Promise<CaptureBaseResult> {
    const options = { onProgress: () => undefined, signal: NEVER };
    return this.capturer.captureBase(this.baseRequest(onto, variation), options);
  }

  /** An empty data directory of a new virtual cluster, to materialize into. */
  async beginTarget(): Promise<RestoreTarget> {
    const id = this.#nextVirtualCluster++;
    const virtualClusterId = id as VirtualClusterId;
    const { host } = this.store;
    await host.create({
      virtualClusterId,
      name: `restored-${id}` as VirtualClusterName,
      settings: DEFAULT_INSTANCE_SETTINGS,
      signal: NEVER,
    });
    const incarnation = `00000000-0000-4000-8000-${String(id).padStart(12, '0')}` as IncarnationId;
    const begun = await host.beginIncarnation({ virtualClusterId, incarnation });
    return { virtualClusterId, incarnation, targetDirectory: begun.dataDirectory, uid: begun.uid };
  }

  materialize(
    target: RestoreTarget,
    backup: {
      readonly subdirectory: string;
      readonly collection?: CollectionLocation;
      readonly key?: BackupRequest['key'];
      readonly asOf?: Timestamp;
      readonly isResumable?: boolean;
      readonly isContinuous?: boolean;
    },
  ): Promise<MaterializeResult> {
    const { targetDirectory, uid } = target;
    return this.worker.materialize(
      { collection: this.collection, key: this.key, ...backup, targetDirectory, uid },
      { onProgress: () => undefined, signal: NEVER },
    );
  }

  /** Recovers what was materialized and serves it. */
  async serve(target: RestoreTarget, { summary }: MaterializeResult): Promise<Instance> {
    const { virtualClusterId, incarnation } = target;
    const { host } = this.store;
    const { targetLsn: lsn, timelineId, logEndLsn } = summary;
    const recovery = { lsn, timelineId, logEndLsn };
    const prepare = () => Promise.resolve();
    await host.proveIncarnation({ virtualClusterId, incarnation, recovery, prepare, signal: NEVER });
    await host.commitIncarnation({ virtualClusterId, incarnation, forkLsn: null, signal: NEVER });
    const instance = host.get(virtualClusterId);
    if (instance === undefined) throw new Error('the restored virtual cluster is gone');
    await instance.start({ signal: NEVER });
    return instance;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store[Symbol.asyncDispose]();
  }
}

export interface RestoreTarget {
  readonly virtualClusterId: VirtualClusterId;
  readonly incarnation: IncarnationId;
  readonly targetDirectory: string;
  readonly uid: number | null;
}
