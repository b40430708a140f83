import type { TablePattern } from './ast.ts';
import type { TokenStream } from './token-stream.ts';

/** `[[database.]schema.]table`. @throws InputError `syntax` */
export function parseTableName(stream: TokenStream): TablePattern {
  const names = [stream.name()];
  while (names.length < 3 && stream.acceptSymbol('.')) names.push(stream.anyName());
  return { qualifiers: names.slice(0, -1), name: names.at(-1) };
}
