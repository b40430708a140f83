/** Writes docs/reference/sql.md from the tables that the parser itself uses. A test fails when the page is out of date. */
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import {
  type OptionSpec,
  type OptionStatement,
  optionSpelling,
  optionsOf,
  type StatementHelp,
  type StatementKind,
  statementHelp,
} from '../src/sql/index.ts';

export const SQL_REFERENCE_PATH = join(resolve(import.meta.dirname, '..'), 'docs/reference/sql.md');

const SECTIONS: readonly { readonly title: string; readonly kinds: readonly StatementKind[] }[] = [
  {
    title: 'Virtual clusters',
    kinds: [
      'create_virtual_cluster',
      'alter_virtual_cluster',
      'drop_virtual_cluster',
      'show_virtual_clusters',
      'show_timeline',
      'show_timeline_checks',
      'show_timeline_retention',
      'show_virtual_cluster_name',
      'show_salvage',
      'show_fingerprints',
      'create_replication_stream',
      'report_replication_stream',
      'drop_replication_stream',
      'show_system_table',
    ],
  },
  {
    title: 'Cluster settings, zones and regions',
    kinds: [
      'set_cluster_setting',
      'reset_cluster_setting',
      'show_cluster_setting',
      'show_cluster_settings',
      'configure_zone',
      'show_zone_configuration',
      'show_zone_configurations',
      'alter_database_regions',
      'show_regions',
    ],
  },
  {
    title: 'Backup and restore',
    kinds: [
      'backup',
      'restore',
      'show_backups',
      'show_backup',
      'alter_backup',
      'exclude_table_data',
      'show_create_table',
    ],
  },
  { title: 'Jobs', kinds: ['show_jobs', 'show_job', 'control_jobs', 'alter_job_owner'] },
  {
    title: 'Schedules',
    kinds: [
      'create_schedule',
      'alter_backup_schedule',
      'show_schedules',
      'show_schedule',
      'show_create_schedule',
      'control_schedules',
    ],
  },
  {
    title: 'External connections',
    kinds: [
      'create_external_connection',
      'alter_external_connection',
      'drop_external_connection',
      'show_external_connections',
      'show_create_external_connections',
      'check_external_connection',
    ],
  },
  {
    title: 'Files',
    kinds: ['create_file_upload', 'alter_file_upload', 'show_files', 'show_file', 'drop_file'],
  },
  {
    title: 'Privileges and roles',
    kinds: [
      'grant_system',
      'revoke_system',
      'show_system_grants',
      'grant_on_object',
      'revoke_on_object',
      'alter_default_privileges',
      'show_grants',
      'create_role',
      'alter_role',
      'show_roles',
      'show_users',
    ],
  },
];

const INTRODUCTION = `# SQL statements

<!-- Made by scripts/generate-sql-reference.ts. -->

These statements are Atoll's own; every other statement goes to PostgreSQL byte for byte. They follow PostgreSQL's lexical
rules: keywords in any case, comments anywhere, \`'...'\`, \`E'...'\` and \`$$...$$\` strings, \`"quoted"\` names. A virtual
cluster's name may hold hyphens without being quoted (\`dest-system\`). \`TENANT\` is accepted for \`VIRTUAL CLUSTER\`. In the
extended protocol a placeholder (\`$1\`) may stand for every string, number and time. A URI may also stand in double quotes.
What the grammar knows and a release does not carry out is refused with SQLSTATE \`0A000\`, never ignored.

Every \`SHOW\` below can be a table of a query, in brackets: \`SELECT * FROM [SHOW JOBS] WHERE status = 'running'\`,
or a query of a WITH: \`WITH x AS (SHOW JOBS) SELECT job_id FROM x\`. Atoll's own tables can be one by their names:
\`SELECT id FROM system.jobs WHERE status = 'failed'\`.

In the synopses words in capitals stand for themselves, \`[ ]\` is optional, \`{ | }\` a choice, \`[, ...]\` a list.
`;

const OPTION_STATEMENTS: readonly StatementKind[] = [
  'backup',
  'restore',
  'show_backup',
  'create_schedule',
  'alter_virtual_cluster',
  'check_external_connection',
] satisfies OptionStatement[];

function isOptionStatement(kind: StatementKind): kind is OptionStatement {
  return OPTION_STATEMENTS.includes(kind);
}

/** The whole page. */
export function sqlReference(): string {
  const sections = SECTIONS.map(({ title, kinds }) =>
    [`## ${title}`, ...kinds.map((kind) => statementSection(kind, statementHelp[kind]))].join('\n\n'),
  );
  return `${[INTRODUCTION.trimEnd(), ...sections].join('\n\n')}\n`;
}

/** What neither synopsis nor options tell. */
const REMARKS: Readonly<Partial<Record<StatementKind, string>>> = {
  alter_job_owner: `Admins give any job to anybody; an owner gives the own ones to roles that the owner is a member of. What the job does, and with
whose privileges, was decided when it began.`,
  show_system_table: `For members of \`admin\` and holders of VIEWSYSTEMDATA. Secrets are \`redacted\`. The names count where a query reads a table,
written \`system.\` or \`SYSTEM.\`, unless the database has a table of that name in a schema \`system\` of its own: then that is meant.
\`system.jobs\` goes back as far as records of jobs are kept (\`jobs.retention_time\`). The rows are those of the moment at which the query
begins, or is bound; the tables are changed by the statements on this page only.`,
  create_virtual_cluster: `A branch is made by a job of type \`BRANCH\`; the statement waits for it, and it goes on when the client does not. More in
[the time machine](../operations/time-machine.md). A follower returns at once; its data arrives by a job of type \`REPLICATION STREAM INGESTION\`:
[replication](../operations/replication.md). \`REPLICATION OF system\` ON a
URI without \`-ccluster=system\` follows a plain PostgreSQL server: [moving in](../operations/moving-in.md).`,
  show_fingerprints: `| Column | Meaning |
|---|---|
| \`tenant_name\` | of the virtual cluster |
| \`end_ts\` | the moment, as COMPLETE REPLICATION prints it |
| \`fingerprint\` | a number of 64 bits, the same wherever the same is held |

Without a time: that which a follower has come to, and of others the present. \`AS OF SYSTEM TIME\` may also follow the bracket when it stands in a query:
\`SELECT * FROM [SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER main] AS OF SYSTEM TIME '-10s'\`. It recovers a copy from the timeline and reads
all of it, so it takes as long as a restore; nothing else takes notice. What is compared: [replication](../operations/replication.md).`,
  show_salvage: `| Column | Meaning |
|---|---|
| \`incarnation\` | the life of the data that was left |
| \`from_lsn\`, \`through_lsn\` | where the common history ended, and how far that life went |
| \`kept_until\` | it is not removed before |
| \`open_with\` | a statement that makes a virtual cluster of it, as it was in the end |`,
  create_replication_stream: `Not for people: see [the protocol](../formats/replication-stream.md). The same holds for the next two.`,
  alter_virtual_cluster: `RESET DATA and UNDROP: [the time machine](../operations/time-machine.md). RESET DATA runs as a job of type \`RESET DATA\`.
CHECK TIMELINE runs as a job of type \`TIMELINE CHECK\`, without AS OF SYSTEM TIME at a random moment of the window, and fails with \`XX001\`
when what it restored is damaged: [verify](../operations/time-machine.md#verify).`,
  show_virtual_clusters: `\`service_mode\` is \`none\`, \`shared\`, \`suspended\` (its instance is stopped until somebody comes) or \`read-only\` (for want of
room on the disk). WITH SUSPENSION adds \`suspend_after\`, \`suspended_since\` and \`wakes_at\`: [suspending](../operations/suspend.md).`,
  show_timeline_retention: `| Column | Meaning |
|---|---|
| \`action\` | \`keep\` or \`remove\` |
| \`kind\` | \`window\`: since when moments stay restorable, and the bytes that stay; \`base\`, \`object\`, \`segment\`, \`time_index\`, \`log_folder\` |
| \`name\`, \`incarnation\`, \`bytes\` | what it is; the incarnation of log |
| \`reason\` | what keeps it, or why nobody needs it |

Nothing is touched; what is listed goes with the next collection, five minutes later at most.`,
  show_timeline: `| Column | Meaning |
|---|---|
| \`kind\` | \`window\` (one row): what the present lineage can be taken back to; \`log\`: a life of the data, which ended when it was reset or restored; \`base\`: a complete image |
| \`id\` | incarnation of a window or life; path of a base |
| \`builds_on\` | the incarnation that a life left; the base whose unchanged pages a base uses |
| \`start_time\`, \`end_time\` | the window; when a base was begun and the moment it is of; how far a life's log is known |
| \`start_lsn\`, \`end_lsn\` | positions of the same; a base is consistent from its \`end_lsn\` on |
| \`size_bytes\` | bytes of the data directory, of a base |
| \`stored_bytes\` | bytes on disk; of the window: all bases and the log of the present life |
| \`state\` | \`restorable\`, \`no base yet\` or \`waiting for a base: ...\`; \`receiving\`, \`waiting: ...\`, \`out of room: ...\`, \`gap from ... to ...\` or \`kept\`; \`complete\` or \`damaged: ...\` |

A life and a position in its log, \`<id>@<end_lsn>\`, can stand after AS OF SYSTEM TIME.`,
  show_timeline_checks: `| Column | Meaning |
|---|---|
| \`job_id\` | the job that tried the restore out; null for what is damaged |
| \`state\` | \`succeeded\` or \`failed\`; \`damaged\`: an object that the timeline stores cannot be read as it was written |
| \`as_of\`, \`position\` | the moment that was restored, and its life and position |
| \`started\`, \`duration_ms\` | of the newest attempt |
| \`databases\`, \`tables\`, \`indexes\`, \`pages\` | what was looked at, templates and system catalogs included |
| \`findings\` | what is wrong, a line each; null when nothing is |

First what is damaged, then restores, newest first; the last 100 are kept. Admins of a virtual cluster with the capability
\`can_check_consistency\` may ask it there, of that virtual cluster.`,
};

function statementSection(kind: StatementKind, help: StatementHelp): string {
  const summary = `${help.summary.charAt(0).toUpperCase()}${help.summary.slice(1)}.`;
  const parts = [`### ${help.name}`, summary, ['```sql', ...help.synopsis, '```'].join('\n')];
  if (isOptionStatement(kind)) parts.push(optionTable(kind));
  const remark = REMARKS[kind];
  if (remark !== undefined) parts.push(remark);
  return parts.join('\n\n');
}

const VALUES: Readonly<Record<OptionSpec['shape'], string>> = {
  flag: 'none, or true / false',
  string: 'string',
  strings: 'string, or list in parentheses',
  name: 'name or string',
};

function optionTable(statement: OptionStatement): string {
  const rows = optionsOf(statement).map(
    ([name, spec]) => `| \`${optionSpelling(name)}\` | ${VALUES[spec.shape]} | ${spec.summary} |`,
  );
  return ['| Option | Value | Meaning |', '|---|---|---|', ...rows].join('\n');
}

if (import.meta.main) writeFileSync(SQL_REFERENCE_PATH, sqlReference());
