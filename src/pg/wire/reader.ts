import { InputError } from '../../base/index.ts';

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** What a peer sent that no protocol message may look like. */
export function protocolViolation(message: string): InputError<'protocol_violation'> {
  return new InputError('protocol_violation', message);
}

/**
 * Reads fields off one message's body, front to back. Every read is checked against the end of the body.
 * @throws InputError `protocol_violation` from each method
 */
export class BodyReader {
  readonly #bytes: Buffer;
  #at: number;
  readonly #end: number;

  /** `begin` is the first byte behind the length field, `end` the first of the next message. */
  constructor(bytes: Buffer, range: { begin: number; end: number }) {
    this.#bytes = bytes;
    this.#at = range.begin;
    this.#end = range.end;
  }

  get bytesLeft(): number {
    return this.#end - this.#at;
  }

  #take(count: number): number {
    if (count < 0 || count > this.bytesLeft) throw protocolViolation('insufficient data left in message');
    const at = this.#at;
    this.#at += count;
    return at;
  }

  uint8(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }

  int16(): number {
    return this.#bytes.readInt16BE(this.#take(2));
  }

  uint16(): number {
    return this.#bytes.readUInt16BE(this.#take(2));
  }

  int32(): number {
    return this.#bytes.readInt32BE(this.#take(4));
  }

  uint32(): number {
    return this.#bytes.readUInt32BE(this.#take(4));
  }

  /** A view, not a copy. */
  bytes(count: number): Buffer {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }

  /** The bytes of a zero-terminated string, without the zero; a view, not a copy. */
  cstringBytes(): Buffer {
    const zero = this.#bytes.indexOf(0, this.#at);
    if (zero === -1 || zero >= this.#end) throw protocolViolation('invalid string in message');
    const text = this.#bytes.subarray(this.#at, zero);
    this.#at = zero + 1;
    return text;
  }

  /** A zero-terminated string in UTF-8. */
  cstring(): string {
    return decodeUtf8(this.cstringBytes());
  }

  /** Nothing may be left. */
  finish(): void {
    if (this.bytesLeft !== 0) throw protocolViolation('invalid message format');
  }
}

/** @throws InputError `protocol_violation` when the bytes are no UTF-8 */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw protocolViolation('invalid byte sequence for encoding "UTF8"');
  }
}
