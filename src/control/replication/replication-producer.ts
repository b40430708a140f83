/** The producer of replication streams: keeps the log of a virtual cluster for each of those who follow it, and makes its time go on. */
import {
  AppError,
  InputError,
  KeyedMutex,
  errnoOf,
  isAppError,
  type JobId,
  type Lsn,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  type VirtualClusterId,
  parseLsn,
  toError,
} from '../../base/index.ts';
import {
  CURRENT_RELEASE,
  type JobRecord,
  type JsonObject,
  type VirtualClusterRecord,
  isTerminal,
  serviceModeOf,
} from '../../catalog/index.ts';
import type { Instance, InternalClient } from '../../instance/index.ts';
import type { JobContext, JobType } from '../../jobs/index.ts';
import {
  type SourceDrain,
  type SourceDrainEvent,
  type StreamAnswer,
  type StreamLife,
  type StreamReport,
  type StreamTerms,
  drainAnswer,
  isOutOfService,
  printStreamAnswer,
  printStreamTerms,
  streamReportSchema,
} from '../../replication/index.ts';
import type { Statement } from '../../sql/index.ts';
import { requireStreamRight } from '../privileges/authority.ts';
import type { ExecuteContext } from '../contract.ts';
import { ExpirationWindows } from './expiration-windows.ts';
import type { Core } from '../core.ts';
import { applyDrain, drainOf, settleDrain, stopRunningForFollowers } from './drain.ts';
import { requireSystem } from '../privileges/privileges.ts';
import { requireNoReader } from './reader.ts';
import { storeOfTimeline } from '../timeline/timeline-point.ts';
import { type UseCase, askerOf, columnsOf, done, rowsResult } from '../use-case.ts';
import { jobIdValue, textValue } from '../values.ts';
import { lookupVirtualCluster, requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

export const PRODUCER_JOB = 'REPLICATION STREAM PRODUCER';

type Create = Extract<Statement, { kind: 'create_replication_stream' }>;
type Report = Extract<Statement, { kind: 'report_replication_stream' }>;
type Drop = Extract<Statement, { kind: 'drop_replication_stream' }>;

const STREAM = columnsOf({ stream: 'jsonb' });
/** Between two beats: so often the time of an idle virtual cluster goes on. */
const BEAT_MS = 1000;
/** Made by a promotion; see `instance/follow.ts`. */
const FORK_SLOT = 'atoll_fork';
const OBJECT_IN_USE = '55006';

/** What is known in memory of the streams that run. */
export class Producers {
  /** Its slot is made once, by whoever needs it first. */
  readonly slots = new KeyedMutex<JobId>();
  /** Orders changes of what is recorded of a planned failover. */
  readonly drains = new KeyedMutex<VirtualClusterId>();
  readonly windows = new ExpirationWindows();
  readonly #heard = new Map<JobId, number>();
  readonly #held = new Map<JobId, { readonly id: VirtualClusterId; readonly bytes: number }>();
  readonly #running = new Map<JobId, { readonly end: () => void; readonly wake: () => void }>();

  noteHeard(jobId: JobId, atMs: number): void {
    this.#heard.set(jobId, atMs);
  }

  heardMs(jobId: JobId): number | undefined {
    return this.#heard.get(jobId);
  }

  /** How much log a stream holds at its source. */
  noteHeld(jobId: JobId, held: { id: VirtualClusterId; bytes: number }): void {
    this.#held.set(jobId, held);
  }

  /** Of each source, what its stream that is furthest behind holds: the log is there once. */
  heldBytes(): ReadonlyMap<VirtualClusterId, number> {
    const most = new Map<VirtualClusterId, number>();
    for (const { id, bytes } of this.#held.values()) most.set(id, Math.max(bytes, most.get(id) ?? 0));
    return most;
  }

  isRunning(jobId: JobId): boolean {
    return this.#running.has(jobId);
  }

  /** While a stream runs, `end` ends it, and `wake` lets it look at once at what there is to do. */
  enter(jobId: JobId, handle: { readonly end: () => void; readonly wake: () => void }): Disposable {
    this.#running.set(jobId, handle);
    return {
      [Symbol.dispose]: () => {
        this.#running.delete(jobId);
        this.#heard.delete(jobId);
        this.#held.delete(jobId);
      },
    };
  }

  wake(jobId: JobId): void {
    this.#running.get(jobId)?.wake();
  }

  end(jobId: JobId): boolean {
    const handle = this.#running.get(jobId);
    handle?.end();
    return handle !== undefined;
  }
}

/** CREATE REPLICATION STREAM OF VIRTUAL CLUSTER name [AFTER 'incarnation@position'] */
export const createReplicationStream: UseCase<Create> = {
  columns: () => STREAM,
  refusedInTransaction: 'CREATE REPLICATION STREAM',
  async run(core, statement, context) {
    await requireStreamUser(core, context);
    const record = lookupVirtualCluster(core, statement.name);
    requireNoReader(record, 'be followed');
    const instance = requireServing(core, record);
    const isFailback = statement.after !== undefined;
    const { virtualClusterId, incarnation } = instance.identity;
    const job = await core.runner.create(
      SYSTEM_VIRTUAL_CLUSTER_ID,
      {
        type: PRODUCER_JOB,
        description: `REPLICATION STREAM OF VIRTUAL CLUSTER ${record.name}`,
        user: context.session.user,
        payload: { virtualClusterId: String(virtualClusterId), incarnation, isFailback },
      },
      { signal: core.signal },
    );
    try {
      const terms = await termsOf(core, { record, instance, job, signal: context.signal });
      return rowsResult(STREAM, [[printStreamTerms(terms)]], 'CREATE REPLICATION STREAM');
    } catch (error) {
      await cancel(core, job.id);
      throw error;
    }
  },
};

/** ALTER REPLICATION STREAM id REPORT '...' */
export const reportReplicationStream: UseCase<Report> = {
  columns: () => STREAM,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    await requireStreamUser(core, context);
    const job = await requireStream(core, jobIdValue(statement.streamId), context);
    const report = streamReportSchema.safeParse(jsonOf(textValue(statement.report, 'report')));
    if (!report.success)
      throw new InputError('parameter_invalid', 'the report of a replication stream cannot be read');
    const record = requireRecord(core, virtualClusterOf(job));
    core.producers.noteHeard(job.id, core.options.clock.monotonicMs());
    const { drain: wish, replicatedLsn, expirationWindowUs = null } = report.data;
    core.producers.windows.noteReported(job.id, expirationWindowUs);
    const drain = await heedDrain(core, { job, record, wish });
    const isServing = drain === undefined || drain.kind === 'lifted';
    const instance = isServing ? requireServing(core, record) : core.services.instanceOf(record);
    const answer: StreamAnswer = {
      incarnation: instance.identity.incarnation,
      lsn: isServing ? await endOfLog(instance, context.signal) : (replicatedLsn ?? (0n as Lsn)),
      drain: drainAnswer(drain, { streamId: job.id, wish }),
    };
    return rowsResult(STREAM, [[printStreamAnswer(answer)]], 'ALTER REPLICATION STREAM');
  },
};

/** Records what a consumer asks of a planned failover; the stream's job does it. */
async function heedDrain(
  core: Core,
  options: { job: JobRecord; record: VirtualClusterRecord; wish: StreamReport['drain'] },
): Promise<SourceDrain | undefined> {
  const { job, record, wish } = options;
  const before = drainOf(core, record.id);
  if (wish == null) return before;
  const { incarnation } = core.services.instanceOf(record).identity;
  const event: SourceDrainEvent = wish.isWanted
    ? { kind: 'asked', streamId: job.id, drainId: wish.id, incarnation }
    : { kind: 'given_up', drainId: wish.id };
  // What does not serve anyway cannot be waited for.
  if (wish.isWanted && (before === undefined || before.kind === 'lifted')) requireServing(core, record);
  const drain = await applyDrain(core, record.id, event);
  if (drain !== before) core.producers.wake(job.id);
  return drain;
}

/** DROP REPLICATION STREAM id. Harmless when it is over. */
export const dropReplicationStream: UseCase<Drop> = {
  columns: () => undefined,
  refusedInTransaction: 'DROP REPLICATION STREAM',
  async run(core, statement, context) {
    await requireStreamUser(core, context);
    const jobId = jobIdValue(statement.streamId);
    const reference = { virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID, jobId };
    if (core.producers.end(jobId)) {
      await core.runner.waitFor(reference, {
        until: ({ state }) => isTerminal(state),
        signal: context.signal,
      });
    }
    return done('DROP REPLICATION STREAM');
  },
};

/** Runs until its consumer ends it, or is not heard of for too long. */
export function producerJobType(coreOf: () => Core): JobType {
  return {
    name: PRODUCER_JOB,
    attemptsMax: Number.MAX_SAFE_INTEGER,
    onExhausted: 'fail',
    isLasting: true,
    run: (context) => produce(coreOf(), context),
    revert: async ({ job }) => {
      const core = coreOf();
      await dropSlot(core, job).catch((error: unknown) => {
        // A virtual cluster that is gone, or out of service, keeps no log for anybody.
        core.options.logger.info(
          `slot ${slotOf(job.id)} is left to the next start: ${toError(error).message}`,
        );
      });
    },
  };
}

async function produce(core: Core, context: JobContext): Promise<JsonObject> {
  const { job } = context;
  const { clock } = core.options;
  const ending = new AbortController();
  let waking = new AbortController();
  using _running = core.producers.enter(job.id, {
    end: () => ending.abort(),
    wake: () => waking.abort(),
  });
  using _window = core.producers.windows.begin(job.id, job.progress);
  core.producers.noteHeard(job.id, clock.monotonicMs());
  let idleLsn: Lsn | null = null;
  while (!ending.signal.aborted) {
    waking = new AbortController();
    await settleDrainOf(core, job);
    const instance = core.options.instanceHost.get(virtualClusterOf(job));
    if (instance === undefined) throw new InputError('object_state', 'the virtual cluster is gone');
    if (instance.identity.incarnation !== job.payload['incarnation']) {
      throw new InputError('object_state', 'the data of the virtual cluster was replaced by another');
    }
    const isDrained = isOutOfService(drainOf(core, virtualClusterOf(job)));
    if (!isDrained && instance.state.kind === 'running') {
      idleLsn = await tryToBeat(core, { instance, context, idleLsn });
    }
    const runningStatus = isDrained
      ? 'out of service for a planned failover'
      : 'keeping log for its consumer';
    context.report({ fraction: 0, runningStatus });
    await core.producers.windows.save(job.id, (progress) => context.save(progress));
    await giveUpIfSilent(core, context);
    const signal = AbortSignal.any([context.signal, ending.signal, waking.signal]);
    await clock.sleep(BEAT_MS, { signal }).catch((error: unknown) => {
      if (context.signal.aborted) throw error;
    });
  }
  // What was begun is ended: a consumer that goes leaves either one that serves or one that does not.
  await settleDrainOf(core, job);
  await dropSlot(core, job);
  await stopRunningForFollowers(core, virtualClusterOf(job));
  return {};
}

/** A planned failover that was asked for by way of this stream. */
async function settleDrainOf(core: Core, job: JobRecord): Promise<void> {
  const id = virtualClusterOf(job);
  const isOurs = () => drainOf(core, id)?.streamId === job.id && drainOf(core, id)?.kind !== 'lifted';
  if (!isOurs()) return;
  await core.locks.run(id, async () => {
    if (isOurs()) await settleDrain(core, id);
  });
}

/** A consumer that was not heard of for too long is taken for gone: the job is cancelled, and log no longer kept for it. */
async function giveUpIfSilent(core: Core, { job, logger }: JobContext): Promise<void> {
  const silenceMs = core.options.clock.monotonicMs() - (core.producers.heardMs(job.id) ?? 0);
  const limitUs =
    core.producers.windows.get(job.id) ??
    core.settings.integer(SYSTEM_VIRTUAL_CLUSTER_ID, 'physical_replication.producer.expiration_window');
  if (BigInt(Math.trunc(silenceMs)) * 1000n <= limitUs) return;
  logger.warning(
    `replication stream ${job.id}: its consumer was not heard of for longer than the expiration window`,
  );
  await cancel(core, job.id);
}

/** One that is just being stopped, or has crashed, is asked again by the next beat. */
async function tryToBeat(
  core: Core,
  options: { instance: Instance; context: JobContext; idleLsn: Lsn | null },
): Promise<Lsn | null> {
  const { context } = options;
  try {
    return await beat(core, { ...options, job: context.job, signal: context.signal });
  } catch (error) {
    if (context.signal.aborted || isAppError(error, 'object_state', 'internal')) throw error;
    context.logger.info(`replication stream ${context.job.id}: ${toError(error).message}`);
    return null;
  }
}

/** Sees that log is still kept, and that time goes on where nothing else is written. Gives the end of the log when that is so. */
async function beat(
  core: Core,
  options: { instance: Instance; job: JobRecord; idleLsn: Lsn | null; signal: AbortSignal },
): Promise<Lsn> {
  const { instance, job, idleLsn, signal } = options;
  return instance.withSystemClient(
    async (client) => {
      const heldLsn = await core.producers.slots.run(job.id, () => ensureSlot(client, job));
      const lsn = await insertLsn(client);
      const bytes = Number(lsn - heldLsn);
      core.producers.noteHeld(job.id, { id: instance.identity.virtualClusterId, bytes });
      if (lsn !== idleLsn) return lsn;
      await client.query('select pg_catalog.pg_current_xact_id()');
      return insertLsn(client);
    },
    { signal },
  );
}

async function insertLsn(client: InternalClient): Promise<Lsn> {
  const [row] = await client.query('select pg_catalog.pg_current_wal_insert_lsn()::text as lsn');
  return parseLsn(row?.['lsn'] ?? '');
}

/** @throws InputError `object_state` when log that the consumer needs is gone */
async function ensureSlot(client: InternalClient, job: JobRecord): Promise<Lsn> {
  const name = slotOf(job.id);
  const slots = await client.query(
    `select slot_name, restart_lsn::text as lsn,
        (not active and pg_catalog.now() - inactive_since >
          nullif(pg_catalog.current_setting('idle_replication_slot_timeout')::interval, '0') / 2)::text as is_resting
       from pg_catalog.pg_replication_slots where slot_name = any ($1::text[])`,
    [`{${name},${FORK_SLOT}}`],
  );
  const own = slots.find((row) => row['slot_name'] === name);
  if (own !== undefined) {
    if (own['lsn'] != null) {
      if (own['is_resting'] === 'true') await wakeSlot(client, { name, lsn: own['lsn'] });
      return parseLsn(own['lsn']);
    }
    throw new InputError('object_state', 'the consumer fell too far behind: log that it needs was removed', {
      hint: 'max_slot_wal_keep_size limits what is kept; the standby has to begin anew',
    });
  }
  const isFailback = job.payload['isFailback'] === true;
  const fork = slots.find((row) => row['slot_name'] === FORK_SLOT);
  if (isFailback && fork?.['lsn'] == null) {
    throw new InputError('object_state', 'the log from the failover on is no longer kept here', {
      hint: 'make the virtual cluster anew at the other side: CREATE VIRTUAL CLUSTER ... FROM REPLICATION',
    });
  }
  const [made] = await client.query(
    isFailback
      ? `select slot_name from pg_catalog.pg_copy_physical_replication_slot('${FORK_SLOT}', $1)`
      : 'select slot_name from pg_catalog.pg_create_physical_replication_slot($1, true)',
    [name],
  );
  if (made === undefined) throw new AppError('internal', 'a slot was not made');
  return ensureSlot(client, job);
}

/** The expiration window says for how long a slot is kept that nobody follows, not Postgres's own limit: what is moved to where it is counts as used. */
async function wakeSlot(client: InternalClient, { name, lsn }: { name: string; lsn: string }): Promise<void> {
  try {
    await client.query('select pg_catalog.pg_replication_slot_advance($1, $2::pg_catalog.pg_lsn)', [
      name,
      lsn,
    ]);
  } catch (error) {
    // Somebody has just begun to follow it.
    if (errnoOf(error) !== OBJECT_IN_USE) throw error;
  }
}

async function dropSlot(core: Core, job: JobRecord): Promise<void> {
  const instance = core.options.instanceHost.get(virtualClusterOf(job));
  if (instance?.state.kind !== 'running') return;
  await instance.withSystemClient(
    async (client) => {
      const name = slotOf(job.id);
      // Whoever still follows it does so no longer.
      await client.query(
        'select pg_catalog.pg_terminate_backend(active_pid, 5000) from pg_catalog.pg_replication_slots where slot_name = $1 and active',
        [name],
      );
      await client.query(
        'select pg_catalog.pg_drop_replication_slot(slot_name) from pg_catalog.pg_replication_slots where slot_name = $1',
        [name],
      );
    },
    { signal: core.signal },
  );
}

async function termsOf(
  core: Core,
  options: { record: VirtualClusterRecord; instance: Instance; job: JobRecord; signal: AbortSignal },
): Promise<StreamTerms> {
  const { record, instance, job, signal } = options;
  const { identity } = instance;
  const { reservedLsn, timelineId } = await instance.withSystemClient(
    async (client) => {
      const lsn = await core.producers.slots.run(job.id, () => ensureSlot(client, job));
      const [row] = await client.query(
        'select timeline_id::text as id from pg_catalog.pg_control_checkpoint()',
      );
      return { reservedLsn: lsn, timelineId: Number(row?.['id']) };
    },
    { signal },
  );
  return {
    version: 1,
    streamId: String(job.id),
    clusterId: core.options.cluster.id,
    virtualClusterName: record.name,
    systemIdentifier: identity.systemIdentifier,
    engineMajor: identity.engineMajor,
    release: CURRENT_RELEASE,
    timelineId,
    lineage: await lineageOf(core, { record, instance }),
    slot: slotOf(job.id),
    reservedLsn,
    history: await historyOf(instance, { timelineId, signal }),
  };
}

/** The present life and its ancestors, as far as the timeline knows them. */
export async function lineageOf(
  core: Core,
  { record, instance }: { record: Pick<VirtualClusterRecord, 'id'>; instance: Instance },
): Promise<StreamLife[]> {
  const { incarnation, parentIncarnation, forkLsn } = instance.identity;
  const known = (await core.options.timeline?.reader.incarnations(storeOfTimeline(core, record))) ?? [];
  const lives: StreamLife[] = [{ incarnation, parentIncarnation, forkLsn }];
  for (let parent = parentIncarnation; parent !== null && lives.length < 10_000; ) {
    const life = known.find((each) => each.incarnation === parent);
    lives.push({
      incarnation: parent,
      parentIncarnation: life?.parentIncarnation ?? null,
      forkLsn: life?.forkLsn ?? null,
    });
    parent = life?.parentIncarnation ?? null;
  }
  return lives;
}

/** As Postgres keeps it in `pg_wal`. */
async function historyOf(
  instance: Instance,
  { timelineId, signal }: { timelineId: number; signal: AbortSignal },
): Promise<string> {
  if (timelineId === 1) return '';
  const name = `${timelineId.toString(16).toUpperCase().padStart(8, '0')}.history`;
  const [row] = await instance.withSystemClient(
    (client) => client.query(`select pg_catalog.pg_read_file($1, true) as history`, [`pg_wal/${name}`]),
    { signal },
  );
  return row?.['history'] ?? '';
}

async function endOfLog(instance: Instance, signal: AbortSignal): Promise<Lsn> {
  return instance.withSystemClient(insertLsn, { signal });
}

/** @throws InputError `object_not_found` when it is over */
async function requireStream(core: Core, jobId: JobId, { signal }: ExecuteContext): Promise<JobRecord> {
  const active = core.runner.active(SYSTEM_VIRTUAL_CLUSTER_ID).find(({ id }) => id === jobId);
  if (active?.type === PRODUCER_JOB && active.state.kind !== 'cancel-requested') return active;
  signal.throwIfAborted();
  throw new InputError('object_not_found', `replication stream ${jobId} is over`, {
    hint: 'the standby has to begin anew: DROP VIRTUAL CLUSTER there, and CREATE it again',
  });
}

async function requireStreamUser(core: Core, context: ExecuteContext): Promise<void> {
  requireSystem(context.session);
  await requireStreamRight(askerOf(core, context));
}

/** @throws AppError `service_unavailable` */
function requireServing(core: Core, record: VirtualClusterRecord): Instance {
  const instance = core.services.instanceOf(record);
  if (serviceModeOf(record.state) === 'shared' && instance.state.kind === 'running') return instance;
  throw new AppError(
    'service_unavailable',
    `service unavailable for target virtual cluster (${record.name})`,
    {
      hint: `start it: ALTER VIRTUAL CLUSTER ${record.name} START SERVICE SHARED`,
    },
  );
}

/** For all streams of which a virtual cluster is the source now. @throws InputError `object_state` when there is none */
export async function setExpirationWindow(
  core: Core,
  { record, us }: { record: Pick<VirtualClusterRecord, 'id' | 'name'>; us: bigint },
): Promise<void> {
  const jobs = core.runner
    .active(SYSTEM_VIRTUAL_CLUSTER_ID)
    .filter((job) => job.type === PRODUCER_JOB && virtualClusterOf(job) === record.id)
    .filter(({ id }) => core.producers.isRunning(id));
  if (jobs.length === 0) {
    throw new InputError('object_state', `virtual cluster "${record.name}" is not followed by any other`, {
      hint: 'SET REPLICATION SOURCE is said at the source of a stream',
    });
  }
  const saved = jobs.map(({ id }) => core.producers.windows.set(id, us));
  for (const { id } of jobs) core.producers.wake(id);
  await Promise.all(saved);
}

async function cancel(core: Core, jobId: JobId): Promise<void> {
  const reference = { virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID, jobId };
  await core.runner.control(reference, 'cancel', { signal: core.signal }).catch((error: unknown) => {
    core.options.logger.warning(`job ${jobId} could not be cancelled`, error);
  });
}

function slotOf(jobId: JobId): string {
  return `atoll_stream_${jobId}`;
}

function virtualClusterOf(job: JobRecord): VirtualClusterId {
  return Number(job.payload['virtualClusterId']) as VirtualClusterId;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
