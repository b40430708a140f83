import type { AlterScheduleAction, Option, ScheduledBackup, Statement, Value } from './ast.ts';
import { printSchedules } from './print-jobs.ts';
import { printOption, printOptions, printTargets, printTexts, printValue, words } from './print-parts.ts';

type ScheduleStatement = Extract<
  Statement,
  {
    kind:
      | 'create_schedule'
      | 'alter_backup_schedule'
      | 'show_schedules'
      | 'show_schedule'
      | 'show_create_schedule'
      | 'control_schedules';
  }
>;

export function printScheduleStatement(statement: ScheduleStatement): string {
  switch (statement.kind) {
    case 'create_schedule':
      return printCreate(statement);
    case 'alter_backup_schedule':
      return words(
        'ALTER BACKUP SCHEDULE',
        printValue(statement.scheduleId),
        statement.actions.map(printAction).join(', '),
      );
    case 'show_schedules':
      return words(
        'SHOW',
        statement.status !== 'all' && statement.status.toUpperCase(),
        'SCHEDULES',
        statement.of !== undefined && `FOR ${statement.of.replace('_', ' ').toUpperCase()}`,
      );
    case 'show_schedule':
      return `SHOW SCHEDULE ${printValue(statement.scheduleId)}`;
    case 'show_create_schedule':
      return statement.scheduleId === undefined
        ? 'SHOW CREATE ALL SCHEDULES'
        : `SHOW CREATE SCHEDULE ${printValue(statement.scheduleId)}`;
    case 'control_schedules':
      return words(statement.action.toUpperCase(), printSchedules(statement.schedules));
  }
}

function printCreate(statement: Extract<Statement, { kind: 'create_schedule' }>): string {
  return words(
    'CREATE SCHEDULE',
    statement.ifNotExists && 'IF NOT EXISTS',
    statement.label !== undefined && printValue(statement.label),
    'FOR',
    printBackup(statement.backup),
    `RECURRING ${printValue(statement.recurring)}`,
    statement.fullBackup !== undefined && printFullBackup(statement.fullBackup),
    printScheduleOptions(statement.scheduleOptions),
  );
}

function printBackup({ targets, destination, options }: ScheduledBackup): string {
  return words('BACKUP', printTargets(targets), 'INTO', printTexts(destination), printOptions(options));
}

function printFullBackup(fullBackup: Value | 'always'): string {
  return `FULL BACKUP ${fullBackup === 'always' ? 'ALWAYS' : printValue(fullBackup)}`;
}

function printScheduleOptions(options: readonly Option[]): string | undefined {
  return options.length === 0 ? undefined : `WITH SCHEDULE OPTIONS ${options.map(printOption).join(', ')}`;
}

function printAction(action: AlterScheduleAction): string {
  switch (action.kind) {
    case 'set_label':
      return `SET LABEL ${printValue(action.label)}`;
    case 'set_into':
      return `SET INTO ${printTexts(action.destination)}`;
    case 'set_with':
      return `SET WITH ${printOption(action.option)}`;
    case 'set_recurring':
      return `SET RECURRING ${printValue(action.recurring)}`;
    case 'set_full_backup':
      return `SET ${printFullBackup(action.fullBackup)}`;
    case 'set_schedule_option':
      return `SET SCHEDULE OPTION ${printOption(action.option)}`;
    case 'execute_immediately':
      return words('EXECUTE', action.full && 'FULL', 'IMMEDIATELY');
  }
}
