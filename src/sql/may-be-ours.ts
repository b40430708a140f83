/**
 * The test that every Query and Parse message passes: may the text hold a statement of ours, or one that is audited? It looks at bytes, allocates
 * nothing, and knows no strings, so it says yes too often (the parser then decides) but never no too often.
 */
import { RULES } from './parser.ts';
import { AUDITED_HEADS } from './privilege-change.ts';
import { SYSTEM_SCHEMA_SPELLINGS } from './system-table.ts';

/** A first word, and the second words it may be followed by; undefined when it needs none. Lower case. */
interface Head {
  readonly first: Uint8Array;
  readonly seconds: readonly Uint8Array[] | undefined;
}

const ENCODER = new TextEncoder();

/** The heads that begin with a letter, by that letter in lower case. */
const HEADS: readonly (readonly Head[] | undefined)[] = headsByLetter();

function headsByLetter(): readonly (readonly Head[] | undefined)[] {
  const heads: (Head[] | undefined)[] = Array.from({ length: 256 }, () => undefined);
  const openings: readonly (readonly (string | undefined)[])[] = [
    ...RULES.map(({ words }) => words),
    ...AUDITED_HEADS,
  ];
  for (const [first, words] of Map.groupBy(openings, ([word]) => word ?? '')) {
    const seconds = new Set(words.map(([, second]) => second));
    const letter = first.charCodeAt(0);
    heads[letter] ??= [];
    heads[letter].push({
      first: ENCODER.encode(first),
      seconds: seconds.has(undefined) ? undefined : [...seconds].map((second) => ENCODER.encode(second)),
    });
  }
  return heads;
}

/** Bytes of comments that are skipped in one text; past them the parser shall decide, for comments may be read repeatedly. */
const COMMENT_BYTES_MAX = 16_384;

const SPACE = 32;
const ASTERISK = 42;
const MINUS = 45;
const DOT = 46;
const SLASH = 47;
const SEMICOLON = 59;
const OPENING_BRACKET = 91;
const UNDERSCORE = 95;
/** Set in small ASCII letters, clear in capital ones. */
const CASE_BIT = 32;

/** As `mayBeOursBytes`, for a text that is already decoded. */
export function mayBeOurs(text: string): boolean {
  const bytes = ENCODER.encode(text);
  return mayBeOursBytes(bytes, 0, bytes.length);
}

/**
 * Whether the statements encoded in `bytes[begin, end)` may include one of ours, or a row source of ours in brackets.
 * The bytes may be in any client encoding, all of which keep ASCII.
 */
export function mayBeOursBytes(bytes: Uint8Array, begin: number, end: number): boolean {
  let commentBytes = skipToHead(bytes, begin, end);
  if (commentBytes === IS_OURS || mayHoldQueryOfOurs(bytes, begin, end)) return true;
  const isLong = end - begin >= LONG_TEXT_BYTES_MIN;
  if (isLong && holdsSystemSchema(bytes, begin, end)) return true;
  let at = isLong ? firstOpener(bytes, begin, end) : nextOpener(bytes, begin, end);
  for (; at < end; at = nextOpener(bytes, at + 1, end)) {
    if (bytes[at] === DOT) {
      if (isSystemSchemaAt(bytes, begin, at)) return true;
      continue;
    }
    const more = skipToHead(bytes, at + 1, end);
    if (more === IS_OURS) return true;
    commentBytes += more;
    if (commentBytes > COMMENT_BYTES_MAX) return true;
  }
  return false;
}

const OPENING_PARENTHESIS = 40;
const WITH = ENCODER.encode('with');

/** A text that begins with WITH may hold `AS (SHOW ...)`; no other has one where it matters. */
function mayHoldQueryOfOurs(bytes: Uint8Array, begin: number, end: number): boolean {
  const start = skipBlanks(bytes, begin, end);
  if (endOfWord(bytes, WITH, start, end) === -1) return false;
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, end);
  let commentBytes = 0;
  for (
    let at = view.indexOf(OPENING_PARENTHESIS, start);
    at !== -1;
    at = view.indexOf(OPENING_PARENTHESIS, at + 1)
  ) {
    const more = skipToHead(bytes, at + 1, end);
    if (more === IS_OURS) return true;
    commentBytes += more;
    if (commentBytes > COMMENT_BYTES_MAX) return true;
  }
  return false;
}

/** Behind blanks and comments. */
function skipBlanks(bytes: Uint8Array, from: number, end: number): number {
  let at = skipSpaces(bytes, from, end);
  while (isCommentAt(bytes, at, end)) at = skipSpaces(bytes, skipComment(bytes, at, end), end);
  return at;
}

/** From this length on it pays to let the C library look for the first opener: it is 80 times as fast per byte. */
const LONG_TEXT_BYTES_MIN = 512;

/** Bytes behind which a statement or a row source may begin, or a table of ours be named. */
const OPENERS = new Uint8Array(256);
OPENERS[DOT] = 1;
OPENERS[SEMICOLON] = 1;
OPENERS[OPENING_BRACKET] = 1;

const SYSTEM_SCHEMAS = SYSTEM_SCHEMA_SPELLINGS.map((schema) => Buffer.from(`${schema}.`));
/** Without their first letter, which is a common one: the search looks for the first byte, then for the rest. */
const RARE_ENDS = SYSTEM_SCHEMAS.map((schema) => schema.subarray(1));
const LETTER_M = 109;

/** Whether the dot at `dot` ends `system.`: most dots are told by the letter before. */
function isSystemSchemaAt(bytes: Uint8Array, begin: number, dot: number): boolean {
  const start = dot - 6;
  if (start < begin || ((bytes[dot - 1] as number) | CASE_BIT) !== LETTER_M) return false;
  return SYSTEM_SCHEMAS.some((schema) => schema.every((byte, at) => bytes[start + at] === byte));
}

/** Whether `system.` may stand in a long text, which has many dots: asks the C library. */
function holdsSystemSchema(bytes: Uint8Array, begin: number, end: number): boolean {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset + begin, end - begin);
  return RARE_ENDS.some((ending) => view.includes(ending));
}

/** Where the next `;`, `[` or `.` stands, `end` when there is none. One read per byte: this loop is what the test costs. */
function nextOpener(bytes: Uint8Array, from: number, end: number): number {
  let at = from;
  // The index is inside: `at < end`, so no check for a missing byte slows the loop.
  while (at < end && OPENERS[bytes[at] as number] === 0) at += 1;
  return at;
}

/** Where the first `;` or `[` stands, `end` when there is none. */
function firstOpener(bytes: Uint8Array, begin: number, end: number): number {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset + begin, end - begin);
  const semicolon = view.indexOf(SEMICOLON);
  const bracket = view.subarray(0, semicolon === -1 ? view.length : semicolon).indexOf(OPENING_BRACKET);
  const first = bracket === -1 ? semicolon : bracket;
  return first === -1 ? end : begin + first;
}

const IS_OURS = -1;

/** `IS_OURS` if one of our heads comes next, else how many bytes of comments were read to see that none does. */
function skipToHead(bytes: Uint8Array, from: number, end: number): number {
  let commentBytes = 0;
  for (let start = skipSpaces(bytes, from, end); start < end; start = skipSpaces(bytes, start, end)) {
    const heads = HEADS[(bytes[start] ?? 0) | CASE_BIT];
    if (heads !== undefined) return isHeadAt(bytes, start, end, heads) ? IS_OURS : commentBytes;
    if (!isCommentAt(bytes, start, end)) break;
    const after = skipComment(bytes, start, end);
    commentBytes += after - start;
    start = after;
  }
  return commentBytes;
}

function isHeadAt(bytes: Uint8Array, start: number, end: number, heads: readonly Head[]): boolean {
  for (const { first, seconds } of heads) {
    const firstEnd = endOfWord(bytes, first, start, end);
    if (firstEnd === -1) continue;
    if (seconds === undefined) return true;
    const next = skipSpaces(bytes, firstEnd, end);
    if (isCommentAt(bytes, next, end)) return true;
    return seconds.some((second) => endOfWord(bytes, second, next, end) !== -1);
  }
  return false;
}

/** Where `word` ends if it stands at `start`, case ignored, and no letter follows; -1 otherwise. */
function endOfWord(bytes: Uint8Array, word: Uint8Array, start: number, end: number): number {
  const wordEnd = start + word.length;
  if (wordEnd > end) return -1;
  for (let index = 0; index < word.length; index += 1) {
    const byte = bytes[start + index] ?? 0;
    const letter = word[index];
    if ((letter === UNDERSCORE ? byte : byte | CASE_BIT) !== letter) return -1;
  }
  return wordEnd < end && isWordByte(bytes[wordEnd] ?? 0) ? -1 : wordEnd;
}

function isWordByte(byte: number): boolean {
  const letter = byte | CASE_BIT;
  if (letter >= 97 && letter <= 122) return true;
  return (byte >= 48 && byte <= 57) || byte === UNDERSCORE || byte === 36 || byte >= 128;
}

function skipSpaces(bytes: Uint8Array, from: number, end: number): number {
  let at = from;
  while (at < end && isSpaceByte(bytes[at] ?? 0)) at += 1;
  return at;
}

function isSpaceByte(byte: number): boolean {
  return byte === SPACE || (byte >= 9 && byte <= 13);
}

function isCommentAt(bytes: Uint8Array, at: number, end: number): boolean {
  if (at + 1 >= end) return false;
  const byte = bytes[at];
  return byte === MINUS ? bytes[at + 1] === MINUS : byte === SLASH && bytes[at + 1] === ASTERISK;
}

/** Behind the comment that begins at `from`, or `end` if it is not closed. */
function skipComment(bytes: Uint8Array, from: number, end: number): number {
  let at = from + 2;
  if (bytes[from] === MINUS) {
    while (at < end && bytes[at] !== 10 && bytes[at] !== 13) at += 1;
    return at;
  }
  for (let depth = 1; at < end; at += 1) {
    if (bytes[at] === ASTERISK && bytes[at + 1] === SLASH) {
      depth -= 1;
      at += 1;
      if (depth === 0) return at + 1;
    } else if (bytes[at] === SLASH && bytes[at + 1] === ASTERISK) {
      depth += 1;
      at += 1;
    }
  }
  return end;
}
