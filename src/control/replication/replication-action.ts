import type { AlterVirtualClusterAction } from '../../sql/index.ts';

/** Of ALTER VIRTUAL CLUSTER, what is about a replication stream. */
export type ReplicationAction = Extract<
  AlterVirtualClusterAction,
  {
    kind:
      | 'pause_replication'
      | 'resume_replication'
      | 'complete_replication'
      | 'start_replication'
      | 'set_replication'
      | 'set_replication_source';
  }
>;

export function isReplicationAction(action: AlterVirtualClusterAction): action is ReplicationAction {
  return (
    action.kind === 'pause_replication' ||
    action.kind === 'resume_replication' ||
    action.kind === 'complete_replication' ||
    action.kind === 'start_replication' ||
    action.kind === 'set_replication' ||
    action.kind === 'set_replication_source'
  );
}
