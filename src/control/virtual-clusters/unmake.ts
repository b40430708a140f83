import type { VirtualClusterRecord } from '../../catalog/index.ts';
import { removeTimelineStore } from '../../timeline/index.ts';
import type { Core } from '../core.ts';
import { storeOfTimeline } from '../timeline/timeline-point.ts';

/** Takes back what was made of a virtual cluster that nobody has seen yet. May run twice. */
export async function unmake(core: Core, { id }: Pick<VirtualClusterRecord, 'id'>): Promise<void> {
  await core.catalog.apply({ id, event: { kind: 'removal_begun' }, signal: core.signal });
  await core.options.instanceHost.remove({ virtualClusterId: id, signal: core.signal });
  await removeTimelineStore(storeOfTimeline(core, { id }));
  await core.catalog.forget({ id, signal: core.signal });
}
