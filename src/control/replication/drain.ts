/**
 * Virtual clusters that are put out of service for a planned failover: nobody writes to them any more, and their server runs on, in a
 * recovery that never ends, for those who follow them to receive the last of the log. docs/decisions/0075-drain.md.
 */
import { AppError, type Clock, InputError, type Lsn, type VirtualClusterId } from '../../base/index.ts';
import { type VirtualClusterRecord, serviceModeOf } from '../../catalog/index.ts';
import type { Instance } from '../../instance/index.ts';
import {
  type SourceDrain,
  type SourceDrainEvent,
  isOutOfService,
  nextSourceDrain,
  parseSourceDrain,
  printSourceDrain,
  sampleFollower,
} from '../../replication/index.ts';
import { faultPoint } from '../../timeline/index.ts';
import { type Core, loggerOf } from '../core.ts';
import { rememberWindow } from '../timeline/timeline-point.ts';
import { requireNoRestore, requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

/** What replay of the last log may take. */
const REPLAY_MS_MAX = 60_000;
const REPLAY_POLL_MS = 20;

/** As recorded of the present life of its data; undefined when it was never drained. */
export function drainOf(core: Core, id: VirtualClusterId): SourceDrain | undefined {
  const text = core.catalog.fact(`drain/${id}`);
  if (text === undefined) return undefined;
  const drain = parseSourceDrain(text);
  return drain.incarnation === core.options.instanceHost.get(id)?.identity.incarnation ? drain : undefined;
}

/** Durable when it returns. */
export async function applyDrain(
  core: Core,
  id: VirtualClusterId,
  event: SourceDrainEvent,
): Promise<SourceDrain | undefined> {
  return core.producers.drains.run(id, async () => {
    const before = drainOf(core, id);
    const drain = nextSourceDrain(before, event);
    if (drain === undefined || drain === before) return before;
    await core.catalog.setFact({
      name: `drain/${id}`,
      value: printSourceDrain(drain),
      signal: core.signal,
    });
    return drain;
  });
}

/** Its server is kept running for whoever follows it, though it serves nobody. */
export function isKeptForFollowers(core: Core, id: VirtualClusterId): boolean {
  const drain = drainOf(core, id);
  return isOutOfService(drain) && core.producers.isRunning(drain.streamId);
}

/** @throws InputError `object_state` for one that is out of service for a planned failover */
export function requireNotDrained(core: Core, record: VirtualClusterRecord): void {
  if (!isOutOfService(drainOf(core, record.id))) return;
  throw new InputError(
    'object_state',
    `virtual cluster "${record.name}" went out of service for a planned failover: its standby takes over, or has taken over`,
    {
      hint: `START REPLICATION makes it follow the new primary; ALTER VIRTUAL CLUSTER ${record.name} START SERVICE SHARED WITH FORCE starts it all the same, beside the other`,
    },
  );
}

/** What is under way is brought to its end. For who holds the lock of the virtual cluster; may be done any number of times. */
export async function settleDrain(core: Core, id: VirtualClusterId): Promise<void> {
  const drain = drainOf(core, id);
  const record = core.catalog.get(id);
  if (record === undefined) return;
  if (drain?.kind === 'draining') await goOutOfService(core, record);
  if (drain?.kind === 'drained') await runForFollowers(core, record);
  if (drain?.kind === 'lifting') await serveAgain(core, record);
}

/** For who holds the lock of the virtual cluster. */
export async function serveAgain(core: Core, { id }: VirtualClusterRecord): Promise<void> {
  const { signal } = core;
  const record = await core.catalog.apply({ id, event: { kind: 'service_started' }, signal });
  await core.services.setReadOnly(record, { isReadOnly: false, signal });
  const drain = await applyDrain(core, id, { kind: 'served' });
  if (drain?.kind === 'lifted') loggerOf(core, record).info(`serves again: ${drain.reason}`);
}

async function goOutOfService(core: Core, before: VirtualClusterRecord): Promise<void> {
  const { id } = before;
  const { signal } = core;
  if (serviceModeOf(before.state) === 'shared') {
    try {
      await requireNoRestore(core, before);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      await applyDrain(core, id, { kind: 'refused', reason: error.message });
      return;
    }
    await rememberWindow(core, id);
  }
  const record = await core.catalog.apply({ id, event: { kind: 'service_stopped' }, signal });
  faultPoint('drain.recorded');
  await core.services.drain(record, { signal });
  faultPoint('drain.stopped');
  const instance = await runForFollowers(core, record);
  const lsn = await endOfLog(instance, { clock: core.options.clock, signal });
  await applyDrain(core, id, { kind: 'stopped', lsn });
  faultPoint('drain.drained');
  loggerOf(core, record).info(
    'out of service for a planned failover: its standby receives the last of the log',
  );
}

/** It can write nothing, whoever asks; its vault receives what it wrote last. */
async function runForFollowers(core: Core, record: VirtualClusterRecord): Promise<Instance> {
  const { signal } = core;
  const instance = core.services.instanceOf(record);
  if (!instance.isReadOnly) {
    await instance.stop({ mode: 'orderly', signal });
    await instance.setReadOnly(true);
  }
  await instance.start({ signal });
  await core.services.followLog(record);
  return instance;
}

/** Where replay has come to when nothing is left: in order, or after a crash. */
async function endOfLog(
  instance: Instance,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<Lsn> {
  const deadlineMs = clock.monotonicMs() + REPLAY_MS_MAX;
  for (;;) {
    const { isWaiting, replayedLsn } = await sampleFollower(instance, { signal });
    if (isWaiting && replayedLsn !== null) return replayedLsn;
    if (clock.monotonicMs() > deadlineMs) {
      throw new AppError('cannot_connect_now', 'the last log was not replayed in time');
    }
    await clock.sleep(REPLAY_POLL_MS, { signal });
  }
}

/** Lets go of the server that ran on for followers, when the last of them is gone. Harmless when it serves. */
export async function stopRunningForFollowers(core: Core, id: VirtualClusterId): Promise<void> {
  await core.locks.run(id, async () => {
    if (!isOutOfService(drainOf(core, id))) return;
    await core.services.close(requireRecord(core, id), { signal: core.signal });
  });
}
