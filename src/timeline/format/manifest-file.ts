/** Manifests as bytes: sections, each compressed, then a signature and a checksum. See docs/formats/manifest.md. */
import { constants, crc32, zstdCompressSync } from 'node:zlib';
import type { z } from 'zod';
import { AppError, assert, CorruptError, required } from '../../base/index.ts';
import { beginMac, type ClusterKey, MAC_BYTES, macsEqual } from '../../keys/index.ts';
import { ByteReader } from './byte-reader.ts';
import { decompress } from './frame.ts';
import {
  databasesSchema,
  headerSchema,
  copiesSchema,
  historySchema,
  type Manifest,
  type ManifestCopy,
  type ManifestHeader,
  type ManifestHistory,
  type ManifestObject,
  type ManifestPack,
  type ManifestWal,
  objectsSchema,
  packsSchema,
  walSchema,
} from './manifest.ts';
import {
  decodeFileTable,
  decodeFrameSources,
  decodeFrameTable,
  decodeRunTable,
  encodeFileTable,
  encodeFrameSources,
  encodeFrameTable,
  encodeRunTable,
} from './manifest-tables.ts';
import { requireVersion } from './pack.ts';

export const MANIFEST_VERSION = 1;
const MAGIC = Buffer.from('ATOLMANI', 'latin1');
const HEADER_BYTES = 40;
const HEADER_CRC_AT = HEADER_BYTES - 4;
const SECTION_ENTRY_BYTES = 32;
const TRAILER_BYTES = MAC_BYTES + 4;
const SECTIONS_MAX = 64;
/** No section of a possible database is larger; a reader refuses before it asks for memory. */
const SECTION_RAW_BYTES_MAX = 4 * 1024 * 1024 * 1024;

/** What is small and wanted most comes first, so that a summary needs little memory. */
const SECTION = {
  header: 1,
  objects: 2,
  history: 10,
  copies: 11,
  databases: 3,
  packs: 4,
  wal: 5,
  files: 6,
  runs: 7,
  frames: 8,
  sources: 9,
} as const;
type SectionName = keyof typeof SECTION;
const SECTION_NAMES = Object.keys(SECTION) as SectionName[]; // The keys of a literal.

/** The sections that a listing needs. */
export interface ManifestHead {
  readonly header: ManifestHeader;
  readonly objects: readonly ManifestObject[];
  readonly history?: ManifestHistory;
}

interface ReadOptions {
  readonly key: ClusterKey;
  /** Object name, for messages. */
  readonly name: string;
}

/** The bytes of a manifest, in pieces to be written one after the other. */
export function encodeManifest(manifest: Manifest, { key }: { readonly key: ClusterKey }): Uint8Array[] {
  const present = SECTION_NAMES.filter((section) => manifest[section] !== undefined);
  const sections = present.map((section) => {
    const raw = encodeSection(manifest, section);
    const stored = zstdCompressSync(raw, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
    return { id: SECTION[section], rawBytes: raw.length, stored };
  });
  const directory = encodeDirectory(sections, key);
  const signed = [directory, ...sections.map(({ stored }) => stored)];
  const mac = beginMac({ key, purpose: 'manifest mac' });
  let crc = 0;
  for (const piece of signed) {
    mac.update(piece);
    crc = crc32(piece, crc);
  }
  const trailer = Buffer.alloc(TRAILER_BYTES);
  mac.digest().copy(trailer, 0);
  trailer.writeUInt32LE(crc32(trailer.subarray(0, MAC_BYTES), crc), MAC_BYTES);
  return [...signed, trailer];
}

/**
 * Reads a whole manifest, of which nothing is believed before checksum and signature were found right.
 * @throws CorruptError, AppError `format_unsupported`, `backup_untrusted`
 */
export async function readManifest(
  chunks: AsyncIterable<Uint8Array>,
  options: ReadOptions,
): Promise<Manifest> {
  const sections = await readSections(chunks, { ...options, wanted: SECTION_NAMES });
  const { name } = options;
  return {
    header: parseJson(sections, 'header', headerSchema, name),
    objects: parseJson(sections, 'objects', objectsSchema, name),
    databases: parseJson(sections, 'databases', databasesSchema, name),
    packs: parseJson(sections, 'packs', packsSchema, name),
    wal: parseJson(sections, 'wal', walSchema, name),
    files: decodeFileTable(sectionOf(sections, 'files', name), name),
    runs: decodeRunTable(sectionOf(sections, 'runs', name), name),
    frames: decodeFrameTable(sectionOf(sections, 'frames', name), name),
    ...(sections.has(SECTION.sources)
      ? { sources: decodeFrameSources(sectionOf(sections, 'sources', name), name) }
      : {}),
    ...historyOf(sections, name),
    ...(sections.has(SECTION.copies) ? { copies: parseJson(sections, 'copies', copiesSchema, name) } : {}),
  };
}

/** Nothing in a backup without revision history. */
function historyOf(sections: ReadonlyMap<number, Uint8Array>, name: string): Pick<Manifest, 'history'> {
  if (!sections.has(SECTION.history)) return {};
  return { history: parseJson(sections, 'history', historySchema, name) };
}

/** Reads header, objects and history, checks everything, keeps no more than those in memory. @throws as `readManifest` */
export async function readManifestHead(
  chunks: AsyncIterable<Uint8Array>,
  options: ReadOptions,
): Promise<ManifestHead> {
  const sections = await readSections(chunks, { ...options, wanted: ['header', 'objects', 'history'] });
  return {
    header: parseJson(sections, 'header', headerSchema, options.name),
    objects: parseJson(sections, 'objects', objectsSchema, options.name),
    ...historyOf(sections, options.name),
  };
}

/** The id of the key that a manifest says it was signed with: nobody has checked it. @throws CorruptError, AppError `format_unsupported` */
export async function readManifestKeyId(
  chunks: AsyncIterable<Uint8Array>,
  { name }: Pick<ReadOptions, 'name'>,
): Promise<string> {
  let head = Buffer.alloc(0);
  for await (const chunk of chunks) {
    head = Buffer.concat([head, chunk.subarray(0, HEADER_BYTES)]);
    if (head.length >= HEADER_BYTES) return parseHeader(head.subarray(0, HEADER_BYTES), name).keyId;
  }
  throw new CorruptError(`${name} is damaged: it ends too early`);
}

/** What tells of a base without its tables. */
export interface ManifestOutline extends ManifestHead {
  readonly packs: readonly ManifestPack[];
  readonly wal: readonly ManifestWal[];
}

/** Reads all but the tables and the relation map, checks everything. @throws as `readManifest` */
export async function readManifestOutline(
  chunks: AsyncIterable<Uint8Array>,
  options: ReadOptions,
): Promise<ManifestOutline> {
  const sections = await readSections(chunks, { ...options, wanted: ['header', 'objects', 'packs', 'wal'] });
  const { name } = options;
  return {
    header: parseJson(sections, 'header', headerSchema, name),
    objects: parseJson(sections, 'objects', objectsSchema, name),
    packs: parseJson(sections, 'packs', packsSchema, name),
    wal: parseJson(sections, 'wal', walSchema, name),
  };
}

/** Reads what a logical backup holds; nothing of another. @throws as `readManifest` */
export async function readManifestCopies(
  chunks: AsyncIterable<Uint8Array>,
  options: ReadOptions,
): Promise<readonly ManifestCopy[]> {
  const sections = await readSections(chunks, { ...options, wanted: ['copies'] });
  return sections.has(SECTION.copies) ? parseJson(sections, 'copies', copiesSchema, options.name) : [];
}

/** Reads the names and sizes of the objects that the backup needs. @throws as `readManifest` */
export async function readManifestObjectList(
  chunks: AsyncIterable<Uint8Array>,
  options: ReadOptions,
): Promise<readonly { readonly path: string; readonly bytes: number }[]> {
  const sections = await readSections(chunks, { ...options, wanted: ['packs', 'wal', 'history'] });
  const packs = parseJson(sections, 'packs', packsSchema, options.name);
  const { history } = historyOf(sections, options.name);
  return [...packs, ...parseJson(sections, 'wal', walSchema, options.name), ...(history?.wal ?? [])];
}

function encodeSection(manifest: Manifest, section: SectionName): Uint8Array {
  switch (section) {
    case 'files':
      return encodeFileTable(manifest.files);
    case 'runs':
      return encodeRunTable(manifest.runs);
    case 'frames':
      return encodeFrameTable(manifest.frames);
    case 'sources':
      return encodeFrameSources(required(manifest.sources, 'sources of frames'));
    default:
      return Buffer.from(
        JSON.stringify(manifest[section], (_key, value: unknown) =>
          typeof value === 'bigint' ? value.toString() : value,
        ),
      );
  }
}

interface StoredSection {
  readonly id: number;
  readonly rawBytes: number;
  readonly stored: Uint8Array;
}

function encodeDirectory(sections: readonly StoredSection[], key: ClusterKey): Uint8Array {
  assert(/^[0-9a-f]{16}$/.test(key.id), 'a key id has eight bytes');
  const bytes = Buffer.alloc(HEADER_BYTES + sections.length * SECTION_ENTRY_BYTES);
  let offset = bytes.length;
  for (const [index, section] of sections.entries()) {
    assert(section.rawBytes <= SECTION_RAW_BYTES_MAX, 'a section is larger than readers accept');
    const at = HEADER_BYTES + index * SECTION_ENTRY_BYTES;
    bytes.writeUInt32LE(section.id, at);
    bytes.writeBigUInt64LE(BigInt(offset), at + 8);
    bytes.writeBigUInt64LE(BigInt(section.stored.length), at + 16);
    bytes.writeBigUInt64LE(BigInt(section.rawBytes), at + 24);
    offset += section.stored.length;
  }
  MAGIC.copy(bytes, 0);
  bytes.writeUInt16LE(MANIFEST_VERSION, 8);
  bytes.writeUInt32LE(sections.length, 12);
  Buffer.from(key.id, 'hex').copy(bytes, 16);
  bytes.writeBigUInt64LE(BigInt(offset + TRAILER_BYTES), 24);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, HEADER_CRC_AT)), HEADER_CRC_AT);
  return bytes;
}

async function readSections(
  chunks: AsyncIterable<Uint8Array>,
  options: ReadOptions & { readonly wanted: readonly SectionName[] },
): Promise<Map<number, Uint8Array>> {
  const { key, name, wanted } = options;
  await using stream = new SignedStream(chunks, { key, name });
  const header = parseHeader(await stream.take(HEADER_BYTES), name);
  const directory = await stream.take(header.sectionCount * SECTION_ENTRY_BYTES);
  const entries = parseDirectory(directory, { ...header, name });
  const stored = new Map<number, Uint8Array>();
  for (const { id, storedBytes } of entries) {
    if (wanted.some((section) => SECTION[section] === id)) stored.set(id, await stream.take(storedBytes));
    else await stream.skip(storedBytes);
  }
  await stream.end({ keyId: header.keyId });
  const expanded = new Map<number, Uint8Array>();
  for (const { id, rawBytes } of entries) {
    const bytes = stored.get(id);
    if (bytes !== undefined) expanded.set(id, decompressSection(bytes, { rawBytes, name }));
  }
  return expanded;
}

function decompressSection(
  stored: Uint8Array,
  { rawBytes, name }: { rawBytes: number; name: string },
): Uint8Array {
  const raw = decompress(stored, { bytes: rawBytes, name });
  if (raw.length !== rawBytes) throw new CorruptError(`${name} is damaged: a section has a wrong length`);
  return raw;
}

function parseHeader(bytes: Uint8Array, name: string) {
  const reader = new ByteReader(bytes, { name });
  if (!MAGIC.equals(reader.bytes(MAGIC.length))) throw reader.corrupt('it does not begin as a manifest');
  if (crc32(bytes.subarray(0, HEADER_CRC_AT)) !== Buffer.from(bytes).readUInt32LE(HEADER_CRC_AT)) {
    throw new CorruptError(`checksum mismatch in ${name}`);
  }
  requireVersion({ version: reader.u16(), supported: MANIFEST_VERSION, name });
  const flags = reader.u16();
  const sectionCount = reader.u32();
  const keyId = Buffer.from(reader.bytes(8)).toString('hex');
  const fileBytes = reader.size();
  if (flags !== 0 || sectionCount > SECTIONS_MAX) throw reader.corrupt('its header is malformed');
  return { sectionCount, keyId, fileBytes };
}

function parseDirectory(
  bytes: Uint8Array,
  options: { readonly sectionCount: number; readonly fileBytes: number; readonly name: string },
) {
  const reader = new ByteReader(bytes, { name: options.name });
  let expected = HEADER_BYTES + bytes.length;
  const entries = Array.from({ length: options.sectionCount }, () => {
    const id = reader.u32();
    const reserved = reader.u32();
    const entry = { id, offset: reader.size(), storedBytes: reader.size(), rawBytes: reader.size() };
    if (reserved !== 0 || entry.offset !== expected || entry.rawBytes > SECTION_RAW_BYTES_MAX) {
      throw reader.corrupt('its list of sections is malformed');
    }
    expected += entry.storedBytes;
    return entry;
  });
  if (expected + TRAILER_BYTES !== options.fileBytes) throw reader.corrupt('its length is wrong');
  return entries;
}

function sectionOf(
  sections: ReadonlyMap<number, Uint8Array>,
  section: SectionName,
  name: string,
): Uint8Array {
  const bytes = sections.get(SECTION[section]);
  if (bytes === undefined) throw new CorruptError(`${name} is damaged: it has no section ${section}`);
  return bytes;
}

function parseJson<T extends z.ZodType>(
  sections: ReadonlyMap<number, Uint8Array>,
  section: SectionName,
  schema: T,
  name: string,
): z.output<T> {
  const reader = new ByteReader(sectionOf(sections, section, name), { name });
  try {
    return schema.parse(JSON.parse(reader.text(reader.remaining)));
  } catch (error) {
    throw reader.corrupt(`its section ${section} is malformed`, error);
  }
}

/** Reads pieces off a stream while computing what the trailer must say of them. */
class SignedStream implements AsyncDisposable {
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #name: string;
  readonly #key: ClusterKey;
  readonly #mac;
  #crc = 0;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(chunks: AsyncIterable<Uint8Array>, { key, name }: ReadOptions) {
    this.#iterator = chunks[Symbol.asyncIterator]();
    this.#name = name;
    this.#key = key;
    this.#mac = beginMac({ key, purpose: 'manifest mac' });
  }

  async take(length: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    await this.#read(length, (piece) => {
      this.#absorb(piece);
      pieces.push(piece);
    });
    return Buffer.concat(pieces, length);
  }

  async skip(length: number): Promise<void> {
    await this.#read(length, (piece) => this.#absorb(piece));
  }

  /** Checks the trailer, and that nothing follows it. */
  async end({ keyId }: { readonly keyId: string }): Promise<void> {
    const trailer = Buffer.alloc(TRAILER_BYTES);
    let at = 0;
    await this.#read(TRAILER_BYTES, (piece) => {
      trailer.set(piece, at);
      at += piece.length;
    });
    const following = this.#rest.length > 0 ? this.#rest : (await this.#iterator.next()).value;
    if (following !== undefined) throw new CorruptError(`${this.#name} is damaged: it is too long`);
    const mac = trailer.subarray(0, MAC_BYTES);
    if (crc32(mac, this.#crc) !== trailer.readUInt32LE(MAC_BYTES)) {
      throw new CorruptError(`checksum mismatch in ${this.#name}`);
    }
    if (keyId === this.#key.id && macsEqual(this.#mac.digest(), mac)) return;
    const reason = keyId === this.#key.id ? 'its signature is wrong' : `it was signed with the key ${keyId}`;
    throw new AppError('backup_untrusted', `${this.#name} was not written by this cluster: ${reason}`, {
      hint: 'restoring runs what it restores, so only backups made by this physical cluster, or by one whose key was imported with "atoll cluster-key import", are accepted',
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#iterator.return?.();
  }

  async #read(length: number, use: (piece: Uint8Array) => void): Promise<void> {
    for (let missing = length; missing > 0; ) {
      if (this.#rest.length === 0) {
        const next = await this.#iterator.next();
        if (next.done === true) throw new CorruptError(`${this.#name} is damaged: it ends too early`);
        this.#rest = next.value;
      }
      const piece = this.#rest.subarray(0, missing);
      this.#rest = this.#rest.subarray(piece.length);
      missing -= piece.length;
      use(piece);
    }
  }

  #absorb(piece: Uint8Array): void {
    this.#mac.update(piece);
    this.#crc = crc32(piece, this.#crc);
  }
}
