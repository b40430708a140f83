/** Finds what a database holds, and what of it depends on what. */
import { required } from '../base/index.ts';
import {
  CATALOG,
  type Dependency,
  keyOf,
  type ObjectKey,
  readComparisons,
  readDependencies,
  readHomes,
  readNames,
  readPolicyRoles,
  readWholes,
} from './catalog.ts';
import type { CopyDescription, CopyEntry, SchemaEntry } from './contract.ts';
import { readFingerprints } from './fingerprints.ts';
import {
  readDatabase,
  readLargeObjects,
  readMarked,
  readPopulated,
  readSequences,
  readTables,
} from './inventory.ts';
import type { CopySession } from './session.ts';

/** Names other people, or is not for tenants to make. */
const LEFT_OUT = new Set(['USER MAPPING', 'EVENT TRIGGER', 'SUBSCRIPTION', 'SUBSCRIPTION TABLE']);
export const ATTACHMENTS: ReadonlySet<string> = new Set(['TABLE ATTACH', 'INDEX ATTACH']);

/** All of the session's database, from a dump of the session's snapshot. */
export async function describeDatabase(
  session: CopySession,
  dump: readonly SchemaEntry[],
): Promise<CopyDescription> {
  const graph = await readGraph(session, dump);
  const ids = new Map([...graph.byKey].map(([key, { id }]) => [key, id]));
  const excluded = await readMarked(session, ids);
  return {
    database: await readDatabase(session),
    isWholeDatabase: true,
    entries: await describeEntries(session, graph),
    tables: await readTables(session, ids),
    sequences: await readSequences(session, ids),
    populated: await readPopulated(session, { byKey: ids, order: graph.entries.map(({ id }) => id) }),
    largeObjects: await readLargeObjects(session),
    ...(excluded.length === 0 ? {} : { excluded }),
  };
}

/** The pieces of a dump and what they depend on. */
interface Graph {
  readonly entries: readonly SchemaEntry[];
  readonly byId: ReadonlyMap<number, SchemaEntry>;
  readonly byKey: ReadonlyMap<ObjectKey, SchemaEntry>;
  readonly dependencies: ReadonlyMap<ObjectKey, readonly Dependency[]>;
  readonly homes: ReadonlyMap<ObjectKey, ObjectKey>;
  readonly wholes: ReadonlyMap<ObjectKey, ObjectKey>;
  /** Parts that no piece of their own makes: defaults and checks within CREATE TABLE. */
  readonly parts: ReadonlyMap<ObjectKey, readonly ObjectKey[]>;
  /** Relations by name, for pieces that say only names. */
  readonly relations: ReadonlyMap<string, ObjectKey>;
}

async function readGraph(session: CopySession, dump: readonly SchemaEntry[]): Promise<Graph> {
  const entries = dump.filter(({ type }) => !LEFT_OUT.has(type));
  const byKey = new Map<ObjectKey, SchemaEntry>();
  for (const entry of entries) {
    const key = keyOf(entry.classOid, entry.oid);
    // The first makes the object; a view may be made anew later.
    if (entry.classOid !== 0 && !byKey.has(key)) byKey.set(key, entry);
  }
  const homes = await readHomes(session);
  const made = await readWholes(session);
  const all = [
    ...(await readDependencies(session)),
    ...(await readComparisons(session)),
    ...(await readPolicyRoles(session)),
  ];
  const parts = new Map<ObjectKey, ObjectKey[]>();
  for (const [part, home] of [...homes.inline, ...made, ...(await readTypeConstraints(session))]) {
    if (!byKey.has(part)) parts.set(home, [...(parts.get(home) ?? []), part]);
  }
  const members = all.filter(({ kind }) => kind === 'e').map(({ from, to }) => [from, to] as const);
  return {
    entries,
    byId: new Map(entries.map((entry) => [entry.id, entry])),
    byKey,
    dependencies: Map.groupBy(all, ({ from }) => from),
    homes: homes.all,
    wholes: new Map([...made, ...members]),
    parts,
    relations: await readRelations(session),
  };
}

async function readTypeConstraints(session: CopySession): Promise<ReadonlyMap<ObjectKey, ObjectKey>> {
  const rows = await session.query(
    'select oid::text as oid, contypid::text as type from pg_constraint where contypid <> 0',
  );
  return new Map(
    rows.map(({ oid, type }) => [keyOf(CATALOG.constraint, Number(oid)), keyOf(CATALOG.type, Number(type))]),
  );
}

async function readRelations(session: CopySession): Promise<ReadonlyMap<string, ObjectKey>> {
  const rows = await session.query(
    `select c.oid::text as oid, n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.oid >= 16384`,
  );
  return new Map(
    rows.map(({ oid, nspname, relname }) => [
      JSON.stringify([nspname, relname]),
      keyOf(CATALOG.relation, Number(oid)),
    ]),
  );
}

/** The object that a piece makes or changes. */
function ownerKey(graph: Graph, entry: SchemaEntry): ObjectKey | null {
  if (entry.classOid !== 0) return keyOf(entry.classOid, entry.oid);
  if (ATTACHMENTS.has(entry.type)) return attached(graph, entry)[1] ?? null;
  const [first] = entry.dependencies;
  const owner = first === undefined ? undefined : graph.byId.get(first);
  return owner === undefined ? null : ownerKey(graph, owner);
}

const NAME = String.raw`("(?:[^"]|"")*"|[a-z_\u0080-\uffff][a-z0-9_$\u0080-\uffff]*)`;
const ATTACHMENT = new RegExp(
  `^ALTER (?:TABLE ONLY|INDEX) ${NAME}\\.${NAME} ATTACH PARTITION ${NAME}\\.${NAME}`,
);

/** Parent and child of an attachment: tables, also where it is their indexes that are attached. */
function attached(graph: Graph, entry: SchemaEntry): readonly ObjectKey[] {
  const names = ATTACHMENT.exec(entry.sql)?.slice(1).map(unquoted) ?? [];
  return [names.slice(0, 2), names.slice(2)].map((name) => {
    const key = required(graph.relations.get(JSON.stringify(name)), `relation ${name.join('.')}`);
    return graph.homes.get(key) ?? key;
  });
}

function unquoted(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name;
}

/** What somebody who depends on `key` must have: an array's element, an index's table, a row type's table. */
function wholeOf(graph: Graph, key: ObjectKey): ObjectKey {
  if (graph.byKey.has(key)) return key;
  const whole = graph.wholes.get(key) ?? graph.homes.get(key);
  return whole === undefined || whole === key ? key : wholeOf(graph, whole);
}

/** Of an object and of its parts that have no piece of their own. */
function dependenciesOf(graph: Graph, key: ObjectKey): readonly Dependency[] {
  const own = graph.dependencies.get(key) ?? [];
  const parts = (graph.parts.get(key) ?? []).filter((part) => part !== key);
  return [...own, ...parts.flatMap((part) => dependenciesOf(graph, part))];
}

async function describeEntries(session: CopySession, graph: Graph): Promise<readonly CopyEntry[]> {
  const references = new Map(graph.entries.map((entry) => [entry.id, [...referencesOf(graph, entry)]]));
  const keys = new Set([...graph.byKey.keys(), ...[...references.values()].flat()]);
  const names = await readNames(session, [...keys]);
  const fingerprints = await readFingerprints(session);
  return graph.entries.map((entry) => {
    const targets = references.get(entry.id) ?? [];
    return {
      id: entry.id,
      type: entry.type,
      sql: entry.sql,
      object: entry.classOid === 0 ? null : (names.get(keyOf(entry.classOid, entry.oid)) ?? null),
      home: homeIdOf(graph, entry),
      needs: targets.flatMap((target) => graph.byKey.get(target)?.id ?? []),
      external: targets.flatMap((target) => (graph.byKey.has(target) ? [] : (names.get(target) ?? []))),
      fingerprint: entry.classOid === CATALOG.type ? (fingerprints.get(entry.oid) ?? null) : null,
    };
  });
}

function homeIdOf(graph: Graph, entry: SchemaEntry): number {
  const owner = ownerKey(graph, entry);
  if (owner === null) return entry.id;
  const home = graph.homes.get(owner) ?? owner;
  return graph.byKey.get(home)?.id ?? entry.id;
}

/** What a piece cannot do without, besides itself. */
function referencesOf(graph: Graph, entry: SchemaEntry): ReadonlySet<ObjectKey> {
  const references = new Set<ObjectKey>();
  const owner = ownerKey(graph, entry);
  if (owner === null) return references;
  if (entry.classOid === 0) references.add(wholeOf(graph, owner));
  if (ATTACHMENTS.has(entry.type)) for (const key of attached(graph, entry)) references.add(key);
  if (entry.type === 'SEQUENCE OWNED BY') {
    const owning = (graph.dependencies.get(owner) ?? []).filter(({ kind }) => kind === 'a');
    for (const { to } of owning) references.add(wholeOf(graph, to));
  }
  if (entry.classOid === 0) return references;
  for (const { to, kind } of dependenciesOf(graph, owner)) {
    // What a sequence belongs to, and what a table is a partition of, is said by pieces of their own.
    const isSaidElsewhere = kind === 'a' && (entry.type === 'SEQUENCE' || entry.type === 'TABLE');
    if (!isSaidElsewhere) references.add(wholeOf(graph, to));
  }
  references.delete(owner);
  return references;
}
