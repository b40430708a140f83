/** Objects that are encrypted, chunk by chunk, so that any part can be read alone. Byte by byte in docs/formats/encryption.md. */
import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';
import { AppError, assert, CorruptError } from '../../base/index.ts';
import { type DataKey, objectKey } from '../../keys/index.ts';
import { requireVersion } from './pack.ts';

export const SEALED_VERSION = 1;
export const SEALED_HEADER_BYTES = 64;
export const SEALED_SALT_BYTES = 32;
/** Of what was there before, in each chunk but the last. */
export const CHUNK_BYTES = 64 * 1024;
export const CHUNK_TAG_BYTES = 16;
export const STORED_CHUNK_BYTES = CHUNK_BYTES + CHUNK_TAG_BYTES;

const MAGIC = Buffer.from('ATOLSEAL', 'latin1');
const AT = { magic: 0, version: 8, reserved: 10, chunkBytes: 12, dataKeyId: 16, salt: 32 } as const;
const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
/** The number of a chunk is one of 32 bits. */
const CHUNKS_MAX = 2 ** 32;

/** Which chunk of its object: the last one says so, or an object that was cut off between two chunks would open. */
export interface ChunkPlace {
  readonly index: number;
  readonly isLast: boolean;
}

/** Encrypts one object, which nobody else encrypts with the same salt. */
export class ObjectSealer {
  readonly header: Uint8Array;
  readonly #key: KeyObject;

  constructor({ dataKey, path, salt }: { dataKey: DataKey; path: string; salt: Uint8Array }) {
    assert(salt.length === SEALED_SALT_BYTES, 'a salt has 32 bytes');
    const header = Buffer.alloc(SEALED_HEADER_BYTES);
    MAGIC.copy(header, AT.magic);
    header.writeUInt16LE(SEALED_VERSION, AT.version);
    header.writeUInt32LE(CHUNK_BYTES, AT.chunkBytes);
    Buffer.from(dataKey.id, 'hex').copy(header, AT.dataKeyId);
    header.set(salt, AT.salt);
    this.header = header;
    this.#key = objectKey({ dataKey, salt, header, path });
  }

  /** Writes the chunk at `into[at]` and returns its stored length. Each place is sealed once. */
  sealChunk(plain: Uint8Array, options: ChunkPlace & { into: Uint8Array; at: number }): number {
    const { into, at } = options;
    const cipher = createCipheriv(CIPHER, this.#key, nonceOf(options));
    into.set(cipher.update(plain), at);
    cipher.final();
    into.set(cipher.getAuthTag(), at + plain.length);
    return plain.length + CHUNK_TAG_BYTES;
  }
}

/** Opens one object of a chain whose data key is known. */
export class ObjectOpener {
  readonly #key: KeyObject;
  readonly #name: string;

  /**
   * @throws CorruptError when the object does not begin as an encrypted one; AppError `format_unsupported`, `backup_untrusted` when it was
   * encrypted with another key than the rest of its chain
   */
  constructor(header: Uint8Array, { dataKey, path }: { dataKey: DataKey; path: string }) {
    this.#name = path;
    const bytes = Buffer.from(header.buffer, header.byteOffset, header.length);
    if (bytes.length !== SEALED_HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
      throw new CorruptError(`${path} is damaged: it does not begin as an encrypted object`);
    }
    requireVersion({ version: bytes.readUInt16LE(AT.version), supported: SEALED_VERSION, name: path });
    if (bytes.readUInt16LE(AT.reserved) !== 0 || bytes.readUInt32LE(AT.chunkBytes) !== CHUNK_BYTES) {
      throw new CorruptError(`${path} is damaged: its header is malformed`);
    }
    if (bytes.toString('hex', AT.dataKeyId, AT.salt) !== dataKey.id) {
      throw new AppError('backup_untrusted', `${path} was not encrypted with the key of its backup`, {
        hint: 'the object is of another backup, or was changed',
      });
    }
    this.#key = objectKey({ dataKey, salt: bytes.subarray(AT.salt), header: bytes, path });
  }

  /** @throws CorruptError when it is not the chunk that was written there */
  openChunk(stored: Uint8Array, place: ChunkPlace): Uint8Array {
    const end = stored.length - CHUNK_TAG_BYTES;
    if (end < 0 || stored.length > STORED_CHUNK_BYTES) throw this.#damaged(place);
    const decipher = createDecipheriv(CIPHER, this.#key, nonceOf(place));
    decipher.setAuthTag(stored.subarray(end));
    const plain = decipher.update(stored.subarray(0, end));
    try {
      decipher.final();
    } catch {
      throw this.#damaged(place);
    }
    return plain;
  }

  #damaged({ index }: ChunkPlace): CorruptError {
    return new CorruptError(`${this.#name} is damaged or was changed: chunk ${index} does not decrypt`);
  }
}

/** True for the beginning of an encrypted object. */
export function isSealedHeader(bytes: Uint8Array): boolean {
  return bytes.length >= MAGIC.length && MAGIC.equals(bytes.subarray(0, MAGIC.length));
}

/** How long an object of this stored length is when it is open; null when no object has this length. */
export function openedBytes(storedBytes: number): number | null {
  const chunks = chunkCount(storedBytes);
  const plainBytes = storedBytes - SEALED_HEADER_BYTES - chunks * CHUNK_TAG_BYTES;
  // Of an object with more than one chunk none is empty.
  const isPossible = plainBytes > (chunks - 1) * CHUNK_BYTES || (chunks === 1 && plainBytes === 0);
  return isPossible ? plainBytes : null;
}

/** How long an object with so much content is when it is stored. */
export function sealedBytes(plainBytes: number): number {
  const chunks = Math.max(1, Math.ceil(plainBytes / CHUNK_BYTES));
  return SEALED_HEADER_BYTES + plainBytes + chunks * CHUNK_TAG_BYTES;
}

/** How many chunks an object of this stored length has. */
export function chunkCount(storedBytes: number): number {
  return Math.max(1, Math.ceil((storedBytes - SEALED_HEADER_BYTES) / STORED_CHUNK_BYTES));
}

/** Where a chunk begins in the stored object. */
export function chunkOffset(index: number): number {
  return SEALED_HEADER_BYTES + index * STORED_CHUNK_BYTES;
}

function nonceOf({ index, isLast }: ChunkPlace): Uint8Array {
  assert(index < CHUNKS_MAX, 'an object has less than 2^32 chunks');
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUInt32LE(index, 0);
  nonce.writeUInt8(isLast ? 1 : 0, 4);
  return nonce;
}
