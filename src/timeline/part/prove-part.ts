/** Whether replay has made all of what is wanted of a part. No I/O. */
import type { Lsn } from '../../base/index.ts';
import { FORK } from '../../pg/index.ts';
import type {
  AddedFiles,
  CreatedForks,
  DatabaseCopy,
  DatabaseCoverage,
  ImageCoverage,
  PartProof,
  WantedFork,
} from './contract.ts';

/** A file of that number may have four forks. */
const FORKS = 4;
/** Greater than every position: what holds at the moment that is restored. */
const AT_THE_END = (2n ** 64n - 1n) as Lsn;

export function forkKey(filenode: number, fork: number): number {
  return filenode * FORKS + fork;
}

type Origin = { readonly kind: 'whole' } | { readonly kind: 'missing'; readonly databaseOid: number } | LOST;
type LOST = { readonly kind: 'lost' };

const WHOLE: Origin = { kind: 'whole' };
const LOST: LOST = { kind: 'lost' };

/**
 * Of each wanted fork all pages must have come from the image, or from the log since its first page; where it was copied with its
 * database, the same holds of what it was copied from, when it was.
 */
export function provePart(wanted: Iterable<WantedFork>, coverage: ImageCoverage): PartProof {
  const known = new Known(coverage);
  const missing = new Map<number, Set<number>>();
  const lost: WantedFork[] = [];
  for (const fork of wanted) {
    const origin = known.originOf(fork, AT_THE_END);
    if (origin.kind === 'lost') lost.push(fork);
    if (origin.kind !== 'missing') continue;
    const filenodes = missing.get(origin.databaseOid) ?? new Set<number>();
    missing.set(origin.databaseOid, filenodes.add(fork.filenode));
  }
  return {
    missing: Array.from(missing, ([databaseOid, what]) => ({ databaseOid, what: [...what] })),
    lost,
  };
}

/**
 * What is missing so that the catalogs of a database can be read: nothing, or those of the database whose files they were copied from.
 * Null when neither the image nor the log knows the database.
 */
export function missingCatalogs(databaseOid: number, coverage: ImageCoverage): readonly AddedFiles[] | null {
  return missingOfDatabase(databaseOid, { coverage, what: 'catalogs' });
}

/** The same for all that is in a database. */
export function missingDatabase(databaseOid: number, coverage: ImageCoverage): readonly AddedFiles[] | null {
  return missingOfDatabase(databaseOid, { coverage, what: 'everything' });
}

function missingOfDatabase(
  databaseOid: number,
  { coverage, what }: { coverage: ImageCoverage; what: 'catalogs' | 'everything' },
): readonly AddedFiles[] | null {
  const { databases, origins } = coverage;
  if (origins.loggedDatabases.includes(databaseOid)) return [];
  let at = databaseOid;
  let before = AT_THE_END;
  for (;;) {
    const copy = lastCopy(origins.copies, { databaseOid: at, before });
    if (copy === undefined) break;
    at = copy.fromDatabaseOid;
    before = copy.lsn;
  }
  const held = databases.find((database) => database.databaseOid === at);
  if (held === undefined) return origins.loggedDatabases.includes(at) ? [] : null;
  const isHeld = what === 'catalogs' ? held.hasCatalogs : held.leftOut.length === 0;
  return isHeld ? [] : [{ databaseOid: at, what }];
}

class Known {
  readonly #databases: ReadonlyMap<number, DatabaseCoverage>;
  readonly #created: ReadonlyMap<number, CreatedForks>;
  readonly #copies: readonly DatabaseCopy[];

  constructor({ databases, origins }: ImageCoverage) {
    this.#databases = new Map(databases.map((database) => [database.databaseOid, database]));
    this.#created = new Map(origins.created.map((created) => [created.databaseOid, created]));
    this.#copies = origins.copies;
  }

  /** Where the pages come from that the fork had just before a position. */
  originOf({ databaseOid, filenode, fork }: WantedFork, before: Lsn): Origin {
    const created = this.#createdAt(databaseOid, forkKey(filenode, FORK[fork]));
    if (created !== null && created < before) return WHOLE;
    // Replay of a copy throws away whatever the image had of the database.
    const copy = lastCopy(this.#copies, { databaseOid, before });
    if (copy !== undefined) {
      return this.originOf({ databaseOid: copy.fromDatabaseOid, filenode, fork }, copy.lsn);
    }
    const held = this.#databases.get(databaseOid);
    if (held === undefined) return LOST;
    if (indexIn(held.kept, filenode) !== -1) return WHOLE;
    return indexIn(held.leftOut, filenode) === -1 ? LOST : { kind: 'missing', databaseOid };
  }

  #createdAt(databaseOid: number, key: number): Lsn | null {
    const created = this.#created.get(databaseOid);
    if (created === undefined) return null;
    const index = indexIn(created.keys, key);
    return index === -1 ? null : ((created.lsns[index] ?? AT_THE_END) as Lsn);
  }
}

/** Positions fall with every step back, so that copies of copies end. */
function lastCopy(
  copies: readonly DatabaseCopy[],
  { databaseOid, before }: { databaseOid: number; before: Lsn },
): DatabaseCopy | undefined {
  return copies.findLast((copy) => copy.databaseOid === databaseOid && copy.lsn < before);
}

/** In ascending numbers; -1 when it is not among them. */
function indexIn(values: Uint32Array | Float64Array, value: number): number {
  let low = 0;
  let high = values.length - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const found = values[middle] ?? 0;
    if (found === value) return middle;
    if (found < value) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
