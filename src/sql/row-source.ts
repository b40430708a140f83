import type { Located, Statement } from './ast.ts';
import { foldName } from './characters.ts';
import { readToken, type Token } from './lexer.ts';
import { parseInBrackets } from './parser.ts';

/** Words after which a table may stand. After any other word a bracket is a subscript. */
const TABLE_WORDS: ReadonlySet<string> = new Set(['from', 'join', 'using', 'lateral', 'only', 'table']);

/**
 * Every `[SHOW ...]` that stands where a table could, brackets included, in the order of the text.
 * @throws InputError as `parseStatement`, for a bracket that begins like a SHOW of ours and is malformed: Postgres has no
 * meaning for it either, and its error would not help
 */
export function findRowSources(text: string): readonly Located<Statement>[] {
  const sources: Located<Statement>[] = [];
  let isTablePlace = false;
  for (let at = 0; ; ) {
    const token = readToken(text, at);
    if (token.kind === 'end') return sources;
    const isBracket = token.kind === 'symbol' && text.charAt(token.begin) === '[';
    const source: Located<Statement> | undefined =
      isTablePlace && isBracket ? readRowSource(text, token) : undefined;
    if (source !== undefined) sources.push(source);
    isTablePlace = source === undefined && mayTableFollow(text, token);
    at = source?.end ?? token.end;
  }
}

function readRowSource(text: string, bracket: Token): Located<Statement> | undefined {
  const first = readToken(text, bracket.end);
  if (first.kind !== 'identifier' || wordOf(text, first) !== 'show') return undefined;
  const statement = parseInBrackets(text, first.begin);
  if (statement === undefined) return undefined;
  const closing = readToken(text, statement.end);
  return { node: statement.node, begin: bracket.begin, end: closing.end };
}

/** Whether a bracket after this token could stand for a table, not pick an element of an array or begin one. */
function mayTableFollow(text: string, token: Token): boolean {
  if (token.kind === 'identifier') return TABLE_WORDS.has(wordOf(text, token));
  return token.kind === 'symbol' && !')]'.includes(text.charAt(token.begin));
}

function wordOf(text: string, token: Token): string {
  return foldName(text.slice(token.begin, token.end));
}

/** The highest `n` of a `$n` in the text, 0 when there is none. */
export function highestPlaceholder(text: string): number {
  let highest = 0;
  for (let at = 0; ; ) {
    const token = readToken(text, at);
    if (token.kind === 'end') return highest;
    if (token.kind === 'placeholder') {
      highest = Math.max(highest, Number(text.slice(token.begin + 1, token.end)));
    }
    at = token.end;
  }
}
