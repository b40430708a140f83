import type { Statement } from './ast.ts';
import { printOptions, printValue, words } from './print-parts.ts';
import { quoteName } from './quote.ts';

type ConnectionStatement = Extract<
  Statement,
  {
    kind:
      | 'create_external_connection'
      | 'alter_external_connection'
      | 'drop_external_connection'
      | 'show_external_connections'
      | 'show_create_external_connections'
      | 'check_external_connection';
  }
>;

export function printConnectionStatement(statement: ConnectionStatement): string {
  switch (statement.kind) {
    case 'create_external_connection':
      return words(
        'CREATE EXTERNAL CONNECTION',
        statement.ifNotExists && 'IF NOT EXISTS',
        `${quoteName(statement.name)} AS ${printValue(statement.uri)}`,
      );
    case 'alter_external_connection':
      return words(
        'ALTER EXTERNAL CONNECTION',
        statement.ifExists && 'IF EXISTS',
        `${quoteName(statement.name)} AS ${printValue(statement.uri)}`,
      );
    case 'drop_external_connection':
      return `DROP EXTERNAL CONNECTION ${quoteName(statement.name)}`;
    case 'show_external_connections':
      return statement.name === undefined
        ? 'SHOW EXTERNAL CONNECTIONS'
        : `SHOW EXTERNAL CONNECTION ${quoteName(statement.name)}`;
    case 'show_create_external_connections':
      return statement.name === undefined
        ? 'SHOW CREATE ALL EXTERNAL CONNECTIONS'
        : `SHOW CREATE EXTERNAL CONNECTION ${quoteName(statement.name)}`;
    case 'check_external_connection':
      return words(`CHECK EXTERNAL CONNECTION ${printValue(statement.uri)}`, printOptions(statement.options));
  }
}
