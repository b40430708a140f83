import { readdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { type Lsn, parseLsn } from '../../src/base/index.ts';
import { systemClock, systemRng } from '../../src/daemon/index.ts';
import type { Instance } from '../../src/instance/index.ts';
import { formatWalSegmentName, walSegmentNoOf, walSegmentStart } from '../../src/pg/index.ts';
import {
  type BaseSummary,
  createCaptureWorker,
  createTimelineReader,
  formatBackupSubdirectory,
  openVaultHost,
  type TimelineStoreLocation,
  timelineStoreLocation,
  type VaultHost,
  type VaultSource,
  type VaultStatus,
} from '../../src/timeline/index.ts';
import { walDirectory } from '../../src/timeline/store/layout.ts';
import { openLog } from '../../src/timeline/store/read-log.ts';
import { readRecord } from '../../src/timeline/vault/incarnation-file.ts';
import { childPids } from './child-pids.ts';
import { NEVER, TestStore, withTenant } from './instance-store.ts';
import { waitFor } from './wait.ts';

const SEGMENT_BYTES = 16 * 1024 * 1024;

/** A store with one serving virtual cluster and a vault that receives its log. */
export class VaultRig implements AsyncDisposable {
  readonly store: TestStore;
  readonly location: TimelineStoreLocation;
  readonly #id: number;
  host: VaultHost;

  private constructor(store: TestStore, options: { host: VaultHost; id: number }) {
    this.store = store;
    this.host = options.host;
    this.#id = options.id;
    const virtualClusterId = this.instance.identity.virtualClusterId;
    this.location = timelineStoreLocation({ storeDirectory: store.directory, virtualClusterId });
  }

  static async open(): Promise<VaultRig> {
    const store = await TestStore.open();
    try {
      await store.serve(3, 'main');
      return new VaultRig(store, { host: await openHost(store), id: 3 });
    } catch (error) {
      await store[Symbol.asyncDispose]();
      throw error;
    }
  }

  get instance(): Instance {
    const instance = this.store.host.list().find(({ identity }) => identity.virtualClusterId === this.#id);
    if (instance === undefined) throw new Error('the virtual cluster is gone');
    return instance;
  }

  get status(): VaultStatus {
    const status = this.host.status(this.instance.identity.virtualClusterId);
    if (status === undefined) throw new Error('the virtual cluster is not followed');
    return status;
  }

  get folder(): string {
    return walDirectory(this.location, this.instance.identity.incarnation);
  }

  get reader() {
    return createTimelineReader({ rng: systemRng(), vault: this.host });
  }

  source(instance: Instance = this.instance): VaultSource {
    const { identity, dataDirectory, socketDirectory } = instance;
    return { ...identity, dataDirectory, socketDirectory, store: this.location, bytesMax: 1n << 40n };
  }

  async follow(variation: Partial<VaultSource> = {}): Promise<void> {
    await this.host.follow({ ...this.source(), ...variation });
  }

  /** Another daemon's vault, as after a restart. */
  async reopenHost(): Promise<void> {
    await this.host.close();
    this.host = await openHost(this.store);
  }

  /** How far the instance has flushed its log. */
  async flushedLsn(): Promise<Lsn> {
    const [row] = await this.instance.withSystemClient(
      (client) => client.query('SELECT pg_current_wal_flush_lsn()::text AS lsn'),
      { signal: NEVER },
    );
    return parseLsn(row?.['lsn'] ?? '');
  }

  async query(sql: string, parameters: unknown[] = []): Promise<Record<string, unknown>[]> {
    return withTenant(this.instance, { user: 'root', database: 'defaultdb' }, async (client) => {
      return (await client.query<Record<string, unknown>>(sql, parameters)).rows;
    });
  }

  get key() {
    return this.store.host.clusterKey;
  }

  /** A full base of what is there now. */
  async captureBase(): Promise<BaseSummary> {
    const { clock, logger } = { clock: systemClock(), logger: this.store.logger };
    const worker = createCaptureWorker({ clock, logger, isLimited: false });
    const { base } = await worker.captureBase(
      {
        source: this.source(),
        store: this.location,
        subdirectory: formatBackupSubdirectory(clock.now()),
        clusterId: this.store.host.clusterId,
        key: this.key,
        jobId: '1',
        attempt: 1,
        packBytesMax: 16 * 1024 * 1024,
        release: '26.2',
        onto: null,
        incarnations: [],
      },
      { onProgress: () => undefined, signal: NEVER },
    );
    return base;
  }

  /** Waits until all that is flushed now is durable in the vault. */
  async catchUp(): Promise<Lsn> {
    const lsn = await this.flushedLsn();
    await waitFor('the vault to catch up', () => this.status.durableLsn >= lsn);
    return lsn;
  }

  /**
   * Compares the vault's bytes with those of the instance's own segments that are still there, from the oldest on.
   * Gives how many were the same.
   */
  async compareWithInstance(options: { throughLsn: Lsn; timelineId?: number }): Promise<bigint> {
    const { throughLsn, timelineId = 1 } = options;
    const record = await readRecord(this.folder);
    if (record === null) throw new Error('the vault has no record');
    const walFolder = join(this.instance.dataDirectory, 'pg_wal');
    const names = readdirSync(walFolder).filter((name) => /^[0-9A-F]{24}$/.test(name));
    let compared = 0n;
    let expectedLsn: Lsn | null = null;
    const { oldestLsn: fromLsn } = this.status;
    for await (const { lsn, bytes } of openLog(this.location, {
      record,
      timelineId,
      fromLsn,
      throughLsn,
      signal: NEVER,
    })) {
      if (expectedLsn !== null && lsn !== expectedLsn) throw new Error(`a gap at ${lsn}`);
      expectedLsn = (lsn + BigInt(bytes.length)) as Lsn;
      const segment = {
        segmentNo: walSegmentNoOf({ lsn, segmentBytes: SEGMENT_BYTES }),
        segmentBytes: SEGMENT_BYTES,
      };
      const name = names.find((each) =>
        each.endsWith(formatWalSegmentName({ ...segment, timelineId }).slice(8)),
      );
      if (name === undefined) continue; // Removed by the instance: it was acknowledged.
      await using file = await open(join(walFolder, name), 'r');
      const original = Buffer.alloc(bytes.length);
      await file.read(original, 0, original.length, Number(lsn - walSegmentStart(segment)));
      if (!original.equals(bytes)) throw new Error(`the vault differs from the instance in segment ${name}`);
      compared += BigInt(bytes.length);
    }
    if (expectedLsn === null || expectedLsn < throughLsn)
      throw new Error(`the vault ends at ${expectedLsn}, not at ${throughLsn}`);
    return compared;
  }

  /** Process id of the vault. */
  get pid(): number {
    const pid = vaultPids(process.pid)[0];
    if (pid === undefined) throw new Error('the vault does not run');
    return pid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host.close();
    await this.store[Symbol.asyncDispose]();
  }
}

/** The vaults that a process has started. */
export function vaultPids(parent: number): readonly number[] {
  return childPids(parent, /vault-main\.ts|atoll vault/);
}

function openHost(store: TestStore): Promise<VaultHost> {
  const directory = join(store.directory, 'timeline');
  return openVaultHost({ directory, clock: systemClock(), logger: store.logger });
}
