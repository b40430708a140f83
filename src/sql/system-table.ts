/**
 * `system.jobs` and its like in a query of Postgres's: found where a table is read, so that their rows can take its place. A column of
 * that spelling, a function, or a table that is written to is none of ours.
 */
import { SYSTEM_TABLES, type SystemTable } from './ast.ts';
import { foldName } from './characters.ts';
import { readToken, type Token } from './lexer.ts';

export interface SystemTableReference {
  readonly table: SystemTable;
  /** Of the two-part name, in UTF-16 offsets. */
  readonly begin: number;
  readonly end: number;
  /** Whether the query gives it a name of its own. */
  readonly isNamed: boolean;
}

/** The two spellings of the schema; others are Postgres's, for the test every message passes looks for these bytes. */
export const SYSTEM_SCHEMA_SPELLINGS = ['system', 'SYSTEM'] as const;

const TABLES: ReadonlyMap<string, SystemTable> = new Map(SYSTEM_TABLES.map((table) => [table, table]));

/** A table with this name; undefined when it is none of ours. */
export function systemTableOf(name: string): SystemTable | undefined {
  return TABLES.get(name);
}

/** Words that begin a query, so that a FROM in the same parentheses is that of a list of tables, not of `extract(year FROM x)`. */
const QUERY_HEADS: ReadonlySet<string> = new Set(['select', 'with', 'values', 'table', 'insert', 'update']);
/** Words behind which the list of tables is over. */
const ENDS: ReadonlySet<string> = new Set(
  'where group having order limit offset fetch for window union intersect except returning select set when'.split(
    ' ',
  ),
);
/** Words that may follow a table that has no name of its own; any other word is that name. */
const FOLLOWERS: ReadonlySet<string> = new Set([
  ...ENDS,
  ...'join inner left right full cross natural on using tablesample'.split(' '),
]);

/** One pair of parentheses, or the statement itself. */
interface Frame {
  /** Whether FROM means a list of tables here. */
  readonly isQuery: boolean;
  /** Whether a comma leads to another table. */
  isInList: boolean;
}

/** Every one of our tables that the text reads, in its order. */
export function findSystemTables(text: string): readonly SystemTableReference[] {
  if (!SYSTEM_SCHEMA_SPELLINGS.some((schema) => text.includes(`${schema}.`))) return [];
  return new Scan(text).run();
}

class Scan {
  readonly #text: string;
  readonly #found: SystemTableReference[] = [];
  #frames: Frame[] = [{ isQuery: true, isInList: false }];
  /** Whether a table may come next. */
  #isPlace = false;
  #previousWord = '';

  constructor(text: string) {
    this.#text = text;
  }

  run(): readonly SystemTableReference[] {
    for (let at = 0; ; ) {
      const token = readToken(this.#text, at);
      if (token.kind === 'end') return this.#found;
      at = this.#take(token);
    }
  }

  /** Gives where to read on. */
  #take(token: Token): number {
    if (token.kind === 'symbol') this.#onSymbol(token);
    else if (token.kind === 'identifier') {
      const reference = this.#isPlace ? this.#referenceAt(token) : undefined;
      if (reference !== undefined) {
        this.#found.push(reference);
        this.#leave();
        return reference.end;
      }
      this.#onWord(this.#wordOf(token));
    } else this.#leave();
    return token.end;
  }

  #onSymbol({ begin, end }: Token): void {
    const symbol = this.#text.slice(begin, end);
    const frame = this.#frame();
    if (symbol === '(') {
      const next = readToken(this.#text, end);
      const isQuery = next.kind === 'identifier' && QUERY_HEADS.has(this.#wordOf(next));
      // Parentheses around a join: `FROM (system.jobs JOIN ...)`.
      this.#frames.push({ isQuery: isQuery || this.#isPlace, isInList: this.#isPlace && !isQuery });
      this.#isPlace = this.#isPlace && !isQuery;
    } else {
      if (symbol === ')' && this.#frames.length > 1) this.#frames.pop();
      if (symbol === ';') this.#frames = [{ isQuery: true, isInList: false }];
      this.#isPlace = symbol === ',' && frame.isInList;
    }
    this.#previousWord = '';
  }

  #onWord(word: string): void {
    const frame = this.#frame();
    const before = this.#previousWord;
    this.#previousWord = word;
    switch (word) {
      case 'from':
        // IS DISTINCT FROM compares; DELETE FROM writes.
        this.#isPlace = frame.isQuery && before !== 'distinct' && before !== 'delete';
        frame.isInList ||= this.#isPlace;
        return;
      case 'join':
        this.#isPlace = frame.isInList;
        return;
      case 'using':
        // Of DELETE and MERGE; that of a join names columns.
        this.#isPlace = frame.isQuery && !frame.isInList;
        frame.isInList ||= this.#isPlace;
        return;
      case 'lateral':
        return;
      default:
        this.#isPlace = false;
        if (ENDS.has(word)) frame.isInList = false;
    }
  }

  #leave(): void {
    this.#isPlace = false;
    this.#previousWord = '';
  }

  #referenceAt(schema: Token): SystemTableReference | undefined {
    const text = this.#text;
    const spelling = text.slice(schema.begin, schema.end);
    if (!SYSTEM_SCHEMA_SPELLINGS.some((known) => known === spelling) || text.charAt(schema.end) !== '.')
      return undefined;
    const name = readToken(text, schema.end + 1);
    if (name.kind !== 'identifier') return undefined;
    const table = systemTableOf(this.#wordOf(name));
    const next = readToken(text, name.end);
    const isMore = next.kind === 'symbol' && '.('.includes(text.charAt(next.begin));
    if (table === undefined || isMore) return undefined;
    return { table, begin: schema.begin, end: name.end, isNamed: this.#isName(next) };
  }

  #isName(token: Token): boolean {
    if (token.kind === 'quoted_identifier') return true;
    return token.kind === 'identifier' && !FOLLOWERS.has(this.#wordOf(token));
  }

  #frame(): Frame {
    // The statement's own frame is never taken off.
    return this.#frames.at(-1) as Frame;
  }

  #wordOf(token: Token): string {
    return foldName(this.#text.slice(token.begin, token.end));
  }
}
