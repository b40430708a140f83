/** Bulk work and collections that only exist in memory: for tests of statements, where no data has to move. */
import { AppError, CancelledError, type Lsn, type Timestamp } from '../../src/base/index.ts';
import type { BackupRequest, BackupSummary, BulkWorker, CollectionReader } from '../../src/timeline/index.ts';

/** Nothing was ever backed up, and nothing can be. */
export function noBackups(): { bulkWorker: BulkWorker; collectionReader: CollectionReader } {
  const refuse = () => Promise.reject(new AppError('internal', 'this test moves no data'));
  const missing = () => Promise.reject(new AppError('backup_not_found', 'there is no backup'));
  return {
    bulkWorker: { backup: refuse, materialize: refuse },
    collectionReader: {
      list: () => Promise.resolve([]),
      chain: missing,
      latest: missing,
      summary: missing,
      databases: missing,
      inherit: () => Promise.resolve(null),
      encryptionInfo: () => Promise.resolve(null),
      discardUnfinished: () => Promise.resolve(),
      isContinuous: () => Promise.resolve(false),
      continuousForm: () => Promise.resolve(null),
      continuousWindow: missing,
      claimForContinuous: () => Promise.resolve(),
      missingFiles: missing,
    },
  };
}

/** Backups that take as long as the test wants: each attempt waits to be finished, refused, or stopped. */
export class ScriptedBackups {
  readonly requests: BackupRequest[] = [];
  readonly #finished = new Map<string, BackupSummary>();
  #gate = Promise.withResolvers<void>();
  #begun = Promise.withResolvers<void>();

  readonly bulkWorker: BulkWorker = {
    backup: async (request, { onProgress, signal }) => {
      this.requests.push(request);
      onProgress({ fraction: 0.25, phase: 'copying' });
      await this.#wait(signal);
      const summary = summaryOf(request);
      this.#finished.set(request.subdirectory, summary);
      return { summary, fullReason: null };
    },
    materialize: async (_request, { signal }) => {
      await this.#wait(signal);
      throw new AppError('internal', 'this test moves no data');
    },
  };

  readonly collectionReader: CollectionReader = {
    list: () => Promise.resolve([...this.#finished.keys()]),
    chain: ({ subdirectory }) => Promise.resolve([subdirectory]),
    latest: () => {
      const latest = [...this.#finished.keys()].at(-1);
      return latest === undefined
        ? Promise.reject(new AppError('backup_not_found', 'there is no backup'))
        : Promise.resolve(latest);
    },
    summary: ({ subdirectory }) => {
      const summary = this.#finished.get(subdirectory);
      return summary === undefined
        ? Promise.reject(new AppError('backup_not_found', 'there is no backup'))
        : Promise.resolve(summary);
    },
    databases: () => Promise.resolve([]),
    inherit: () => Promise.resolve(null),
    encryptionInfo: () => Promise.resolve(null),
    discardUnfinished: () => Promise.resolve(),
    isContinuous: () => Promise.resolve(false),
    continuousForm: () => Promise.resolve(null),
    continuousWindow: () => Promise.reject(new AppError('backup_not_found', 'there is no backup')),
    claimForContinuous: () => Promise.resolve(),
    missingFiles: () => Promise.resolve([]),
  };

  /** Resolves when an attempt waits. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Lets the attempt that waits, and none after it, finish. */
  finish(): void {
    const gate = this.#gate;
    this.#renew();
    gate.resolve();
  }

  /** Makes the attempt that waits fail. */
  fail(error: Error): void {
    const gate = this.#gate;
    this.#renew();
    gate.reject(error);
  }

  #renew(): void {
    this.#gate = Promise.withResolvers();
    this.#begun = Promise.withResolvers();
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const gate = this.#gate;
    const stopped = Promise.withResolvers<never>();
    const onAbort = () => {
      if (this.#gate === gate) this.#renew();
      stopped.reject(new CancelledError('the worker was stopped'));
    };
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    this.#begun.resolve();
    await Promise.race([gate.promise, stopped.promise]);
  }
}

function summaryOf({ subdirectory, onto, source, release }: BackupRequest): BackupSummary {
  return {
    subdirectory,
    baseSubdirectory: onto,
    startTime: null,
    endTime: 1_700_000_000_000_000n as Timestamp,
    targetLsn: 1n as Lsn,
    timelineId: 1,
    logEndLsn: null,
    revisionStart: null,
    selection: null,
    isImage: true,
    replayBytes: 0n,
    rows: 5n,
    indexEntries: 6n,
    bytes: 7n,
    storedBytes: 4n,
    clusterId: 'cluster',
    virtualClusterName: source.virtualClusterName,
    virtualClusterId: source.virtualClusterId,
    incarnation: source.incarnation,
    systemIdentifier: source.systemIdentifier,
    engineMajor: source.engineMajor,
    release,
    objects: [],
  };
}
