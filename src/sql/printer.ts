import type {
  AlterVirtualClusterAction,
  BackupSelector,
  CapabilityList,
  ReplicationSource,
  StreamOptions,
  Statement,
  Value,
} from './ast.ts';
import { printTableExclusion } from './parse-table-exclusion.ts';
import { printConnectionStatement } from './print-connections.ts';
import { printFileStatement } from './print-files.ts';
import { printJobStatement } from './print-jobs.ts';
import {
  printAssignment,
  printOptions,
  printPattern,
  printSettingName,
  printTargets,
  printTexts,
  printValue,
  words,
} from './print-parts.ts';
import { printPrivilegeStatement } from './print-privileges.ts';
import { printScheduleStatement } from './print-schedules.ts';
import { printZoneStatement } from './print-zones.ts';
import { quoteName } from './quote.ts';
import { redactStatement } from './redact.ts';

export interface PrintOptions {
  /** Prints what may be shown: URIs as this function gives them, passphrases and KMS keys as `redacted`. */
  readonly redact?: (uri: string) => string;
}

/** The one canonical text of a statement: parsed again it gives the same tree. */
export function printStatement(statement: Statement, options: PrintOptions = {}): string {
  return print(options.redact === undefined ? statement : redactStatement(statement, options.redact));
}

function print(statement: Statement): string {
  switch (statement.kind) {
    case 'create_virtual_cluster':
      return words(
        'CREATE VIRTUAL CLUSTER',
        statement.ifNotExists && 'IF NOT EXISTS',
        quoteName(statement.name),
        statement.like !== undefined && `LIKE ${quoteName(statement.like)}`,
        statement.from !== undefined && `FROM VIRTUAL CLUSTER ${quoteName(statement.from.source)}`,
        printAsOf(statement.from?.asOf),
        statement.replication !== undefined &&
          `FROM REPLICATION ${printReplicationSource(statement.replication)}`,
      );
    case 'create_replication_stream':
      return words(
        'CREATE REPLICATION STREAM OF VIRTUAL CLUSTER',
        quoteName(statement.name),
        statement.after !== undefined && `AFTER ${printValue(statement.after)}`,
      );
    case 'report_replication_stream':
      return `ALTER REPLICATION STREAM ${printValue(statement.streamId)} REPORT ${printValue(statement.report)}`;
    case 'drop_replication_stream':
      return `DROP REPLICATION STREAM ${printValue(statement.streamId)}`;
    case 'alter_virtual_cluster':
      return words('ALTER VIRTUAL CLUSTER', quoteName(statement.name), printAction(statement.action));
    case 'drop_virtual_cluster':
      return words(
        'DROP VIRTUAL CLUSTER',
        statement.ifExists && 'IF EXISTS',
        quoteName(statement.name),
        statement.immediate && 'IMMEDIATE',
      );
    case 'show_virtual_clusters':
      return printShowVirtualClusters(statement);
    case 'show_timeline':
      return `SHOW TIMELINE FOR VIRTUAL CLUSTER ${quoteName(statement.name)}`;
    case 'show_fingerprints':
      return words(
        `SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER ${quoteName(statement.name)}`,
        printAsOf(statement.asOf),
      );
    case 'show_salvage':
      return `SHOW SALVAGE FOR VIRTUAL CLUSTER ${quoteName(statement.name)}`;
    case 'show_timeline_retention':
      return `SHOW TIMELINE RETENTION FOR VIRTUAL CLUSTER ${quoteName(statement.name)}`;
    case 'configure_zone':
    case 'show_zone_configuration':
    case 'show_zone_configurations':
    case 'alter_database_regions':
    case 'show_regions':
      return printZoneStatement(statement);
    case 'show_timeline_checks':
      return `SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER ${quoteName(statement.name)}`;
    case 'show_virtual_cluster_name':
      return 'SHOW virtual_cluster_name';
    case 'exclude_table_data':
      return printTableExclusion(statement);
    case 'show_create_table':
      return `SHOW CREATE TABLE ${printPattern(statement.table)}`;
    case 'show_system_table':
      return `TABLE system.${statement.table}`;
    case 'set_cluster_setting':
      return `SET CLUSTER SETTING ${printAssignment(statement)}`;
    case 'reset_cluster_setting':
      return `RESET CLUSTER SETTING ${printSettingName(statement.name)}`;
    case 'show_cluster_setting':
      return words('SHOW CLUSTER SETTING', printSettingName(statement.name), printFor(statement));
    case 'show_cluster_settings':
      return words('SHOW', statement.visibility.toUpperCase(), 'CLUSTER SETTINGS', printFor(statement));
    case 'backup':
    case 'restore':
    case 'alter_backup':
    case 'show_backups':
    case 'show_backup':
      return printBackupStatement(statement);
    case 'show_jobs':
    case 'show_job':
    case 'control_jobs':
    case 'alter_job_owner':
      return printJobStatement(statement);
    case 'create_schedule':
    case 'alter_backup_schedule':
    case 'show_schedules':
    case 'show_schedule':
    case 'show_create_schedule':
    case 'control_schedules':
      return printScheduleStatement(statement);
    case 'create_external_connection':
    case 'alter_external_connection':
    case 'drop_external_connection':
    case 'show_external_connections':
    case 'show_create_external_connections':
    case 'check_external_connection':
      return printConnectionStatement(statement);
    case 'create_file_upload':
    case 'alter_file_upload':
    case 'drop_file':
    case 'show_files':
    case 'show_file':
      return printFileStatement(statement);
    default:
      return printPrivilegeStatement(statement);
  }
}

type BackupStatement = Extract<
  Statement,
  { kind: 'backup' | 'restore' | 'alter_backup' | 'show_backups' | 'show_backup' }
>;

function printBackupStatement(statement: BackupStatement): string {
  switch (statement.kind) {
    case 'backup':
      return words(
        'BACKUP',
        printTargets(statement.targets),
        'INTO',
        statement.appendTo !== undefined && `${printSelector(statement.appendTo)} IN`,
        printTexts(statement.destination),
        printAsOf(statement.asOf),
        printOptions(statement.options),
      );
    case 'restore':
      return words(
        'RESTORE',
        printTargets(statement.targets),
        'FROM',
        printSelector(statement.from),
        'IN',
        printTexts(statement.source),
        printAsOf(statement.asOf),
        printOptions(statement.options),
      );
    case 'alter_backup':
      return words(
        `ALTER BACKUP ${printSelector(statement.from)} IN`,
        printTexts(statement.collection),
        `ADD NEW_KMS = ${printTexts(statement.newKms)}`,
        `WITH OLD_KMS = ${printTexts(statement.oldKms)}`,
      );
    case 'show_backups':
      return `SHOW BACKUPS IN ${printTexts(statement.collection)}`;
    case 'show_backup':
      return words(
        'SHOW BACKUP',
        statement.variant !== 'default' && statement.variant.toUpperCase(),
        `FROM ${printSelector(statement.from)} IN`,
        printTexts(statement.collection),
        printOptions(statement.options),
      );
  }
}

function printShowVirtualClusters(statement: Extract<Statement, { kind: 'show_virtual_clusters' }>): string {
  const items = [
    ...(statement.withReplicationStatus ? ['REPLICATION STATUS'] : []),
    ...(statement.withCapabilities ? ['CAPABILITIES'] : []),
    ...(statement.withDropped ? ['DROPPED'] : []),
    ...(statement.withSuspension ? ['SUSPENSION'] : []),
  ];
  const subject = statement.name === undefined ? 'CLUSTERS' : `CLUSTER ${quoteName(statement.name)}`;
  return words('SHOW VIRTUAL', subject, items.length > 0 && `WITH ${items.join(', ')}`);
}

function printAction(action: AlterVirtualClusterAction): string {
  switch (action.kind) {
    case 'start_service_shared':
      return words('START SERVICE SHARED', action.withForce && 'WITH FORCE');
    case 'stop_service':
      return 'STOP SERVICE';
    case 'rename_to':
      return `RENAME TO ${quoteName(action.name)}`;
    case 'grant_capabilities':
      return `GRANT ${printCapabilities(action.capabilities)}`;
    case 'revoke_capabilities':
      return `REVOKE ${printCapabilities(action.capabilities)}`;
    case 'set_cluster_setting':
      return `SET CLUSTER SETTING ${printAssignment(action)}`;
    case 'reset_cluster_setting':
      return `RESET CLUSTER SETTING ${printSettingName(action.name)}`;
    case 'reset_data':
      return words(`RESET DATA TO VIRTUAL CLUSTER ${quoteName(action.source)}`, printAsOf(action.asOf));
    case 'check_timeline':
      return words('CHECK TIMELINE', printAsOf(action.asOf));
    case 'undrop':
      return 'UNDROP';
    case 'set_suspend_after':
      return `SET SUSPEND AFTER ${printValue(action.after)}`;
    case 'reset_suspend_after':
      return 'RESET SUSPEND AFTER';
    case 'set_continuous_backup':
      return words(`SET CONTINUOUS BACKUP INTO ${printValue(action.location)}`, printOptions(action.options));
    case 'reset_continuous_backup':
      return 'RESET CONTINUOUS BACKUP';
    case 'pause_replication':
      return 'PAUSE REPLICATION';
    case 'resume_replication':
      return 'RESUME REPLICATION';
    case 'complete_replication':
      return `COMPLETE REPLICATION TO ${printFailoverTo(action.to)}`;
    case 'start_replication':
      return `START REPLICATION ${printReplicationSource(action)}`;
    case 'set_replication':
      return `SET REPLICATION ${printStreamOptions(action.options)}`;
    case 'set_replication_source':
      return `SET REPLICATION SOURCE EXPIRATION WINDOW = ${printValue(action.expirationWindow)}`;
  }
}

function printFailoverTo(to: Value | 'latest' | 'latest_drained'): string {
  if (to === 'latest') return 'LATEST';
  return to === 'latest_drained' ? 'LATEST WITH DRAIN' : `SYSTEM TIME ${printValue(to)}`;
}

function printReplicationSource({ source, uri, options }: ReplicationSource): string {
  const printed = printStreamOptions(options);
  return words(`OF ${quoteName(source)} ON ${printValue(uri)}`, printed !== '' && `WITH ${printed}`);
}

function printStreamOptions({ readVirtualCluster, retention, expirationWindow }: StreamOptions): string {
  const options = [
    readVirtualCluster && 'READ VIRTUAL CLUSTER',
    retention !== undefined && `RETENTION = ${printValue(retention)}`,
    expirationWindow !== undefined && `EXPIRATION WINDOW = ${printValue(expirationWindow)}`,
  ];
  return options.filter((option) => option !== false).join(', ');
}

function printCapabilities(list: CapabilityList): string {
  if (list.kind === 'all') return 'ALL CAPABILITIES';
  const capabilities = list.capabilities.map(({ name, value }) =>
    value === undefined ? quoteName(name) : `${quoteName(name)} = ${printValue(value)}`,
  );
  return `CAPABILITY ${capabilities.join(', ')}`;
}

function printFor(statement: { readonly forVirtualCluster: string | undefined }): string | undefined {
  const { forVirtualCluster } = statement;
  return forVirtualCluster === undefined ? undefined : `FOR VIRTUAL CLUSTER ${quoteName(forVirtualCluster)}`;
}

function printSelector(selector: BackupSelector): string {
  return selector.kind === 'latest' ? 'LATEST' : printValue(selector.path);
}

function printAsOf(asOf: Value | undefined): string | undefined {
  return asOf === undefined ? undefined : `AS OF SYSTEM TIME ${printValue(asOf)}`;
}
