/**
 * Storage parameter `exclude_data_from_backup` of tables, which Postgres does not know: CREATE TABLE and ALTER TABLE that name it are ours;
 * the rest of the statement is Postgres's.
 */
import type { Statement } from './ast.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

const PARAMETER = 'exclude_data_from_backup';

type TableExclusion = Extract<Statement, { kind: 'exclude_table_data' }>;

export const TABLE_EXCLUSION_RULES: readonly Rule[] = [
  {
    ...rule('create table', 'exclude_table_data', (stream) => parseCreate(stream, 'CREATE TABLE')),
    claims: namesParameter,
  },
  {
    ...rule('create unlogged table', 'exclude_table_data', (stream) =>
      parseCreate(stream, 'CREATE UNLOGGED TABLE'),
    ),
    claims: namesParameter,
  },
  { ...rule('alter table', 'exclude_table_data', parseAlter), claims: namesParameter },
];

/** Whether a list behind WITH, SET or RESET begins a parameter of this name. A column may bear it, too. */
function namesParameter(stream: TokenStream, ahead: number): boolean {
  // A plain search first: most tables are made without it.
  if (!/exclude_data_from_backup/i.test(stream.text)) return false;
  let depth = 0;
  let isList = false;
  for (let at = ahead; ; at++) {
    if (stream.peek(at).kind === 'end' || (depth === 0 && stream.isSymbol(';', at))) return false;
    if (stream.isSymbol(')', at)) depth -= 1;
    if (stream.isSymbol('(', at)) {
      depth += 1;
      if (depth === 1) isList = ['with', 'set', 'reset'].includes(stream.word(at - 1) ?? '');
    }
    const isFirst = stream.isSymbol('(', at - 1) || stream.isSymbol(',', at - 1);
    if (isList && depth === 1 && isFirst && stream.word(at) === PARAMETER) return true;
  }
}

/** Everything but the parameter stays as it was written. */
function parseCreate(stream: TokenStream, verb: string): Statement {
  const bodyBegin = stream.peek().begin;
  const isGuarded = stream.acceptWords('if', 'not', 'exists');
  const table = tableName(stream);
  let depth = 0;
  for (;;) {
    if (depth === 0 && stream.isEnd()) stream.fail();
    if (depth === 0 && stream.isWords('with') && stream.isSymbol('(', 1)) break;
    if (stream.isSymbol('(')) depth += 1;
    if (stream.isSymbol(')')) depth -= 1;
    if (stream.peek().kind === 'end') stream.fail();
    stream.next();
  }
  const head = `${verb} ${stream.text.slice(bodyBegin, stream.lastEnd)}`;
  stream.expectWords('with');
  const { isExcluded, parameters } = parseParameters(stream, { hasValues: true });
  const afterBegin = stream.lastEnd;
  while (!stream.isEnd()) {
    if (stream.peek().kind === 'end') stream.fail();
    stream.next();
  }
  const tail = stream.text.slice(afterBegin, stream.lastEnd).trim();
  return {
    kind: 'exclude_table_data',
    action: 'with',
    table,
    isGuarded,
    isExcluded,
    head,
    parameters,
    tail,
  };
}

function parseAlter(stream: TokenStream): Statement {
  const bodyBegin = stream.peek().begin;
  const isGuarded = stream.acceptWords('if', 'exists');
  stream.acceptWords('only');
  const table = tableName(stream);
  stream.acceptSymbol('*');
  const head = `ALTER TABLE ${stream.text.slice(bodyBegin, stream.lastEnd)}`;
  const isSet = stream.acceptWords('set');
  if (!isSet) stream.expectWords('reset');
  const { isExcluded, parameters } = parseParameters(stream, { hasValues: isSet });
  // With other actions it would be another statement's effect, too.
  if (!stream.isEnd()) stream.fail();
  const action = isSet ? 'set' : 'reset';
  return { kind: 'exclude_table_data', action, table, isGuarded, isExcluded, head, parameters, tail: '' };
}

/** The statement without this parameter; undefined when nothing of it is left. */
export function withoutExclusion(statement: TableExclusion): string | undefined {
  const { action, head, parameters, tail } = statement;
  if (parameters.length === 0 && action !== 'with') return undefined;
  const list = parameters.length === 0 ? '' : `${action.toUpperCase()} (${parameters.join(', ')})`;
  return [head, list, tail].filter((piece) => piece !== '').join(' ');
}

/** The parameter stands first. */
export function printTableExclusion(statement: TableExclusion): string {
  const { action, head, parameters, tail, isExcluded } = statement;
  const own = action === 'reset' ? PARAMETER : `${PARAMETER} = ${isExcluded}`;
  const list = `${action.toUpperCase()} (${[own, ...parameters].join(', ')})`;
  return [head, list, tail].filter((piece) => piece !== '').join(' ');
}

function tableName(stream: TokenStream): readonly string[] {
  const names = [stream.name()];
  while (stream.acceptSymbol('.')) names.push(stream.anyName());
  return names;
}

/** The list in parentheses, ours taken out. RESET has no values: ours is off then. */
function parseParameters(
  stream: TokenStream,
  { hasValues }: { hasValues: boolean },
): { isExcluded: boolean; parameters: readonly string[] } {
  stream.expectSymbol('(');
  const parameters: string[] = [];
  let isExcluded: boolean | undefined;
  do {
    if (isExcluded === undefined && stream.acceptWords(PARAMETER)) {
      isExcluded = hasValues && (!stream.acceptSymbol('=') || flag(stream));
    } else parameters.push(parameter(stream));
  } while (stream.acceptSymbol(','));
  stream.expectSymbol(')');
  return { isExcluded: isExcluded ?? stream.fail(), parameters };
}

/** As it is written. */
function parameter(stream: TokenStream): string {
  const { begin } = stream.peek();
  while (!stream.isSymbol(',') && !stream.isSymbol(')')) {
    if (stream.peek().kind === 'end') stream.fail();
    stream.next();
  }
  return stream.text.slice(begin, stream.lastEnd);
}

const FLAGS: Readonly<Record<string, boolean>> = {
  true: true,
  on: true,
  yes: true,
  '1': true,
  false: false,
  off: false,
  no: false,
  '0': false,
};

function flag(stream: TokenStream): boolean {
  const { kind, begin, end } = stream.peek();
  const text = kind === 'string' ? stream.string() : stream.text.slice(begin, end);
  const value = FLAGS[text.toLowerCase()];
  if (value === undefined) throw stream.errorAt(begin, `parameter "${PARAMETER}" requires a Boolean value`);
  if (kind !== 'string') stream.next();
  return value;
}
