import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  AppError,
  type IncarnationId,
  type Lsn,
  type Timestamp,
  type VirtualClusterId,
} from '../base/index.ts';
import type { Row, SystemDatabase } from '../catalog/index.ts';
import { StreamCatalog } from './stream-catalog.ts';
import type { StreamRecord } from './stream-record.ts';

const ID = 3 as VirtualClusterId;
const AT = 1_695_922_878_030_920n as Timestamp;
const incarnation = '4a4109b7-7cf1-49dc-9cd9-32a5ae1b8f7c' as IncarnationId;
const cut = { kind: 'cut', cut: { incarnation, time: AT, point: null } } as const;
const wait = { id: ID, signal: new AbortController().signal };

const STREAM: StreamRecord = {
  virtualClusterId: ID,
  sourceName: 'main',
  sourceUri: 'postgresql://replicator@primary:26257?options=-ccluster=system',
  jobId: null,
  state: { kind: 'replicating' },
  terms: {
    version: 1,
    streamId: '1',
    clusterId: 'there',
    virtualClusterName: 'main',
    systemIdentifier: 1n,
    engineMajor: 18,
    release: '26.2',
    timelineId: 1,
    lineage: [{ incarnation, parentIncarnation: null, forkLsn: null }],
    slot: 'atoll_stream_1',
    reservedLsn: 1n as Lsn,
    history: '',
  },
  divergence: null,
  limits: { retentionUs: null, expirationWindowUs: null },
  retainedTime: null,
  replicatedTime: null,
};

const INSERTED = [
  'virtual_cluster_id',
  'source_name',
  'source_uri',
  'terms',
  'divergence',
  'state',
  'job_id',
];
/** Of an update's values, which begin with the virtual cluster. */
const STATE_VALUE = 1;

/** What a write comes to of which nobody is told. */
type Fate = 'done' | 'lost before' | 'lost after' | 'lost';

/** One row, in a server that may be lost over a write. */
class UnreliableTable implements SystemDatabase {
  #row: Record<string, string | null> | null = null;
  /** Of the next statements, in turn; then all goes well. */
  fates: Fate[] = [];
  reads = 0;

  withSystemClient<T>(
    use: (client: {
      query: (sql: string, values?: readonly (string | null)[]) => Promise<readonly Row[]>;
    }) => Promise<T>,
  ): Promise<T> {
    return use({ query: (sql, values = []) => this.#query(sql, values) });
  }

  #query(sql: string, values: readonly (string | null)[]): Promise<readonly Row[]> {
    const fate = this.fates.shift() ?? 'done';
    const lost = new AppError('cannot_connect_now', 'the connection was lost');
    if (fate === 'lost' || fate === 'lost before') return Promise.reject(lost);
    const verb = /^\s*(\w+)/.exec(sql)?.[1];
    if (verb === 'insert') {
      const named = INSERTED.map((name, at) => [name, values[at] ?? null] as const);
      this.#row = { ...Object.fromEntries(named), options: '{}', retained_us: null, replicated_us: null };
    }
    if (verb === 'update') this.#row = { ...this.#row, state: values[STATE_VALUE] ?? null };
    if (verb === 'delete') this.#row = null;
    if (verb === 'select') this.reads += 1;
    if (fate === 'lost after') return Promise.reject(lost);
    return Promise.resolve(verb === 'select' && this.#row !== null ? [this.#row] : []);
  }
}

async function opened(): Promise<{ table: UnreliableTable; streams: StreamCatalog }> {
  const table = new UnreliableTable();
  const streams = await StreamCatalog.open({ database: table, ...wait });
  await streams.add(STREAM, wait);
  table.reads = 0;
  return { table, streams };
}

describe('the streams of a physical cluster', () => {
  it('learn of a change that was written though its answer was lost', async () => {
    const { table, streams } = await opened();
    table.fates = ['lost after'];
    await assert.rejects(streams.apply({ ...wait, event: cut }), /lost/);
    const told = streams.whenChanged(ID, wait);
    await streams.settle(wait);
    await told;
    assert.equal(streams.get(ID)?.state.kind, 'failing_over');
    // What comes next goes on from there.
    const { state } = await streams.apply({ ...wait, event: { kind: 'promoted' } });
    assert.deepEqual(state, { kind: 'completed', failoverTime: AT });
  });

  it('stay the same when it was not', async () => {
    const { table, streams } = await opened();
    const before = streams.get(ID)?.state;
    table.fates = ['lost before'];
    await assert.rejects(streams.apply({ ...wait, event: cut }), /lost/);
    await streams.settle(wait);
    // The very same, which is how others see that nothing was changed.
    assert.equal(streams.get(ID)?.state, before);
  });

  it('decide nothing before that is known, and ask no more afterwards', async () => {
    const { table, streams } = await opened();
    table.fates = ['lost after', 'lost', 'lost'];
    await assert.rejects(streams.apply({ ...wait, event: cut }), /lost/);
    const times = { ...wait, retainedTime: null, replicatedTime: AT };
    await assert.rejects(streams.noteTimes(times), /lost/);
    await assert.rejects(streams.apply({ ...wait, event: { kind: 'resume_asked' } }), /lost/);
    assert.equal(streams.get(ID)?.state.kind, 'replicating');
    await streams.noteTimes(times);
    assert.equal(streams.get(ID)?.state.kind, 'failing_over');
    assert.equal(streams.get(ID)?.replicatedTime, AT);
    await streams.settle(wait);
    assert.equal(table.reads, 1);
  });
});
