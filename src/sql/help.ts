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

const BACKUP_TERMS = [
  "  destination: 'uri' | ( 'uri' [, ...] )",
  "  timestamp: '-10s' | '2024-01-09 16:15:45+00' | nanoseconds since 1970",
];

export const statementHelp: Readonly<Record<StatementKind, StatementHelp>> = {
  create_virtual_cluster: {
    name: 'CREATE VIRTUAL CLUSTER',
    synopsis: ['CREATE VIRTUAL CLUSTER [ IF NOT EXISTS ] name [ LIKE name ]'],
    summary: 'make an empty virtual cluster, its service stopped; LIKE copies capabilities and settings',
  },
  alter_virtual_cluster: {
    name: 'ALTER VIRTUAL CLUSTER',
    synopsis: [
      'ALTER VIRTUAL CLUSTER name START SERVICE SHARED',
      'ALTER VIRTUAL CLUSTER name STOP SERVICE',
      'ALTER VIRTUAL CLUSTER name RENAME TO name',
      'ALTER VIRTUAL CLUSTER name { GRANT | REVOKE } ALL CAPABILITIES',
      'ALTER VIRTUAL CLUSTER name { GRANT | REVOKE } CAPABILITY capability [ = value ] [, ...]',
      'ALTER VIRTUAL CLUSTER name SET CLUSTER SETTING setting { = | TO } { value | DEFAULT }',
      'ALTER VIRTUAL CLUSTER name RESET CLUSTER SETTING setting',
    ],
    summary: 'start, stop, rename or configure a virtual cluster',
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
      '  item: REPLICATION STATUS | CAPABILITIES',
    ],
    summary: 'list virtual clusters with their data state and service mode',
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
    synopsis: ['SHOW [ AUTOMATIC ] JOBS'],
    summary: 'list running and recent jobs; AUTOMATIC lists the internal ones',
  },
  show_job: {
    name: 'SHOW JOB',
    synopsis: ['SHOW JOB [ WHEN COMPLETE ] id'],
    summary: 'one job in detail; WHEN COMPLETE waits until it has ended',
  },
  control_job: {
    name: 'PAUSE | RESUME | CANCEL JOB',
    synopsis: ['{ PAUSE | RESUME | CANCEL } JOB id'],
    summary: 'pause a job, let it go on, or end it',
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
