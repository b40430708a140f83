/**
 * Builds protocol messages one behind the other in a buffer that grows. The length field of a message is filled in by
 * `end`; a writer may be used again after `take`.
 */
export class MessageWriter {
  #buffer: Buffer;
  #at = 0;
  #messageBegin = 0;

  constructor(options: { initialBytes?: number } = {}) {
    this.#buffer = Buffer.allocUnsafe(options.initialBytes ?? 256);
  }

  #reserve(count: number): number {
    const at = this.#at;
    if (at + count > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, at + count));
      this.#buffer.copy(grown, 0, 0, at);
      this.#buffer = grown;
    }
    this.#at = at + count;
    return at;
  }

  /** Begins a message of this type byte. */
  begin(type: number): this {
    const at = this.#reserve(5);
    this.#buffer[at] = type;
    this.#messageBegin = at + 1;
    return this;
  }

  /** Begins a packet without a type byte, as at start-up. */
  beginUntyped(): this {
    this.#messageBegin = this.#reserve(4);
    return this;
  }

  end(): this {
    this.#buffer.writeInt32BE(this.#at - this.#messageBegin, this.#messageBegin);
    return this;
  }

  uint8(value: number): this {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
    return this;
  }

  int16(value: number): this {
    const at = this.#reserve(2);
    this.#buffer.writeInt16BE(value, at);
    return this;
  }

  /** Counts of parameters and formats go up to 65,535. */
  uint16(value: number): this {
    const at = this.#reserve(2);
    this.#buffer.writeUInt16BE(value, at);
    return this;
  }

  int32(value: number): this {
    const at = this.#reserve(4);
    this.#buffer.writeInt32BE(value, at);
    return this;
  }

  uint32(value: number): this {
    const at = this.#reserve(4);
    this.#buffer.writeUInt32BE(value, at);
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#reserve(value.length);
    this.#buffer.set(value, at);
    return this;
  }

  /** Text in UTF-8 without a terminator. */
  text(value: string): this {
    const at = this.#reserve(Buffer.byteLength(value));
    this.#buffer.write(value, at);
    return this;
  }

  /** Text in UTF-8 and a zero; what a zero inside cuts off is left out, for it would shift all that follows. */
  cstring(value: string): this {
    const zero = value.indexOf('\0');
    return this.text(zero === -1 ? value : value.slice(0, zero)).uint8(0);
  }

  /** A length and the bytes, or -1 for null. */
  value(value: Uint8Array | null): this {
    return value === null ? this.int32(-1) : this.int32(value.length).bytes(value);
  }

  /** A length and the text in UTF-8, or -1 for null. */
  textValue(value: string | null): this {
    return value === null ? this.int32(-1) : this.int32(Buffer.byteLength(value)).text(value);
  }

  get byteLength(): number {
    return this.#at;
  }

  /** All messages written since the last `take`; the caller owns the bytes. */
  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#at);
    this.#buffer = Buffer.allocUnsafe(256);
    this.#at = 0;
    return taken;
  }
}
