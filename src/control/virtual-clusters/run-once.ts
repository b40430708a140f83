/** The server of a virtual cluster that is out of service runs for nobody but the node: its gate stays closed. */
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import type { Instance } from '../../instance/index.ts';
import { sampleFollower } from '../../replication/index.ts';
import type { Core } from '../core.ts';
import { untilReceived } from '../timeline/timeline-point.ts';

/** What a vault that was just begun may take to come up to the end of the log. */
const RECEIVED_MS_MAX = 30_000;

interface Resting {
  readonly record: VirtualClusterRecord;
  readonly signal: AbortSignal;
}

/** It is stopped when this returns, also where it ran before. For who holds the lock of the virtual cluster. */
export async function runOnce(
  core: Core,
  options: Resting & { use: (instance: Instance) => Promise<unknown> },
): Promise<void> {
  const { record, signal, use } = options;
  const instance = core.services.instanceOf(record);
  await instance.start({ signal });
  await core.services.followLog(record);
  try {
    await use(instance);
  } finally {
    // A server that stops in order waits until the vault has all of its log.
    await instance.stop({ mode: 'orderly', signal: core.signal });
    await core.options.timeline?.vault.unfollow(record.id);
  }
}

/**
 * Its timeline receives what was missing of its log when its server ended: it crashed, or there was no vault just then. A server that is
 * stopped in order waits for the vault only where one is connected.
 */
export async function receiveRest(core: Core, options: Resting): Promise<void> {
  const { record, signal } = options;
  await runOnce(core, {
    ...options,
    use: async (instance) => {
      if (!instance.isReadOnly) return untilReceived(core, { record, signal });
      // After a planned failover it may write nothing, whoever asks.
      const limit = AbortSignal.any([signal, AbortSignal.timeout(RECEIVED_MS_MAX)]);
      const { replayedLsn } = await sampleFollower(instance, { signal: limit });
      if (replayedLsn === null) return;
      await core.options.timeline?.vault.whenDurable(record.id, replayedLsn, { signal: limit });
    },
  });
}
