/** CREATE … FROM REPLICATION, and the actions of ALTER VIRTUAL CLUSTER on a replication stream. */
import {
  AppError,
  InputError,
  type IncarnationId,
  type Timestamp,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  formatLsn,
  formatTimestamp,
  isAppError,
  toError,
} from '../../base/index.ts';
import { CURRENT_RELEASE, type VirtualClusterRecord, serviceModeOf } from '../../catalog/index.ts';
import {
  type Divergence,
  type FailoverTarget,
  STREAM_STATE_TEXTS,
  SourceConnection,
  type StreamRecord,
  type StreamState,
  type StreamTerms,
  commonHistory,
  isScanned,
  nextStreamState,
  notDrainable,
  openSource,
  parseSourceUri,
  reserveLog,
} from '../../replication/index.ts';
import type { AlterVirtualClusterAction, ReplicationSource, StreamOptions, Value } from '../../sql/index.ts';
import { requireConnectionPrivilege } from '../connections/connection-access.ts';
import type { Column, ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { hlcText } from './failover-time.ts';
import { type TimelineTarget, faultPoint } from '../../timeline/index.ts';
import { newIncarnation } from '../virtual-clusters/new-incarnation.ts';
import { isSystem } from '../privileges/privileges.ts';
import { inspectPlain, refuseToGoBack, requirePlainOptions } from './plain-source.ts';
import { carryOn, endWork } from './replication-consumer.ts';
import { addReader, closeReader, dropReader, findReader, requireReaderName, tendReader } from './reader.ts';
import { lineageOf, setExpirationWindow } from './replication-producer.ts';
import { durationUs, streamLimitsOf } from './stream-options.ts';
import { failoverTime } from '../timeline/system-time.ts';
import { endOfLife, requireReachable, resolveTarget } from '../timeline/timeline-point.ts';
import { unmake } from '../virtual-clusters/unmake.ts';
import { askerOf, columnsOf, done, rowsResult } from '../use-case.ts';
import { notAvailable, textValue } from '../values.ts';
import { requireNoRestore, withVirtualCluster } from '../virtual-clusters/virtual-cluster-lookup.ts';

export type ReplicationAction = Extract<
  AlterVirtualClusterAction,
  {
    kind:
      | 'pause_replication'
      | 'resume_replication'
      | 'complete_replication'
      | 'start_replication'
      | 'set_replication'
      | 'set_replication_source';
  }
>;

export const FAILOVER_COLUMNS: readonly Column[] = columnsOf({ failover_time: 'numeric' });
const TAG = 'ALTER VIRTUAL CLUSTER';

/** What a client may wait for a follower to be cut off. */
const CUT_SIGNAL_MS = 60_000;

export function isReplicationAction(action: AlterVirtualClusterAction): action is ReplicationAction {
  return (
    action.kind === 'pause_replication' ||
    action.kind === 'resume_replication' ||
    action.kind === 'complete_replication' ||
    action.kind === 'start_replication' ||
    action.kind === 'set_replication' ||
    action.kind === 'set_replication_source'
  );
}

/** Before anything is asked of the source. @throws InputError `parameter_invalid`, `object_exists`, `virtual_cluster_name_invalid` */
export function checkStreamOptions(
  core: Core,
  { name, options }: { name: string; options: StreamOptions },
): void {
  streamLimitsOf(options);
  if (options.readVirtualCluster) requireReaderName(core, name);
}

/** Refuses what cannot be, before anything of the new virtual cluster is there; a producer keeps its log from then on. */
export async function beginStream(
  core: Core,
  source: ReplicationSource,
  context: ExecuteContext,
): Promise<{ readonly uri: string; readonly terms: StreamTerms }> {
  const uri = await sourceUri(core, source.uri, context);
  const address = parseSourceUri(uri);
  if (address.kind === 'postgres') {
    return { uri, terms: await inspectPlain(core, { source, address, context }) };
  }
  const terms = await withProducer(uri, context, (connection) =>
    connection.createStream({ name: source.source, after: null }),
  );
  await orDrop({ uri, terms }, core, () => {
    requireCompatible(core, terms);
    return Promise.resolve();
  });
  return { uri, terms };
}

/** The follower of a stream that was begun, recorded by `add`. When this fails nothing of it is left, here or there. */
export async function makeFollower(
  core: Core,
  options: {
    add: () => Promise<VirtualClusterRecord>;
    source: ReplicationSource;
    stream: { readonly uri: string; readonly terms: StreamTerms };
    context: ExecuteContext;
  },
): Promise<VirtualClusterRecord> {
  const { add, stream } = options;
  return orDrop(stream, core, async () => {
    const record = await add();
    await core.locks.run(record.id, () => fillFollower(core, { ...options, record }));
    return record;
  });
}

async function fillFollower(
  core: Core,
  options: {
    record: VirtualClusterRecord;
    source: ReplicationSource;
    stream: { readonly uri: string; readonly terms: StreamTerms };
    context: ExecuteContext;
  },
): Promise<void> {
  const { record, source, stream, context } = options;
  const { id, name } = record;
  const { signal } = core;
  try {
    await core.streams.add(newStream(record, { source, stream, divergence: null }), core);
    if (source.options.readVirtualCluster) await addReader(core, record);
    faultPoint('stream.recorded');
    await reserveIfPlain(stream, core);
    faultPoint('stream.reserved');
    await core.options.instanceHost.create({
      virtualClusterId: id,
      name,
      settings: core.services.instanceSettings(id),
      signal,
    });
    await core.catalog.apply({ id, event: { kind: 'directory_made' }, signal });
    await carryOn(core, id, context.session.user);
  } catch (error) {
    if (signal.aborted) throw error;
    await dropReader(core, id);
    await core.streams.forget({ id, signal });
    await unmake(core, record);
    throw error;
  }
}

/** A producer has done it by itself; it gives up a consumer that it never hears of. A plain server would keep log for ever for one that it recorded nowhere. */
async function reserveIfPlain(
  { uri, terms }: { readonly uri: string; readonly terms: StreamTerms },
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const address = parseSourceUri(uri);
  if (address.kind === 'postgres') await reserveLog(address, { terms, signal });
}

/** Of a CREATE that a daemon died in, before there was a directory: the source need keep nothing for it. */
export async function forgetUnborn(core: Core): Promise<void> {
  const { signal } = core;
  for (const stream of core.streams.list()) {
    const { virtualClusterId: id } = stream;
    if (core.catalog.get(id) !== undefined) continue;
    await core.consumer.farewell(stream, { signal, logger: core.options.logger });
    await dropReader(core, id);
    await core.streams.forget({ id, signal });
    core.options.logger.info(`forgot the replication stream of virtual cluster ${id}, which was never made`);
  }
}

/** @throws InputError `object_state`, and what each of them may be refused for */
export async function alterReplication(
  core: Core,
  options: { name: string; action: ReplicationAction; context: ExecuteContext },
): Promise<StatementResult> {
  const { name, action, context } = options;
  requireNotFailingOver(core, { name, action });
  if (action.kind === 'complete_replication') {
    const { to } = action;
    if (to === 'latest_drained') return drainAndComplete(core, { name, context });
    return completeAndTell(core, { name, to, context });
  }
  return withVirtualCluster(core, name, async (record) => {
    requireNotFailingOver(core, { name, action });
    requireNotSystem(record);
    const said = (what: string) =>
      loggerOf(core, record).info(`virtual cluster altered by ${context.session.user}: ${what}`);
    switch (action.kind) {
      case 'pause_replication':
        await pause(core, requireStream(core, record));
        said('replication paused');
        return done(TAG);
      case 'resume_replication':
        await resume(core, requireStream(core, record), context);
        said('replication resumed');
        return done(TAG);
      case 'start_replication':
        await startReplication(core, { record, action, context });
        said(`replication of "${action.source}" begun`);
        return done(TAG);
      case 'set_replication':
        await setReplication(core, { record, stream: requireStream(core, record), options: action.options });
        said('options of its replication changed');
        return done(TAG);
      case 'set_replication_source':
        await setExpirationWindow(core, {
          record,
          us: durationUs(action.expirationWindow, 'EXPIRATION WINDOW'),
        });
        said('expiration window of those that follow it changed');
        return done(TAG);
    }
  });
}

/** @throws InputError `object_state` */
function requireNotSystem(record: VirtualClusterRecord): void {
  if (!isSystem(record.id)) return;
  throw new InputError('object_state', 'the system virtual cluster cannot follow another one');
}

/** At once: the failover holds the lock of the virtual cluster until it has ended. @throws InputError `object_state` */
function requireNotFailingOver(
  core: Core,
  { name, action }: { name: string; action: ReplicationAction },
): void {
  const id = core.catalog.find(name)?.id;
  const state = id === undefined ? undefined : core.streams.active(id)?.state;
  const isHarmless = action.kind === 'resume_replication' || action.kind === 'set_replication_source';
  if (state?.kind !== 'failing_over' || isHarmless) return;
  throw new InputError('object_state', `virtual cluster "${name}" is failing over already`, {
    hint: 'its failover time cannot be changed any more',
  });
}

/** A virtual cluster that replicates serves nobody. @throws InputError `object_state` */
export function requireNoStream(core: Core, record: VirtualClusterRecord, what: string): void {
  const stream = core.streams.active(record.id);
  if (stream === undefined) {
    if (core.options.instanceHost.get(record.id)?.following == null) return;
    throw new InputError(
      'object_state',
      `virtual cluster "${record.name}" is a follower whose stream was ended`,
      {
        hint: 'make it anew: DROP VIRTUAL CLUSTER ... IMMEDIATE, then CREATE VIRTUAL CLUSTER ... FROM REPLICATION',
      },
    );
  }
  throw new InputError('object_state', `virtual cluster "${record.name}" replicates, it cannot ${what}`, {
    hint: `fail over first: ALTER VIRTUAL CLUSTER ${record.name} COMPLETE REPLICATION TO LATEST`,
  });
}

/** Ends the stream of a virtual cluster that is to be dropped, and tells the source. Harmless when there is none. */
export async function endStream(core: Core, record: VirtualClusterRecord): Promise<void> {
  const stream = core.streams.get(record.id);
  if (stream === undefined) return;
  if (stream.state.kind !== 'completed') {
    await endWork(core, record.id, 'cancel');
    await core.consumer.farewell(stream, { signal: core.signal, logger: loggerOf(core, record) });
  }
  await core.streams.forget({ id: record.id, signal: core.signal });
  core.consumer.meter.forget(record.id);
}

function tellOfReader(core: Core, record: VirtualClusterRecord, context: ExecuteContext): void {
  const reader = findReader(core, record.id);
  if (reader === undefined) return;
  context.onNotice({
    severity: 'NOTICE',
    sqlstate: '00000',
    message: `the reader "${reader.name}" is dropped by the failover, and its sessions end`,
    hint: `afterwards "${record.name}" itself can be read: START SERVICE SHARED`,
  });
}

/** What is said counts at once; what is not said stays. @throws InputError `object_state`, `parameter_invalid`, `object_exists` */
async function setReplication(
  core: Core,
  { record, stream, options }: { record: VirtualClusterRecord; stream: StreamRecord; options: StreamOptions },
): Promise<void> {
  const { virtualClusterId: id, state } = stream;
  const { retentionUs, expirationWindowUs } = streamLimitsOf(options);
  if (isPlain(stream)) requirePlainOptions(options);
  const reader = findReader(core, id);
  if (options.readVirtualCluster) {
    if (state.kind !== 'replicating') {
      throw new InputError(
        'object_state',
        `virtual cluster "${record.name}" is in state "${STREAM_STATE_TEXTS[state.kind]}", not "replicating"`,
        { hint: 'a reader is added while it replicates' },
      );
    }
    if (reader === undefined) requireReaderName(core, record.name);
  }
  const limits = {
    ...(retentionUs === null ? {} : { retentionUs }),
    ...(expirationWindowUs === null ? {} : { expirationWindowUs }),
  };
  await core.streams.setLimits({ id, limits, signal: core.signal });
  if (!options.readVirtualCluster) return;
  if (reader === undefined) await addReader(core, record);
  await tendReader(core, id);
}

async function pause(core: Core, stream: StreamRecord): Promise<void> {
  const { virtualClusterId: id } = stream;
  const event = { kind: 'pause_asked', at: core.options.clock.now() } as const;
  await core.streams.apply({ id, event, signal: core.signal });
  closeReader(core, id);
  await endWork(core, id, 'pause');
  await tendReader(core, id);
}

async function resume(core: Core, stream: StreamRecord, { session }: ExecuteContext): Promise<void> {
  const { virtualClusterId: id } = stream;
  await core.streams.apply({ id, event: { kind: 'resume_asked' }, signal: core.signal });
  await carryOn(core, id, session.user);
}

/**
 * During the first image the failover time is not known yet: the statement waits for it for a while, without keeping others from the virtual
 * cluster.
 */
async function completeAndTell(
  core: Core,
  { name, to, context }: { name: string; to: Value | 'latest'; context: ExecuteContext },
): Promise<StatementResult> {
  const { id, time } = await withVirtualCluster(core, name, async (record) => {
    requireNotFailingOver(core, { name, action: { kind: 'complete_replication', to } });
    requireNotSystem(record);
    const stream = requireStream(core, record);
    const asked = await complete(core, { stream, record, to, context });
    tellOfReader(core, record, context);
    loggerOf(core, record).info(
      `virtual cluster altered by ${context.session.user}: failover asked for${asked === null ? '' : `, to ${formatTimestamp(asked)}`}`,
    );
    return { id: record.id, time: asked };
  });
  if (time !== null) return rowsResult(FAILOVER_COLUMNS, [[hlcText(time)]], TAG);
  const state = await whenNoLonger(core, { id, kind: 'pending_failover', context });
  const known = timeOfFailover(state);
  if (known !== null) return rowsResult(FAILOVER_COLUMNS, [[hlcText(known)]], TAG);
  if (state?.kind !== 'pending_failover') {
    throw new InputError('object_state', `the failover came to nothing: ${reasonOf(state)}`, {
      hint: 'SHOW VIRTUAL CLUSTER ... WITH REPLICATION STATUS tells how far it is',
    });
  }
  context.onNotice({
    severity: 'NOTICE',
    sqlstate: '00000',
    message:
      'the initial scan is still under way: the failover follows it by itself, to the first consistent moment',
    hint: 'SHOW VIRTUAL CLUSTER ... WITH REPLICATION STATUS tells the failover time when it is known',
  });
  return rowsResult(FAILOVER_COLUMNS, [[null]], TAG);
}

/** Gives the failover time when it is known: during the first image it is not. */
async function complete(
  core: Core,
  options: {
    stream: StreamRecord;
    record: VirtualClusterRecord;
    to: Value | 'latest';
    context: ExecuteContext;
  },
): Promise<Timestamp | null> {
  const { stream, record, to, context } = options;
  const { virtualClusterId: id, state } = stream;
  const { signal } = core;
  const target: FailoverTarget =
    to === 'latest'
      ? { kind: 'latest' }
      : { kind: 'time', time: failoverTime(to, { now: core.options.clock.now() }) };
  if (!isScanned(state)) {
    if (target.kind === 'time') requireAhead(core, target.time);
    await core.streams.apply({ id, event: { kind: 'failover_asked', target }, signal });
  } else if (target.kind === 'latest') {
    await cutHere(core, stream);
  } else if (isAhead(stream, target.time)) {
    await core.streams.apply({ id, event: { kind: 'failover_asked', target }, signal });
  } else {
    await cutBehind(core, { stream, record, time: target.time });
  }
  await carryOn(core, id, context.session.user);
  const after = core.streams.get(id)?.state;
  if (after?.kind === 'failing_over') return after.cut.time;
  if (after?.kind === 'completed') return after.failoverTime;
  return target.kind === 'time' ? target.time : null;
}

/** A planned failover. The statement waits for it for a while, without keeping others from the virtual cluster. */
async function drainAndComplete(
  core: Core,
  { name, context }: { name: string; context: ExecuteContext },
): Promise<StatementResult> {
  const { id, drainId } = await withVirtualCluster(core, name, async (record) => {
    const stream = requireStream(core, record);
    const { virtualClusterId } = stream;
    const asked = newIncarnation(core);
    const event = { kind: 'drain_asked', drainId: asked } as const;
    // What cannot be is refused before the source is asked; and one that does not answer leaves everything as it is.
    nextStreamState(stream.state, event);
    await requireDrainable(stream, context);
    const { state } = await core.streams.apply({ id: virtualClusterId, event, signal: core.signal });
    faultPoint('failover.drain_asked');
    await carryOn(core, virtualClusterId, context.session.user);
    tellOfReader(core, record, context);
    loggerOf(core, record).info(
      `virtual cluster altered by ${context.session.user}: planned failover asked for, the source goes out of service`,
    );
    return { id: virtualClusterId, drainId: state.kind === 'draining' ? state.drainId : asked };
  });
  const state = await whenNoLonger(core, { id, kind: 'draining', context });
  const known = timeOfFailover(state);
  if (known !== null) return rowsResult(FAILOVER_COLUMNS, [[hlcText(known)]], TAG);
  if (state?.kind === 'draining') {
    context.onNotice({
      severity: 'NOTICE',
      sqlstate: '00000',
      message: 'the source is still going out of service, or its last log is still on its way',
      hint: 'SHOW VIRTUAL CLUSTER ... WITH REPLICATION STATUS tells when it is done; RESUME REPLICATION gives it up, and COMPLETE REPLICATION TO LATEST fails over to what there is',
    });
    return rowsResult(FAILOVER_COLUMNS, [[null]], TAG);
  }
  const reason = core.consumer.whyNotDrained(id, drainId) ?? reasonOf(state);
  throw new InputError('object_state', `the source does not go out of service: ${reason}`, {
    hint: 'the stream goes on as before; COMPLETE REPLICATION TO LATEST fails over without stopping the source',
  });
}

/** @throws AppError `connection_failure`; InputError `feature_not_supported`, and what the other side refuses */
async function requireDrainable(
  { sourceUri: uri, terms }: StreamRecord,
  context: ExecuteContext,
): Promise<void> {
  const hint =
    'nothing was changed; COMPLETE REPLICATION TO LATEST fails over to what there is, without stopping the source';
  const silent = { replicatedTime: null, replicatedLsn: null };
  if (parseSourceUri(uri).kind === 'postgres') throw notDrainable();
  try {
    const answer = await withProducer(uri, context, (connection) =>
      connection.report(terms.streamId, silent),
    );
    if (answer.drain !== undefined) return;
  } catch (error) {
    if (!isAppError(error) || context.signal.aborted) throw error;
    throw new AppError(error.code, `${error.message}; it must be there to go out of service`, {
      hint,
      cause: error,
    });
  }
  throw new InputError('feature_not_supported', 'the source is of a release that cannot be drained', {
    hint,
  });
}

/** The state when it is another than `kind`, or the wait has ended; undefined when the stream is gone. */
async function whenNoLonger(
  core: Core,
  options: { id: StreamRecord['virtualClusterId']; kind: StreamState['kind']; context: ExecuteContext },
): Promise<StreamState | undefined> {
  const { id, kind, context } = options;
  const { streams } = core;
  const limit = new AbortController();
  const signal = AbortSignal.any([core.signal, context.signal, limit.signal]);
  const timer = core.options.clock.sleep(CUT_SIGNAL_MS, { signal }).then(
    () => limit.abort(),
    () => undefined,
  );
  try {
    while (streams.get(id)?.state.kind === kind && !signal.aborted) {
      await streams.whenChanged(id, { signal });
    }
    return streams.get(id)?.state;
  } finally {
    limit.abort();
    await timer;
  }
}

function timeOfFailover(state: StreamState | undefined): Timestamp | null {
  if (state?.kind === 'failing_over') return state.cut.time;
  return state?.kind === 'completed' ? state.failoverTime : null;
}

function reasonOf(state: StreamState | undefined): string {
  return state?.kind === 'failed' ? state.reason : 'somebody else has changed what becomes of the stream';
}

/** The follower has not come there yet. */
function isAhead({ replicatedTime }: StreamRecord, time: Timestamp): boolean {
  return replicatedTime === null || time > replicatedTime;
}

function requireAhead(core: Core, time: Timestamp): void {
  if (time > core.options.clock.now()) return;
  throw new InputError(
    'time_outside_window',
    'there is no replicated time yet that could be failed over to',
    {
      hint: 'wait until the initial scan has ended, or fail over TO LATEST',
    },
  );
}

/** Everything that has been received: from now on nothing more is. */
async function cutHere(core: Core, { virtualClusterId: id, state }: StreamRecord): Promise<void> {
  const limit = AbortSignal.any([core.signal, AbortSignal.timeout(CUT_SIGNAL_MS)]);
  try {
    const time = await core.consumer.cutHere(id, { signal: limit });
    const cut = { incarnation: newIncarnation(core), time, point: null };
    await core.streams.apply({ id, event: { kind: 'cut', cut }, signal: core.signal });
  } catch (error) {
    // Where nothing ran before, nothing shall be left running.
    const isResting = state.kind === 'paused' || state.kind === 'failed';
    if (isResting) await core.consumer.halt(id, { signal: core.signal });
    if (isResting) await tendReader(core, id);
    throw error;
  }
}

/** @throws InputError `time_outside_window` for a moment that the follower's own timeline does not lead to */
async function cutBehind(
  core: Core,
  options: { stream: StreamRecord; record: VirtualClusterRecord; time: Timestamp },
): Promise<void> {
  const { stream, record, time } = options;
  const { virtualClusterId: id, retainedTime } = stream;
  if (retainedTime === null || time < retainedTime) {
    const since =
      retainedTime === null ? 'nothing is retained yet' : `retained since ${formatTimestamp(retainedTime)}`;
    throw new InputError(
      'time_outside_window',
      `virtual cluster "${record.name}" cannot be failed over to ${formatTimestamp(time)}: ${since}`,
      { hint: 'SHOW VIRTUAL CLUSTER ... WITH REPLICATION STATUS tells retained_time and replicated_time' },
    );
  }
  const { signal } = core;
  const point = await resolveTarget(core, { record, target: { kind: 'time', time }, signal });
  await requireReachable(core, { record, point, signal });
  const { timelineId, lsn } = point;
  const cut = {
    incarnation: newIncarnation(core),
    time,
    point: { incarnation: point.incarnation, timelineId, lsn },
  };
  await core.streams.apply({ id, event: { kind: 'cut', cut }, signal });
}

/** A failback: our own data as it was when the other's history left ours, and then what the other has written since. */
async function startReplication(
  core: Core,
  options: {
    record: VirtualClusterRecord;
    action: Extract<ReplicationAction, { kind: 'start_replication' }>;
    context: ExecuteContext;
  },
): Promise<void> {
  const { record, action, context } = options;
  const { signal } = context;
  requireNoStream(core, record, 'begin another stream');
  if (record.state.kind !== 'ready' || serviceModeOf(record.state) !== 'none') {
    throw new InputError('object_in_use', `the service of virtual cluster "${record.name}" is "shared"`, {
      hint: `stop it first: ALTER VIRTUAL CLUSTER ${record.name} STOP SERVICE`,
    });
  }
  await requireNoRestore(core, record);
  checkStreamOptions(core, { name: record.name, options: action.options });
  const uri = await sourceUri(core, action.uri, context);
  if (parseSourceUri(uri).kind === 'postgres') refuseToGoBack(action.source);
  const end = await endOfOwn(core, { record, signal });
  const terms = await withProducer(uri, context, (connection) =>
    connection.createStream({ name: action.source, after: `${end.incarnation}@${formatLsn(end.lsn)}` }),
  );
  await orDrop({ uri, terms }, core, async () => {
    requireCompatible(core, terms);
    const divergence = await findDivergence(core, { record, end, terms, signal });
    if (divergence === null) {
      context.onNotice({
        severity: 'NOTICE',
        sqlstate: '00000',
        message: `no base of virtual cluster "${record.name}" leads to where the histories part: all data is copied from the source`,
        hint: 'what it holds now is kept: SHOW SALVAGE FOR VIRTUAL CLUSTER',
      });
    }
    await core.streams.add(newStream(record, { source: action, stream: { uri, terms }, divergence }), core);
    if (action.options.readVirtualCluster) await addReader(core, record);
    await carryOn(core, record.id, context.session.user);
  });
}

/** Where our own history ends; without a base, where the directory does. @throws InputError `object_state` */
async function endOfOwn(
  core: Core,
  options: { record: VirtualClusterRecord; signal: AbortSignal },
): Promise<Pick<Divergence, 'incarnation' | 'lsn'>> {
  const { id } = options.record;
  try {
    return await endOfLife(core, options);
  } catch (error) {
    const { instanceHost } = core.options;
    if (!isAppError(error, 'time_outside_window') || !(await instanceHost.isWhole(id))) throw error;
    const { incarnation } = core.services.instanceOf(options.record).identity;
    return { incarnation, lsn: await instanceHost.lastRecordLsn(id) };
  }
}

/** Null when our own timeline does not lead there: then everything is copied. @throws InputError `object_state` for a stranger */
async function findDivergence(
  core: Core,
  options: {
    record: VirtualClusterRecord;
    end: { incarnation: IncarnationId; lsn: Divergence['lsn'] };
    terms: StreamTerms;
    signal: AbortSignal;
  },
): Promise<Divergence | null> {
  const { record, end, terms, signal } = options;
  const own = await lineageOf(core, { record, instance: core.services.instanceOf(record) });
  const common = commonHistory(own, { ownEndLsn: end.lsn, theirs: terms.lineage });
  if (common === null) {
    throw new InputError(
      'object_state',
      `virtual cluster "${terms.virtualClusterName}" was not replicated from "${record.name}": they have no history in common`,
      { hint: 'make a follower of its own: CREATE VIRTUAL CLUSTER ... FROM REPLICATION OF ...' },
    );
  }
  const target = { kind: 'lsn', incarnation: common.incarnation, lsn: common.lsn } as const;
  const timelineId = await reachableTimeline(core, { record, target, signal });
  if (timelineId === null) return null;
  if (terms.reservedLsn > common.lsn) {
    throw new InputError('object_state', 'the log from the failover on is no longer kept at the other side', {
      hint: 'make a follower of its own: CREATE VIRTUAL CLUSTER ... FROM REPLICATION OF ...',
    });
  }
  return { incarnation: common.incarnation, timelineId, lsn: common.lsn };
}

/** The timeline of Postgres that a position lies on; null when no base leads there. */
async function reachableTimeline(
  core: Core,
  options: { record: VirtualClusterRecord; target: TimelineTarget; signal: AbortSignal },
): Promise<number | null> {
  try {
    const point = await resolveTarget(core, options);
    await requireReachable(core, { ...options, point });
    return point.timelineId;
  } catch (error) {
    if (isAppError(error, 'time_outside_window')) return null;
    throw error;
  }
}

function newStream(
  record: VirtualClusterRecord,
  options: {
    source: ReplicationSource;
    stream: { readonly uri: string; readonly terms: StreamTerms };
    divergence: Divergence | null;
  },
): StreamRecord {
  const { source, stream, divergence } = options;
  return {
    virtualClusterId: record.id,
    sourceName: source.source,
    sourceUri: stream.uri,
    jobId: null,
    state: { kind: 'initializing' },
    terms: stream.terms,
    divergence,
    limits: streamLimitsOf(source.options),
    retainedTime: null,
    replicatedTime: null,
  };
}

/** @throws InputError `feature_not_supported` */
function requireCompatible(core: Core, terms: StreamTerms): void {
  const system = core.options.instanceHost.get(SYSTEM_VIRTUAL_CLUSTER_ID);
  const engineMajor = system?.identity.engineMajor;
  if (terms.engineMajor !== engineMajor) {
    throw notAvailable(
      `following PostgreSQL ${terms.engineMajor} with PostgreSQL ${engineMajor}`,
      'bring both physical clusters to the same release',
    );
  }
  if (Number(terms.release) > Number(CURRENT_RELEASE)) {
    throw new InputError(
      'object_state',
      `the source is of release ${terms.release}, newer than ${CURRENT_RELEASE} here`,
      {
        hint: 'upgrade the standby first',
      },
    );
  }
  if (terms.clusterId === core.options.cluster.id) {
    throw new InputError('parameter_invalid', 'the source is this physical cluster itself', {
      hint: 'make a branch: CREATE VIRTUAL CLUSTER ... FROM VIRTUAL CLUSTER ...',
    });
  }
}

/** A URI, or the name of an external connection of the system VC. @throws InputError `parameter_invalid`, `object_not_found` */
async function sourceUri(core: Core, value: Value, context: ExecuteContext): Promise<string> {
  const text = textValue(value, 'the connection string');
  const name = /^external:\/\/([^/?]+)\/?$/.exec(text)?.[1] ?? (text.includes('://') ? undefined : text);
  const uri =
    name === undefined
      ? text
      : (await requireConnectionPrivilege(askerOf(core, context), { name, privilege: 'USAGE' })).uri;
  parseSourceUri(uri);
  return uri;
}

/** That no Atoll keeps log for. */
function isPlain({ sourceUri }: StreamRecord): boolean {
  return parseSourceUri(sourceUri).kind === 'postgres';
}

async function withProducer<T>(
  uri: string,
  { signal }: { signal: AbortSignal },
  use: (connection: SourceConnection) => Promise<T>,
): Promise<T> {
  await using connection = await SourceConnection.open(parseSourceUri(uri), { signal });
  // Not before it is done is the connection closed.
  return await use(connection);
}

/** What the source was asked to keep is given back when nothing comes of it. */
async function orDrop<T>(
  { uri, terms }: { uri: string; terms: StreamTerms },
  core: Core,
  use: () => Promise<T>,
): Promise<T> {
  try {
    return await use();
  } catch (error) {
    await dropStream({ sourceUri: uri, terms }, core).catch((late: unknown) =>
      core.options.logger.info(`the source was not told that the stream is over: ${toError(late).message}`),
    );
    throw error;
  }
}

async function dropStream(
  stream: Pick<StreamRecord, 'sourceUri' | 'terms'>,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  await using source = await openSource(stream, { signal });
  await source.dropStream(stream.terms.streamId);
}

/** @throws InputError `object_state` */
function requireStream(core: Core, record: VirtualClusterRecord): StreamRecord {
  const stream = core.streams.active(record.id);
  if (stream !== undefined) return stream;
  throw new InputError('object_state', `virtual cluster "${record.name}" does not replicate`, {
    hint: 'SHOW VIRTUAL CLUSTERS WITH REPLICATION STATUS lists those that do',
  });
}
