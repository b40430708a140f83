/**
 * The control plane's list of virtual clusters, kept in the system VC's `system` database and mirrored in memory for routing. One
 * daemon is the only writer: every change is one transaction, after which the mirror is read anew.
 */
import type { Clock, VirtualClusterId, VirtualClusterName } from '../base/index.ts';
import { AppError, InputError, Mutex } from '../base/index.ts';
import type { CapabilitySet } from './capabilities.ts';
import { type SqlClient, type SystemDatabase, inTransaction, textOf } from './database.ts';
import {
  type Suspension,
  type VirtualClusterRecord,
  insertRecord,
  nextId,
  readRecords,
  writeCapabilities,
  writeOverride,
  writeState,
  writeSuspension,
} from './virtual-cluster-rows.ts';
import { type VirtualClusterEvent, nextVirtualClusterState, serviceModeOf } from './virtual-cluster-state.ts';

/** Most virtual clusters one physical cluster may hold, dropped ones included until they are removed. */
export const VIRTUAL_CLUSTERS_MAX = 1000;

/** Facts about the physical cluster that are no setting. */
export type ControlPlaneFact =
  | 'virtualized'
  | 'initialized'
  /** `gc.ttlseconds` of a virtual cluster when it served last: while it does not, nobody can ask it. */
  | `window_seconds/${number}`
  /** Where its continuous backup goes, empty for nowhere; holds secrets. */
  | `continuous_backup/${number}`
  /** Of one that is, or was, out of service for a planned failover. */
  | `drain/${number}`;

export interface CatalogWait {
  readonly signal: AbortSignal;
}

export interface CatalogChange {
  readonly id: VirtualClusterId;
  readonly signal: AbortSignal;
}

/** One interface for whoever keeps the list, so that several nodes can share it one day. */
export interface VirtualClusterCatalog {
  /** Those in use, ordered by id. */
  list(): readonly VirtualClusterRecord[];
  /** Also hidden ones: dropped and not yet removed. */
  listAll(): readonly VirtualClusterRecord[];
  get(id: VirtualClusterId): VirtualClusterRecord | undefined;
  /** Among those in use. */
  find(name: string): VirtualClusterRecord | undefined;
  fact(name: ControlPlaneFact): string | undefined;
  setFact(options: { name: ControlPlaneFact; value: string; signal: AbortSignal }): Promise<void>;
  /**
   * Records a virtual cluster whose directory is about to be made, under the next free number or the one given.
   * @throws InputError `object_exists` when the name is taken
   */
  add(options: {
    id?: VirtualClusterId;
    name: VirtualClusterName;
    capabilities: CapabilitySet;
    settingOverrides?: ReadonlyMap<string, string>;
    readerOf?: VirtualClusterId;
    signal: AbortSignal;
  }): Promise<VirtualClusterRecord>;
  /** @throws InputError as `nextVirtualClusterState` */
  apply(options: CatalogChange & { event: VirtualClusterEvent }): Promise<VirtualClusterRecord>;
  /** @throws InputError `object_exists` when the name is taken */
  rename(options: CatalogChange & { name: VirtualClusterName }): Promise<VirtualClusterRecord>;
  setSuspension(options: CatalogChange & { suspension: Suspension | null }): Promise<VirtualClusterRecord>;
  setCapabilities(options: CatalogChange & { capabilities: CapabilitySet }): Promise<VirtualClusterRecord>;
  /** `undefined` takes the operator's value away. */
  setSettingOverride(
    options: CatalogChange & { name: string; value: string | undefined },
  ): Promise<VirtualClusterRecord>;
  /** Reads the list again, after an error has left it in doubt. */
  refresh(options: CatalogWait): Promise<void>;
  /** Forgets a virtual cluster whose directory is gone. Harmless when forgotten. */
  forget(options: CatalogChange): Promise<void>;
}

export class PostgresVirtualClusterCatalog implements VirtualClusterCatalog {
  readonly #database: SystemDatabase;
  readonly #clock: Clock;
  #records: readonly VirtualClusterRecord[] = [];
  #facts: ReadonlyMap<string, string> = new Map();
  readonly #changes = new Mutex();

  private constructor(options: { database: SystemDatabase; clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  /** Reads the list; the tables must have been migrated. */
  static async open(options: {
    database: SystemDatabase;
    clock: Clock;
    signal: AbortSignal;
  }): Promise<PostgresVirtualClusterCatalog> {
    const catalog = new PostgresVirtualClusterCatalog(options);
    await options.database.withSystemClient((client) => catalog.#reload(client), { signal: options.signal });
    return catalog;
  }

  list(): readonly VirtualClusterRecord[] {
    return this.#records.filter(isInUse);
  }

  listAll(): readonly VirtualClusterRecord[] {
    return this.#records;
  }

  get(id: VirtualClusterId): VirtualClusterRecord | undefined {
    return this.#records.find((record) => record.id === id);
  }

  find(name: string): VirtualClusterRecord | undefined {
    return this.#records.find((record) => record.name === name && isInUse(record));
  }

  fact(name: ControlPlaneFact): string | undefined {
    return this.#facts.get(name);
  }

  async setFact(options: { name: ControlPlaneFact; value: string; signal: AbortSignal }): Promise<void> {
    await this.#change(options, async (client) => {
      await client.query(
        'insert into public.control_plane values ($1, $2) on conflict (name) do update set value = excluded.value',
        [options.name, options.value],
      );
    });
  }

  async add(options: {
    id?: VirtualClusterId;
    name: VirtualClusterName;
    capabilities: CapabilitySet;
    settingOverrides?: ReadonlyMap<string, string>;
    readerOf?: VirtualClusterId;
    signal: AbortSignal;
  }): Promise<VirtualClusterRecord> {
    const { name, capabilities } = options;
    const id = await this.#change(options, async (client) => {
      if (this.find(name) !== undefined) throw nameTaken(name);
      if (this.#records.length >= VIRTUAL_CLUSTERS_MAX) {
        throw new AppError('limit_exceeded', `there are already ${VIRTUAL_CLUSTERS_MAX} virtual clusters`, {
          hint: 'remove some with DROP VIRTUAL CLUSTER … IMMEDIATE',
        });
      }
      const chosen = options.id ?? (await nextId(client, this.#records));
      const { readerOf = null } = options;
      await insertRecord(client, { id: chosen, name, created: this.#clock.now(), readerOf });
      await writeCapabilities(client, chosen, capabilities);
      for (const [setting, value] of options.settingOverrides ?? []) {
        await writeOverride(client, { id: chosen, name: setting, value });
      }
      return chosen;
    });
    return this.#require(id);
  }

  async apply(options: CatalogChange & { event: VirtualClusterEvent }): Promise<VirtualClusterRecord> {
    await this.#change(options, async (client) => {
      const state = nextVirtualClusterState(this.#require(options.id).state, options.event);
      await writeState(client, options.id, state);
      const { suspension } = this.#require(options.id);
      // What is out of service does not sleep.
      if (suspension !== null && serviceModeOf(state) === 'none') {
        await writeSuspension(client, options.id, { ...suspension, asleep: null });
      }
    });
    return this.#require(options.id);
  }

  async rename(options: CatalogChange & { name: VirtualClusterName }): Promise<VirtualClusterRecord> {
    await this.#change(options, async (client) => {
      const holder = this.find(options.name);
      if (holder !== undefined && holder.id !== options.id) throw nameTaken(options.name);
      await client.query('update public.virtual_clusters set name = $2 where id = $1', [
        String(options.id),
        options.name,
      ]);
    });
    return this.#require(options.id);
  }

  async setCapabilities(
    options: CatalogChange & { capabilities: CapabilitySet },
  ): Promise<VirtualClusterRecord> {
    await this.#change(options, async (client) => {
      await client.query('delete from public.virtual_cluster_capabilities where virtual_cluster_id = $1', [
        String(options.id),
      ]);
      await writeCapabilities(client, options.id, options.capabilities);
    });
    return this.#require(options.id);
  }

  async setSettingOverride(
    options: CatalogChange & { name: string; value: string | undefined },
  ): Promise<VirtualClusterRecord> {
    const { id, name, value } = options;
    await this.#change(options, async (client) => {
      if (value !== undefined) return writeOverride(client, { id, name, value });
      await client.query(
        'delete from public.virtual_cluster_settings where virtual_cluster_id = $1 and name = $2',
        [String(id), name],
      );
    });
    return this.#require(id);
  }

  async setSuspension(
    options: CatalogChange & { suspension: Suspension | null },
  ): Promise<VirtualClusterRecord> {
    await this.#change(options, (client) => writeSuspension(client, options.id, options.suspension));
    return this.#require(options.id);
  }

  async forget(options: CatalogChange): Promise<void> {
    await this.#change(options, async (client) => {
      await client.query('delete from public.virtual_clusters where id = $1', [String(options.id)]);
      const names = ['window_seconds', 'drain', 'continuous_backup'].map((what) => `${what}/${options.id}`);
      for (const name of names) {
        await client.query('delete from public.control_plane where name = $1', [name]);
      }
    });
  }

  async refresh(options: CatalogWait): Promise<void> {
    await this.#change(options, () => Promise.resolve());
  }

  /** Changes follow each other; the mirror is exact again when the promise settles. */
  async #change<T>(wait: CatalogWait, use: (client: SqlClient) => Promise<T>): Promise<T> {
    return this.#changes.run(() =>
      this.#database.withSystemClient(
        async (client) => {
          const result = await inTransaction(client, () => use(client));
          await this.#reload(client);
          return result;
        },
        { signal: wait.signal },
      ),
    );
  }

  async #reload(client: SqlClient): Promise<void> {
    const records = await readRecords(client);
    const facts = await client.query('select name, value from public.control_plane');
    this.#records = records;
    this.#facts = new Map(facts.map((row) => [textOf(row, 'name'), textOf(row, 'value')]));
  }

  #require(id: VirtualClusterId): VirtualClusterRecord {
    const record = this.get(id);
    if (record === undefined) throw new InputError('object_not_found', `there is no virtual cluster ${id}`);
    return record;
  }
}

function isInUse(record: VirtualClusterRecord): boolean {
  return record.state.kind === 'adding' || record.state.kind === 'ready';
}

function nameTaken(name: VirtualClusterName): InputError {
  return new InputError('object_exists', `virtual cluster "${name}" already exists`);
}
