import { parseTableName } from './parse-table-name.ts';
import { rule, type Rule } from './rule.ts';

/** What makes a table, a view or a sequence; of other objects their own rules tell. */
export const SHOW_CREATE_RULES: readonly Rule[] = [
  rule('show create table', 'show_create_table', (stream) => ({
    kind: 'show_create_table',
    table: parseTableName(stream),
  })),
];
