/** What has to be so for an action on a replication stream. */
import { InputError } from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import type { StreamRecord } from '../../replication/index.ts';
import type { Core } from '../core.ts';
import { isSystem } from '../privileges/privileges.ts';
import type { ReplicationAction } from './replication-action.ts';

/** @throws InputError `object_state` */
export function requireNotSystem(record: VirtualClusterRecord): void {
  if (!isSystem(record.id)) return;
  throw new InputError('object_state', 'the system virtual cluster cannot follow another one');
}

/** At once: the failover holds the lock of the virtual cluster until it has ended. @throws InputError `object_state` */
export function requireNotFailingOver(
  core: Core,
  { name, action }: { name: string; action: ReplicationAction },
): void {
  const id = core.catalog.find(name)?.id;
  const state = id === undefined ? undefined : core.streams.active(id)?.state;
  const isHarmless = action.kind === 'resume_replication' || action.kind === 'set_replication_source';
  if (state?.kind !== 'failing_over' || isHarmless) return;
  throw new InputError('object_state', `virtual cluster "${name}" is failing over already`, {
    hint: 'its failover time cannot be changed any more',
  });
}

/** A virtual cluster that replicates serves nobody. @throws InputError `object_state` */
export function requireNoStream(core: Core, record: VirtualClusterRecord, what: string): void {
  const stream = core.streams.active(record.id);
  if (stream === undefined) {
    if (core.options.instanceHost.get(record.id)?.following == null) return;
    throw new InputError(
      'object_state',
      `virtual cluster "${record.name}" is a follower whose stream was ended`,
      {
        hint: 'make it anew: DROP VIRTUAL CLUSTER ... IMMEDIATE, then CREATE VIRTUAL CLUSTER ... FROM REPLICATION',
      },
    );
  }
  throw new InputError('object_state', `virtual cluster "${record.name}" replicates, it cannot ${what}`, {
    hint: `fail over first: ALTER VIRTUAL CLUSTER ${record.name} COMPLETE REPLICATION TO LATEST`,
  });
}

/** @throws InputError `object_state` */
export function requireStream(core: Core, record: VirtualClusterRecord): StreamRecord {
  const stream = core.streams.active(record.id);
  if (stream !== undefined) return stream;
  throw new InputError('object_state', `virtual cluster "${record.name}" does not replicate`, {
    hint: 'SHOW VIRTUAL CLUSTERS WITH REPLICATION STATUS lists those that do',
  });
}
