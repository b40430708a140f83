/** A stream that rests for too long is given up, so that its source need not keep log for ever. */
import { SYSTEM_VIRTUAL_CLUSTER_ID } from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import { type Core, loggerOf } from '../core.ts';
import { carryOn } from './replication-consumer.ts';

const SETTING = 'physical_replication.consumer.pause_limit';

/** Under the lock of the virtual cluster; may run any number of times. What the follower has can still be failed over to. */
export async function endLongPause(core: Core, record: VirtualClusterRecord): Promise<void> {
  const { id } = record;
  const { signal } = core;
  const stream = core.streams.active(id);
  if (stream?.state.kind !== 'paused') return;
  const limitUs = core.settings.integer(SYSTEM_VIRTUAL_CLUSTER_ID, SETTING);
  if (core.options.clock.now() - stream.state.since <= limitUs) return;
  const reason = `replication was paused for longer than ${SETTING}`;
  loggerOf(core, record).warning(`the replication stream is given up: ${reason}`);
  await core.consumer.farewell(stream, { signal, logger: loggerOf(core, record) });
  await core.streams.apply({ id, event: { kind: 'failed', reason }, signal });
  // Its job ends with that reason.
  await carryOn(core, id, 'root');
}
