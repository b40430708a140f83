/** Every statement of ours and the use case behind it: forgetting one does not compile. */
import { assert, InputError } from '../base/index.ts';
import { AUTHORITY_ROLES } from '../catalog/index.ts';
import { type Statement, bindPlaceholders } from '../sql/index.ts';
import { alterVirtualCluster } from './virtual-clusters/alter-virtual-cluster.ts';
import { audited } from './audit.ts';
import { alterBackup } from './backup/alter-backup.ts';
import { backup } from './backup/backup.ts';
import type { Column, ExecuteContext, SessionIdentity, StatementResult } from './contract.ts';
import { alterJobOwner } from './jobs/alter-job-owner.ts';
import { alterBackupSchedule } from './schedules/alter-schedule.ts';
import { controlJobs } from './jobs/control-jobs.ts';
import { controlSchedules } from './schedules/control-schedules.ts';
import { createSchedule } from './schedules/create-schedule.ts';
import { checkExternalConnection } from './connections/check-connection.ts';
import {
  alterExternalConnection,
  createExternalConnection,
  dropExternalConnection,
  showCreateExternalConnections,
  showExternalConnections,
} from './connections/external-connections.ts';
import { alterFileUpload, createFileUpload, dropFile, showFile, showFiles } from './files.ts';
import { showCreateSchedule, showSchedule, showSchedules } from './schedules/show-schedules.ts';
import type { Core } from './core.ts';
import { createVirtualCluster } from './virtual-clusters/create-virtual-cluster.ts';
import { dropVirtualCluster } from './virtual-clusters/drop-virtual-cluster.ts';
import {
  createReplicationStream,
  dropReplicationStream,
  reportReplicationStream,
} from './replication/replication-producer.ts';
import { restore } from './restore/restore.ts';
import { alterDefaultPrivileges, grantOnObject, revokeOnObject } from './privileges/object-privileges.ts';
import { alterRole, createRole, showRoles } from './privileges/roles.ts';
import { showGrants } from './privileges/show-grants.ts';
import { grantSystem, revokeSystem, showSystemGrants } from './privileges/system-privileges.ts';
import { configureZone, showZoneConfiguration, showZoneConfigurations } from './regions/configure-zone.ts';
import { alterDatabaseRegions, showRegions } from './regions/database-regions.ts';
import { resetClusterSetting, setClusterSetting } from './settings/set-cluster-setting.ts';
import { showBackup, showBackups } from './backup/show-backups.ts';
import { showClusterSetting, showClusterSettings } from './settings/show-cluster-settings.ts';
import { excludeTableData } from './backup/exclude-table-data.ts';
import { showCreateTable } from './show-create-table.ts';
import { showJob, showJobs } from './jobs/show-jobs.ts';
import { showSystemTable } from './system-tables.ts';
import { showFingerprints } from './replication/show-fingerprints.ts';
import { showSalvage } from './timeline/show-salvage.ts';
import { showTimelineChecks } from './timeline/show-timeline-checks.ts';
import { showTimelineRetention } from './timeline/show-timeline-retention.ts';
import { showTimeline } from './timeline/show-timeline.ts';
import { showVirtualClusterName, showVirtualClusters } from './virtual-clusters/show-virtual-clusters.ts';
import { type UseCase, requireNoTransaction } from './use-case.ts';

type UseCases = { readonly [Kind in Statement['kind']]: UseCase<Extract<Statement, { kind: Kind }>> };

const USE_CASES: UseCases = {
  create_virtual_cluster: createVirtualCluster,
  alter_virtual_cluster: alterVirtualCluster,
  drop_virtual_cluster: dropVirtualCluster,
  show_virtual_clusters: showVirtualClusters,
  show_virtual_cluster_name: showVirtualClusterName,
  show_system_table: showSystemTable,
  exclude_table_data: excludeTableData,
  show_create_table: showCreateTable,
  show_timeline: showTimeline,
  show_timeline_checks: showTimelineChecks,
  show_timeline_retention: showTimelineRetention,
  show_zone_configuration: showZoneConfiguration,
  show_zone_configurations: showZoneConfigurations,
  show_regions: showRegions,
  show_salvage: showSalvage,
  show_fingerprints: showFingerprints,
  configure_zone: configureZone,
  alter_database_regions: alterDatabaseRegions,
  set_cluster_setting: setClusterSetting,
  reset_cluster_setting: resetClusterSetting,
  show_cluster_setting: showClusterSetting,
  show_cluster_settings: showClusterSettings,
  backup,
  alter_backup: alterBackup,
  restore,
  grant_system: grantSystem,
  revoke_system: revokeSystem,
  show_system_grants: showSystemGrants,
  grant_on_object: grantOnObject,
  revoke_on_object: revokeOnObject,
  alter_default_privileges: alterDefaultPrivileges,
  show_grants: showGrants,
  show_roles: showRoles,
  show_users: showRoles,
  create_role: createRole,
  alter_role: alterRole,
  show_backups: showBackups,
  show_backup: showBackup,
  show_jobs: showJobs,
  show_job: showJob,
  control_jobs: controlJobs,
  alter_job_owner: alterJobOwner,
  create_schedule: createSchedule,
  alter_backup_schedule: alterBackupSchedule,
  show_schedules: showSchedules,
  show_schedule: showSchedule,
  show_create_schedule: showCreateSchedule,
  control_schedules: controlSchedules,
  create_external_connection: createExternalConnection,
  alter_external_connection: alterExternalConnection,
  drop_external_connection: dropExternalConnection,
  show_external_connections: showExternalConnections,
  show_create_external_connections: showCreateExternalConnections,
  check_external_connection: checkExternalConnection,
  create_file_upload: createFileUpload,
  alter_file_upload: alterFileUpload,
  drop_file: dropFile,
  show_files: showFiles,
  show_file: showFile,
  create_replication_stream: createReplicationStream,
  report_replication_stream: reportReplicationStream,
  drop_replication_stream: dropReplicationStream,
};

export function describeStatement(
  statement: Statement,
  session: SessionIdentity,
): readonly Column[] | undefined {
  return useCaseOf(statement).columns(statement, session);
}

/** @throws AppError */
export async function executeStatement(
  core: Core,
  statement: Statement,
  context: ExecuteContext,
): Promise<StatementResult> {
  const bound = bindPlaceholders(statement, context.parameters);
  const useCase = useCaseOf(bound);
  return audited(core, { statement: bound, context }, async () => {
    requireAllowedForObserver(bound, context.session);
    requireAllowedInReader(core, bound, context.session);
    requireNoTransaction(context.transaction, useCase.refusedInTransaction);
    return useCase.run(core, bound, context);
  });
}

/** Who reads by the authority of the system VC changes nothing. @throws InputError `insufficient_privilege` */
function requireAllowedForObserver(statement: Statement, session: SessionIdentity): void {
  if (session.user !== AUTHORITY_ROLES.observer || statement.kind.startsWith('show_')) return;
  throw new InputError('insufficient_privilege', 'VIEWSYSTEMDATA gives the right to read only', {
    hint: 'it takes the admin role of the system virtual cluster to change something here',
  });
}

/** A reader shows what its source has written; nothing is changed from here. @throws InputError `read_only` */
function requireAllowedInReader(core: Core, { kind }: Statement, session: SessionIdentity): void {
  const record = core.catalog.get(session.virtualClusterId);
  // Those on virtual clusters are refused anywhere but in the system virtual cluster.
  const isManaging = kind.endsWith('_virtual_cluster');
  if (record === undefined || record.readerOf === null || kind.startsWith('show_') || isManaging) return;
  throw new InputError('read_only', `virtual cluster "${record.name}" can only be read`, {
    hint: 'it shows what another physical cluster has written: change it there',
  });
}

/** The table pairs each kind with its own use case, which the type of a look-up by a union cannot say. */
function useCaseOf(statement: Statement): UseCase<Statement> {
  const useCase = USE_CASES[statement.kind];
  assert(useCase !== undefined, `no use case for ${statement.kind}`);
  return useCase as UseCase<Statement>;
}
