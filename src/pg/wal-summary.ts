/**
 * WAL summary files of PostgreSQL 17 and 18 (`pg_wal/summaries`): which pages a stretch of the log has changed. A file is a
 * block reference table, `common/blkreftable.h`; this reads it in pieces of any size.
 */
import { CorruptError, InputError, type Lsn } from '../base/index.ts';
import { crc32c } from './crc32c.ts';
import { FORK_MAX } from './wal-engine.ts';
import type { RelationLocator } from './wal-record.ts';

/** `BLOCKREFTABLE_MAGIC`. */
const MAGIC = 0x652b_137b;
const MAGIC_BYTES = 4;
/** `BlockRefTableSerializedEntry`; one of zeroes ends the table. */
const ENTRY_BYTES = 24;
const CRC_BYTES = 4;
const ENTRY_AT = {
  tablespaceOid: 0,
  databaseOid: 4,
  filenode: 8,
  fork: 12,
  limitBlock: 16,
  chunks: 20,
} as const;
/** `InvalidBlockNumber`: the fork was never cut short. */
const NO_LIMIT = 0xffff_ffff;

/** `BLOCKS_PER_CHUNK`. */
export const SUMMARY_CHUNK_BLOCKS = 65_536;
/** `MAX_ENTRIES_PER_CHUNK`: a chunk of this many numbers is a bitmap. */
const BITMAP_WORDS = SUMMARY_CHUNK_BLOCKS / 16;
/** Chunks that a fork of 2^32 pages has. */
const CHUNKS_MAX = 65_536;

type Expected = 'magic' | 'entry' | 'sizes' | 'chunk' | 'crc' | 'nothing';

/** What a summary file covers, by its name. */
export interface WalSummaryName {
  readonly timelineId: number;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/** `000000010000000001000028000000000173DFE8.summary` @throws InputError `name_invalid` */
export function parseWalSummaryName(name: string): WalSummaryName {
  const match = /^([0-9A-F]{8})([0-9A-F]{16})([0-9A-F]{16})\.summary$/.exec(name);
  if (match === null) throw new InputError('name_invalid', `not a summary of the log: "${name}"`);
  const [, timeline = '', start = '', end = ''] = match;
  const startLsn = BigInt(`0x${start}`) as Lsn;
  const endLsn = BigInt(`0x${end}`) as Lsn;
  if (startLsn >= endLsn) throw new InputError('name_invalid', `an empty summary of the log: "${name}"`);
  return { timelineId: Number.parseInt(timeline, 16), startLsn, endLsn };
}

export function formatWalSummaryName({ timelineId, startLsn, endLsn }: WalSummaryName): string {
  const hex = (value: bigint, digits: number) => value.toString(16).toUpperCase().padStart(digits, '0');
  return `${hex(BigInt(timelineId), 8)}${hex(startLsn, 16)}${hex(endLsn, 16)}.summary`;
}

/** Gets what a summary says. Nothing of it may be believed before `WalSummaryReader.finish` has returned. */
export interface WalSummaryVisitor {
  /**
   * A fork that the log names. Filenode 0: all relations of the database in this tablespace were made or removed.
   * @param limitBlock the fewest pages that the fork had meanwhile: whatever was there from this page on is gone, or null
   */
  fork(relation: RelationLocator, fork: number, limitBlock: number | null): void;
  /** A changed page of the fork last named; pages come in no order. */
  block(blockNo: number): void;
}

/**
 * Push the bytes of a summary file, cut as you like, then `finish`. Holds at most 256 KiB.
 * `push` and `finish` throw CorruptError when the file is not what Postgres wrote.
 */
export class WalSummaryReader {
  readonly #name: string;
  readonly #visitor: WalSummaryVisitor;
  #crc = 0;
  readonly #room = new Uint8Array(CHUNKS_MAX * 2);
  readonly #view = new DataView(this.#room.buffer);
  #gathered = 0;
  #wanted = MAGIC_BYTES;
  #expecting: Expected = 'magic';
  /** Numbers in each chunk of the fork that is read, and the chunk that comes next. */
  #sizes = new Uint16Array(0);
  #chunkNo = 0;

  /** @param options.name names the file in messages */
  constructor(options: { readonly name: string; readonly visitor: WalSummaryVisitor }) {
    this.#name = options.name;
    this.#visitor = options.visitor;
  }

  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#expecting === 'nothing') throw this.#corrupt('goes on after its end');
      const count = Math.min(this.#wanted - this.#gathered, bytes.length - at);
      this.#room.set(bytes.subarray(at, at + count), this.#gathered);
      this.#gathered += count;
      at += count;
      if (this.#gathered === this.#wanted) this.#take();
    }
  }

  /** Call once after the last byte. */
  finish(): void {
    if (this.#expecting !== 'nothing') throw this.#corrupt('is cut off');
  }

  #take(): void {
    if (this.#expecting !== 'crc') this.#crc = crc32c(this.#room.subarray(0, this.#gathered), this.#crc);
    this.#gathered = 0;
    switch (this.#expecting) {
      case 'magic':
        if (this.#view.getUint32(0, true) !== MAGIC) throw this.#corrupt('does not begin like a summary');
        return this.#expect('entry', ENTRY_BYTES);
      case 'entry':
        return this.#takeEntry();
      case 'sizes':
        this.#sizes = Uint16Array.from({ length: this.#wanted / 2 }, (_, index) => this.#number(index));
        this.#chunkNo = -1;
        return this.#expectChunk();
      case 'chunk':
        this.#takeChunk();
        return this.#expectChunk();
      case 'crc':
        if (this.#view.getUint32(0, true) !== this.#crc) throw this.#corrupt('has a wrong checksum');
        return this.#expect('nothing', 0);
      case 'nothing':
        return undefined;
    }
  }

  #takeEntry(): void {
    const view = this.#view;
    const relation = {
      tablespaceOid: view.getUint32(ENTRY_AT.tablespaceOid, true),
      databaseOid: view.getUint32(ENTRY_AT.databaseOid, true),
      filenode: view.getUint32(ENTRY_AT.filenode, true),
    };
    const fork = view.getUint32(ENTRY_AT.fork, true);
    const limit = view.getUint32(ENTRY_AT.limitBlock, true);
    const chunks = view.getUint32(ENTRY_AT.chunks, true);
    const isLast = this.#room.subarray(0, ENTRY_BYTES).every((byte) => byte === 0);
    if (isLast) return this.#expect('crc', CRC_BYTES);
    if (fork > FORK_MAX) throw this.#corrupt(`names a fork ${fork}`);
    if (chunks > CHUNKS_MAX) throw this.#corrupt('names more pages than a relation can have');
    this.#visitor.fork(relation, fork, limit === NO_LIMIT ? null : limit);
    if (chunks === 0) this.#expect('entry', ENTRY_BYTES);
    else this.#expect('sizes', chunks * 2);
  }

  /** The next chunk that holds anything, or the next fork. */
  #expectChunk(): void {
    let size = 0;
    do size = this.#sizes[++this.#chunkNo] ?? -1;
    while (size === 0);
    if (size > BITMAP_WORDS) throw this.#corrupt('has a chunk of impossible size');
    if (size === -1) this.#expect('entry', ENTRY_BYTES);
    else this.#expect('chunk', size * 2);
  }

  #takeChunk(): void {
    const first = this.#chunkNo * SUMMARY_CHUNK_BLOCKS;
    const numbers = this.#wanted / 2;
    if (numbers < BITMAP_WORDS) {
      for (let index = 0; index < numbers; index++) this.#visitor.block(first + this.#number(index));
      return;
    }
    for (let word = 0; word < BITMAP_WORDS; word++) {
      for (let bits = this.#number(word); bits !== 0; bits &= bits - 1) {
        const bit = 31 - Math.clz32(bits & -bits);
        this.#visitor.block(first + word * 16 + bit);
      }
    }
  }

  #number(index: number): number {
    return this.#view.getUint16(index * 2, true);
  }

  #expect(what: Expected, bytes: number): void {
    this.#expecting = what;
    this.#wanted = bytes;
  }

  #corrupt(what: string): CorruptError {
    return new CorruptError(`the log's summary ${this.#name} ${what}`, {
      hint: 'the log itself still tells what it changed, as long as it is kept',
    });
  }
}
