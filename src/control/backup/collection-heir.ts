/** Which of our virtual clusters may go on where another one backed up. */
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import type { CollectionHeir } from '../../timeline/index.ts';
import type { Core } from '../core.ts';
import { lineageOf } from '../replication/replication-producer.ts';

/**
 * Not in use any more: also one that was dropped and can still be had back. Whoever has it back finds the collection with its heir, and is told
 * so when it backs up.
 */
export function isGone({ catalog }: Pick<Core, 'catalog'>, virtualClusterId: number): boolean {
  return catalog.list().every(({ id }) => id !== virtualClusterId);
}

/** A virtual cluster as the heir of what its data descends from. */
export async function heirOf(core: Core, record: VirtualClusterRecord): Promise<CollectionHeir> {
  const instance = core.services.instanceOf(record);
  const lives = await lineageOf(core, { record, instance });
  return {
    clusterId: core.options.cluster.id,
    virtualClusterId: record.id,
    virtualClusterName: record.name,
    lives: new Set(lives.map(({ incarnation }) => incarnation)),
    isGone: (virtualClusterId) => isGone(core, virtualClusterId),
  };
}
