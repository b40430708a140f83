import { parseOptions } from './parse-options.ts';
import { parseText } from './parse-value.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

export const CONNECTION_RULES: readonly Rule[] = [
  rule('create external connection', 'create_external_connection', (stream) => ({
    kind: 'create_external_connection',
    ifNotExists: stream.acceptWords('if', 'not', 'exists'),
    ...parseDefinition(stream),
  })),
  rule('alter external connection', 'alter_external_connection', (stream) => ({
    kind: 'alter_external_connection',
    ifExists: stream.acceptWords('if', 'exists'),
    ...parseDefinition(stream),
  })),
  rule('drop external connection', 'drop_external_connection', (stream) => ({
    kind: 'drop_external_connection',
    name: parseName(stream),
  })),
  rule('show external connections', 'show_external_connections', () => ({
    kind: 'show_external_connections',
    name: undefined,
  })),
  rule('show external connection', 'show_external_connections', (stream) => ({
    kind: 'show_external_connections',
    name: parseName(stream),
  })),
  rule('show create all external connections', 'show_create_external_connections', () => ({
    kind: 'show_create_external_connections',
    name: undefined,
  })),
  rule('show create external connection', 'show_create_external_connections', (stream) => ({
    kind: 'show_create_external_connections',
    name: parseName(stream),
  })),
  rule('check external connection', 'check_external_connection', (stream) => ({
    kind: 'check_external_connection',
    uri: parseText(stream),
    options: parseOptions(stream, 'check_external_connection'),
  })),
];

function parseDefinition(stream: TokenStream) {
  const name = parseName(stream);
  stream.expectWords('as');
  return { name, uri: parseText(stream) };
}

/** A name, which may also be written as a string. */
function parseName(stream: TokenStream): string {
  const { kind, begin } = stream.peek();
  const name = kind === 'identifier' ? stream.name() : stream.string();
  if (name === '') throw stream.errorAt(begin, 'the name of an external connection is empty');
  return name;
}
