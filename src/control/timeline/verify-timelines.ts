/** Has the timelines of this node read again and restores of them tried out. */
import { statfs } from 'node:fs/promises';
import { SYSTEM_VIRTUAL_CLUSTER_ID, type VirtualClusterId } from '../../base/index.ts';
import {
  type TimelineVerifyRecord,
  type VirtualClusterRecord,
  listTimelineChecks,
  listTimelineVerify,
  writeTimelineVerify,
} from '../../catalog/index.ts';
import { TimelineVerifier, type VerifiedTimeline } from '../../jobs/index.ts';
import type { MaterializePointRequest } from '../../timeline/index.ts';
import { beginTimelineCheck, randomPoint, unfinishedCheck } from './check-timeline.ts';
import type { Core, TimelineParts } from '../core.ts';
import { asleepOf } from '../virtual-clusters/suspender.ts';
import { storeOfTimeline } from './timeline-point.ts';
import { requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

/** Whose name stands behind what nobody asked for. */
const NODE_USER = 'node';

/** Takes up where the daemon before it stopped. */
export function createVerifier(core: Core, { verifier }: TimelineParts): TimelineVerifier {
  const { clock, logger, cluster } = core.options;
  return new TimelineVerifier({
    worker: verifier,
    key: cluster.key,
    clock,
    logger,
    async load() {
      const { known, checks } = await whatIsKnown(core);
      // Of several the newest stays.
      const lastChecks = new Map(checks.toReversed().map((check) => [check.virtualClusterId, check.started]));
      return { known, lastChecks };
    },
    verified: () => core.catalog.list().flatMap((record) => verifiedTimeline(core, record)),
    write: (record) => inSystem(core, core, (client) => writeTimelineVerify(client, record)),
    beginCheck: (id, wait) => beginCheck(core, id, wait),
    hasRoom: (id, wait) => hasRoom(core, id, wait),
  });
}

/** What of a timeline is known to be damaged, and how restores fared; newest first. */
export async function whatIsKnown(core: Core, wait: { signal: AbortSignal } = core) {
  return inSystem(core, wait, async (client) => ({
    known: await listTimelineVerify(client),
    checks: await listTimelineChecks(client, { virtualClusterId: null }),
  }));
}

export async function damageOf(
  core: Core,
  { id }: Pick<VirtualClusterRecord, 'id'>,
): Promise<TimelineVerifyRecord['damage']> {
  const states = await inSystem(core, core, listTimelineVerify);
  return states.find(({ virtualClusterId }) => virtualClusterId === id)?.damage ?? [];
}

/** Folders of bases that lack something or hold something damaged. */
export async function damagedBases(
  core: Core,
  { id }: Pick<VirtualClusterRecord, 'id'>,
): Promise<readonly string[]> {
  const damage = await damageOf(core, { id });
  return [...new Set(damage.flatMap(({ bases }) => bases))];
}

/** A worker that begins from a sound base where a newer one is damaged. */
export function avoidingDamage(
  coreOf: () => Core,
  worker: TimelineParts['worker'],
): Pick<TimelineParts['worker'], 'materializePoint' | 'rewind'> {
  const avoid = ({ store }: MaterializePointRequest) =>
    damagedBases(coreOf(), { id: store.virtualClusterId });
  return {
    materializePoint: async (request, options) =>
      worker.materializePoint({ ...request, avoid: await avoid(request) }, options),
    // Its base was chosen before, for all of its attempts.
    rewind: (request, options) => worker.rewind(request, options),
  };
}

function inSystem<T>(
  core: Core,
  { signal }: { signal: AbortSignal },
  use: (client: Parameters<typeof listTimelineVerify>[0]) => Promise<T>,
): Promise<T> {
  return core.services
    .instanceOf(requireRecord(core, SYSTEM_VIRTUAL_CLUSTER_ID))
    .withSystemClient(use, { signal });
}

/** None of one that does not serve, or whose time machine is switched off. */
function verifiedTimeline(core: Core, record: VirtualClusterRecord): readonly VerifiedTimeline[] {
  const { settings, options, gates } = core;
  const { id, name, created } = record;
  const isRunning = options.instanceHost.get(id)?.state.kind === 'running';
  const isServing = gates.isOpen(id) && isRunning;
  // What is stored of one that is suspended rots like any other's.
  const isAsleep = asleepOf(record) !== undefined;
  if ((!isServing && !isAsleep) || !settings.isOn(id, 'timeline.enabled')) return [];
  return [
    {
      virtualClusterId: id,
      name,
      created,
      store: storeOfTimeline(core, record),
      verifyIntervalUs: settings.integer(id, 'timeline.verify.interval'),
      checkIntervalUs: settings.integer(id, 'timeline.check.interval'),
    },
  ];
}

async function beginCheck(
  core: Core,
  id: VirtualClusterId,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const record = requireRecord(core, id);
  if ((await unfinishedCheck(core, record, { signal })) !== undefined) return;
  const point = await randomPoint(core, record, signal);
  await beginTimelineCheck(core, { record, point, user: NODE_USER, signal });
}

/** A copy is as large as the newest base, and must not bring anybody into want of room. Without a base there is nothing to copy. */
async function hasRoom(
  core: Core,
  id: VirtualClusterId,
  { signal }: { signal: AbortSignal },
): Promise<boolean> {
  const { options, settings } = core;
  const { timeline, instanceHost, cluster } = options;
  const bases = await timeline?.reader.bases(storeOfTimeline(core, { id }), { key: cluster.key, signal });
  const newest = bases?.at(-1);
  if (newest === undefined) return false;
  const { bavail, bsize } = await statfs(instanceHost.storeDirectory, { bigint: true });
  const freeBytesMin = settings.integer(SYSTEM_VIRTUAL_CLUSTER_ID, 'timeline.disk.free_min');
  return bavail * bsize >= newest.bytes + freeBytesMin * 2n;
}
