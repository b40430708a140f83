import { statfs } from 'node:fs/promises';
import { SYSTEM_VIRTUAL_CLUSTER_ID } from '../../base/index.ts';
import { CURRENT_RELEASE, type VirtualClusterRecord } from '../../catalog/index.ts';
import { type KeptTimeline, TimelineKeeper } from '../../jobs/index.ts';
import { createTimelineRetention, timelineStoreLocation } from '../../timeline/index.ts';
import { captureSource } from '../backup/capture-source.ts';
import type { Core } from '../core.ts';
import { asleepOf } from '../virtual-clusters/suspender.ts';
import { createVerifier } from './verify-timelines.ts';

/** Keeps the timelines of all virtual clusters that serve, until the daemon stops. On a node that keeps none it ends at once. */
export async function keepTimelines(core: Core): Promise<void> {
  const { timeline, clock, logger, rng, cluster } = core.options;
  if (timeline === undefined) return;
  const verifier = createVerifier(core, timeline);
  const keeper = new TimelineKeeper({
    ...timeline,
    turns: core.captureTurns,
    damage: (id) => verifier.damage(id),
    retention: createTimelineRetention({ rng, clock }),
    clusterId: cluster.id,
    key: cluster.key,
    release: CURRENT_RELEASE,
    clock,
    logger,
    kept: () => core.catalog.list().flatMap((record) => keptTimeline(core, record)),
    disk: () => roomOf(core),
  });
  core.services.onBegun((id) => keeper.call(id));
  // Those that have begun before there was a keeper.
  for (const { id } of core.catalog.list()) keeper.call(id);
  await Promise.all([keeper.run(core), verifier.run(core)]);
}

/** None of one that does not serve, or whose time machine is switched off. What a suspended one needs no more goes while its settings are known. */
function keptTimeline(core: Core, record: VirtualClusterRecord): readonly KeptTimeline[] {
  const { settings, options, gates } = core;
  const { id, name } = record;
  const isRunning = options.instanceHost.get(id)?.state.kind === 'running';
  const stream = core.streams.active(id)?.state.kind;
  const isFollowing = stream === 'replicating' || stream === 'pending_failover';
  const isServing = (gates.isOpen(id) || isFollowing) && isRunning;
  const isAsleep = asleepOf(record) !== undefined && settings.isLoaded(id);
  if ((!isServing && !isAsleep) || !settings.isOn(id, 'timeline.enabled')) return [];
  const { storeDirectory } = options.instanceHost;
  return [
    {
      virtualClusterId: id,
      name,
      store: timelineStoreLocation({ storeDirectory, virtualClusterId: id }),
      source: captureSource(options, record),
      policy: {
        walBytes: settings.integer(id, 'timeline.base.wal_size'),
        intervalUs: settings.integer(id, 'timeline.base.interval'),
      },
      windowUs:
        core.streams.active(id)?.limits.retentionUs ?? settings.integer(id, 'gc.ttlseconds') * 1_000_000n,
      bytesMax: settings.integer(id, 'timeline.size_max'),
      packBytesMax: Number(settings.integer(id, 'bulkio.backup.file_size')),
    },
  ];
}

/** Of the disk of the stores. */
export async function roomOf({ options, settings }: Pick<Core, 'options' | 'settings'>) {
  const { bavail, bsize } = await statfs(options.instanceHost.storeDirectory, { bigint: true });
  const freeBytesMin = settings.integer(SYSTEM_VIRTUAL_CLUSTER_ID, 'timeline.disk.free_min');
  return { freeBytes: bavail * bsize, freeBytesMin };
}
