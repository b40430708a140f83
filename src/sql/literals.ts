/** What names and strings mean. Undefined stands for what Postgres refuses too: a bad escape, a zero byte, an empty name. */
import { foldName, isHexDigit, isSpace } from './characters.ts';
import { continuationOf, endOfQuotedPart, escapeClauseOf, type Token } from './lexer.ts';

/** The name an identifier stands for: folded when unquoted. */
export function nameOf(text: string, token: Token): string | undefined {
  const source = text.slice(token.begin, token.end);
  if (token.kind === 'identifier') return foldName(source);
  if (token.kind !== 'quoted_identifier') return undefined;
  const name = source.startsWith('"')
    ? bodyOf(text, { opening: token.begin, end: token.end, backslash: false })
    : unicodeBodyOf(text, token);
  return name === '' ? undefined : withoutZero(name);
}

/** The value of a string constant of any form. */
export function stringOf(text: string, token: Token): string | undefined {
  if (token.kind !== 'string') return undefined;
  switch (text.charAt(token.begin)) {
    case "'":
      return withoutZero(bodyOf(text, { opening: token.begin, end: token.end, backslash: false }));
    case '$': {
      const tagLength = text.indexOf('$', token.begin + 1) + 1 - token.begin;
      return withoutZero(text.slice(token.begin + tagLength, token.end - tagLength));
    }
    case 'e':
    case 'E':
      return withoutZero(
        decodeBackslashes(partsOf(text, { opening: token.begin + 1, end: token.end, backslash: true })),
      );
    default:
      return withoutZero(unicodeBodyOf(text, token));
  }
}

function withoutZero(value: string | undefined): string | undefined {
  return value?.includes('\0') === true ? undefined : value;
}

interface PartsOptions {
  readonly opening: number;
  readonly end: number;
  readonly backslash: boolean;
}

/** What stands between the quotes, doubled quotes made single. */
function bodyOf(text: string, options: PartsOptions): string {
  return partsOf(text, options).join('');
}

/** One part, or several where the string is continued on further lines. */
function partsOf(text: string, options: PartsOptions): readonly string[] {
  const quote = text.charAt(options.opening);
  const parts: string[] = [];
  let opening: number | undefined = options.opening;
  while (opening !== undefined && opening < options.end) {
    const end = endOfQuotedPart(text, { opening, backslash: options.backslash }) ?? options.end;
    parts.push(text.slice(opening + 1, end - 1).replaceAll(quote + quote, quote));
    opening = continuationOf(text, end);
  }
  return parts;
}

function unicodeBodyOf(text: string, token: Token): string | undefined {
  const opening = token.begin + 2;
  let end = endOfQuotedPart(text, { opening, backslash: false }) ?? token.end;
  if (token.kind === 'string') {
    for (let next = continuationOf(text, end); next !== undefined; next = continuationOf(text, end)) {
      end = endOfQuotedPart(text, { opening: next, backslash: false }) ?? token.end;
    }
  }
  const body = bodyOf(text, { opening, end, backslash: false });
  const clause = escapeClauseOf(text, end);
  if (clause === undefined) return decodeUnicode(body, '\\');
  const escape = bodyOf(text, { opening: clause, end: token.end, backslash: false });
  if (escape.length !== 1 || /['"+]/.test(escape)) return undefined;
  if (isHexDigit(escape.charCodeAt(0)) || isSpace(escape.charCodeAt(0))) return undefined;
  return decodeUnicode(body, escape);
}

/** Decodes `\0061`, `\+000061` and `\\`, whatever the escape character is. */
function decodeUnicode(body: string, escape: string): string | undefined {
  const parts: string[] = [];
  let from = 0;
  for (let at = body.indexOf(escape); at !== -1; at = body.indexOf(escape, from)) {
    parts.push(body.slice(from, at));
    if (body.startsWith(escape, at + 1)) {
      parts.push(escape);
      from = at + 2;
      continue;
    }
    const isLong = body.startsWith('+', at + 1);
    const begin = at + (isLong ? 2 : 1);
    from = begin + (isLong ? 6 : 4);
    const character = characterOf(body.slice(begin, from), isLong ? 6 : 4);
    if (character === undefined) return undefined;
    parts.push(character);
  }
  parts.push(body.slice(from));
  return wellFormed(parts.join(''));
}

function characterOf(hex: string, length: number): string | undefined {
  if (hex.length !== length || !/^[0-9a-fA-F]+$/.test(hex)) return undefined;
  const codePoint = Number.parseInt(hex, 16);
  return codePoint > 0x10ffff ? undefined : String.fromCodePoint(codePoint);
}

/** Halves of a pair may be written one by one, but not left alone. */
function wellFormed(value: string): string | undefined {
  return value.isWellFormed() ? value : undefined;
}

const ESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };

const ESCAPE_PATTERN =
  /\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([\s\S]))|[^\\]+/g;

/** Decodes part by part, for an escape ends where its part ends, and so does a pair of halves; bytes may make up a character across parts. */
function decodeBackslashes(parts: readonly string[]): string | undefined {
  const decoded: string[] = [];
  let bytes: number[] = [];
  for (const part of parts) {
    const begin = decoded.length;
    for (const match of part.matchAll(ESCAPE_PATTERN)) {
      const [whole, octal, hex, short, long, other] = match;
      if (octal !== undefined || hex !== undefined) {
        bytes.push(octal === undefined ? Number.parseInt(hex ?? '', 16) : Number.parseInt(octal, 8) & 255);
        continue;
      }
      const character = unescape({ whole, codePoint: short ?? long, other });
      const before = decodeUtf8(bytes);
      if (character === undefined || before === undefined) return undefined;
      decoded.push(before, character);
      bytes = [];
    }
    if (wellFormed(decoded.slice(begin).join('')) === undefined) return undefined;
  }
  const rest = decodeUtf8(bytes);
  return rest === undefined ? undefined : decoded.join('') + rest;
}

function unescape(match: {
  readonly whole: string;
  readonly codePoint: string | undefined;
  readonly other: string | undefined;
}): string | undefined {
  if (match.codePoint !== undefined) return characterOf(match.codePoint, match.codePoint.length);
  if (match.other === undefined) return match.whole;
  return match.other === 'u' || match.other === 'U' ? undefined : (ESCAPES[match.other] ?? match.other);
}

function decodeUtf8(bytes: readonly number[]): string | undefined {
  if (bytes.length === 0) return '';
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return undefined;
  }
}
