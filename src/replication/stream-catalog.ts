/**
 * The replication streams of which this physical cluster is the consumer, kept in the system VC and mirrored in memory. One daemon is the
 * only writer. How far a stream has come is known in memory at once and written down now and then.
 */
import { isDeepStrictEqual } from 'node:util';
import { type JobId, Mutex, type Timestamp, type VirtualClusterId, formatTimestamp } from '../base/index.ts';
import {
  type Row,
  type SqlClient,
  type SystemDatabase,
  microsecondsOf,
  textOf,
  timestampOf,
} from '../catalog/index.ts';
import { displaySourceUri } from './source-address.ts';
import {
  type StreamRecord,
  type StreamLimits,
  parseDivergence,
  parseStreamLimits,
  parseStreamState,
  parseStreamTerms,
  printDivergence,
  printStreamLimits,
  printStreamState,
  printStreamTerms,
} from './stream-record.ts';
import { type StreamEvent, type StreamState, nextStreamState } from './stream-state.ts';

interface Wait {
  readonly signal: AbortSignal;
}

/** How often, at most, the times of a stream are written down while it goes on. */
const TIMES_WRITTEN_US = 10_000_000n;

export class StreamCatalog {
  readonly #database: SystemDatabase;
  readonly #changes = new Mutex();
  readonly #records = new Map<VirtualClusterId, StreamRecord>();
  readonly #timesWritten = new Map<VirtualClusterId, Timestamp>();
  /** Of which nobody knows whether the newest change was written: the server was lost over it. It is read back before anything else is done. */
  readonly #inDoubt = new Set<VirtualClusterId>();
  /** Told of every change of a state or of the limits. */
  readonly #listeners = new Set<(virtualClusterId: VirtualClusterId) => void>();

  private constructor(database: SystemDatabase) {
    this.#database = database;
  }

  /** Reads what there is; the tables must have been migrated. */
  static async open(options: { database: SystemDatabase; signal: AbortSignal }): Promise<StreamCatalog> {
    const catalog = new StreamCatalog(options.database);
    const rows = await options.database.withSystemClient((client) => readRows(client), options);
    for (const record of rows.map(recordOf)) catalog.#records.set(record.virtualClusterId, record);
    return catalog;
  }

  list(): readonly StreamRecord[] {
    return [...this.#records.values()];
  }

  get(virtualClusterId: VirtualClusterId): StreamRecord | undefined {
    return this.#records.get(virtualClusterId);
  }

  /** One that has not become a virtual cluster of its own. */
  active(virtualClusterId: VirtualClusterId): StreamRecord | undefined {
    const record = this.#records.get(virtualClusterId);
    return record?.state.kind === 'completed' ? undefined : record;
  }

  /** Replaces a completed one of the same virtual cluster. */
  async add(record: StreamRecord, wait: Wait): Promise<void> {
    await this.#changes.run(async () => {
      await this.#database.withSystemClient((client) => insert(client, record), wait);
      this.#inDoubt.delete(record.virtualClusterId);
      this.#records.set(record.virtualClusterId, record);
    });
  }

  /** Learns what a change came to over which the server was lost. Harmless when nothing is in doubt. @throws AppError while it cannot be read */
  async settle({ id, signal }: { id: VirtualClusterId } & Wait): Promise<void> {
    await this.#changes.run(() => this.#settle(id, { signal }));
  }

  /** @throws InputError as `nextStreamState` */
  async apply(options: { id: VirtualClusterId; event: StreamEvent } & Wait): Promise<StreamRecord> {
    const changed = await this.#changes.run(async () => {
      const record = await this.#require(options.id, options);
      const state = nextStreamState(record.state, options.event);
      if (state === record.state) return record;
      // A stream that is over needs its secrets no more.
      const sourceUri = state.kind === 'completed' ? displaySourceUri(record.sourceUri) : record.sourceUri;
      return this.#write({ ...record, sourceUri, state }, options);
    });
    for (const listener of this.#listeners) listener(options.id);
    return changed;
  }

  async setJob(options: { id: VirtualClusterId; jobId: JobId } & Wait): Promise<void> {
    const { id, jobId } = options;
    await this.#changes.run(async () => {
      const record = await this.#require(id, options);
      await this.#write({ ...record, jobId }, options);
    });
  }

  /** There is no way back to where the histories parted. */
  async copyInstead(options: { id: VirtualClusterId } & Wait): Promise<void> {
    await this.#changes.run(async () => {
      const record = await this.#require(options.id, options);
      await this.#write({ ...record, divergence: null }, options);
    });
  }

  /** Takes what is said; the rest stays. Whoever follows takes it up. */
  async setLimits(options: { id: VirtualClusterId; limits: Partial<StreamLimits> } & Wait): Promise<void> {
    await this.#changes.run(async () => {
      const record = await this.#require(options.id, options);
      await this.#write({ ...record, limits: { ...record.limits, ...options.limits } }, options);
    });
    for (const listener of this.#listeners) listener(options.id);
  }

  /** Told of now; written down once in a while, and with every change of the state. */
  async noteTimes(
    options: { id: VirtualClusterId; retainedTime: Timestamp | null; replicatedTime: Timestamp } & Wait,
  ): Promise<void> {
    const { id, retainedTime, replicatedTime } = options;
    await this.#changes.run(async () => {
      await this.#settle(id, options);
      const record = this.#records.get(id);
      if (record === undefined) return;
      const next = { ...record, retainedTime, replicatedTime };
      this.#records.set(id, next);
      const written = this.#timesWritten.get(id);
      if (written !== undefined && replicatedTime - written < TIMES_WRITTEN_US) return;
      await this.#write(next, options);
    });
  }

  /** Harmless when there is none. */
  async forget(options: { id: VirtualClusterId } & Wait): Promise<void> {
    await this.#changes.run(async () => {
      await this.#database.withSystemClient(
        (client) =>
          client.query('delete from public.replication_streams where virtual_cluster_id = $1', [
            String(options.id),
          ]),
        options,
      );
      this.#drop(options.id);
    });
  }

  /** Resolves when the state of a stream or its limits have changed, or the signal aborts. */
  async whenChanged(virtualClusterId: VirtualClusterId, { signal }: Wait): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const listener = (id: VirtualClusterId) => {
      if (id === virtualClusterId) resolve();
    };
    const onAbort = () => resolve();
    this.#listeners.add(listener);
    signal.addEventListener('abort', onAbort, { once: true });
    await promise;
    this.#listeners.delete(listener);
    signal.removeEventListener('abort', onAbort);
  }

  async #require(id: VirtualClusterId, wait: Wait): Promise<StreamRecord> {
    await this.#settle(id, wait);
    const record = this.#records.get(id);
    if (record === undefined) throw new Error(`virtual cluster ${id} has no replication stream`);
    return record;
  }

  async #settle(id: VirtualClusterId, wait: Wait): Promise<void> {
    if (!this.#inDoubt.has(id)) return;
    // Waits for whoever is still writing it.
    const rows = await this.#database.withSystemClient((client) => readRows(client, 'for update'), wait);
    this.#inDoubt.delete(id);
    const before = this.#records.get(id);
    const written = rows.map(recordOf).find(({ virtualClusterId }) => virtualClusterId === id);
    if (written === undefined) return this.#drop(id);
    if (before === undefined) return void this.#records.set(id, written);
    // Times are known here first; and a state that was not changed stays the very same, which is how others see that.
    const { retainedTime, replicatedTime } = before;
    const state = isDeepStrictEqual(before.state, written.state) ? before.state : written.state;
    this.#records.set(id, { ...written, state, retainedTime, replicatedTime });
    for (const listener of this.#listeners) listener(id);
  }

  #drop(id: VirtualClusterId): void {
    this.#records.delete(id);
    this.#timesWritten.delete(id);
    this.#inDoubt.delete(id);
  }

  async #write(record: StreamRecord, wait: Wait): Promise<StreamRecord> {
    this.#inDoubt.add(record.virtualClusterId);
    await this.#database.withSystemClient((client) => update(client, record), wait);
    this.#inDoubt.delete(record.virtualClusterId);
    this.#records.set(record.virtualClusterId, record);
    if (record.replicatedTime !== null) {
      this.#timesWritten.set(record.virtualClusterId, record.replicatedTime);
    }
    return record;
  }
}

function readRows(client: SqlClient, locked: 'for update' | '' = ''): Promise<readonly Row[]> {
  return client.query(
    `select virtual_cluster_id, source_name, source_uri, job_id, state::text as state, terms::text as terms, divergence::text as divergence, options::text as options,
        ${microsecondsOf('retained_time')} as retained_us, ${microsecondsOf('replicated_time')} as replicated_us
      from public.replication_streams order by virtual_cluster_id ${locked}`,
  );
}

async function insert(client: SqlClient, record: StreamRecord): Promise<void> {
  await client.query(
    `insert into public.replication_streams
        (virtual_cluster_id, source_name, source_uri, terms, divergence, state, job_id, retained_time, replicated_time, options)
      values ($1, $2, $3, $4::jsonb, $5::jsonb, $6::jsonb, $7, $8::timestamptz, $9::timestamptz, $10::jsonb)
      on conflict (virtual_cluster_id) do update set source_name = excluded.source_name,
        source_uri = excluded.source_uri, terms = excluded.terms, divergence = excluded.divergence, state = excluded.state, job_id = excluded.job_id,
        retained_time = excluded.retained_time, replicated_time = excluded.replicated_time, options = excluded.options`,
    [
      String(record.virtualClusterId),
      record.sourceName,
      record.sourceUri,
      printStreamTerms(record.terms),
      printDivergence(record.divergence),
      ...mutableColumns(record),
    ],
  );
}

async function update(client: SqlClient, record: StreamRecord): Promise<void> {
  await client.query(
    `update public.replication_streams set state = $2::jsonb, job_id = $3, retained_time = $4::timestamptz,
        replicated_time = $5::timestamptz, options = $6::jsonb, source_uri = $7, divergence = $8::jsonb where virtual_cluster_id = $1`,
    [
      String(record.virtualClusterId),
      ...mutableColumns(record),
      record.sourceUri,
      printDivergence(record.divergence),
    ],
  );
}

function mutableColumns({
  state,
  jobId,
  retainedTime,
  replicatedTime,
  limits,
}: StreamRecord): (string | null)[] {
  return [
    printStreamState(state),
    jobId === null ? null : String(jobId),
    retainedTime === null ? null : formatTimestamp(retainedTime),
    replicatedTime === null ? null : formatTimestamp(replicatedTime),
    printStreamLimits(limits),
  ];
}

function recordOf(row: Row): StreamRecord {
  const { job_id: jobId, divergence } = row;
  const state: StreamState = parseStreamState(textOf(row, 'state'));
  return {
    virtualClusterId: Number(textOf(row, 'virtual_cluster_id')) as VirtualClusterId,
    sourceName: textOf(row, 'source_name'),
    sourceUri: textOf(row, 'source_uri'),
    jobId: jobId === null || jobId === undefined ? null : (BigInt(jobId) as JobId),
    state,
    terms: parseStreamTerms(textOf(row, 'terms')),
    divergence: divergence === null || divergence === undefined ? null : parseDivergence(divergence),
    limits: parseStreamLimits(textOf(row, 'options')),
    retainedTime: timestampOf(row['retained_us']),
    replicatedTime: timestampOf(row['replicated_us']),
  };
}
