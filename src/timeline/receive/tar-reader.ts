/** Takes the tar archives apart that Postgres's BASE_BACKUP sends: plain ustar headers, a piece at a time. */
import { AppError } from '../../base/index.ts';

const BLOCK_BYTES = 512;
const AT = { name: 0, size: 124, checksum: 148, type: 156 } as const;
const LENGTH = { name: 100, size: 12, checksum: 8 } as const;

export type TarEvent =
  | { readonly kind: 'file'; readonly path: string; readonly bytes: number }
  | { readonly kind: 'folder'; readonly path: string }
  /** Content of the file that was named last; valid until the next event. */
  | { readonly kind: 'content'; readonly bytes: Uint8Array }
  | { readonly kind: 'file_end' };

export class TarReader {
  readonly #onEvent: (event: TarEvent) => void;
  readonly #header = Buffer.alloc(BLOCK_BYTES);
  #headerBytes = 0;
  /** Of the present file's content, and of what pads it. */
  #contentLeft = 0;
  #paddingLeft = 0;
  #hasEnded = false;

  constructor(onEvent: (event: TarEvent) => void) {
    this.#onEvent = onEvent;
  }

  /** No file is half read. */
  get isWhole(): boolean {
    return this.#headerBytes === 0 && this.#contentLeft === 0 && this.#paddingLeft === 0;
  }

  /** @throws AppError `protocol_violation` */
  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length && !this.#hasEnded; ) at += this.#take(chunk.subarray(at));
  }

  /** Gives how many bytes were taken. */
  #take(chunk: Buffer): number {
    if (this.#contentLeft > 0) {
      const bytes = chunk.subarray(0, this.#contentLeft);
      this.#contentLeft -= bytes.length;
      this.#onEvent({ kind: 'content', bytes });
      if (this.#contentLeft === 0) this.#onEvent({ kind: 'file_end' });
      return bytes.length;
    }
    if (this.#paddingLeft > 0) {
      const count = Math.min(this.#paddingLeft, chunk.length);
      this.#paddingLeft -= count;
      return count;
    }
    const copied = chunk.copy(this.#header, this.#headerBytes);
    this.#headerBytes += copied;
    if (this.#headerBytes === BLOCK_BYTES) {
      this.#headerBytes = 0;
      this.#takeHeader();
    }
    return copied;
  }

  #takeHeader(): void {
    const header = this.#header;
    // Blocks of zeroes end an archive.
    if (header.every((byte) => byte === 0)) {
      this.#hasEnded = true;
      return;
    }
    requireChecksum(header);
    const path = textAt(header, AT.name, LENGTH.name).replace(/^\.\//, '').replace(/\/$/, '');
    requireInside(path);
    const type = String.fromCharCode(header.readUInt8(AT.type));
    if (type === '5') {
      this.#onEvent({ kind: 'folder', path });
      return;
    }
    if (type !== '0' && type !== '\0') {
      throw violation(`"${path}" is neither file nor folder: tablespaces cannot be replicated`);
    }
    const bytes = octalAt(header, AT.size, LENGTH.size);
    this.#contentLeft = bytes;
    this.#paddingLeft = (BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES;
    this.#onEvent({ kind: 'file', path, bytes });
    if (bytes === 0) this.#onEvent({ kind: 'file_end' });
  }
}

/** What another machine sends must not reach out of the folder. */
function requireInside(path: string): void {
  const isInside =
    path !== '' && !path.startsWith('/') && !path.split('/').includes('..') && !path.includes('\0');
  if (!isInside) throw violation('a name in it leads out of the data directory');
}

/** The sum of all bytes, those of the sum itself taken as blanks. */
function requireChecksum(header: Buffer): void {
  let sum = 0;
  for (const [at, byte] of header.entries()) {
    sum += at >= AT.checksum && at < AT.checksum + LENGTH.checksum ? 32 : byte;
  }
  if (sum !== octalAt(header, AT.checksum, LENGTH.checksum)) throw violation('a header in it is damaged');
}

function textAt(header: Buffer, at: number, length: number): string {
  const end = header.indexOf(0, at);
  return header.toString('utf8', at, end === -1 || end > at + length ? at + length : end);
}

function octalAt(header: Buffer, at: number, length: number): number {
  const text = textAt(header, at, length).trim();
  if (!/^[0-7]{1,11}$/.test(text)) throw violation('a number in it is no number');
  return Number.parseInt(text, 8);
}

function violation(reason: string): AppError {
  return new AppError('protocol_violation', `the source sent an archive that cannot be taken: ${reason}`);
}
