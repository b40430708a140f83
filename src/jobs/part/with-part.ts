/**
 * A part of a virtual cluster at some moment, out of an image of the whole: a copy is recovered in which only the wanted part is right. It
 * is begun with what the image's map of relations says; what is found missing in the copy is added, and the copy made again. Nothing is taken
 * from a copy before all that is wanted in it is proved, and then nothing else in it can be read any more.
 */
import {
  type AppError,
  assert,
  CorruptError,
  InputError,
  isAppError,
  type VirtualClusterId,
} from '../../base/index.ts';
import type { InstanceHost, InternalClient, RecoveryTarget, ScratchCopy } from '../../instance/index.ts';
import {
  type AddedFiles,
  type ImageCoverage,
  type ImagePart,
  missingCatalogs,
  missingDatabase,
  provePart,
  type RelationPattern,
  type WantedFork,
} from '../../timeline/index.ts';
import { guessPart, type PartTarget, printPattern } from './part-target.ts';
import {
  type CopiedRelation,
  readAllRelations,
  readCatalogRelations,
  readDatabaseOid,
  readMappedRelations,
  readNamed,
  readWithParts,
} from './read-copy.ts';

/**
 * Every round adds something. A database that was renamed, made from a copy of another, and a table with partitions in it take
 * four.
 */
const ROUNDS_MAX = 12;

/** What was found, and can be read: everything else of the copy cannot. */
export interface ServedPart {
  readonly socketDirectory: string;
  /** A role that is no superuser and may read every row. */
  readonly reader: string;
  /** The bootstrap superuser, for what databases share: roles. */
  readonly system: InternalClient;
  /** Runs `use` as the reader, in a database of the copy. */
  readonly withReader: ScratchCopy['withReader'];
  /** All that the part consists of at this moment, whatever image it is written from. */
  readonly files: readonly AddedFiles[];
}

/** `does not exist in the backup`, and what to do. */
export interface Place {
  readonly name: string;
  readonly hint: string;
}

const BACKUP: Place = { name: 'the backup', hint: 'SHOW BACKUP lists what is in it' };

export interface WrittenPart {
  readonly recovery: RecoveryTarget;
  readonly coverage: ImageCoverage | null;
}

export interface PartOptions<T> {
  readonly instanceHost: Pick<InstanceHost, 'withServingCopy'>;
  readonly virtualClusterId: VirtualClusterId;
  readonly target: PartTarget;
  /** Writes the part of the image into an empty directory. */
  readonly write: (
    part: ImagePart,
    directory: { readonly dataDirectory: string; readonly uid: number | null },
  ) => Promise<WrittenPart>;
  readonly use: (part: ServedPart) => Promise<T>;
  /** What names are looked up in, for messages: the backup when left out. */
  readonly place?: Place;
  /** Told of every round that follows the first, and why. */
  readonly onAgain?: (added: readonly AddedFiles[]) => void;
  readonly signal: AbortSignal;
}

/**
 * @throws InputError `database_not_found`, `table_not_found` for what was not there at that moment
 * @throws CorruptError when neither image nor log holds what is wanted
 */
export async function withPart<T>(options: PartOptions<T>): Promise<T> {
  const added: AddedFiles[] = [];
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const outcome = await runRound(options, added);
    if (outcome.kind === 'used') return outcome.result;
    assert(outcome.missing.length > 0, 'what is made again is made with more');
    added.push(...outcome.missing);
    options.onAgain?.(outcome.missing);
  }
  throw new CorruptError(`what is wanted was not complete after ${ROUNDS_MAX} rounds`, {
    hint: 'restore the whole virtual cluster into another one, and copy from there',
  });
}

type Outcome<T> =
  | { readonly kind: 'used'; readonly result: T }
  | { readonly kind: 'again'; readonly missing: readonly AddedFiles[] };

async function runRound<T>(options: PartOptions<T>, added: readonly AddedFiles[]): Promise<Outcome<T>> {
  const { instanceHost, virtualClusterId, target, signal } = options;
  let coverage: ImageCoverage | null = null;
  return instanceHost.withServingCopy<Outcome<T>>({
    virtualClusterId,
    async fill(directory) {
      const part = { databases: guessPart(target), added };
      const written = await options.write(part, directory);
      coverage = written.coverage;
      return written.recovery;
    },
    use: (copy) => useOrMiss(copy, { ...options, coverage, added }),
    signal,
  });
}

interface Round<T> extends PartOptions<T> {
  /** Null when everything was written. */
  readonly coverage: ImageCoverage | null;
  readonly added: readonly AddedFiles[];
}

/** Ends the round with what is missing. */
class Missing extends Error {
  readonly files: readonly AddedFiles[];

  constructor(files: readonly AddedFiles[]) {
    super('more files are needed');
    this.files = files;
  }
}

async function useOrMiss<T>(copy: ScratchCopy, round: Round<T>): Promise<Outcome<T>> {
  const { socketDirectory, reader, system } = copy;
  let files: readonly AddedFiles[];
  try {
    files = await serve(copy, round);
  } catch (error) {
    if (error instanceof Missing) return { kind: 'again', missing: error.files };
    throw error;
  }
  const withReader: ScratchCopy['withReader'] = (database, use) => copy.withReader(database, use);
  return {
    kind: 'used',
    result: await round.use({ socketDirectory, reader, system, withReader, files }),
  };
}

async function serve<T>(copy: ScratchCopy, round: Round<T>): Promise<readonly AddedFiles[]> {
  const { target } = round;
  if (target.kind === 'tables') return serveTables(copy, { round, target });
  if (target.kind === 'definitions') {
    await serveDefinitions(copy, round);
    return [];
  }
  const files: AddedFiles[] = [];
  for (const name of target.names) files.push(await serveDatabase(copy, { round, name }));
  return files;
}

/** Nothing of the database is left out; others still hold garbage. */
async function serveDatabase<T>(
  copy: ScratchCopy,
  { round, name }: { round: Round<T>; name: string },
): Promise<AddedFiles> {
  const databaseOid = await readDatabaseOid(copy.system, name);
  if (databaseOid === null) throw databaseNotFound(name, round.place);
  await requireCatalogs(copy, { round, name, databaseOid });
  demand(round, (coverage) => missingDatabase(databaseOid, coverage), name);
  const relations = await copy.withReader(name, (client) => readAllRelations(client, databaseOid));
  requireWhole(round, relations, name);
  await copy.rollBackPrepared(name);
  return { databaseOid, what: 'everything' };
}

/** Of the databases that there are at that moment; whoever describes them looks at sequences, and at no row. */
async function serveDefinitions<T>(copy: ScratchCopy, round: Round<T>): Promise<void> {
  for (const name of copy.databases) {
    const databaseOid = await readDatabaseOid(copy.system, name);
    if (databaseOid === null) continue; // One of ours, or a template.
    await requireCatalogs(copy, { round, name, databaseOid });
    const sequences = await copy.withReader(name, (client) =>
      readWithParts(client, { databaseOid, oids: [] }),
    );
    requireWhole(round, sequences, name);
    await copy.rollBackPrepared(name);
    await copy.fence(name, { readable: sequences.map(({ oid }) => oid) });
  }
}

async function serveTables<T>(
  copy: ScratchCopy,
  { round, target }: { round: Round<T>; target: PartTarget & { kind: 'tables' } },
): Promise<readonly AddedFiles[]> {
  const { database: name, relations: patterns } = target;
  const databaseOid = await readDatabaseOid(copy.system, name);
  if (databaseOid === null) throw databaseNotFound(name, round.place);
  const catalogs = await requireCatalogs(copy, { round, name, databaseOid });
  const relations = await copy.withReader(name, async (client) => {
    const oids: string[] = [];
    for (const pattern of patterns) {
      const named = await readNamed(client, pattern);
      if (named.length === 0) throw tableNotFound(pattern, name, round.place);
      oids.push(...named);
    }
    return readWithParts(client, { databaseOid, oids });
  });
  requireWhole(round, relations, name);
  await copy.rollBackPrepared(name);
  await copy.fence(name, { readable: relations.map(({ oid }) => oid) });
  const numbers = [...catalogs, ...relations.map(({ fork }) => fork)].map(({ filenode }) => filenode);
  return [
    { databaseOid, what: 'catalogs' },
    { databaseOid, what: [...new Set(numbers)] },
  ];
}

/** After this, what the catalogs say can be believed. Gives their files. */
async function requireCatalogs<T>(
  copy: ScratchCopy,
  options: { round: Round<T>; name: string; databaseOid: number },
): Promise<readonly WantedFork[]> {
  const { round, name, databaseOid } = options;
  demand(round, (coverage) => missingCatalogs(databaseOid, coverage), name);
  const mapped = await readMappedRelations(copy.system, databaseOid);
  const forks = mapped.map(({ filenode }): WantedFork => ({ databaseOid, filenode, fork: 'main' }));
  requireForks(round, forks, name);
  const catalogs = await readCatalogsOrAll(copy, options);
  requireWhole(round, catalogs, name);
  return [...forks, ...catalogs.map(({ fork }) => fork)];
}

/**
 * From the mapped catalogs the others can be found, but a login reads more than those: one that was being rewritten while the image was made
 * may keep everybody out. Then all of the database is written.
 */
async function readCatalogsOrAll<T>(
  copy: ScratchCopy,
  { round, name, databaseOid }: { round: Round<T>; name: string; databaseOid: number },
): Promise<readonly CopiedRelation[]> {
  try {
    return await copy.withReader(name, (client) => readCatalogRelations(client, databaseOid));
  } catch (error) {
    const isAll = round.coverage === null || missingDatabase(databaseOid, round.coverage)?.length === 0;
    if (isAll || isAppError(error, 'cancelled')) throw error;
    throw new Missing(missingDatabase(databaseOid, round.coverage) ?? []);
  }
}

function demand<T>(
  { coverage }: Round<T>,
  missingOf: (coverage: ImageCoverage) => readonly AddedFiles[] | null,
  name: string,
): void {
  if (coverage === null) return;
  const missing = missingOf(coverage);
  if (missing === null) throw lostFiles(name, 'all of it');
  if (missing.length > 0) throw new Missing(missing);
}

function requireWhole<T>(round: Round<T>, relations: readonly CopiedRelation[], name: string): void {
  requireForks(
    round,
    relations.map(({ fork }) => fork),
    name,
  );
}

function requireForks<T>({ coverage }: Round<T>, forks: readonly WantedFork[], name: string): void {
  if (coverage === null) return;
  const { missing, lost } = provePart(forks, coverage);
  const [first] = lost;
  if (first !== undefined) throw lostFiles(name, `file ${first.filenode} of database ${first.databaseOid}`);
  if (missing.length > 0) throw new Missing(missing);
}

function lostFiles(name: string, what: string): AppError {
  return new CorruptError(`neither the image nor its log holds ${what}, which database "${name}" needs`, {
    hint: 'restore from another backup',
  });
}

function databaseNotFound(name: string, { name: place, hint }: Place = BACKUP): InputError {
  return new InputError('database_not_found', `database "${name}" does not exist in ${place}`, { hint });
}

function tableNotFound(
  pattern: RelationPattern,
  database: string,
  { name: place, hint }: Place = BACKUP,
): InputError {
  return new InputError(
    'table_not_found',
    `table "${printPattern(pattern)}" does not exist in database "${database}" of ${place}`,
    { hint },
  );
}
