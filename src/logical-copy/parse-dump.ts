/**
 * Takes a plain dump apart again. pg_dump --verbose writes a comment before each piece that names the object by its numbers; only comments
 * that stand at the top level count, so nothing that a tenant has written can look like one.
 */
import { AppError } from '../base/index.ts';
import type { SchemaEntry } from './contract.ts';

const HEAD =
  /^--\n-- TOC entry (\d+) \(class (\d+) OID (\d+)\)\n(?:-- Dependencies:((?: \d+)+)\n)?-- Name: (.*)\n--\n/;
/** What is set for the pieces that follow. There is one way of storing tables. */
const SETTING_OF_NEXT = /\n\n\nSET default_table_access_method = heap;$/;
const BLOCK_COMMENT = /\/\*|\*\//g;

/** @throws AppError `copy_failed` when it is no dump of the expected form */
export function parseDump(text: string, { restrictKey }: { restrictKey: string }): readonly SchemaEntry[] {
  const starts = entryStarts(text);
  return starts.map((start, index) => {
    const piece = text.slice(start, starts[index + 1] ?? endOf(text, restrictKey));
    const match = HEAD.exec(piece);
    if (match === null) throw malformed();
    const [head, id, classOid, oid, dependencies = '', name = ''] = match;
    return {
      id: Number(id),
      classOid: Number(classOid),
      oid: Number(oid),
      type: typeOf(name),
      dependencies: dependencies.split(' ').filter(Boolean).map(Number),
      sql: piece.slice(head.length).trim().replace(SETTING_OF_NEXT, ''),
    };
  });
}

/** `Name: ...; Type: TABLE; Schema: ...; Owner: -`: what follows the type has no `; ` unless a name has; a type is upper case. */
function typeOf(name: string): string {
  const types = [...name.matchAll(/; Type: ([A-Z][A-Z ]*); Schema: /g)].map(([, type]) => type);
  const [type] = types;
  // A name that looks like the rest of the line: nobody can say which is which.
  if (type === undefined || new Set(types).size !== 1) throw malformed();
  return type;
}

/** Where comments begin that name a piece, at the top level of the text. */
function entryStarts(text: string): number[] {
  const starts: number[] = [];
  for (let at = 0; at < text.length; ) {
    if (text.startsWith('--\n-- TOC entry ', at) && isLineStart(text, at)) starts.push(at);
    at = nextToken(text, at);
  }
  return starts;
}

function isLineStart(text: string, at: number): boolean {
  return at === 0 || text.charAt(at - 1) === '\n';
}

/** Behind the token, or the character between tokens, at this place. */
function nextToken(text: string, at: number): number {
  const rest = text.charAt(at);
  switch (rest) {
    case "'":
      return afterString(text, at);
    case '"':
      return afterQuote(text, at + 1, '"');
    case '$':
      return afterDollar(text, at);
    case '-':
      return text.startsWith('--', at) ? afterLine(text, at) : at + 1;
    case '/':
      return text.startsWith('/*', at) ? afterBlock(text, at) : at + 1;
    default:
      return isWord(rest) ? afterWord(text, at) : at + 1;
  }
}

function isWord(char: string): boolean {
  return /[\p{L}\p{N}_]/u.test(char) || char > '\u007f';
}

/** A word, or a string of the form `E'...'`. In a word `$` is a letter. */
function afterWord(text: string, at: number): number {
  let end = at;
  while (end < text.length && (isWord(text.charAt(end)) || text.charAt(end) === '$')) end += 1;
  const isEscaped = end === at + 1 && /e/i.test(text.charAt(at)) && text.charAt(end) === "'";
  return isEscaped ? afterEscaped(text, end + 1) : end;
}

function afterString(text: string, at: number): number {
  return afterQuote(text, at + 1, "'");
}

function afterQuote(text: string, from: number, quote: string): number {
  for (let at = text.indexOf(quote, from); at >= 0; at = text.indexOf(quote, at + 2)) {
    if (text.charAt(at + 1) !== quote) return at + 1;
  }
  throw malformed();
}

function afterEscaped(text: string, from: number): number {
  for (let at = from; at < text.length; at += 1) {
    const char = text.charAt(at);
    if (char === '\\') at += 1;
    else if (char === "'" && text.charAt(at + 1) === "'") at += 1;
    else if (char === "'") return at + 1;
  }
  throw malformed();
}

function afterDollar(text: string, at: number): number {
  const tag = /^\$(?:[\p{L}_][\p{L}\p{N}_]*)?\$/u.exec(text.slice(at, at + 130))?.[0];
  if (tag === undefined) return at + 1;
  const end = text.indexOf(tag, at + tag.length);
  if (end < 0) throw malformed();
  return end + tag.length;
}

function afterLine(text: string, at: number): number {
  const end = text.indexOf('\n', at);
  return end < 0 ? text.length : end + 1;
}

/** Comments nest. */
function afterBlock(text: string, at: number): number {
  const pattern = new RegExp(BLOCK_COMMENT);
  pattern.lastIndex = at;
  let depth = 0;
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    depth += match[0] === '/*' ? 1 : -1;
    if (depth === 0) return pattern.lastIndex;
  }
  throw malformed();
}

/** The last piece ends where the dump says that it is complete. */
function endOf(text: string, restrictKey: string): number {
  const end = text.lastIndexOf('\n--\n-- PostgreSQL database dump complete\n');
  if (end < 0 || !text.includes(`\\unrestrict ${restrictKey}`, end)) throw malformed();
  const when = text.lastIndexOf('\n-- Completed on ', end);
  return when < 0 ? end : when;
}

function malformed(): AppError {
  return new AppError('copy_failed', 'what pg_dump wrote is not of the form that this release knows');
}
