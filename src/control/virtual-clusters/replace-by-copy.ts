/** A failback that copies everything, because no base leads to where the histories parted: what is replaced is kept in the timeline. */
import { type VirtualClusterId, isAppError } from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import type { JobContext } from '../../jobs/index.ts';
import type { TimelinePoint } from '../../timeline/index.ts';
import type { Core } from '../core.ts';
import { captureFirstBase } from '../jobs/timeline-jobs.ts';
import { endOfLife, requireTimeline, storeOfTimeline } from '../timeline/timeline-point.ts';
import { receiveRest, runOnce } from './run-once.ts';
import { requireRecord } from './virtual-cluster-lookup.ts';

/**
 * Where the life ends that is to be replaced; a base leads there, so that a branch can be made of it. Null for one that has never served, or
 * whose directory is gone without a base. Its instance is stopped when this returns. May be begun again anywhere.
 */
export async function keepReplaced(
  core: Core,
  context: JobContext,
  id: VirtualClusterId,
): Promise<TimelinePoint | null> {
  const { signal } = context;
  const record = requireRecord(core, id);
  const { incarnation } = core.services.instanceOf(record).identity;
  const known = await requireTimeline(core).reader.incarnations(storeOfTimeline(core, record));
  if (!known.some((life) => life.incarnation === incarnation)) return null;
  let end = await endIfKnown(core, { record, signal });
  if (end === 'not stopped') {
    // Cut off, an earlier attempt left it running; or its vault had not got all.
    await receiveRest(core, { record, signal });
    end = await endIfKnown(core, { record, signal });
  }
  if (typeof end !== 'string' && (await isReachable(core, { record, end, signal }))) return end;
  if (!(await core.options.instanceHost.isWhole(id))) return null;
  const onProgress = ({ fraction, phase }: { fraction: number; phase: string }) =>
    context.report({ fraction: fraction * 0.3, runningStatus: `keeping what is replaced: ${phase}` });
  await runOnce(core, { record, signal, use: () => captureFirstBase(core, { id, context, onProgress }) });
  return endOfLife(core, { record, signal });
}

async function endIfKnown(
  core: Core,
  options: { record: VirtualClusterRecord; signal: AbortSignal },
): Promise<TimelinePoint | 'not stopped' | 'no base'> {
  try {
    return await endOfLife(core, options);
  } catch (error) {
    if (isAppError(error, 'object_state')) return 'not stopped';
    if (isAppError(error, 'time_outside_window')) return 'no base';
    throw error;
  }
}

async function isReachable(
  core: Core,
  options: { record: VirtualClusterRecord; end: TimelinePoint; signal: AbortSignal },
): Promise<boolean> {
  const { record, end, signal } = options;
  const { reader } = requireTimeline(core);
  const store = storeOfTimeline(core, record);
  const { length } = await reader.basesTo(store, { point: end, key: core.options.cluster.key, signal });
  return length > 0;
}
