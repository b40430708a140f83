import type { Statement } from './ast.ts';
import { rule, type Rule } from './rule.ts';
import { systemTableOf } from './system-table.ts';
import type { TokenStream } from './token-stream.ts';

/** `TABLE system.jobs`, which is Postgres's way to write a query for all of a table. With more behind it, it is Postgres's. */
export const SYSTEM_TABLE_RULES: readonly Rule[] = [
  { ...rule('table system', 'show_system_table', parseSystemTable), claims: isOneOfOurs },
];

function isOneOfOurs(stream: TokenStream, ahead: number): boolean {
  if (!stream.isSymbol('.', ahead) || systemTableOf(stream.word(ahead + 1) ?? '') === undefined) return false;
  const isClosed = [';', ']', ')'].some((closer) => stream.isSymbol(closer, ahead + 2));
  return isClosed || stream.peek(ahead + 2).kind === 'end';
}

function parseSystemTable(stream: TokenStream): Statement {
  stream.expectSymbol('.');
  const table = systemTableOf(stream.anyName());
  if (table === undefined) stream.fail();
  return { kind: 'show_system_table', table };
}
