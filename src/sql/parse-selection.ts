/** Jobs and schedules that a statement names: one by its id, or those that a query of Postgres's yields. */
import type { IdQuery, ScheduleSelection } from './ast.ts';
import { foldName } from './characters.ts';
import type { Token } from './lexer.ts';
import { parseScalar } from './parse-value.ts';
import type { TokenStream } from './token-stream.ts';

/** What a query may begin with. */
const FIRST_WORDS = ['select', 'with', 'values', 'table'];
const OPENING = '([';
const CLOSING = ')]';

/** `SCHEDULE id`, or `SCHEDULES query`. @throws InputError `syntax` */
export function parseScheduleSelection(stream: TokenStream): ScheduleSelection {
  if (stream.acceptWords('schedule')) return { kind: 'one', id: parseScalar(stream) };
  stream.expectWords('schedules');
  return parseIdQuery(stream);
}

/**
 * A query up to where the statement ends or goes on with an option. Parentheses around all of it mean nothing.
 * @throws InputError `syntax`
 */
export function parseIdQuery(stream: TokenStream): IdQuery {
  if (!stream.isSymbol('(') && !FIRST_WORDS.some((word) => stream.isWords(word))) stream.fail();
  const tokens: string[] = [];
  let depth = 0;
  /** How many tokens were read when the first parenthesis was closed. */
  let firstClosedAt: number | undefined;
  while (depth > 0 || !isQueryEnd(stream)) {
    const token = stream.peek();
    const source = stream.text.slice(token.begin, token.end);
    const isClosing = token.kind === 'symbol' && CLOSING.includes(source);
    if (token.kind === 'end' || (isClosing && depth === 0)) stream.fail();
    if (isClosing) depth -= 1;
    if (token.kind === 'symbol' && OPENING.includes(source)) depth += 1;
    stream.next();
    tokens.push(normalSource(token, source));
    if (depth === 0) firstClosedAt ??= tokens.length;
  }
  const isWrapped = tokens[0] === '(' && firstClosedAt === tokens.length;
  const inner = isWrapped ? tokens.slice(1, -1) : tokens;
  if (inner.length === 0) stream.fail();
  return { kind: 'query', text: joined(inner) };
}

function isQueryEnd(stream: TokenStream): boolean {
  return (
    stream.isEnd() ||
    stream.peek().kind === 'end' ||
    stream.isWords('with', 'reason') ||
    stream.isWords('with', 'execution', 'details')
  );
}

/** One blank between two tokens, and none within a dotted name. */
function joined(tokens: readonly string[]): string {
  return tokens
    .map((token, at) => (at === 0 || token === '.' || tokens[at - 1] === '.' ? token : ` ${token}`))
    .join('');
}

/** Other blanks, comments and capital letters make no other query. */
function normalSource(token: Token, source: string): string {
  return token.kind === 'identifier' ? foldName(source) : source;
}
