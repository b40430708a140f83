/** What somebody wants out of a backup of a whole virtual cluster, and where it may be. No I/O. */
import type { TablePattern } from '../../sql/index.ts';
import type { DatabasePart, RelationPattern } from '../../timeline/index.ts';

/** Names are those of the moment that is restored. */
export type PartTarget =
  | { readonly kind: 'databases'; readonly names: readonly string[] }
  | {
      readonly kind: 'tables';
      readonly patterns: readonly TablePattern[];
      /** Of the session that asked. */
      readonly currentDatabase: string;
    };

/** Relations that a pattern may mean. */
export interface Candidate {
  readonly database: string;
  readonly relations: RelationPattern;
  /** It means them only if the database has a schema of that name. */
  readonly needsSchema: boolean;
}

/** Where tables are by default. */
const DEFAULT_SCHEMA = 'public';

/** The first of these that there is: a schema of the current database goes before a database. */
export function candidatesOf(pattern: TablePattern, currentDatabase: string): readonly Candidate[] {
  const { qualifiers } = pattern;
  const name = pattern.name ?? null;
  const [first, second] = qualifiers;
  const inDefault = name === null ? null : DEFAULT_SCHEMA;
  const at = (database: string, schema: string | null, needsSchema = false): Candidate => ({
    database,
    relations: { schema, name },
    needsSchema,
  });
  if (first === undefined) return [at(currentDatabase, inDefault)];
  if (second !== undefined) return [at(first, second)];
  return [at(currentDatabase, first, true), at(first, inDefault)];
}

/** What is to be written of the image for this target, as far as its names tell. */
export function guessPart(target: PartTarget): readonly DatabasePart[] {
  if (target.kind === 'databases') {
    return target.names.map((name): DatabasePart => ({ name, relations: 'everything' }));
  }
  const candidates = target.patterns.flatMap((pattern) => candidatesOf(pattern, target.currentDatabase));
  return candidates.map(({ database, relations }) => ({ name: database, relations: [relations] }));
}

/** As people write it, for messages. */
export function printPattern({ qualifiers, name }: TablePattern): string {
  return [...qualifiers, name ?? '*'].join('.');
}
