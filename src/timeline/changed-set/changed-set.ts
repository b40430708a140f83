/** Which pages a stretch of the log has changed. */
import { DEFAULT_TABLESPACE_OID, FORK, GLOBAL_TABLESPACE_OID, type RelationLocator } from '../../pg/index.ts';

/** Pages that share one bitmap: 512 MiB. */
const CHUNK_BLOCKS = 65_536;
const CHUNK_WORDS_MIN = 4;
/** Forks in one number of a map: four of them per filenode. */
const FORKS = 4;
const FORK_NAMES = ['main', 'fsm', 'vm', 'init'] as const;
const BLOCK_NO_MAX = 0xffff_fffe;

export interface DatabaseLocator {
  readonly tablespaceOid: number;
  /** 0 for relations shared by all databases. */
  readonly databaseOid: number;
}

/** What changed in one fork of a relation. */
export interface ForkChanges {
  /**
   * The fork was cut to this many pages, or made or removed (0), meanwhile: whatever is there from this page on is new,
   * mentioned or not. Null when it never lost a page.
   */
  readonly limitBlock: number | null;
  /** True for a page at or after the limit, too. */
  isChanged(blockNo: number): boolean;
  /** The changed pages from `beginBlock` up to, not including, `endBlock`, ascending; those after the limit are among them. */
  changedBlocks(range: { readonly beginBlock: number; readonly endBlock: number }): Uint32Array;
}

/** A changed set as it travels between threads, by database. */
export type ChangedSetParts = readonly (DatabaseLocator & {
  readonly isWhole: boolean;
  readonly forks: readonly (ForkParts & { readonly key: number })[];
})[];

interface ForkParts {
  readonly limitBlock: number | null;
  /** Bitmaps by the number of their chunk. */
  readonly chunks: ReadonlyMap<number, Uint32Array>;
}

/** What a capture or a rewind asks. */
export interface ChangedSet {
  /** All files of the database were made or removed without a word of each. */
  isWholeDatabase(database: DatabaseLocator): boolean;
  /**
   * Null when nothing changed in this fork. Of free-space maps and visibility maps it always says that everything did,
   * for the log does not tell: bits of a visibility map are cleared without naming its page.
   */
  changes(relation: RelationLocator, fork: number): ForkChanges | null;
}

/**
 * A changed set that is being put together. Whatever is added makes it greater, never smaller; the order does not matter.
 *
 * Memory: for every 512 MiB of a fork in which a page changed at most 8 KiB, less when only its beginning changed; so at
 * most 16 MiB for each TiB of data, and some 300 bytes for each fork that changed.
 */
export class ChangedSetBuilder implements ChangedSet {
  /** By tablespace, then database. */
  readonly #databases = new Map<number, Map<number, DatabaseChanges>>();
  /** The fork that was marked last: neighbours in the log are often of one fork. */
  #last: { relation: RelationLocator; fork: number; changes: MarkedFork } | null = null;

  isWholeDatabase({ tablespaceOid, databaseOid }: DatabaseLocator): boolean {
    return this.#databases.get(tablespaceOid)?.get(databaseOid)?.isWhole ?? false;
  }

  changes(relation: RelationLocator, fork: number): ForkChanges | null {
    if (fork === FORK.fsm || fork === FORK.vm) return EVERYTHING;
    const database = this.#databases.get(relation.tablespaceOid)?.get(relation.databaseOid);
    if (database === undefined) return null;
    return database.isWhole ? EVERYTHING : (database.forks.get(forkKey(relation, fork)) ?? null);
  }

  markWholeDatabase(database: DatabaseLocator): void {
    this.#databaseOf(database).isWhole = true;
  }

  markBlock(relation: RelationLocator, fork: number, blockNo: number): void {
    this.#forkOf(relation, fork).mark(blockNo);
  }

  /** The fork was cut to `limitBlock` pages. */
  lowerLimit(relation: RelationLocator, fork: number, limitBlock: number): void {
    this.#forkOf(relation, fork).lowerLimit(limitBlock);
  }

  /** Adds all that `other` holds. */
  merge(other: ChangedSetBuilder): void {
    this.addParts(other.toParts());
  }

  toParts(): ChangedSetParts {
    return Array.from(this.#databases).flatMap(([tablespaceOid, databases]) =>
      Array.from(databases, ([databaseOid, { isWhole, forks }]) => ({
        tablespaceOid,
        databaseOid,
        isWhole,
        forks: Array.from(forks, ([key, fork]) => ({ key, ...fork.toParts() })),
      })),
    );
  }

  /** Adds what `toParts` of another set gave. */
  addParts(parts: ChangedSetParts): void {
    for (const { isWhole, forks, ...database } of parts) {
      const own = this.#databaseOf(database);
      own.isWhole ||= isWhole;
      for (const { key, ...fork } of forks) {
        getOrMake(own.forks, key, () => new MarkedFork()).add(fork);
      }
    }
    this.#last = null;
  }

  /** Changed forks, with nothing that a limit implies; the order means nothing. */
  *forks(): Generator<{
    readonly relation: RelationLocator;
    readonly fork: number;
    readonly changes: ForkChanges;
  }> {
    for (const [tablespaceOid, databases] of this.#databases) {
      for (const [databaseOid, { forks }] of databases) {
        for (const [key, changes] of forks) {
          const filenode = Math.floor(key / FORKS);
          yield { relation: { tablespaceOid, databaseOid, filenode }, fork: key % FORKS, changes };
        }
      }
    }
  }

  /**
   * One line for each whole database and each fork, sorted: `1663/5/16400 main limit 7 blocks 0-2 5`. Two sets that mean the
   * same have the same text. For tests and messages.
   */
  toText(): string {
    const lines: string[] = [];
    for (const [tablespaceOid, databases] of this.#databases) {
      for (const [databaseOid, { isWhole }] of databases) {
        if (isWhole) lines.push(`${tablespaceOid}/${databaseOid} whole`);
      }
    }
    for (const { relation, fork, changes } of this.forks()) {
      const { tablespaceOid, databaseOid, filenode } = relation;
      const limit = changes.limitBlock === null ? '' : ` limit ${changes.limitBlock}`;
      const end = changes.limitBlock ?? BLOCK_NO_MAX + 1;
      const blocks = printRuns(changes.changedBlocks({ beginBlock: 0, endBlock: end }));
      lines.push(`${tablespaceOid}/${databaseOid}/${filenode} ${FORK_NAMES[fork]}${limit}${blocks}`);
    }
    return lines.sort().join('\n');
  }

  #databaseOf({ tablespaceOid, databaseOid }: DatabaseLocator): DatabaseChanges {
    const databases = getOrMake(this.#databases, tablespaceOid, () => new Map<number, DatabaseChanges>());
    return getOrMake(databases, databaseOid, () => ({ isWhole: false, forks: new Map() }));
  }

  #forkOf(relation: RelationLocator, fork: number): MarkedFork {
    const last = this.#last;
    if (last !== null && last.fork === fork && isSameRelation(last.relation, relation)) return last.changes;
    const { tablespaceOid, databaseOid, filenode } = relation;
    const { forks } = this.#databaseOf(relation);
    const changes = getOrMake(forks, forkKey(relation, fork), () => new MarkedFork());
    this.#last = { relation: { tablespaceOid, databaseOid, filenode }, fork, changes };
    return changes;
  }
}

/** A relation of the data directory, where there are but two tablespaces. */
export function relationInDirectory(options: {
  readonly databaseOid: number;
  readonly filenode: number;
}): RelationLocator {
  const { databaseOid, filenode } = options;
  const tablespaceOid = databaseOid === 0 ? GLOBAL_TABLESPACE_OID : DEFAULT_TABLESPACE_OID;
  return { tablespaceOid, databaseOid, filenode };
}

interface DatabaseChanges {
  isWhole: boolean;
  /** By `forkKey`. */
  readonly forks: Map<number, MarkedFork>;
}

class MarkedFork implements ForkChanges {
  /** Bits of 65,536 pages each, by the number of the chunk; an array is as long as its highest page needs. */
  readonly #chunks = new Map<number, Uint32Array>();
  #limitBlock: number | null = null;

  get limitBlock(): number | null {
    return this.#limitBlock;
  }

  isChanged(blockNo: number): boolean {
    if (this.#limitBlock !== null && blockNo >= this.#limitBlock) return true;
    const word = this.#chunks.get(Math.floor(blockNo / CHUNK_BLOCKS))?.[(blockNo % CHUNK_BLOCKS) >>> 5] ?? 0;
    return (word & (1 << (blockNo & 31))) !== 0;
  }

  changedBlocks({
    beginBlock,
    endBlock,
  }: {
    readonly beginBlock: number;
    readonly endBlock: number;
  }): Uint32Array {
    const markedEnd = Math.max(beginBlock, Math.min(endBlock, this.#limitBlock ?? endBlock));
    const blocks: number[] = [];
    const firstChunk = Math.floor(beginBlock / CHUNK_BLOCKS);
    for (const chunkNo of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      if (chunkNo < firstChunk || chunkNo * CHUNK_BLOCKS >= markedEnd) continue;
      this.#collect(chunkNo, { beginBlock, endBlock: markedEnd }, blocks);
    }
    const limitedBlocks = Math.max(endBlock - markedEnd, 0);
    const result = new Uint32Array(blocks.length + (this.#limitBlock === null ? 0 : limitedBlocks));
    result.set(blocks);
    for (let at = blocks.length, block = markedEnd; at < result.length; at++) result[at] = block++;
    return result;
  }

  #collect(chunkNo: number, range: { beginBlock: number; endBlock: number }, blocks: number[]): void {
    const first = chunkNo * CHUNK_BLOCKS;
    const words = this.#chunks.get(chunkNo);
    if (words === undefined) return;
    // A part of a chunk is asked for at a time: looking through all of it each time would take longer than what is done with it.
    const begin = Math.max(range.beginBlock - first, 0) >>> 5;
    const end = Math.min(Math.ceil((range.endBlock - first) / 32), words.length);
    for (let index = begin; index < end; index++) {
      for (let bits = words[index] ?? 0; bits !== 0; bits &= bits - 1) {
        const block = first + index * 32 + (31 - Math.clz32(bits & -bits));
        if (block >= range.beginBlock && block < range.endBlock) blocks.push(block);
      }
    }
  }

  mark(blockNo: number): void {
    if (this.#limitBlock !== null && blockNo >= this.#limitBlock) return;
    const index = (blockNo % CHUNK_BLOCKS) >>> 5;
    const words = this.#wordsFor(Math.floor(blockNo / CHUNK_BLOCKS), index + 1);
    words[index] = (words[index] ?? 0) | (1 << (blockNo & 31));
  }

  lowerLimit(limitBlock: number): void {
    if (this.#limitBlock !== null && this.#limitBlock <= limitBlock) return;
    this.#limitBlock = limitBlock;
    this.#forgetFrom(limitBlock);
  }

  toParts(): ForkParts {
    return { limitBlock: this.#limitBlock, chunks: this.#chunks };
  }

  add({ limitBlock, chunks }: ForkParts): void {
    if (limitBlock !== null) this.lowerLimit(limitBlock);
    for (const [chunkNo, theirs] of chunks) {
      const words = this.#wordsFor(chunkNo, theirs.length);
      for (const [index, word] of theirs.entries()) words[index] = (words[index] ?? 0) | word;
    }
    if (this.#limitBlock !== null) this.#forgetFrom(this.#limitBlock);
  }

  /** What the limit implies needs no room. */
  #forgetFrom(limitBlock: number): void {
    for (const chunkNo of this.#chunks.keys()) {
      if (chunkNo * CHUNK_BLOCKS >= limitBlock) this.#chunks.delete(chunkNo);
    }
  }

  #wordsFor(chunkNo: number, count: number): Uint32Array {
    const words = this.#chunks.get(chunkNo);
    if (words !== undefined && words.length >= count) return words;
    const length = Math.max(CHUNK_WORDS_MIN, 2 ** Math.ceil(Math.log2(count)));
    const grown = new Uint32Array(length);
    if (words !== undefined) grown.set(words);
    this.#chunks.set(chunkNo, grown);
    return grown;
  }
}

/** Of a database whose files all changed, and of forks that the log does not tell about. */
const EVERYTHING: ForkChanges = (() => {
  const everything = new MarkedFork();
  everything.lowerLimit(0);
  return everything;
})();

function forkKey({ filenode }: RelationLocator, fork: number): number {
  return filenode * FORKS + fork;
}

function isSameRelation(a: RelationLocator, b: RelationLocator): boolean {
  return a.filenode === b.filenode && a.databaseOid === b.databaseOid && a.tablespaceOid === b.tablespaceOid;
}

function getOrMake<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  const found = map.get(key);
  if (found !== undefined) return found;
  const made = make();
  map.set(key, made);
  return made;
}

/** ` blocks 0-2 5`, or nothing. */
function printRuns(blocks: Uint32Array): string {
  const runs: string[] = [];
  for (let at = 0; at < blocks.length; ) {
    let end = at + 1;
    while (end < blocks.length && blocks[end] === (blocks[end - 1] ?? 0) + 1) end++;
    runs.push(end === at + 1 ? `${blocks[at]}` : `${blocks[at]}-${blocks[end - 1]}`);
    at = end;
  }
  return runs.length === 0 ? '' : ` blocks ${runs.join(' ')}`;
}
