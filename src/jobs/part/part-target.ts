/** What somebody wants out of a backup of a whole virtual cluster. No I/O. */
import type { DatabasePart, RelationPattern } from '../../timeline/index.ts';

/** Names are those of the moment that is restored. */
export type PartTarget =
  | { readonly kind: 'databases'; readonly names: readonly string[] }
  /** What all databases hold, without their rows; the names are those that the map of the image has. */
  | { readonly kind: 'definitions'; readonly names: readonly string[] }
  | { readonly kind: 'tables'; readonly database: string; readonly relations: readonly RelationPattern[] };

/** What is to be written of the image for this target, as far as its names tell. */
export function guessPart(target: PartTarget): readonly DatabasePart[] {
  if (target.kind === 'tables') return [{ name: target.database, relations: target.relations }];
  if (target.kind === 'definitions') return target.names.map((name) => ({ name, relations: [] }));
  return target.names.map((name) => ({ name, relations: 'everything' }));
}

/** As people write it, for messages. */
export function printPattern({ schema, name }: RelationPattern): string {
  return schema === null ? (name ?? '*') : `${schema}.${name ?? '*'}`;
}
