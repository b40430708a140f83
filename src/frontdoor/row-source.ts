import { InputError } from '../base/index.ts';
import { type Column, derivedTable } from '../control/index.ts';
import {
  findRowSources,
  type FoundRowSource,
  highestPlaceholder,
  readToken,
  splitStatements,
  type Statement,
  type SystemTable,
} from '../sql/index.ts';

export { rowsToJson } from '../control/index.ts';

/** A statement of ours in brackets, or the name of a table of ours. */
export interface RowSource {
  readonly statement: Statement;
  /** Its own text, without the brackets. */
  readonly text: string;
  readonly columns: readonly Column[];
  /** What the rows are called where the query does not say; undefined for nothing. */
  readonly alias: string | undefined;
}

/** A text of Postgres's with row sources of ours in it, cut where they stood: one piece more than there are sources. */
export interface RowSourceText {
  readonly pieces: readonly string[];
  readonly sources: readonly RowSource[];
  /** Highest `$n` that the client's text uses. */
  readonly placeholders: number;
}

export interface RowSourceReading {
  readonly describe: (statement: Statement) => Promise<readonly Column[] | undefined>;
  /** Whether the session's database has a table `system.<table>` of its own: its name then means that. */
  readonly isTenants: (table: SystemTable) => Promise<boolean>;
}

/**
 * Finds the row sources of a text; undefined when it has none.
 * @throws InputError `syntax` for a bracket that begins like ours and is malformed, `feature_not_supported` in a statement that
 * Postgres would keep, and what `describe` throws
 */
export async function readRowSources(
  text: string,
  { describe, isTenants }: RowSourceReading,
): Promise<RowSourceText | undefined> {
  const found: FoundRowSource[] = [];
  for (const source of findRowSources(text)) {
    const { node } = source;
    const isOurs = node.kind !== 'show_system_table' || !(await isTenants(node.table));
    if (isOurs) found.push(source);
  }
  if (found.length === 0) return undefined;
  refuseInKeptStatements(text, found);
  const pieces: string[] = [];
  const sources: RowSource[] = [];
  let at = 0;
  for (const { node, begin, end, alias, text: own } of found) {
    const columns = await describe(node);
    if (columns === undefined || columns.length === 0) {
      throw new InputError('syntax', 'statement source returns no columns', { position: begin + 1 });
    }
    pieces.push(text.slice(at, begin));
    sources.push({ statement: node, text: own, columns, alias });
    at = end;
  }
  pieces.push(text.slice(at));
  return { pieces, sources, placeholders: highestPlaceholder(text) };
}

/** The text with each source replaced by a derived table over a JSON value: the n-th is `values[n]`, an expression. */
export function replaceRowSources(text: RowSourceText, values: readonly string[]): string {
  return text.pieces
    .map((piece, at) => {
      const source = text.sources[at];
      const value = values[at];
      return source === undefined || value === undefined
        ? piece
        : `${piece}${derivedTable(source.columns, { value, alias: source.alias })}`;
    })
    .join('');
}

/** A string constant that reads the same whatever `standard_conforming_strings` says. */
export function jsonConstant(json: string): string {
  return `E'${json.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}

/** The most words that stand before VIEW, FUNCTION, ...: `create or replace global temporary recursive view`. */
const WORDS_BEFORE_KIND_MAX = 6;
const KEPT_KINDS: ReadonlySet<string> = new Set(['view', 'function', 'procedure', 'rule']);

/**
 * A row source is replaced by the rows of this moment. A view, a function or a prepared statement would show them for ever.
 * @throws InputError `feature_not_supported`
 */
function refuseInKeptStatements(text: string, sources: readonly FoundRowSource[]): void {
  for (const { node, begin, end } of splitStatements(text)) {
    const source = sources.find((candidate) => candidate.begin >= begin && candidate.end <= end);
    const kept = source === undefined ? undefined : keptKind(node);
    if (source === undefined || kept === undefined) continue;
    throw new InputError(
      'feature_not_supported',
      `${kept} cannot hold a statement source: its rows would never change`,
      {
        position: source.begin + 1,
        hint: 'CREATE TABLE ... AS keeps the rows of this moment; a query shows those of its own',
      },
    );
  }
}

function keptKind(statement: string): string | undefined {
  const words = firstWords(statement, WORDS_BEFORE_KIND_MAX + 1);
  if (words[0] === 'prepare') return 'a prepared statement';
  if (words[0] !== 'create') return undefined;
  const kind = words.find((word) => KEPT_KINDS.has(word) || word === 'table');
  return kind === undefined || kind === 'table' ? undefined : `a ${kind}`;
}

function firstWords(statement: string, wordsMax: number): readonly string[] {
  const words: string[] = [];
  for (let at = 0; words.length < wordsMax; ) {
    const token = readToken(statement, at);
    if (token.kind !== 'identifier') return words;
    words.push(statement.slice(token.begin, token.end).toLowerCase());
    at = token.end;
  }
  return words;
}
