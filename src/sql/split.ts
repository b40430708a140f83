import type { Located } from './ast.ts';
import { foldName, isSpace } from './characters.ts';
import { readToken } from './lexer.ts';

const OPENING_PARENTHESIS = 40;
const CLOSING_PARENTHESIS = 41;
const DOT = 46;
const SEMICOLON = 59;

/**
 * The statements of a text, parted by its top-level `;`, which belong to none of them. A piece begins with the comments
 * before its first token, for they may be hints, and ends with its last token. What holds no token is left out.
 */
export function splitStatements(text: string): readonly Located<string>[] {
  const pieces: Located<string>[] = [];
  let state = newStatement(0);
  for (let at = 0; ; ) {
    const token = readToken(text, at);
    const isEnd = token.kind === 'end' && token.unterminated === undefined;
    const isSeparator =
      token.kind === 'symbol' && text.charCodeAt(token.begin) === SEMICOLON && isTopLevel(state);
    if (isEnd || isSeparator) {
      if (state.end > state.begin) {
        const begin = skipSpaces(text, state.begin);
        pieces.push({ node: text.slice(begin, state.end), begin, end: state.end });
      }
      if (isEnd) return pieces;
      state = newStatement(token.end);
    } else {
      if (token.kind === 'identifier') onWord(state, foldName(text.slice(token.begin, token.end)));
      else onOther(state, token.kind === 'symbol' ? text.charCodeAt(token.begin) : undefined);
      state.end = token.end;
    }
    at = token.end;
  }
}

interface State {
  readonly begin: number;
  end: number;
  parentheses: number;
  /** The first words, while they may still make up CREATE [OR REPLACE] FUNCTION | PROCEDURE. */
  head: string;
  isRoutine: boolean;
  /** Open BEGIN ATOMIC and CASE, each closed by an END. */
  blocks: number;
  /** The word before, when it could make the next one a keyword or a label. */
  previous: string | undefined;
}

function newStatement(begin: number): State {
  return { begin, end: begin, parentheses: 0, head: '', isRoutine: false, blocks: 0, previous: undefined };
}

function isTopLevel(state: State): boolean {
  return state.parentheses === 0 && state.blocks === 0;
}

const ROUTINE_HEADS: ReadonlySet<string> = new Set([
  ' create function',
  ' create procedure',
  ' create or replace function',
  ' create or replace procedure',
]);

/** Words that may be part of such a head; any other ends it. */
const HEAD_WORDS: ReadonlySet<string> = new Set(['create', 'or', 'replace', 'function', 'procedure']);

function onWord(state: State, word: string): void {
  if (state.isRoutine) {
    if (state.parentheses === 0) onRoutineWord(state, word);
  } else if (HEAD_WORDS.has(word) && state.head.length < 32) {
    state.head += ` ${word}`;
    state.isRoutine = ROUTINE_HEADS.has(state.head);
  } else {
    state.head = '-';
  }
  state.previous = word;
}

/** The body of a SQL-standard routine holds statements; its END is told from that of a CASE by counting. */
function onRoutineWord(state: State, word: string): void {
  const { previous } = state;
  if (previous === 'as' || previous === '.') return;
  if (word === 'atomic' && previous === 'begin') state.blocks += 1;
  else if (word === 'case' && state.blocks > 0) state.blocks += 1;
  else if (word === 'end' && state.blocks > 0) state.blocks -= 1;
}

function onOther(state: State, symbol: number | undefined): void {
  if (!state.isRoutine) state.head = '-';
  state.previous = symbol === DOT ? '.' : undefined;
  if (symbol === OPENING_PARENTHESIS) state.parentheses += 1;
  else if (symbol === CLOSING_PARENTHESIS && state.parentheses > 0) state.parentheses -= 1;
}

function skipSpaces(text: string, from: number): number {
  let at = from;
  while (isSpace(text.charCodeAt(at))) at += 1;
  return at;
}
