/** ALTER VIRTUAL CLUSTER … COMPLETE REPLICATION: to the latest, drained or not, and to a moment. */
import { AppError, InputError, type Timestamp, formatTimestamp, isAppError } from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import {
  type FailoverTarget,
  type StreamRecord,
  type StreamState,
  isScanned,
  nextStreamState,
  notDrainable,
  parseSourceUri,
} from '../../replication/index.ts';
import type { Value } from '../../sql/index.ts';
import { faultPoint } from '../../timeline/index.ts';
import type { Column, ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { failoverTime } from '../timeline/system-time.ts';
import { requireReachable, resolveTarget } from '../timeline/timeline-point.ts';
import { columnsOf, rowsResult } from '../use-case.ts';
import { newIncarnation } from '../virtual-clusters/new-incarnation.ts';
import { withVirtualCluster } from '../virtual-clusters/virtual-cluster-lookup.ts';
import { hlcText } from './failover-time.ts';
import { findReader, tendReader } from './reader.ts';
import { carryOn } from './replication-consumer.ts';
import { requireNotFailingOver, requireNotSystem, requireStream } from './require-stream.ts';
import { withProducer } from './stream-source.ts';

export const FAILOVER_COLUMNS: readonly Column[] = columnsOf({ failover_time: 'numeric' });

const TAG = 'ALTER VIRTUAL CLUSTER';

/** What a client may wait for a follower to be cut off. */
const CUT_SIGNAL_MS = 60_000;

/**
 * During the first image the failover time is not known yet: the statement waits for it for a while, without keeping others from the virtual
 * cluster.
 */
export async function completeAndTell(
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

/** A planned failover. The statement waits for it for a while, without keeping others from the virtual cluster. */
export async function drainAndComplete(
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
