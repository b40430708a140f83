/** Postgres's own statements that change who may do what: they are audited. */
import { readToken } from './lexer.ts';
import { REDACTED } from './redact.ts';

/** First words of such statements, with the second words that make them so; undefined when every second word does. */
const HEADS: ReadonlyMap<string, ReadonlySet<string> | undefined> = new Map([
  ['grant', undefined],
  ['revoke', undefined],
  ['create', new Set(['role', 'user', 'group'])],
  ['alter', new Set(['role', 'user', 'group', 'default'])],
  ['drop', new Set(['role', 'user', 'group', 'owned'])],
  ['reassign', new Set(['owned'])],
]);

/** Heads of it that no statement of ours has: the test for what may be ours lets them through for the audit. */
export const AUDITED_HEADS: readonly (readonly [string, string])[] = [
  ['create', 'group'],
  ['alter', 'group'],
  ['drop', 'role'],
  ['drop', 'user'],
  ['drop', 'group'],
  ['drop', 'owned'],
  ['reassign', 'owned'],
];

/** Longer statements are cut, in characters. */
const SHOWN_LENGTH_MAX = 4096;

/** Whether one statement changes roles or their rights. It reads two words. */
export function changesPrivileges(text: string): boolean {
  const first = readToken(text, 0);
  const seconds = HEADS.get(text.slice(first.begin, first.end).toLowerCase());
  if (seconds === undefined) return HEADS.has(text.slice(first.begin, first.end).toLowerCase());
  const second = readToken(text, first.end);
  return seconds.has(text.slice(second.begin, second.end).toLowerCase());
}

/** The statement as the audit shows it: without its strings, of which one may be a password. */
export function withoutStrings(text: string): string {
  let shown = '';
  let from = 0;
  while (shown.length < SHOWN_LENGTH_MAX) {
    const token = readToken(text, from);
    // What was opened and never closed may be a string, too.
    if (token.kind === 'end') break;
    const isString = token.kind === 'string' || token.kind === 'bit_string';
    const gap = shown === '' || token.begin === from ? '' : ' ';
    shown += `${gap}${isString ? `'${REDACTED}'` : text.slice(token.begin, token.end)}`;
    from = token.end;
  }
  return shown.slice(0, SHOWN_LENGTH_MAX);
}
