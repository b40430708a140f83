import { InputError } from '../base/index.ts';
import { foldName, isIdentifierPart } from './characters.ts';
import type { StatementHelp } from './help.ts';
import { readToken, type Token, type Unterminated } from './lexer.ts';
import { nameOf, stringOf } from './literals.ts';
import { isReservedWord } from './quote.ts';

/** What ends a statement: `;` or the end of the text, or only the bracket that closes a row source. */
export type Closer = ';' | ']' | ')';

/** Longest piece of a statement that an error repeats. */
const QUOTED_TEXT_LENGTH_MAX = 64;

const MINUS = 45;

const OPENINGS: Readonly<Record<Unterminated, string>> = {
  comment: '/*',
  string: "'",
  quoted_identifier: '"',
};

/** A statement's tokens, read as far as the parser asks. Every error it makes points at a token and shows the synopsis. */
export class TokenStream {
  readonly text: string;
  readonly #closer: Closer;
  #help: StatementHelp | undefined;
  #offset: number;
  #ahead: Token[] = [];
  #last: Token | undefined;

  constructor(text: string, options: { begin: number; closer: Closer }) {
    this.text = text;
    this.#offset = options.begin;
    this.#closer = options.closer;
  }

  /** From now on errors carry this statement's synopsis. */
  describe(help: StatementHelp): void {
    this.#help = help;
  }

  /** End of the token taken last. */
  get lastEnd(): number {
    return this.#last?.end ?? this.#offset;
  }

  peek(ahead = 0): Token {
    for (;;) {
      const token = this.#ahead[ahead];
      if (token !== undefined) return token;
      const from = this.#ahead.at(-1)?.end ?? this.#offset;
      this.#ahead.push(readToken(this.text, from));
    }
  }

  next(): Token {
    const token = this.peek();
    this.#ahead.shift();
    this.#offset = token.end;
    this.#last = token;
    return token;
  }

  isEnd(): boolean {
    if (this.isSymbol(this.#closer)) return true;
    const { kind, unterminated } = this.peek();
    return this.#closer === ';' && kind === 'end' && unterminated === undefined;
  }

  isSymbol(symbol: string, ahead = 0): boolean {
    const token = this.peek(ahead);
    return (
      token.kind === 'symbol' &&
      token.end - token.begin === symbol.length &&
      this.text.startsWith(symbol, token.begin)
    );
  }

  /** The keyword a token would be, in lower case; undefined when it is no unquoted word. */
  word(ahead = 0): string | undefined {
    const token = this.peek(ahead);
    if (token.kind !== 'identifier') return undefined;
    return foldName(this.text.slice(token.begin, token.end));
  }

  /** Whether these keywords come next. */
  isWords(...words: readonly string[]): boolean {
    return words.every((word, ahead) => this.word(ahead) === word);
  }

  /** Takes these keywords if all of them come next. */
  acceptWords(...words: readonly string[]): boolean {
    if (!this.isWords(...words)) return false;
    for (const _ of words) this.next();
    return true;
  }

  acceptSymbol(symbol: string): boolean {
    if (!this.isSymbol(symbol)) return false;
    this.next();
    return true;
  }

  /** @throws InputError `syntax` at the first that is missing */
  expectWords(...words: readonly string[]): void {
    for (const word of words) if (!this.acceptWords(word)) this.fail();
  }

  /** @throws InputError `syntax` */
  expectSymbol(symbol: string): void {
    if (!this.acceptSymbol(symbol)) this.fail();
  }

  /** A name that is not a reserved word. @throws InputError `syntax` */
  name(): string {
    const word = this.word();
    if (word !== undefined && isReservedWord(word)) this.fail();
    return this.anyName();
  }

  /** A name that may be a reserved word, as after a dot. @throws InputError `syntax` */
  anyName(): string {
    const token = this.peek();
    if (token.kind !== 'identifier' && token.kind !== 'quoted_identifier') this.fail();
    const name = nameOf(this.text, token) ?? this.fail();
    this.next();
    return name;
  }

  /** A name in which unquoted words and numbers may be joined by hyphens: `main-readonly`. @throws InputError `syntax` */
  hyphenatedName(): string {
    const { kind, begin, end: wordEnd } = this.peek();
    const end = kind === 'identifier' ? this.#endOfHyphenated(wordEnd) : wordEnd;
    if (end === wordEnd) return this.name();
    this.#ahead = [];
    this.#offset = end;
    this.#last = { kind: 'identifier', begin, end, unterminated: undefined };
    return foldName(this.text.slice(begin, end));
  }

  #endOfHyphenated(from: number): number {
    let end = from;
    while (this.text.charCodeAt(end) === MINUS && isIdentifierPart(this.text.charCodeAt(end + 1))) {
      end += 1;
      while (isIdentifierPart(this.text.charCodeAt(end))) end += 1;
    }
    return end;
  }

  /** A string constant; a name in double quotes is taken as one, as people write it. @throws InputError `syntax` */
  string(): string {
    const token = this.peek();
    const value =
      stringOf(this.text, token) ??
      (token.kind === 'quoted_identifier' ? nameOf(this.text, token) : undefined);
    if (value === undefined) this.fail();
    this.next();
    return value;
  }

  /** @throws InputError `syntax` at the next token */
  fail(): never {
    const token = this.peek();
    throw this.errorAt(token.begin, `at or near ${this.#show(token)}: ${problemOf(token)}`);
  }

  /** A syntax error of this statement, to be thrown. */
  errorAt(offset: number, message: string): InputError<'syntax'> {
    const hint = this.#help === undefined ? {} : { hint: `usage: ${this.#help.synopsis.join('\n')}` };
    return new InputError('syntax', message, { ...hint, position: positionOf(this.text, offset) });
  }

  /** @throws InputError `parameter_read_only` */
  refuseReadOnly(parameter: string, hint: string): never {
    throw new InputError('parameter_read_only', `parameter "${parameter}" cannot be changed`, { hint });
  }

  /** @throws InputError `feature_not_supported` at the next token */
  refuse(message: string, hint: string): never {
    throw new InputError('feature_not_supported', message, {
      hint,
      position: positionOf(this.text, this.peek().begin),
    });
  }

  /** A string may hold a secret, and so may a name in which somebody put a URI: those are never repeated. */
  #show(token: Token): string {
    if (token.kind === 'string' || token.kind === 'bit_string') return `"'...'"`;
    if (token.unterminated !== undefined) return `"${OPENINGS[token.unterminated]}"`;
    if (token.kind === 'end') return '"EOF"';
    const end = Math.min(token.end, token.begin + QUOTED_TEXT_LENGTH_MAX);
    const source = this.text.slice(token.begin, end);
    if (token.kind !== 'quoted_identifier') return `"${source}"`;
    return /[:?=]/.test(source) ? '"..."' : source;
  }
}

/** One-based character of the text, as clients count: a pair of UTF-16 halves is one. */
export function positionOf(text: string, offset: number): number {
  let position = 1;
  for (let at = 0; at < offset; at += 1) {
    const isHighHalf = (text.charCodeAt(at) & 0xfc00) === 0xd800;
    if (isHighHalf && (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00) at += 1;
    position += 1;
  }
  return position;
}

function problemOf(token: Token): string {
  if (token.unterminated === undefined) return 'syntax error';
  return `unterminated ${token.unterminated === 'quoted_identifier' ? 'quoted identifier' : token.unterminated}`;
}
