/** Writes names and strings so that Postgres's rules, and therefore ours, read them back unchanged. */

/**
 * Words that are reserved in Postgres and follow a name somewhere in our grammar. Unquoted they are never a name, so that
 * `CREATE VIRTUAL CLUSTER LIKE x` fails at `LIKE`; quoted they are a name like any other.
 */
const RESERVED_WORDS: ReadonlySet<string> = new Set(
  'all as create default false for from grant in into like not null on select table to true where with'.split(
    ' ',
  ),
);

export function isReservedWord(word: string): boolean {
  return RESERVED_WORDS.has(word);
}

/** A name as an identifier, quoted unless it is plainly one. */
export function quoteName(name: string): string {
  if (/^[a-z_][a-z0-9_$]*$/.test(name) && !isReservedWord(name)) return name;
  return `"${name.replaceAll('"', '""')}"`;
}

/** A value as a string constant. A backslash is an ordinary character: `standard_conforming_strings` is on. */
export function quoteString(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}
