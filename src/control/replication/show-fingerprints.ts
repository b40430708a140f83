/** SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER name [AS OF SYSTEM TIME t] */
import { InputError, type Timestamp } from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import type { Statement } from '../../sql/index.ts';
import type { TimelinePoint, TimelineTarget } from '../../timeline/index.ts';
import type { ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { hlcText } from './failover-time.ts';
import { fingerprintOf } from './fingerprint.ts';
import { systemTime } from '../timeline/system-time.ts';
import {
  requireReachable,
  requireTimeline,
  resolvePoint,
  resolveTarget,
  storeOfTimeline,
} from '../timeline/timeline-point.ts';
import { type UseCase, columnsOf, rowsResult } from '../use-case.ts';
import { lookupVirtualCluster, requireManager } from '../virtual-clusters/virtual-cluster-lookup.ts';

type ShowFingerprints = Extract<Statement, { kind: 'show_fingerprints' }>;

const COLUMNS = columnsOf({ tenant_name: 'text', end_ts: 'numeric', fingerprint: 'int8' });

/** Of a copy that is made from the timeline and thrown away: neither the virtual cluster nor a stream into it takes notice. */
export const showFingerprints: UseCase<ShowFingerprints> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    await requireManager(core, context);
    const record = lookupVirtualCluster(core, statement.name);
    if (record.state.kind !== 'ready') {
      throw new InputError('object_state', `virtual cluster "${record.name}" is still being made`);
    }
    const point = await pointOf(core, { record, asOf: statement.asOf, context });
    await requireReachable(core, { record, point, signal: context.signal });
    const fingerprint = await fingerprintAt(core, { record, point, signal: context.signal });
    return rowsResult(COLUMNS, [[record.name, hlcText(point.time), String(fingerprint)]]);
  },
};

/** What a follower has replayed reaches its timeline a moment later. */
const DURABLE_MS_MAX = 30_000;
const DURABLE_POLL_MS = 100;

/**
 * Without a time that which a follower has come to, and of others the present. Of a follower just before its newest commit: what else was
 * committed at that very moment may not have come yet.
 */
async function pointOf(
  core: Core,
  options: { record: VirtualClusterRecord; asOf: ShowFingerprints['asOf']; context: ExecuteContext },
): Promise<TimelinePoint> {
  const { record, asOf, context } = options;
  const { signal } = context;
  const stream = core.streams.active(record.id);
  if (stream === undefined) return resolvePoint(core, { record, asOf, signal });
  const { replicatedTime } = stream;
  if (replicatedTime === null) {
    throw new InputError('object_state', `virtual cluster "${record.name}" has no replicated time yet`, {
      hint: 'wait until the initial scan has ended',
    });
  }
  const target: TimelineTarget =
    asOf === undefined
      ? { kind: 'time', time: (replicatedTime - 1n) as Timestamp }
      : systemTime(asOf, { now: core.options.clock.now() });
  if (target.kind === 'time' && target.time <= replicatedTime) {
    await whenBehind(core, { record, time: target.time, signal });
  }
  return resolveTarget(core, { record, target, signal });
}

/** Waits until the timeline of a follower holds a commit that is later, or for long enough. */
async function whenBehind(
  core: Core,
  options: { record: VirtualClusterRecord; time: Timestamp; signal: AbortSignal },
): Promise<void> {
  const { record, time, signal } = options;
  const { clock } = core.options;
  const deadlineMs = clock.monotonicMs() + DURABLE_MS_MAX;
  while (clock.monotonicMs() < deadlineMs) {
    const latest = await resolveTarget(core, { record, target: { kind: 'latest' }, signal });
    if (latest.time > time) return;
    await clock.sleep(DURABLE_POLL_MS, { signal });
  }
}

async function fingerprintAt(
  core: Core,
  options: { record: VirtualClusterRecord; point: TimelinePoint; signal: AbortSignal },
): Promise<bigint> {
  const { record, point, signal } = options;
  const { worker, reader } = requireTimeline(core);
  const { instanceHost, cluster } = core.options;
  const store = storeOfTimeline(core, record);
  return instanceHost.withServingCopy<bigint>({
    virtualClusterId: record.id,
    async fill({ dataDirectory: targetDirectory, uid }) {
      const incarnations = await reader.incarnations(store);
      const what = { store, point, incarnations, key: cluster.key, targetDirectory, uid, isFleeting: true };
      const { recovery } = await worker.materializePoint(what, { onProgress: () => undefined, signal });
      return recovery;
    },
    use: (copy) => fingerprintOf(copy, { signal }),
    signal,
  });
}
