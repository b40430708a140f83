import type { Located, Statement } from './ast.ts';
import { foldName } from './characters.ts';
import { readToken, type Token } from './lexer.ts';
import { parseAsOf } from './parse-backup.ts';
import { parseEnclosed } from './parser.ts';
import { findSystemTables } from './system-table.ts';
import { TokenStream } from './token-stream.ts';

/** Words after which a table may stand. After any other word a bracket is a subscript. */
const TABLE_WORDS: ReadonlySet<string> = new Set(['from', 'join', 'using', 'lateral', 'only', 'table']);

/** Words after which a query in parentheses may stand, as in `WITH x AS (SHOW JOBS)`. */
const QUERY_WORDS: ReadonlySet<string> = new Set(['as', 'materialized']);

/** Words that a statement of ours with rows begins with. */
const SOURCE_WORDS: ReadonlySet<string> = new Set(['show', 'table']);

/** Where a row source of ours may stand: nowhere, in brackets in place of a table, or in parentheses in place of a query. */
type Place = 'none' | 'table' | 'query';

/** What stands in a query of Postgres's for rows of ours. */
export interface FoundRowSource extends Located<Statement> {
  /** A name that the rows go by where the query gives them none: a table's own, and none for brackets. */
  readonly alias: string | undefined;
  /** Its own text, without the brackets, and what belongs to it behind them. */
  readonly text: string;
}

/**
 * Every `[SHOW ...]` that stands where a table could, every `AS (SHOW ...)`, brackets included, and every `system.<table>` that is read,
 * in the order of the text.
 * @throws InputError as `parseStatement`, for a bracket that begins like a SHOW of ours and is malformed: Postgres has no
 * meaning for it either, and its error would not help
 */
export function findRowSources(text: string): readonly FoundRowSource[] {
  const brackets = findBrackets(text);
  const tables = findSystemTables(text)
    // What stands in brackets is part of the statement there.
    .filter(({ begin }) => !brackets.some((bracket) => bracket.begin < begin && begin < bracket.end))
    .map(({ table, begin, end, isNamed }) => ({
      node: { kind: 'show_system_table', table } as const,
      begin,
      end,
      alias: isNamed ? undefined : table,
      text: text.slice(begin, end),
    }));
  return tables.length === 0 ? brackets : [...brackets, ...tables].toSorted((a, b) => a.begin - b.begin);
}

function findBrackets(text: string): readonly FoundRowSource[] {
  const sources: FoundRowSource[] = [];
  let place: Place = 'none';
  for (let at = 0; ; ) {
    const token = readToken(text, at);
    if (token.kind === 'end') return sources;
    const closer: ']' | ')' | undefined =
      token.kind === 'symbol' ? closerOf(text.charAt(token.begin), place) : undefined;
    const source: FoundRowSource | undefined =
      closer === undefined ? undefined : readRowSource(text, { opening: token, closer });
    if (source !== undefined) sources.push(source);
    place = source === undefined ? placeAfter(text, token) : 'none';
    at = source?.end ?? token.end;
  }
}

/** What closes a row source that this opens. */
function closerOf(opening: string, place: Place): ']' | ')' | undefined {
  if (opening === '[' && place === 'table') return ']';
  return opening === '(' && place === 'query' ? ')' : undefined;
}

function readRowSource(
  text: string,
  { opening, closer }: { opening: Token; closer: ']' | ')' },
): FoundRowSource | undefined {
  const first = readToken(text, opening.end);
  if (first.kind !== 'identifier' || !SOURCE_WORDS.has(wordOf(text, first))) return undefined;
  const statement = parseEnclosed(text, { begin: first.begin, closer });
  if (statement === undefined) return undefined;
  const closing = readToken(text, statement.end);
  const own = text.slice(opening.end, closing.begin).trim();
  const source = {
    node: statement.node,
    begin: opening.begin,
    end: closing.end,
    alias: undefined,
    text: own,
  };
  return readMomentBehind(text, source) ?? source;
}

/**
 * The moment of a fingerprint may stand where that of a query would: `FROM [SHOW ...] AS OF SYSTEM TIME t`. Postgres has no meaning for that.
 * @throws InputError `syntax`
 */
function readMomentBehind(text: string, source: FoundRowSource): FoundRowSource | undefined {
  const { node } = source;
  if (node.kind !== 'show_fingerprints' || node.asOf !== undefined) return undefined;
  const stream = new TokenStream(text, { begin: source.end, closer: ';' });
  if (!stream.isWords('as', 'of', 'system', 'time')) return undefined;
  const asOf = parseAsOf(stream);
  const end = stream.lastEnd;
  return { ...source, node: { ...node, asOf }, end, text: `${source.text}${text.slice(source.end, end)}` };
}

/** Whether a bracket after this token could stand for a table, not pick an element of an array or begin one. */
function placeAfter(text: string, token: Token): Place {
  if (token.kind === 'identifier') {
    const word = wordOf(text, token);
    if (TABLE_WORDS.has(word)) return 'table';
    return QUERY_WORDS.has(word) ? 'query' : 'none';
  }
  return token.kind === 'symbol' && !')]'.includes(text.charAt(token.begin)) ? 'table' : 'none';
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
