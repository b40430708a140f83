/** The actions of ALTER VIRTUAL CLUSTER on a replication stream. */
import { InputError } from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import { STREAM_STATE_TEXTS, type StreamRecord } from '../../replication/index.ts';
import type { StreamOptions } from '../../sql/index.ts';
import type { ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { done } from '../use-case.ts';
import { withVirtualCluster } from '../virtual-clusters/virtual-cluster-lookup.ts';
import { startReplication } from './failback.ts';
import { completeAndTell, drainAndComplete } from './failover.ts';
import { requirePlainOptions } from './plain-source.ts';
import { addReader, closeReader, findReader, requireReaderName, tendReader } from './reader.ts';
import { carryOn, endWork } from './replication-consumer.ts';
import type { ReplicationAction } from './replication-action.ts';
import { setExpirationWindow } from './replication-producer.ts';
import { requireNotFailingOver, requireNotSystem, requireStream } from './require-stream.ts';
import { durationUs, streamLimitsOf } from './stream-options.ts';
import { isPlain } from './stream-source.ts';

const TAG = 'ALTER VIRTUAL CLUSTER';

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
