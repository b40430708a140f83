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
import type { InstanceHost, RecoveryTarget, ScratchCopy } from '../../instance/index.ts';
import type { TablePattern } from '../../sql/index.ts';
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
import { type Candidate, candidatesOf, guessPart, type PartTarget, printPattern } from './part-target.ts';
import {
  type CopiedRelation,
  hasSchema,
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
  readonly databases: readonly ServedDatabase[];
}

export interface ServedDatabase {
  readonly name: string;
  readonly relations: 'everything' | readonly RelationPattern[];
}

export interface WrittenPart {
  readonly recovery: RecoveryTarget;
  readonly coverage: ImageCoverage | null;
}

export interface PartOptions<T> {
  readonly instanceHost: Pick<InstanceHost, 'withScratchCopy'>;
  readonly virtualClusterId: VirtualClusterId;
  readonly target: PartTarget;
  /** Writes the part of the image into an empty directory. */
  readonly write: (
    part: ImagePart,
    directory: { readonly dataDirectory: string; readonly uid: number | null },
  ) => Promise<WrittenPart>;
  readonly use: (part: ServedPart) => Promise<T>;
  /** Told of every round that follows the first, and why. */
  readonly onAgain?: (added: readonly AddedFiles[]) => void;
  readonly signal: AbortSignal;
}

/**
 * @throws InputError `database_not_found`, `table_not_found` for what was not there at that moment, `feature_not_supported`
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
  const state: { coverage: ImageCoverage | null; outcome: (() => Outcome<T>) | null } = {
    coverage: null,
    outcome: null,
  };
  return instanceHost.withScratchCopy<Outcome<T>>({
    virtualClusterId,
    async fill(directory) {
      const part = { databases: guessPart(target), added };
      const { recovery, coverage } = await options.write(part, directory);
      state.coverage = coverage;
      return recovery;
    },
    async whileServing(copy) {
      try {
        const outcome = await useOrMiss(copy, { ...options, coverage: state.coverage, added });
        state.outcome = () => outcome;
      } catch (error) {
        // What is wrong with what was asked for is not wrong with the copy.
        if (isAppError(error, 'cancelled')) throw error;
        state.outcome = () => {
          throw error;
        };
      }
    },
    async whenStopped() {
      assert(state.outcome !== null, 'a copy that stopped has been used');
      return state.outcome();
    },
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
  const { socketDirectory, reader } = copy;
  let databases: readonly ServedDatabase[];
  try {
    databases = await serve(copy, round);
  } catch (error) {
    if (error instanceof Missing) return { kind: 'again', missing: error.files };
    throw error;
  }
  return { kind: 'used', result: await round.use({ socketDirectory, reader, databases }) };
}

async function serve<T>(copy: ScratchCopy, round: Round<T>): Promise<readonly ServedDatabase[]> {
  const { target } = round;
  if (target.kind === 'databases') {
    const served: ServedDatabase[] = [];
    for (const name of target.names) served.push(await serveDatabase(copy, { round, name }));
    return served;
  }
  return [await serveTables(copy, { round, target })];
}

async function serveDatabase<T>(
  copy: ScratchCopy,
  { round, name }: { round: Round<T>; name: string },
): Promise<ServedDatabase> {
  const databaseOid = await readDatabaseOid(copy.system, name);
  if (databaseOid === null) throw databaseNotFound(name);
  await requireCatalogs(copy, { round, name, databaseOid });
  demand(round, (coverage) => missingDatabase(databaseOid, coverage), name);
  const relations = await copy.withReader(name, (client) => readAllRelations(client, databaseOid));
  requireWhole(round, relations, name);
  // Nothing of it is garbage; other databases are.
  return { name, relations: 'everything' };
}

async function serveTables<T>(
  copy: ScratchCopy,
  { round, target }: { round: Round<T>; target: PartTarget & { kind: 'tables' } },
): Promise<ServedDatabase> {
  const found = new Map<string, RelationPattern[]>();
  for (const pattern of target.patterns) {
    const { database, relations } = await settle(copy, { round, pattern, target });
    found.set(database, [...(found.get(database) ?? []), relations]);
  }
  const [first, ...others] = found;
  assert(first !== undefined, 'a statement names a table');
  if (others.length > 0) {
    throw new InputError('feature_not_supported', 'one statement names tables of one database', {
      hint: `write a statement for each of ${[...found.keys()].join(', ')}`,
    });
  }
  const [name, patterns] = first;
  const databaseOid = await readDatabaseOid(copy.system, name);
  if (databaseOid === null) throw databaseNotFound(name);
  const relations = await copy.withReader(name, async (client) => {
    const oids: string[] = [];
    for (const pattern of patterns) oids.push(...(await readNamed(client, pattern)));
    return readWithParts(client, { databaseOid, oids });
  });
  requireWhole(round, relations, name);
  await copy.fence(name, { readable: relations.map(({ oid }) => oid) });
  return { name, relations: patterns };
}

/** Which relations a pattern means, at that moment. @throws InputError `database_not_found`, `table_not_found` */
async function settle<T>(
  copy: ScratchCopy,
  options: { round: Round<T>; pattern: TablePattern; target: PartTarget & { kind: 'tables' } },
): Promise<Candidate> {
  const { round, pattern, target } = options;
  const candidates = candidatesOf(pattern, target.currentDatabase);
  for (const [index, candidate] of candidates.entries()) {
    const { database, relations, needsSchema } = candidate;
    const databaseOid = await readDatabaseOid(copy.system, database);
    if (databaseOid === null) {
      if (index < candidates.length - 1) continue;
      throw databaseNotFound(database);
    }
    await requireCatalogs(copy, { round, name: database, databaseOid });
    const isThere = await copy.withReader(database, async (client) => {
      if (needsSchema && !(await hasSchema(client, relations.schema ?? ''))) return null;
      return (await readNamed(client, relations)).length > 0;
    });
    if (isThere === true) return candidate;
    // The schema is what was meant, and goes before a database of its name.
    if (isThere === false) throw tableNotFound(pattern, database);
  }
  throw tableNotFound(pattern, target.currentDatabase);
}

/** After this, what the catalogs say can be believed. */
async function requireCatalogs<T>(
  copy: ScratchCopy,
  options: { round: Round<T>; name: string; databaseOid: number },
): Promise<void> {
  const { round, name, databaseOid } = options;
  demand(round, (coverage) => missingCatalogs(databaseOid, coverage), name);
  const mapped = await readMappedRelations(copy.system, databaseOid);
  const forks = mapped.map(({ filenode }): WantedFork => ({ databaseOid, filenode, fork: 'main' }));
  requireForks(round, forks, name);
  const catalogs = await readCatalogsOrAll(copy, options);
  requireWhole(round, catalogs, name);
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

function databaseNotFound(name: string): InputError {
  return new InputError('database_not_found', `database "${name}" does not exist in the backup`, {
    hint: 'SHOW BACKUP lists what is in it',
  });
}

function tableNotFound(pattern: TablePattern, database: string): InputError {
  return new InputError(
    'table_not_found',
    `table "${printPattern(pattern)}" does not exist in database "${database}" of the backup`,
    { hint: 'SHOW BACKUP lists what is in it' },
  );
}
