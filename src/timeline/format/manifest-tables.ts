/**
 * The tables of a manifest, as columns: a database of a terabyte has two million frames, which are no JSON.
 * Numbers are little-endian, as are all machines that run the engine.
 */
import { endianness } from 'node:os';
import { assert } from '../../base/index.ts';
import { ByteReader } from './byte-reader.ts';
import { FRAME_TAG_BYTES, PACK_ID_BYTES } from './pack.ts';

/** How a file is cut: `pages` in frames of pages, `bytes` in frames of bytes. */
export const FILE_KIND = { bytes: 0, pages: 1 } as const;

/** Files of the data directory, ascending by path. */
export interface FileTable {
  readonly paths: readonly string[];
  readonly lengths: BigUint64Array;
  readonly kinds: Uint8Array;
  readonly modes: Uint16Array;
  /** The file's runs are `runCounts[i]` rows of the run table from `firstRuns[i]` on. */
  readonly firstRuns: Uint32Array;
  readonly runCounts: Uint32Array;
}

/** Which frame holds which part of a file; `starts` and `counts` are in pages or bytes, after the file's kind. */
export interface RunTable {
  readonly starts: Uint32Array;
  readonly counts: Uint32Array;
  readonly frames: Uint32Array;
  /** Where the run begins inside the frame, in pages; 0 for files of bytes. */
  readonly indexes: Uint16Array;
}

export interface FrameTable {
  /** Row of the list of packs. */
  readonly packs: Uint32Array;
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  readonly crcs: Uint32Array;
  /** `FRAME_TAG_BYTES` for each frame. */
  readonly tags: Uint8Array;
}

/**
 * For each frame the pack of a timeline store that it was copied from, and where it lay in it. Packs are immutable: a frame of the same
 * source is the same frame, so that the next backup of the chain need not copy it again.
 */
export interface FrameSources {
  /** Ids of packs, in hexadecimal. */
  readonly packIds: readonly string[];
  /** Row of `packIds`, or `NO_SOURCE`. */
  readonly packs: Uint32Array;
  readonly offsets: Uint32Array;
}

/** Of a frame that was read from a data directory. */
export const NO_SOURCE = 0xffff_ffff;

type Column = Uint8Array | Uint16Array | Uint32Array | BigUint64Array;

export function encodeFileTable(table: FileTable): Uint8Array {
  const paths = Buffer.from(table.paths.join('\n'), 'utf8');
  const size = Buffer.alloc(4);
  size.writeUInt32LE(paths.length);
  const { lengths, kinds, modes, firstRuns, runCounts } = table;
  const columns = encodeColumns(table.paths.length, [lengths, kinds, modes, firstRuns, runCounts]);
  return Buffer.concat([columns, size, paths]);
}

export function decodeFileTable(bytes: Uint8Array, name: string): FileTable {
  const reader = new ByteReader(bytes, { name });
  const rows = reader.u32();
  const table = {
    lengths: readColumn(reader, rows, BigUint64Array),
    kinds: readColumn(reader, rows, Uint8Array),
    modes: readColumn(reader, rows, Uint16Array),
    firstRuns: readColumn(reader, rows, Uint32Array),
    runCounts: readColumn(reader, rows, Uint32Array),
  };
  const text = reader.text(reader.u32());
  reader.end();
  const paths = text === '' ? [] : text.split('\n');
  if (paths.length !== rows) throw reader.corrupt('its number of paths is wrong');
  return { paths, ...table };
}

export function encodeRunTable(table: RunTable): Uint8Array {
  return encodeColumns(table.starts.length, [table.starts, table.counts, table.frames, table.indexes]);
}

export function decodeRunTable(bytes: Uint8Array, name: string): RunTable {
  const reader = new ByteReader(bytes, { name });
  const rows = reader.u32();
  const table = {
    starts: readColumn(reader, rows, Uint32Array),
    counts: readColumn(reader, rows, Uint32Array),
    frames: readColumn(reader, rows, Uint32Array),
    indexes: readColumn(reader, rows, Uint16Array),
  };
  reader.end();
  return table;
}

export function encodeFrameTable(table: FrameTable): Uint8Array {
  const { packs, offsets, lengths, crcs, tags } = table;
  return Buffer.concat([encodeColumns(packs.length, [packs, offsets, lengths, crcs]), tags]);
}

export function decodeFrameTable(bytes: Uint8Array, name: string): FrameTable {
  const reader = new ByteReader(bytes, { name });
  const rows = reader.u32();
  const table = {
    packs: readColumn(reader, rows, Uint32Array),
    offsets: readColumn(reader, rows, Uint32Array),
    lengths: readColumn(reader, rows, Uint32Array),
    crcs: readColumn(reader, rows, Uint32Array),
    tags: Uint8Array.from(reader.bytes(rows * FRAME_TAG_BYTES)),
  };
  reader.end();
  return table;
}

export function encodeFrameSources({ packIds, packs, offsets }: FrameSources): Uint8Array {
  const count = Buffer.alloc(4);
  count.writeUInt32LE(packIds.length);
  const ids = packIds.map((id) => Buffer.from(id, 'hex'));
  assert(
    ids.every((id) => id.length === PACK_ID_BYTES),
    'ids of packs have one length',
  );
  return Buffer.concat([count, ...ids, encodeColumns(packs.length, [packs, offsets])]);
}

export function decodeFrameSources(bytes: Uint8Array, name: string): FrameSources {
  const reader = new ByteReader(bytes, { name });
  const packIds = Array.from({ length: reader.u32() }, () =>
    Buffer.from(reader.bytes(PACK_ID_BYTES)).toString('hex'),
  );
  const rows = reader.u32();
  const sources = {
    packIds,
    packs: readColumn(reader, rows, Uint32Array),
    offsets: readColumn(reader, rows, Uint32Array),
  };
  reader.end();
  return sources;
}

function encodeColumns(rows: number, columns: readonly Column[]): Uint8Array {
  assert(endianness() === 'LE', 'columns are written as they lie in memory');
  assert(
    columns.every((column) => column.length === rows),
    'columns have one length',
  );
  const head = Buffer.alloc(4);
  head.writeUInt32LE(rows);
  return Buffer.concat([
    head,
    ...columns.map((column) => Buffer.from(column.buffer, column.byteOffset, column.byteLength)),
  ]);
}

function readColumn<T extends Column>(
  reader: ByteReader,
  rows: number,
  type: { readonly BYTES_PER_ELEMENT: number; new (buffer: ArrayBuffer): T },
): T {
  assert(endianness() === 'LE', 'columns are read as they lie in memory');
  const source = reader.bytes(rows * type.BYTES_PER_ELEMENT);
  const aligned = new Uint8Array(source.length);
  aligned.set(source);
  return new type(aligned.buffer);
}
