import { CorruptError } from '../../base/index.ts';

/**
 * Reads little-endian fields one after the other. A read past the end is damage of the object, not a bug.
 */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #name: string;
  #at = 0;

  constructor(bytes: Uint8Array, options: { readonly name: string }) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#name = options.name;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  /** A 64-bit number that must be exact as a JavaScript number. */
  size(): number {
    const value = this.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.corrupt('a size is out of range');
    return Number(value);
  }

  /** A view, not a copy. */
  bytes(length: number): Uint8Array {
    const at = this.#advance(length);
    return this.#bytes.subarray(at, at + length);
  }

  text(length: number): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.bytes(length));
    } catch (error) {
      throw this.corrupt('a text is not UTF-8', error);
    }
  }

  /** Fails unless everything was read. */
  end(): void {
    if (this.remaining !== 0) throw this.corrupt(`${this.remaining} bytes are left over`);
  }

  corrupt(reason: string, cause?: unknown): CorruptError {
    return new CorruptError(`${this.#name} is damaged: ${reason}`, { cause });
  }

  #advance(length: number): number {
    const at = this.#at;
    if (length > this.remaining) throw this.corrupt('it ends too early');
    this.#at += length;
    return at;
  }
}
