import type { AlterScheduleAction, Option, ScheduledBackup, ScheduledKind, Statement, Value } from './ast.ts';
import { parseBackupTargets } from './parse-backup.ts';
import { parseOption, parseOptionList, parseOptions } from './parse-options.ts';
import { parseIdQuery } from './parse-selection.ts';
import { parseList, parseScalar, parseText, parseTexts } from './parse-value.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

const ACTIONS = ['pause', 'resume', 'drop'] as const;

export const SCHEDULE_RULES: readonly Rule[] = [
  rule('create schedule', 'create_schedule', parseCreateSchedule),
  rule('alter backup schedule', 'alter_backup_schedule', parseAlter),
  // `EXECUTE schedule` with no number behind it runs a prepared statement of Postgres's.
  {
    ...rule('execute schedule', 'alter_backup_schedule', refuseExecute),
    claims: (stream, ahead) => ['number', 'placeholder'].includes(stream.peek(ahead).kind),
  },
  rule('show schedules', 'show_schedules', (stream) => parseShow(stream, 'all')),
  rule('show running schedules', 'show_schedules', (stream) => parseShow(stream, 'running')),
  rule('show paused schedules', 'show_schedules', (stream) => parseShow(stream, 'paused')),
  rule('show schedule', 'show_schedule', (stream) => ({
    kind: 'show_schedule',
    scheduleId: parseScalar(stream),
  })),
  rule('show create schedule', 'show_create_schedule', (stream) => ({
    kind: 'show_create_schedule',
    scheduleId: parseScalar(stream),
  })),
  rule('show create all schedules', 'show_create_schedule', () => ({
    kind: 'show_create_schedule',
    scheduleId: undefined,
  })),
  ...ACTIONS.flatMap((action) => [
    rule(`${action} schedule`, 'control_schedules', (stream) => ({
      kind: 'control_schedules',
      action,
      schedules: { kind: 'one', id: parseScalar(stream) },
    })),
    rule(`${action} schedules`, 'control_schedules', (stream) => ({
      kind: 'control_schedules',
      action,
      schedules: parseIdQuery(stream),
    })),
  ]),
];

function refuseExecute(stream: TokenStream): never {
  stream.refuse(
    'EXECUTE SCHEDULE does not run backup schedules',
    'ALTER BACKUP SCHEDULE id EXECUTE [ FULL ] IMMEDIATELY does',
  );
}

function parseCreateSchedule(stream: TokenStream): Statement {
  const ifNotExists = stream.acceptWords('if', 'not', 'exists');
  const label = stream.isWords('for') ? undefined : parseLabel(stream);
  stream.expectWords('for');
  if (!stream.isWords('backup')) {
    stream.refuse('only backups can be scheduled', 'write CREATE SCHEDULE label FOR BACKUP INTO ...');
  }
  stream.expectWords('backup');
  const backup = parseScheduledBackup(stream);
  stream.expectWords('recurring');
  const recurring = parseText(stream);
  const fullBackup = stream.acceptWords('full', 'backup') ? parseFullBackup(stream) : undefined;
  const scheduleOptions = stream.acceptWords('with', 'schedule', 'options')
    ? parseScheduleOptions(stream)
    : [];
  return {
    kind: 'create_schedule',
    ifNotExists,
    label,
    backup,
    recurring,
    fullBackup,
    scheduleOptions,
  };
}

function parseScheduledBackup(stream: TokenStream): ScheduledBackup {
  const targets = parseBackupTargets(stream);
  stream.expectWords('into');
  if (stream.isWords('latest')) {
    stream.refuse(
      'a schedule chooses by itself which backup to append to',
      "write INTO 'collection URI', and FULL BACKUP for how often a full backup is taken",
    );
  }
  const destination = parseTexts(stream);
  if (stream.isWords('as')) {
    stream.refuse('a scheduled backup is taken as of its scheduled time', 'leave AS OF SYSTEM TIME out');
  }
  return { targets, destination, options: parseOptions(stream, 'backup') };
}

/** A name, or a string. */
function parseLabel(stream: TokenStream): Value {
  return stream.peek().kind === 'identifier' ? { kind: 'string', value: stream.name() } : parseText(stream);
}

function parseFullBackup(stream: TokenStream): Value | 'always' {
  return stream.acceptWords('always') ? 'always' : parseText(stream);
}

function parseScheduleOptions(stream: TokenStream): readonly Option[] {
  if (!stream.acceptSymbol('(')) return parseOptionList(stream, 'create_schedule');
  const options = parseOptionList(stream, 'create_schedule');
  stream.expectSymbol(')');
  return options;
}

function parseAlter(stream: TokenStream): Statement {
  const scheduleId = parseScalar(stream);
  return { kind: 'alter_backup_schedule', scheduleId, actions: parseList(stream, parseAction) };
}

function parseAction(stream: TokenStream): AlterScheduleAction {
  if (stream.acceptWords('execute')) {
    const full = stream.acceptWords('full');
    stream.expectWords('immediately');
    return { kind: 'execute_immediately', full };
  }
  stream.expectWords('set');
  if (stream.acceptWords('label')) return { kind: 'set_label', label: parseLabel(stream) };
  if (stream.acceptWords('into')) return { kind: 'set_into', destination: parseTexts(stream) };
  if (stream.acceptWords('with')) return { kind: 'set_with', option: parseOption(stream, 'backup') };
  if (stream.acceptWords('recurring')) return { kind: 'set_recurring', recurring: parseText(stream) };
  if (stream.acceptWords('full', 'backup')) {
    return { kind: 'set_full_backup', fullBackup: parseFullBackup(stream) };
  }
  stream.expectWords('schedule', 'option');
  return { kind: 'set_schedule_option', option: parseOption(stream, 'create_schedule') };
}

function parseShow(stream: TokenStream, status: 'all' | 'running' | 'paused'): Statement {
  return { kind: 'show_schedules', status, of: stream.acceptWords('for') ? parseKind(stream) : undefined };
}

function parseKind(stream: TokenStream): ScheduledKind {
  if (stream.acceptWords('backup')) return 'backup';
  if (stream.acceptWords('changefeed')) return 'changefeed';
  stream.expectWords('sql', 'statistics');
  return 'sql_statistics';
}
