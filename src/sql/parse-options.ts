import type { Option, Value } from './ast.ts';
import { optionsOf, type OptionSpec, type OptionStatement } from './options.ts';
import { parseText, parseTexts } from './parse-value.ts';
import type { TokenStream } from './token-stream.ts';

/** `WITH a, b = c` or `WITH OPTIONS (a, b = c)`, or nothing. @throws InputError `syntax` */
export function parseOptions(stream: TokenStream, statement: OptionStatement): readonly Option[] {
  if (!stream.acceptWords('with')) return [];
  const isGrouped = stream.acceptWords('options');
  if (isGrouped) stream.expectSymbol('(');
  const options = parseOptionList(stream, statement);
  if (isGrouped) stream.expectSymbol(')');
  return options;
}

/** Options parted by commas, none given twice. @throws InputError `syntax` */
export function parseOptionList(stream: TokenStream, statement: OptionStatement): readonly Option[] {
  const options: Option[] = [];
  const names = new Set<string>();
  do {
    const { begin } = stream.peek();
    const option = parseOption(stream, statement);
    if (names.has(option.name)) throw stream.errorAt(begin, `option "${option.name}" given twice`);
    names.add(option.name);
    options.push(option);
  } while (stream.acceptSymbol(','));
  return options;
}

export function parseOption(stream: TokenStream, statement: OptionStatement): Option {
  const found = optionsOf(statement).find(([name, spec]) => stream.acceptWords(...(spec.words ?? [name])));
  if (found === undefined) stream.fail();
  const [name, spec] = found;
  const hasEquals = stream.acceptSymbol('=');
  return { name, value: parseOptionValue(stream, { spec, hasEquals }) };
}

function parseOptionValue(
  stream: TokenStream,
  options: { readonly spec: OptionSpec; readonly hasEquals: boolean },
): Option['value'] {
  switch (options.spec.shape) {
    case 'flag':
      return parseFlag(stream, options.hasEquals);
    case 'name':
      return stream.peek().kind === 'identifier'
        ? { kind: 'string', value: stream.name() }
        : parseText(stream);
    case 'strings':
      return onlyOrAll(parseTexts(stream));
    case 'string':
      return parseText(stream);
  }
}

function parseFlag(stream: TokenStream, isRequired: boolean): Value | undefined {
  if (stream.acceptWords('true')) return { kind: 'boolean', value: true };
  if (stream.acceptWords('false')) return { kind: 'boolean', value: false };
  const { kind } = stream.peek();
  if (!isRequired && kind !== 'string' && kind !== 'quoted_identifier' && kind !== 'placeholder') {
    return undefined;
  }
  if (kind === 'placeholder') return parseText(stream);
  const { begin } = stream.peek();
  return flagOf(stream.string()) ?? fail(stream, begin);
}

function fail(stream: TokenStream, offset: number): never {
  throw stream.errorAt(offset, `at or near "'...'": expected true or false`);
}

/** What a string says as a flag, undefined when it says neither true nor false. */
export function flagOf(text: string): Value | undefined {
  const word = text.toLowerCase();
  return word === 'true' || word === 'false' ? { kind: 'boolean', value: word === 'true' } : undefined;
}

/** A list of one is written and kept like a single value. */
export function onlyOrAll(values: readonly Value[]): Value | readonly Value[] {
  const [only] = values;
  return only !== undefined && values.length === 1 ? only : values;
}
