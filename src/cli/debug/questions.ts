/** What support asks of a node by SQL. No answer holds a secret, or rows or statements of users. */

/** Asked in the system virtual cluster. */
export const NODE_QUESTIONS: Readonly<Record<string, string>> = {
  'virtual-clusters': 'SHOW VIRTUAL CLUSTERS WITH CAPABILITIES',
  replication: 'SHOW VIRTUAL CLUSTERS WITH REPLICATION STATUS',
  'system-grants': 'SHOW SYSTEM GRANTS',
};

/** Asked in the system virtual cluster about each; the name is quoted. */
export const ABOUT_EACH: Readonly<Record<string, (name: string) => string>> = {
  settings: (name) => `SHOW CLUSTER SETTINGS FOR VIRTUAL CLUSTER ${name}`,
  timeline: (name) => `SHOW TIMELINE FOR VIRTUAL CLUSTER ${name}`,
  'timeline-checks': (name) => `SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER ${name}`,
  'timeline-retention': (name) => `SHOW TIMELINE RETENTION FOR VIRTUAL CLUSTER ${name}`,
  salvage: (name) => `SHOW SALVAGE FOR VIRTUAL CLUSTER ${name}`,
};

/** Asked in each that serves. */
export const IN_EACH: Readonly<Record<string, string>> = {
  jobs: 'SHOW JOBS',
  schedules: 'SHOW SCHEDULES',
  'external-connections': 'SHOW EXTERNAL CONNECTIONS',
  // Where a standby gets its log from is said by SHOW ... WITH REPLICATION STATUS, without what opens the door.
  'postgres-settings': `SELECT name, setting, unit, source FROM pg_settings
     WHERE source NOT IN ('default', 'override') AND name !~ '(conninfo|passphrase|_command)' ORDER BY name`,
  'postgres-activity': `SELECT datname, pid, usename, application_name, backend_type, state, wait_event_type, wait_event,
       backend_start, xact_start, query_start FROM pg_stat_activity ORDER BY pid`,
  'postgres-databases': `SELECT s.*, pg_database_size(datid) AS bytes FROM pg_stat_database s WHERE datid <> 0 ORDER BY datid`,
  'postgres-replication': `SELECT application_name, state, sent_lsn, write_lsn, flush_lsn, replay_lsn, sync_state, reply_time
       FROM pg_stat_replication`,
  'postgres-slots': `SELECT slot_name, plugin, slot_type, database, active, restart_lsn, confirmed_flush_lsn, wal_status, safe_wal_size
       FROM pg_replication_slots`,
};

/** Columns that name people or what they do; left out when the archive is to be redacted. */
export const PERSONAL_COLUMNS: ReadonlySet<string> = new Set([
  'application_name',
  'connection_name',
  'connection_uri',
  'description',
  'grantee',
  'label',
  'owner',
  'statement',
  'user_name',
  'usename',
]);
