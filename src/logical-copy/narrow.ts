/** Takes from a description what somebody wants of it: the same at the time of a copy and when it is made again. */
import { InputError } from '../base/index.ts';
import type { CopyDescription, CopyEntry, CopyPattern, CopySelection } from './contract.ts';
import { ATTACHMENTS } from './describe.ts';

/** What `schema.*` means, and what can be named. */
const RELATIONS = new Set(['TABLE', 'VIEW', 'MATERIALIZED VIEW', 'FOREIGN TABLE', 'SEQUENCE']);
/** A table brings the types that it is made with, the extensions that they come with, and the schemas. */
const TAKEN_ALONG = new Set(['SCHEMA', 'EXTENSION', 'TYPE', 'DOMAIN', 'SHELL TYPE']);

/** @throws InputError `table_not_found` for a name that nothing has */
export function narrow(description: CopyDescription, selection: CopySelection): CopyDescription {
  if (selection.kind === 'database') return description;
  const byId = new Map(description.entries.map((entry) => [entry.id, entry]));
  const homes = new Set(selection.patterns.flatMap((pattern) => matching(description, pattern)));
  addParts(description, homes);
  addTakenAlong(description, { homes, byId });
  const chosen = description.entries.filter((entry) => isChosen(entry, homes));
  const ids = new Set(chosen.map(({ id }) => id));
  return {
    ...description,
    isWholeDatabase: false,
    entries: chosen.map((entry) => cutLoose(entry, { ids, byId })),
    tables: description.tables.filter(({ entry }) => ids.has(entry)),
    sequences: description.sequences.filter(({ entry }) => ids.has(entry)),
    populated: description.populated.filter((entry) => ids.has(entry)),
    largeObjects: [],
    ...(description.excluded === undefined
      ? {}
      : { excluded: description.excluded.filter((entry) => ids.has(entry)) }),
  };
}

/** Relations that can be named. */
export function relationsOf(description: CopyDescription): readonly CopyEntry[] {
  return description.entries.filter(({ type, object }) => RELATIONS.has(type) && object !== null);
}

function matching(description: CopyDescription, { schema, name }: CopyPattern): number[] {
  const found = relationsOf(description).filter(
    ({ object }) =>
      (schema === undefined || object?.schema === schema) && (name === undefined || object?.name === name),
  );
  if (found.length === 0 && name !== undefined) {
    const named = schema === undefined ? name : `${schema}.${name}`;
    throw new InputError('table_not_found', `relation "${named}" does not exist`);
  }
  return found.map(({ id }) => id);
}

/** Says of what it needs that it is part of it. An ordinary sequence needs no table; that of an identity column does. */
const PARTS = new Set(['TABLE ATTACH', 'SEQUENCE OWNED BY', 'SEQUENCE']);

/** Partitions, and sequences that columns own. Sets go through what is added meanwhile, too. */
function addParts({ entries }: CopyDescription, homes: Set<number>): void {
  const partsOf = new Map<number, number[]>();
  for (const { type, home, needs } of entries) {
    if (!PARTS.has(type)) continue;
    for (const whole of needs) partsOf.set(whole, [...(partsOf.get(whole) ?? []), home]);
  }
  for (const home of homes) for (const part of partsOf.get(home) ?? []) homes.add(part);
}

function addTakenAlong(
  { entries }: CopyDescription,
  { homes, byId }: { homes: Set<number>; byId: ReadonlyMap<number, CopyEntry> },
): void {
  const byHome = Map.groupBy(entries, ({ home }) => home);
  for (const home of homes) {
    for (const { needs } of byHome.get(home) ?? []) {
      for (const id of needs) if (TAKEN_ALONG.has(byId.get(id)?.type ?? '')) homes.add(id);
    }
  }
}

function isChosen(entry: CopyEntry, homes: ReadonlySet<number>): boolean {
  if (!homes.has(entry.home)) return false;
  return !ATTACHMENTS.has(entry.type) || entry.needs.every((id) => homes.has(id));
}

/** What it needs and is left behind must be found where the copy is made. */
function cutLoose(
  entry: CopyEntry,
  { ids, byId }: { ids: ReadonlySet<number>; byId: ReadonlyMap<number, CopyEntry> },
): CopyEntry {
  const missing = entry.needs.filter((id) => !ids.has(id));
  return {
    ...entry,
    needs: entry.needs.filter((id) => ids.has(id)),
    external: [...entry.external, ...missing.flatMap((id) => byId.get(id)?.object ?? [])],
  };
}
