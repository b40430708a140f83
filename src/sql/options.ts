/**
 * Every option of BACKUP, RESTORE, SHOW BACKUP, schedules, continuous backups and checks of connections, declared once: the parser, the printer, the masking of secrets and the
 * reference page are made from this table.
 */

export type OptionStatement =
  | 'backup'
  | 'restore'
  | 'show_backup'
  | 'create_schedule'
  | 'alter_virtual_cluster'
  | 'check_external_connection';

/** What an option takes: nothing or true/false, one string, one string or a list, a name (as a string or an identifier). */
export type OptionShape = 'flag' | 'string' | 'strings' | 'name';

export interface OptionSpec {
  readonly statements: readonly OptionStatement[];
  readonly shape: OptionShape;
  /** How it is written, when that is not the name itself. */
  readonly words?: readonly string[];
  /** What the value is, for those who may print the statement: nothing special, a URI, or a secret altogether. */
  readonly holds?: 'uri' | 'secret';
  readonly summary: string;
}

export const OPTIONS = {
  revision_history: {
    statements: ['backup'],
    shape: 'flag',
    summary: 'keep every change, so that any moment can be restored',
  },
  encryption_passphrase: {
    statements: ['backup', 'restore', 'show_backup', 'alter_virtual_cluster'],
    shape: 'string',
    holds: 'secret',
    summary: 'passphrase that the data key is wrapped with',
  },
  kms: {
    statements: ['backup', 'restore', 'show_backup', 'alter_virtual_cluster'],
    shape: 'strings',
    holds: 'secret',
    summary: 'one or several KMS keys, as URIs, that the data key is wrapped with',
  },
  detached: {
    statements: ['backup', 'restore'],
    shape: 'flag',
    summary: 'return the job id at once instead of waiting',
  },
  incremental_location: {
    statements: ['backup', 'restore', 'show_backup'],
    shape: 'strings',
    holds: 'uri',
    summary: 'where the incremental backups lie, when not in the collection',
  },
  execution_locality: {
    statements: ['backup', 'restore'],
    shape: 'string',
    words: ['execution', 'locality'],
    summary: 'only nodes that match these tiers do the work',
  },
  updates_cluster_monitoring_metrics: {
    statements: ['backup'],
    shape: 'flag',
    summary: 'a failure to reach the KMS key is shown in the metrics',
  },
  include_all_virtual_clusters: {
    statements: ['backup', 'restore'],
    shape: 'flag',
    summary: 'refused: every virtual cluster is backed up on its own, and restored on its own',
  },
  strict: {
    statements: ['backup'],
    shape: 'flag',
    summary: "fail rather than write a node's data to a location of another locality",
  },
  verify: {
    statements: ['backup'],
    shape: 'flag',
    summary: 'prove the backup by a trial restore before it has succeeded',
  },
  dry_run: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'check everything and tell what would be restored, how much and how long; restore nothing',
  },
  into_db: {
    statements: ['restore'],
    shape: 'name',
    summary: 'restore tables into this existing database',
  },
  new_db_name: {
    statements: ['restore'],
    shape: 'name',
    summary: 'restore a single database under another name',
  },
  skip_missing_foreign_keys: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'leave out foreign keys whose table is not restored',
  },
  skip_missing_sequences: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'leave out defaults whose sequence is not restored',
  },
  skip_missing_sequence_owners: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'restore a sequence without its table, or a table without its sequence',
  },
  skip_missing_views: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'leave out views that read what is not restored',
  },
  skip_missing_udfs: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'leave out defaults and triggers whose function is not restored',
  },
  skip_localities_check: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'restore although regions differ',
  },
  schema_only: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'restore the schema without rows',
  },
  verify_backup_table_data: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'with schema_only: read and check all data, then discard it',
  },
  remove_regions: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'drop the region information of databases',
  },
  unsafe_restore_incompatible_version: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'skip the check of releases',
  },
  grants: {
    statements: ['restore'],
    shape: 'flag',
    summary: 'keep the grants to users that exist by name',
  },
  experimental_copy: {
    statements: ['restore'],
    shape: 'flag',
    words: ['experimental', 'copy'],
    summary: 'restore online',
  },
  experimental_deferred_copy: {
    statements: ['restore'],
    shape: 'flag',
    words: ['experimental', 'deferred', 'copy'],
    summary: 'restore online, the data copied later',
  },
  virtual_cluster: {
    statements: ['restore'],
    shape: 'string',
    summary: 'number of the virtual cluster to restore into; in the system virtual cluster only',
  },
  virtual_cluster_name: {
    statements: ['restore'],
    shape: 'name',
    summary: 'name of the virtual cluster to restore into; in the system virtual cluster only',
  },
  as_json: {
    statements: ['show_backup'],
    shape: 'flag',
    summary: 'show the manifests as JSON',
  },
  check_files: {
    statements: ['show_backup'],
    shape: 'flag',
    summary: 'check that every file exists, and add the column file_bytes',
  },
  debug_ids: {
    statements: ['show_backup'],
    shape: 'flag',
    summary: 'add the ids of databases, schemas and objects',
  },
  privileges: {
    statements: ['show_backup'],
    shape: 'flag',
    summary: 'add the privileges and the owner',
  },
  restore_estimate: {
    statements: ['show_backup'],
    shape: 'flag',
    summary: 'add how much a restore writes and replays, and how long it may take',
  },
  revision_start_time: {
    statements: ['show_backup'],
    shape: 'flag',
    summary: 'add the moment since which the revision history of each backup leads to every moment',
  },
  skip_size: {
    statements: ['show_backup'],
    shape: 'flag',
    words: ['skip', 'size'],
    summary: 'do not compute sizes',
  },
  first_run: {
    statements: ['create_schedule'],
    shape: 'name',
    summary: 'when the first full backup is taken: a time to come, or now',
  },
  on_execution_failure: {
    statements: ['create_schedule'],
    shape: 'name',
    summary: 'after a failure: retry at once, reschedule to the next time (the default), or pause',
  },
  on_previous_running: {
    statements: ['create_schedule'],
    shape: 'name',
    summary:
      'while the previous full backup runs: wait for it (the default), skip to the next time, or start beside it',
  },
  ignore_existing_backups: {
    statements: ['create_schedule'],
    shape: 'flag',
    summary: 'use the collection although it holds backups already',
  },
  updates_cluster_last_backup_time_metric: {
    statements: ['create_schedule'],
    shape: 'flag',
    summary: 'a success moves the metric schedules_BACKUP_last_completed_time; for admins',
  },
  transfer: {
    statements: ['check_external_connection'],
    shape: 'string',
    summary: 'how much to write and read (32MiB)',
  },
  concurrently: {
    statements: ['check_external_connection'],
    shape: 'string',
    summary: 'how many transfers at the same time (1)',
  },
  time: {
    statements: ['check_external_connection'],
    shape: 'string',
    summary: 'transfer again and again for this long',
  },
} as const satisfies Record<string, OptionSpec>;

export type OptionName = keyof typeof OPTIONS;

/** Undefined for a name that is no option of any statement. */
export function optionSpec(name: string): OptionSpec | undefined {
  return Object.hasOwn(OPTIONS, name) ? OPTIONS[name as OptionName] : undefined;
}

/** The options of one statement, in the order of the table. */
export function optionsOf(statement: OptionStatement): readonly (readonly [OptionName, OptionSpec])[] {
  return OPTIONS_BY_STATEMENT[statement];
}

const OPTIONS_BY_STATEMENT = {
  backup: entriesOf('backup'),
  restore: entriesOf('restore'),
  show_backup: entriesOf('show_backup'),
  create_schedule: entriesOf('create_schedule'),
  alter_virtual_cluster: entriesOf('alter_virtual_cluster'),
  check_external_connection: entriesOf('check_external_connection'),
};

function entriesOf(statement: OptionStatement): readonly (readonly [OptionName, OptionSpec])[] {
  const entries = Object.entries(OPTIONS) as [OptionName, OptionSpec][];
  return entries.filter(([, spec]) => spec.statements.includes(statement));
}

/** How an option is written: `detached`, `EXECUTION LOCALITY`. */
export function optionSpelling(name: string): string {
  return optionSpec(name)?.words?.join(' ').toUpperCase() ?? name;
}
