/** The values and lists that several statements share. */
import type { Value } from './ast.ts';
import type { TokenStream } from './token-stream.ts';

/** The protocol counts parameters in 16 bits. */
const PLACEHOLDER_MAX = 65_535;

/** No number of ours is longer; it bounds what is converted. */
const NUMBER_LENGTH_MAX = 128;

/** One or more of what `item` reads, parted by commas. */
export function parseList<T>(stream: TokenStream, item: (stream: TokenStream) => T): readonly T[] {
  const items = [item(stream)];
  while (stream.acceptSymbol(',')) items.push(item(stream));
  return items;
}

/** Any value. @throws InputError `syntax` */
export function parseValue(stream: TokenStream): Value {
  const token = stream.peek();
  switch (token.kind) {
    case 'string':
      return { kind: 'string', value: stream.string() };
    case 'placeholder':
      return parsePlaceholder(stream);
    case 'quoted_identifier':
      return { kind: 'identifier', name: stream.anyName() };
    case 'identifier':
      return parseWordValue(stream);
    default:
      return parseNumber(stream);
  }
}

/** A string or a placeholder. @throws InputError `syntax` */
export function parseText(stream: TokenStream): Value {
  if (stream.peek().kind === 'placeholder') return parsePlaceholder(stream);
  return { kind: 'string', value: stream.string() };
}

/** One string, or several in parentheses. @throws InputError `syntax` */
export function parseTexts(stream: TokenStream): readonly Value[] {
  if (!stream.acceptSymbol('(')) return [parseText(stream)];
  const texts = parseList(stream, parseText);
  stream.expectSymbol(')');
  return texts;
}

/** A string, a number or a placeholder: a time, the id of a job. @throws InputError `syntax` */
export function parseScalar(stream: TokenStream): Value {
  const { kind } = stream.peek();
  return kind === 'symbol' || kind === 'number' ? parseNumber(stream) : parseText(stream);
}

function parseWordValue(stream: TokenStream): Value {
  if (stream.acceptWords('true')) return { kind: 'boolean', value: true };
  if (stream.acceptWords('false')) return { kind: 'boolean', value: false };
  if (stream.acceptWords('null')) return { kind: 'null' };
  // `SET x = on` is usual, although ON is reserved.
  return { kind: 'identifier', name: stream.isWords('on') ? stream.anyName() : stream.name() };
}

function parsePlaceholder(stream: TokenStream): Value {
  const { begin, end } = stream.peek();
  const number = Number(stream.text.slice(begin + 1, end));
  if (number < 1 || number > PLACEHOLDER_MAX) stream.fail();
  stream.next();
  return { kind: 'placeholder', number };
}

/** A number in decimal notation, whatever the base it was written in. */
function parseNumber(stream: TokenStream): Value {
  const isSigned = stream.isSymbol('-') || stream.isSymbol('+');
  const token = stream.peek(isSigned ? 1 : 0);
  if (token.kind !== 'number' || token.end - token.begin > NUMBER_LENGTH_MAX) stream.fail();
  const sign = isSigned && stream.isSymbol('-') ? '-' : '';
  if (isSigned) stream.next();
  stream.next();
  const digits = stream.text.slice(token.begin, token.end).replaceAll('_', '').toLowerCase();
  return { kind: 'number', text: sign + (/^0[xob]/.test(digits) ? BigInt(digits).toString() : digits) };
}
