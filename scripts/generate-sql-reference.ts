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
      'show_virtual_cluster_name',
    ],
  },
  {
    title: 'Cluster settings',
    kinds: ['set_cluster_setting', 'reset_cluster_setting', 'show_cluster_setting', 'show_cluster_settings'],
  },
  { title: 'Backup and restore', kinds: ['backup', 'restore', 'show_backups', 'show_backup'] },
  { title: 'Jobs', kinds: ['show_jobs', 'show_job', 'control_jobs'] },
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
or a query of a WITH: \`WITH x AS (SHOW JOBS) SELECT job_id FROM x\`.

In the synopses words in capitals stand for themselves, \`[ ]\` is optional, \`{ | }\` a choice, \`[, ...]\` a list.
`;

const OPTION_STATEMENTS: readonly StatementKind[] = [
  'backup',
  'restore',
  'show_backup',
  'create_schedule',
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

function statementSection(kind: StatementKind, help: StatementHelp): string {
  const summary = `${help.summary.charAt(0).toUpperCase()}${help.summary.slice(1)}.`;
  const parts = [`### ${help.name}`, summary, ['```sql', ...help.synopsis, '```'].join('\n')];
  if (isOptionStatement(kind)) parts.push(optionTable(kind));
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
