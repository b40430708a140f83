/** What each statement is called, how it is written and what it does: for hints, `\h` and the reference page. */
import type { StatementKind } from './ast.ts';

export interface StatementHelp {
  readonly name: string;
  /** Lines of a grammar: words in capitals stand for themselves, `[ ]` is optional, `{ | }` a choice, `...` repetition. */
  readonly synopsis: readonly string[];
  /** One line, lower case, no full stop. */
  readonly summary: string;
}

const OPTION_LIST = '[ WITH option [, ...] | WITH OPTIONS ( option [, ...] ) ]';

const TIMESTAMP_TERM = "  timestamp: '-10s' | '2024-01-09 16:15:45+00' | nanoseconds since 1970";

const STREAM_OPTION_TERM =
  "  stream_option: READ VIRTUAL CLUSTER | RETENTION = 'duration' | EXPIRATION WINDOW = 'duration'";

const BACKUP_TERMS = ["  destination: 'uri' | ( 'uri' [, ...] )", TIMESTAMP_TERM];

export const statementHelp: Readonly<Record<StatementKind, StatementHelp>> = {
  create_virtual_cluster: {
    name: 'CREATE VIRTUAL CLUSTER',
    synopsis: [
      'CREATE VIRTUAL CLUSTER [ IF NOT EXISTS ] name [ LIKE name ]',
      '  [ FROM VIRTUAL CLUSTER name [ AS OF SYSTEM TIME timestamp ] ]',
      "  [ FROM REPLICATION OF name ON 'uri' [ WITH stream_option [, ...] ] ]",
      TIMESTAMP_TERM,
      STREAM_OPTION_TERM,
    ],
    summary:
      'make a virtual cluster, its service stopped: empty, a branch of another one as it is now or was, or a follower of one in another physical cluster; LIKE copies capabilities and settings',
  },
  alter_virtual_cluster: {
    name: 'ALTER VIRTUAL CLUSTER',
    synopsis: [
      'ALTER VIRTUAL CLUSTER name START SERVICE SHARED [ WITH FORCE ]',
      'ALTER VIRTUAL CLUSTER name STOP SERVICE',
      'ALTER VIRTUAL CLUSTER name RENAME TO name',
      'ALTER VIRTUAL CLUSTER name RESET DATA TO VIRTUAL CLUSTER name AS OF SYSTEM TIME timestamp',
      'ALTER VIRTUAL CLUSTER name { PAUSE | RESUME } REPLICATION',
      'ALTER VIRTUAL CLUSTER name COMPLETE REPLICATION TO { LATEST [ WITH DRAIN ] | SYSTEM TIME timestamp }',
      "ALTER VIRTUAL CLUSTER name START REPLICATION OF name ON 'uri' [ WITH stream_option [, ...] ]",
      'ALTER VIRTUAL CLUSTER name SET REPLICATION stream_option [, ...]',
      "ALTER VIRTUAL CLUSTER name SET REPLICATION SOURCE EXPIRATION WINDOW = 'duration'",
      'ALTER VIRTUAL CLUSTER name CHECK TIMELINE [ AS OF SYSTEM TIME timestamp ]',
      'ALTER VIRTUAL CLUSTER name UNDROP',
      "ALTER VIRTUAL CLUSTER name SET SUSPEND AFTER { 'duration' | OFF }",
      'ALTER VIRTUAL CLUSTER name RESET SUSPEND AFTER',
      "ALTER VIRTUAL CLUSTER name SET CONTINUOUS BACKUP { INTO 'collection_uri' [ WITH option [, ...] ] | OFF }",
      'ALTER VIRTUAL CLUSTER name { GRANT | REVOKE } ALL CAPABILITIES',
      'ALTER VIRTUAL CLUSTER name { GRANT | REVOKE } CAPABILITY capability [ = value ] [, ...]',
      'ALTER VIRTUAL CLUSTER name SET CLUSTER SETTING setting { = | TO } { value | DEFAULT }',
      'ALTER VIRTUAL CLUSTER name RESET CLUSTER SETTING setting',
      TIMESTAMP_TERM,
      STREAM_OPTION_TERM,
    ],
    summary:
      'start, stop, rename or configure a virtual cluster, fail it over and back, take its data back in time, or undo its removal',
  },
  show_salvage: {
    name: 'SHOW SALVAGE',
    synopsis: ['SHOW SALVAGE FOR VIRTUAL CLUSTER name'],
    summary: 'what failbacks have cut off from a virtual cluster, and how to look at it',
  },
  show_fingerprints: {
    name: 'SHOW EXPERIMENTAL_FINGERPRINTS',
    synopsis: [
      'SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER name [ AS OF SYSTEM TIME timestamp ]',
      TIMESTAMP_TERM,
    ],
    summary: 'one number for all that a virtual cluster holds, to compare a standby with its primary',
  },
  create_replication_stream: {
    name: 'CREATE REPLICATION STREAM',
    synopsis: ["CREATE REPLICATION STREAM OF VIRTUAL CLUSTER name [ AFTER 'incarnation@position' ]"],
    summary: 'said by a standby to its primary: begin to keep log for it',
  },
  report_replication_stream: {
    name: 'ALTER REPLICATION STREAM',
    synopsis: ["ALTER REPLICATION STREAM id REPORT 'report'"],
    summary: 'said by a standby to its primary: how far it has come',
  },
  drop_replication_stream: {
    name: 'DROP REPLICATION STREAM',
    synopsis: ['DROP REPLICATION STREAM id'],
    summary: 'said by a standby to its primary: nothing more need be kept for it',
  },
  drop_virtual_cluster: {
    name: 'DROP VIRTUAL CLUSTER',
    synopsis: ['DROP VIRTUAL CLUSTER [ IF EXISTS ] name [ IMMEDIATE ]'],
    summary: 'remove a virtual cluster and all its data, after the retention time or with IMMEDIATE at once',
  },
  show_virtual_clusters: {
    name: 'SHOW VIRTUAL CLUSTERS',
    synopsis: [
      'SHOW VIRTUAL CLUSTERS [ WITH item [, ...] ]',
      'SHOW VIRTUAL CLUSTER name [ WITH item [, ...] ]',
      '  item: REPLICATION STATUS | CAPABILITIES | DROPPED | SUSPENSION',
    ],
    summary: 'list virtual clusters with their data state and service mode',
  },
  show_timeline: {
    name: 'SHOW TIMELINE',
    synopsis: ['SHOW TIMELINE FOR VIRTUAL CLUSTER name'],
    summary: 'what a virtual cluster can be taken back to: the window, the lives of its data, its bases',
  },
  show_timeline_retention: {
    name: 'SHOW TIMELINE RETENTION',
    synopsis: ['SHOW TIMELINE RETENTION FOR VIRTUAL CLUSTER name'],
    summary: 'what of a timeline would be removed now, what stays, and why',
  },
  show_zone_configuration: {
    name: 'SHOW ZONE CONFIGURATION',
    synopsis: ['SHOW ZONE CONFIGURATION { FOR | FROM } { RANGE default | DATABASE name | TABLE name }'],
    summary: 'what stands for a virtual cluster, a database or a table as ALTER ... CONFIGURE ZONE sets it',
  },
  show_zone_configurations: {
    name: 'SHOW ZONE CONFIGURATIONS',
    synopsis: ['SHOW [ ALL ] ZONE CONFIGURATIONS'],
    summary: 'all zones of the virtual cluster that are configured',
  },
  show_regions: {
    name: 'SHOW REGIONS',
    synopsis: ['SHOW REGIONS [ FROM { CLUSTER | DATABASE [ name ] | ALL DATABASES } ]'],
    summary: 'regions of the nodes, and of databases',
  },
  show_timeline_checks: {
    name: 'SHOW TIMELINE CHECKS',
    synopsis: ['SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER name'],
    summary:
      'how restores of a virtual cluster fared that were tried out, and what is damaged in its timeline',
  },
  show_virtual_cluster_name: {
    name: 'SHOW virtual_cluster_name',
    synopsis: ['SHOW virtual_cluster_name'],
    summary: 'the virtual cluster of this session',
  },
  set_cluster_setting: {
    name: 'SET CLUSTER SETTING',
    synopsis: ['SET CLUSTER SETTING setting { = | TO } { value | DEFAULT }'],
    summary: 'change a cluster setting',
  },
  reset_cluster_setting: {
    name: 'RESET CLUSTER SETTING',
    synopsis: ['RESET CLUSTER SETTING setting'],
    summary: 'take a cluster setting back to its default',
  },
  configure_zone: {
    name: 'ALTER ... CONFIGURE ZONE',
    synopsis: [
      'ALTER target CONFIGURE ZONE USING variable { = | TO } { value | DEFAULT } [, ...]',
      'ALTER target CONFIGURE ZONE DISCARD',
      '  target: RANGE default | DATABASE name | TABLE name',
      '  variable: gc.ttlseconds | num_replicas | num_voters | range_min_bytes | range_max_bytes | constraints',
      '    | voter_constraints | lease_preferences | global_reads',
    ],
    summary:
      'gc.ttlseconds of RANGE default: how far back every moment of the virtual cluster can be gone to; all else is kept for clusters of several nodes',
  },
  alter_database_regions: {
    name: 'ALTER DATABASE ... REGION',
    synopsis: [
      'ALTER DATABASE name [ SET ] PRIMARY REGION [ = ] region',
      'ALTER DATABASE name ADD REGION [ IF NOT EXISTS ] region',
      'ALTER DATABASE name DROP REGION [ IF EXISTS ] region',
    ],
    summary: 'the regions of a database, out of those that the nodes are in',
  },
  show_cluster_setting: {
    name: 'SHOW CLUSTER SETTING',
    synopsis: ['SHOW CLUSTER SETTING setting [ FOR VIRTUAL CLUSTER name ]'],
    summary: 'the value of one cluster setting',
  },
  show_cluster_settings: {
    name: 'SHOW CLUSTER SETTINGS',
    synopsis: ['SHOW [ PUBLIC | ALL ] CLUSTER SETTINGS [ FOR VIRTUAL CLUSTER name ]'],
    summary: 'list cluster settings; ALL includes those that are seldom needed',
  },
  exclude_table_data: {
    name: 'exclude_data_from_backup',
    synopsis: [
      'CREATE [ UNLOGGED ] TABLE ... WITH ( exclude_data_from_backup [ = { true | false } ] [, ...] ) ...',
      'ALTER TABLE [ IF EXISTS ] name SET ( exclude_data_from_backup [ = { true | false } ] [, ...] )',
      'ALTER TABLE [ IF EXISTS ] name RESET ( exclude_data_from_backup [, ...] )',
    ],
    summary: 'keep the rows of a table out of backups',
  },
  show_create_table: {
    name: 'SHOW CREATE TABLE',
    synopsis: ['SHOW CREATE TABLE [ [ database. ] schema. ] name'],
    summary:
      'the statements that make a table, a view or a sequence, with constraints and indexes; for who has any privilege on it',
  },
  show_system_table: {
    name: 'TABLE system.table',
    synopsis: [
      'SELECT ... FROM system.{ external_connections | jobs | privileges | role_members | role_options | scheduled_jobs',
      '  | settings | users } ...',
      'TABLE system.table',
    ],
    summary: "read Atoll's own tables from any database of the virtual cluster",
  },
  backup: {
    name: 'BACKUP',
    synopsis: [
      "BACKUP [ targets ] INTO [ { 'subdirectory' | LATEST } IN ] destination",
      `  [ AS OF SYSTEM TIME timestamp ] ${OPTION_LIST}`,
      '  targets: DATABASE name [, ...] | [ TABLE ] [ [ database. ] schema. ] { table | * } [, ...]',
      ...BACKUP_TERMS,
    ],
    summary:
      'back up the virtual cluster, databases or tables into a collection; LATEST or a subdirectory appends an incremental backup',
  },
  restore: {
    name: 'RESTORE',
    synopsis: [
      "RESTORE [ targets | SYSTEM USERS ] FROM { 'subdirectory' | LATEST } IN destination",
      `  [ AS OF SYSTEM TIME timestamp ] ${OPTION_LIST}`,
      '  targets: DATABASE name [, ...] | [ TABLE ] [ [ database. ] schema. ] { table | * } [, ...]',
      ...BACKUP_TERMS,
    ],
    summary: 'restore the virtual cluster, databases, tables or users from a collection',
  },
  alter_backup: {
    name: 'ALTER BACKUP',
    synopsis: [
      "ALTER BACKUP { 'subdirectory' | LATEST } IN { 'uri' | ( 'uri' [, ...] ) }",
      "  ADD NEW_KMS = { 'key uri' | ( 'key uri' [, ...] ) } WITH OLD_KMS = { 'key uri' | ( 'key uri' [, ...] ) }",
    ],
    summary:
      'let further KMS keys open an encrypted backup and its incremental backups; nothing is encrypted anew',
  },
  show_backups: {
    name: 'SHOW BACKUPS',
    synopsis: ["SHOW BACKUPS IN { 'uri' | ( 'uri' [, ...] ) }"],
    summary: 'list the full backups of a collection',
  },
  show_backup: {
    name: 'SHOW BACKUP',
    synopsis: [
      "SHOW BACKUP [ SCHEMAS | FILES | RANGES ] [ FROM ] { 'subdirectory' | LATEST } IN { 'uri' | ( 'uri' [, ...] ) }",
      `  ${OPTION_LIST}`,
    ],
    summary: 'what a backup and its incremental backups hold',
  },
  show_jobs: {
    name: 'SHOW JOBS',
    synopsis: [
      'SHOW [ AUTOMATIC ] JOBS [ WITH EXECUTION DETAILS ]',
      'SHOW JOBS [ WHEN COMPLETE ] query',
      'SHOW JOBS FOR { SCHEDULE id | SCHEDULES query }',
    ],
    summary:
      'list running and recent jobs, those that a query names, or those of schedules; AUTOMATIC lists the internal ones',
  },
  show_job: {
    name: 'SHOW JOB',
    synopsis: ['SHOW JOB [ WHEN COMPLETE ] id [ WITH EXECUTION DETAILS ]'],
    summary: 'one job in detail; WHEN COMPLETE waits until it has ended',
  },
  control_jobs: {
    name: 'PAUSE | RESUME | CANCEL JOB',
    synopsis: [
      "PAUSE JOB id [ WITH REASON = 'text' ]",
      '{ RESUME | CANCEL } JOB id',
      '{ PAUSE | RESUME | CANCEL } JOBS { query | FOR SCHEDULE id | FOR SCHEDULES query }',
      '{ PAUSE | RESUME | CANCEL } ALL { BACKUP | CHANGEFEED | RESTORE | IMPORT } JOBS',
    ],
    summary: 'pause jobs, let them go on, or end them',
  },
  alter_job_owner: {
    name: 'ALTER JOB',
    synopsis: ['ALTER JOB id OWNER TO role'],
    summary: 'give a job to another role',
  },
  create_schedule: {
    name: 'CREATE SCHEDULE FOR BACKUP',
    synopsis: [
      'CREATE SCHEDULE [ IF NOT EXISTS ] [ label ] FOR BACKUP [ targets ] INTO destination',
      `  ${OPTION_LIST}`,
      "  RECURRING 'crontab' [ FULL BACKUP { 'crontab' | ALWAYS } ]",
      '  [ WITH SCHEDULE OPTIONS option [, ...] ]',
      "  crontab: five fields in UTC, or '@hourly', '@daily', '@weekly', '@monthly', '@yearly'",
    ],
    summary: 'back up again and again: a full backup now and then, incremental ones between',
  },
  alter_backup_schedule: {
    name: 'ALTER BACKUP SCHEDULE',
    synopsis: [
      'ALTER BACKUP SCHEDULE id action [, ...]',
      "  action: SET LABEL label | SET INTO destination | SET WITH option | SET RECURRING 'crontab'",
      "    | SET FULL BACKUP { 'crontab' | ALWAYS } | SET SCHEDULE OPTION option | EXECUTE [ FULL ] IMMEDIATELY",
    ],
    summary: 'change a backup schedule, both parts of a pair together, or run it now',
  },
  show_schedules: {
    name: 'SHOW SCHEDULES',
    synopsis: ['SHOW [ RUNNING | PAUSED ] SCHEDULES [ FOR { BACKUP | SQL STATISTICS | CHANGEFEED } ]'],
    summary: 'list schedules',
  },
  show_schedule: {
    name: 'SHOW SCHEDULE',
    synopsis: ['SHOW SCHEDULE id'],
    summary: 'one schedule',
  },
  show_create_schedule: {
    name: 'SHOW CREATE SCHEDULE',
    synopsis: ['SHOW CREATE { SCHEDULE id | ALL SCHEDULES }'],
    summary: 'the statement that makes a schedule anew; for admins',
  },
  control_schedules: {
    name: 'PAUSE | RESUME | DROP SCHEDULE',
    synopsis: ['{ PAUSE | RESUME | DROP } { SCHEDULE id | SCHEDULES query }'],
    summary: 'stop schedules for a while, let them go on from their next time, or remove them',
  },
  create_external_connection: {
    name: 'CREATE EXTERNAL CONNECTION',
    synopsis: ["CREATE EXTERNAL CONNECTION [ IF NOT EXISTS ] name AS 'uri'"],
    summary: 'name a storage location or a server, to be used as external://name',
  },
  alter_external_connection: {
    name: 'ALTER EXTERNAL CONNECTION',
    synopsis: ["ALTER EXTERNAL CONNECTION [ IF EXISTS ] name AS 'uri'"],
    summary: 'give an external connection another URI',
  },
  drop_external_connection: {
    name: 'DROP EXTERNAL CONNECTION',
    synopsis: ['DROP EXTERNAL CONNECTION name'],
    summary: 'forget an external connection',
  },
  show_external_connections: {
    name: 'SHOW EXTERNAL CONNECTIONS',
    synopsis: ['SHOW EXTERNAL CONNECTIONS', 'SHOW EXTERNAL CONNECTION name'],
    summary: 'list external connections, secrets redacted',
  },
  show_create_external_connections: {
    name: 'SHOW CREATE EXTERNAL CONNECTION',
    synopsis: ['SHOW CREATE { EXTERNAL CONNECTION name | ALL EXTERNAL CONNECTIONS }'],
    summary: 'the statement that makes an external connection anew, with its secrets',
  },
  check_external_connection: {
    name: 'CHECK EXTERNAL CONNECTION',
    synopsis: ["CHECK EXTERNAL CONNECTION 'uri' [ WITH option [, ...] ]"],
    summary: 'write, read, list and delete at a storage location, and say how fast that was',
  },
  create_file_upload: {
    name: 'CREATE FILE UPLOAD',
    synopsis: ["CREATE FILE UPLOAD INTO 'uri'"],
    summary: 'begin a file of userfile or nodelocal storage, as atoll userfile upload does',
  },
  alter_file_upload: {
    name: 'ALTER FILE UPLOAD',
    synopsis: [
      "ALTER FILE UPLOAD 'id' { APPEND 'base64' AT offset | FINISH WITH CHECKSUM 'sha256' | CANCEL }",
    ],
    summary: 'send the next piece of a file, make it visible whole, or give it up',
  },
  drop_file: {
    name: 'DROP FILE',
    synopsis: ["DROP FILE 'uri'"],
    summary: 'delete a file of userfile storage',
  },
  show_files: {
    name: 'SHOW FILES',
    synopsis: ["SHOW FILES IN 'uri'"],
    summary: 'list the files of a folder of userfile storage, and of all folders in it',
  },
  show_file: {
    name: 'SHOW FILE',
    synopsis: ["SHOW FILE 'uri' AT offset"],
    summary: 'a piece of a file of userfile storage, in base64, and how large the file is',
  },
  grant_system: {
    name: 'GRANT SYSTEM',
    synopsis: ['GRANT SYSTEM { ALL | privilege [, ...] } TO role [, ...] [ WITH GRANT OPTION ]'],
    summary: 'give roles a privilege that counts in the whole virtual cluster',
  },
  revoke_system: {
    name: 'REVOKE SYSTEM',
    synopsis: [
      'REVOKE [ GRANT OPTION FOR ] SYSTEM { ALL | privilege [, ...] } FROM role [, ...]',
      '  [ CASCADE | RESTRICT ]',
    ],
    summary: 'take system privileges from roles',
  },
  show_system_grants: {
    name: 'SHOW SYSTEM GRANTS',
    synopsis: ['SHOW SYSTEM GRANTS [ FOR role [, ...] ]'],
    summary: 'who holds which system privilege',
  },
  grant_on_object: {
    name: 'GRANT ON',
    synopsis: [
      'GRANT { BACKUP | RESTORE | privilege } [, ...] ON DATABASE name [, ...] TO role [, ...] [ WITH GRANT OPTION ]',
      'GRANT { BACKUP | privilege } [, ...] ON { [ TABLE ] pattern [, ...] | ALL TABLES IN SCHEMA name [, ...] }',
      '  TO role [, ...] [ WITH GRANT OPTION ]',
      'GRANT { ALL | USAGE | DROP | UPDATE } [, ...] ON EXTERNAL CONNECTION name [, ...]',
      '  TO role [, ...] [ WITH GRANT OPTION ]',
      '  pattern: [ [ database. ] schema. ] { table | * }',
    ],
    summary:
      'give roles a privilege on databases, tables or external connections, ours and those of Postgres together',
  },
  revoke_on_object: {
    name: 'REVOKE ON',
    synopsis: [
      'REVOKE [ GRANT OPTION FOR ] { BACKUP | RESTORE | privilege } [, ...] ON object FROM role [, ...]',
      '  [ CASCADE | RESTRICT ]',
      '  object: as in GRANT ON',
    ],
    summary: 'take privileges on databases, tables or external connections from roles',
  },
  alter_default_privileges: {
    name: 'ALTER DEFAULT PRIVILEGES',
    synopsis: [
      'ALTER DEFAULT PRIVILEGES [ FOR ROLE role [, ...] ] [ IN SCHEMA name [, ...] ]',
      '  GRANT { BACKUP | privilege } [, ...] ON TABLES TO role [, ...] [ WITH GRANT OPTION ]',
      'ALTER DEFAULT PRIVILEGES [ FOR ROLE role [, ...] ] [ IN SCHEMA name [, ...] ]',
      '  REVOKE [ GRANT OPTION FOR ] { BACKUP | privilege } [, ...] ON TABLES FROM role [, ...]',
    ],
    summary: 'give BACKUP on every table that the roles make from now on in the current database',
  },
  show_grants: {
    name: 'SHOW GRANTS',
    synopsis: [
      'SHOW GRANTS [ ON { DATABASE name | [ TABLE ] pattern | EXTERNAL CONNECTION name } [, ...] ]',
      '  [ FOR role [, ...] ]',
    ],
    summary: 'who holds which privilege on which object',
  },
  show_roles: {
    name: 'SHOW ROLES',
    synopsis: ['SHOW ROLES'],
    summary: 'list roles with their options and memberships',
  },
  show_users: {
    name: 'SHOW USERS',
    synopsis: ['SHOW USERS'],
    summary: 'the same as SHOW ROLES',
  },
  create_role: {
    name: 'CREATE ROLE',
    synopsis: [
      'CREATE { ROLE | USER } name [ WITH ] option [ ... ]',
      '  option: [ NO ] { CONTROLJOB | VIEWJOB | MODIFYCLUSTERSETTING | VIEWCLUSTERSETTING }, or one of PostgreSQL',
    ],
    summary: 'make a role that holds system privileges',
  },
  alter_role: {
    name: 'ALTER ROLE',
    synopsis: [
      'ALTER { ROLE | USER } role [ WITH ] option [ ... ]',
      '  option: [ NO ] { CONTROLJOB | VIEWJOB | MODIFYCLUSTERSETTING | VIEWCLUSTERSETTING }, or one of PostgreSQL',
    ],
    summary: 'give or take system privileges together with other options of a role',
  },
};

/** The statements whose name begins with `topic`, blanks and case ignored; all of them for an empty topic. */
export function helpFor(topic: string): readonly StatementHelp[] {
  const words = topic
    .toUpperCase()
    .split(/[\s;]+/)
    .filter((word) => word !== '');
  return Object.values(statementHelp).filter((help) => {
    const choices = help.name.toUpperCase().split(' ');
    return spellings(choices).some((name) => words.every((word, index) => word === name[index]));
  });
}

/** `PAUSE | RESUME JOB` stands for two names. */
function spellings(words: readonly string[]): readonly (readonly string[])[] {
  const verbs = words.filter((_, index) => words[index - 1] === '|' || words[index + 1] === '|');
  if (verbs.length === 0) return [words];
  const rest = words.slice(words.lastIndexOf('|') + 2);
  return verbs.map((verb) => [verb, ...rest]);
}
