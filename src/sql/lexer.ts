/**
 * Tokens by PostgreSQL's lexical rules (scan.l, `standard_conforming_strings` on). It reads foreign SQL, so it never throws,
 * and it reads what clients send, so it is linear in the length of the text whatever that text is.
 */
import {
  isDigit,
  isHexDigit,
  isIdentifierPart,
  isIdentifierStart,
  isOperator,
  isSpace,
} from './characters.ts';

export type TokenKind =
  | 'identifier'
  | 'quoted_identifier'
  | 'string'
  | 'bit_string'
  | 'number'
  | 'placeholder'
  /** An operator or a punctuation mark; its text says which. */
  | 'symbol'
  /** A number or placeholder with letters attached, which Postgres refuses. */
  | 'junk'
  | 'end';

export type Unterminated = 'comment' | 'string' | 'quoted_identifier';

/** What a token means is decoded on demand by `literals.ts`; reading one costs no copy of the text. */
export interface Token {
  readonly kind: TokenKind;
  /** Zero-based UTF-16 offsets, `end` exclusive. */
  readonly begin: number;
  readonly end: number;
  /** On an `end` token: what was opened at `begin` and never closed; the token then reaches to the end of the text. */
  readonly unterminated: Unterminated | undefined;
}

const DOUBLE_QUOTE = 34;
const DOLLAR = 36;
const AMPERSAND = 38;
const QUOTE = 39;
const ASTERISK = 42;
const PLUS = 43;
const MINUS = 45;
const DOT = 46;
const SLASH = 47;
const COLON = 58;
const EQUALS = 61;
const BACKSLASH = 92;
const UNDERSCORE = 95;

/** Postgres refuses longer operators, so looking further would only cost time. */
const OPERATOR_LENGTH_MAX = 63;

/** The first token at or after `from`, blanks and comments skipped. */
export function readToken(text: string, from: number): Token {
  const begin = skipBlanks(text, from);
  if (begin >= text.length) return token('end', text.length, text.length);
  const code = text.charCodeAt(begin);
  if (isIdentifierStart(code)) return readWord(text, begin, code);
  if (isDigit(code)) return readNumber(text, begin);
  switch (code) {
    case QUOTE:
      return quoted('string', { text, begin, opening: begin });
    case DOUBLE_QUOTE:
      return quoted('quoted_identifier', { text, begin, opening: begin });
    case DOLLAR:
      return readDollar(text, begin);
    case DOT:
      if (isDigit(text.charCodeAt(begin + 1))) return readNumber(text, begin);
      return token('symbol', begin, begin + (text.charCodeAt(begin + 1) === DOT ? 2 : 1));
    case COLON: {
      const next = text.charCodeAt(begin + 1);
      return token('symbol', begin, begin + (next === COLON || next === EQUALS ? 2 : 1));
    }
    default:
      if (code === SLASH && text.charCodeAt(begin + 1) === ASTERISK)
        return unterminated(text, begin, 'comment');
      if (isOperator(code)) return readOperator(text, begin);
      return token('symbol', begin, begin + 1);
  }
}

/** Position of the first character that is neither blank nor comment, or of a comment that is never closed. */
export function skipBlanks(text: string, from: number): number {
  let at = from;
  for (;;) {
    const code = text.charCodeAt(at);
    if (isSpace(code)) {
      at += 1;
    } else if (code === MINUS && text.charCodeAt(at + 1) === MINUS) {
      at = endOfLineComment(text, at);
    } else if (code === SLASH && text.charCodeAt(at + 1) === ASTERISK) {
      const end = endOfBlockComment(text, at);
      if (end === undefined) return at;
      at = end;
    } else {
      return at;
    }
  }
}

/** Where the quoted thing that opens at `opening` ends, continuation lines included; undefined when it never does. */
export function endOfQuoted(
  text: string,
  options: { readonly opening: number; readonly backslash: boolean; readonly continued: boolean },
): number | undefined {
  let opening = options.opening;
  for (;;) {
    const end = endOfQuotedPart(text, { opening, backslash: options.backslash });
    if (end === undefined || !options.continued) return end;
    const next = continuationOf(text, end);
    if (next === undefined) return end;
    opening = next;
  }
}

/** Where one `'...'` or `"..."` ends; undefined when it never does. */
export function endOfQuotedPart(
  text: string,
  options: { readonly opening: number; readonly backslash: boolean },
): number | undefined {
  const quote = text.charCodeAt(options.opening);
  for (let at = options.opening + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH && options.backslash) {
      at += 1;
    } else if (code === quote) {
      if (text.charCodeAt(at + 1) !== quote) return at + 1;
      at += 1;
    }
  }
  return undefined;
}

/** A string goes on after blanks that hold a line break: the position of the next opening quote, if it does. */
export function continuationOf(text: string, from: number): number | undefined {
  let at = from;
  let hasLineBreak = false;
  for (;;) {
    const code = text.charCodeAt(at);
    if (code === 10 || code === 13) {
      hasLineBreak = true;
      at += 1;
    } else if (isSpace(code)) {
      at += 1;
    } else if (code === MINUS && text.charCodeAt(at + 1) === MINUS) {
      at = endOfLineComment(text, at);
    } else {
      return hasLineBreak && code === QUOTE ? at : undefined;
    }
  }
}

/** The opening quote of `UESCAPE 'x'` after a `U&` literal that ends at `from`, if that clause follows. */
export function escapeClauseOf(text: string, from: number): number | undefined {
  const begin = skipBlanks(text, from);
  if (text.slice(begin, begin + 7).toLowerCase() !== 'uescape') return undefined;
  if (isIdentifierPart(text.charCodeAt(begin + 7))) return undefined;
  const opening = skipBlanks(text, begin + 7);
  return text.charCodeAt(opening) === QUOTE ? opening : undefined;
}

function token(kind: TokenKind, begin: number, end: number): Token {
  return { kind, begin, end, unterminated: undefined };
}

function unterminated(text: string, begin: number, what: Unterminated): Token {
  return { kind: 'end', begin, end: text.length, unterminated: what };
}

function endOfLineComment(text: string, from: number): number {
  let at = from;
  while (at < text.length && text.charCodeAt(at) !== 10 && text.charCodeAt(at) !== 13) at += 1;
  return at;
}

function endOfBlockComment(text: string, from: number): number | undefined {
  let depth = 1;
  for (let at = from + 2; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === ASTERISK && text.charCodeAt(at + 1) === SLASH) {
      at += 1;
      depth -= 1;
      if (depth === 0) return at + 1;
    } else if (code === SLASH && text.charCodeAt(at + 1) === ASTERISK) {
      at += 1;
      depth += 1;
    }
  }
  return undefined;
}

function readWord(text: string, begin: number, code: number): Token {
  const next = text.charCodeAt(begin + 1);
  if (next === QUOTE) {
    const letter = code | 32;
    if (letter === 101) return quoted('string', { text, begin, opening: begin + 1, backslash: true });
    if (letter === 98 || letter === 120) return quoted('bit_string', { text, begin, opening: begin + 1 });
  }
  if (next === AMPERSAND && (code | 32) === 117) {
    const opening = text.charCodeAt(begin + 2);
    if (opening === QUOTE) return quoted('string', { text, begin, opening: begin + 2, unicode: true });
    if (opening === DOUBLE_QUOTE) {
      return quoted('quoted_identifier', { text, begin, opening: begin + 2, unicode: true });
    }
  }
  return token('identifier', begin, endOfWord(text, begin));
}

function endOfWord(text: string, begin: number): number {
  let end = begin;
  while (isIdentifierPart(text.charCodeAt(end))) end += 1;
  return end;
}

interface QuotedOptions {
  readonly text: string;
  readonly begin: number;
  readonly opening: number;
  readonly backslash?: boolean;
  readonly unicode?: boolean;
}

function quoted(kind: 'string' | 'bit_string' | 'quoted_identifier', options: QuotedOptions): Token {
  const { text, begin, opening, backslash = false, unicode = false } = options;
  const end = endOfQuoted(text, { opening, backslash, continued: kind !== 'quoted_identifier' });
  if (end === undefined) return unterminated(text, begin, kind === 'bit_string' ? 'string' : kind);
  if (!unicode) return token(kind, begin, end);
  const clause = escapeClauseOf(text, end);
  if (clause === undefined) return token(kind, begin, end);
  const clauseEnd = endOfQuoted(text, { opening: clause, backslash: false, continued: true });
  return clauseEnd === undefined ? unterminated(text, clause, 'string') : token(kind, begin, clauseEnd);
}

/** `$1`, `$tag$...$tag$`, or a lone `$`. */
function readDollar(text: string, begin: number): Token {
  let end = begin + 1;
  if (isDigit(text.charCodeAt(end))) {
    while (isDigit(text.charCodeAt(end))) end += 1;
    return withoutJunk(text, token('placeholder', begin, end));
  }
  if (isIdentifierStart(text.charCodeAt(end))) {
    while (isIdentifierPart(text.charCodeAt(end)) && text.charCodeAt(end) !== DOLLAR) end += 1;
  }
  if (text.charCodeAt(end) !== DOLLAR) return token('symbol', begin, begin + 1);
  const tag = text.slice(begin, end + 1);
  const closing = text.indexOf(tag, end + 1);
  return closing === -1 ? unterminated(text, begin, 'string') : token('string', begin, closing + tag.length);
}

function readNumber(text: string, begin: number): Token {
  const radixEnd = endOfRadixNumber(text, begin);
  if (radixEnd !== undefined) return withoutJunk(text, token('number', begin, radixEnd));
  let end = endOfDigits(text, begin, isDigit);
  // `1..2` is a range in PL/pgSQL, not a fraction.
  if (text.charCodeAt(end) === DOT && text.charCodeAt(end + 1) !== DOT) {
    end = endOfDigits(text, end + 1, isDigit);
  }
  if ((text.charCodeAt(end) | 32) === 101) {
    const sign = text.charCodeAt(end + 1);
    const digits = end + (sign === PLUS || sign === MINUS ? 2 : 1);
    if (isDigit(text.charCodeAt(digits))) end = endOfDigits(text, digits, isDigit);
  }
  return withoutJunk(text, token('number', begin, end));
}

function endOfRadixNumber(text: string, begin: number): number | undefined {
  if (text.charCodeAt(begin) !== 48) return undefined;
  const accepts = RADIX_DIGITS.get(text.charCodeAt(begin + 1) | 32);
  if (accepts === undefined) return undefined;
  const first = text.charCodeAt(begin + 2) === UNDERSCORE ? begin + 3 : begin + 2;
  return accepts(text.charCodeAt(first)) ? endOfDigits(text, first, accepts) : undefined;
}

const RADIX_DIGITS: ReadonlyMap<number, (code: number) => boolean> = new Map([
  [120, isHexDigit],
  [111, (code: number) => code >= 48 && code <= 55],
  [98, (code: number) => code === 48 || code === 49],
]);

/** Digits may be parted by single underscores. */
function endOfDigits(text: string, begin: number, accepts: (code: number) => boolean): number {
  let end = begin;
  for (;;) {
    if (accepts(text.charCodeAt(end))) end += 1;
    else if (end > begin && text.charCodeAt(end) === UNDERSCORE && accepts(text.charCodeAt(end + 1)))
      end += 2;
    else return end;
  }
}

function withoutJunk(text: string, read: Token): Token {
  if (!isIdentifierStart(text.charCodeAt(read.end))) return read;
  return token('junk', read.begin, endOfWord(text, read.end));
}

/**
 * The longest run of operator characters that holds no comment. A run may end in `+` or `-` only if it holds a character
 * that standard SQL operators don't, so that `=-1` is two tokens and a sign.
 */
function readOperator(text: string, begin: number): Token {
  let end = begin;
  let isExtended = false;
  while (end - begin < OPERATOR_LENGTH_MAX && isOperator(text.charCodeAt(end))) {
    const code = text.charCodeAt(end);
    const next = text.charCodeAt(end + 1);
    if (end > begin && ((code === MINUS && next === MINUS) || (code === SLASH && next === ASTERISK))) break;
    isExtended ||= '~!@#^&|`?%'.includes(text.charAt(end));
    end += 1;
  }
  while (!isExtended && end - begin > 1 && isSign(text.charCodeAt(end - 1))) end -= 1;
  return token('symbol', begin, end);
}

function isSign(code: number): boolean {
  return code === PLUS || code === MINUS;
}
