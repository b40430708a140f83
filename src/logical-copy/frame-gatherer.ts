/**
 * Puts together what pg_dump's libpq writes: it flushes long commands in pieces of some kilobytes. A frontend that waits has written whole
 * frames, the last of which asks for an answer.
 */
const TYPE_BYTES = 1;
const LENGTH_BYTES = 4;
const QUERY = 0x51;
const SYNC = 0x53;
const TERMINATE = 0x58;

export class FrameGatherer {
  #pending = Buffer.alloc(0);
  #hasStarted = false;

  /** All that waits for an answer, or null while there is nothing to wait for. */
  add(bytes: Uint8Array): Uint8Array | null {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    return this.#hasStarted ? this.#takeCommands() : this.#takeStartup();
  }

  #takeStartup(): Uint8Array | null {
    if (this.#pending.length < LENGTH_BYTES) return null;
    const length = this.#pending.readUInt32BE(0);
    if (this.#pending.length < length) return null;
    this.#hasStarted = true;
    return this.#take(length);
  }

  #takeCommands(): Uint8Array | null {
    let last: number | null = null;
    let at = 0;
    while (at + TYPE_BYTES + LENGTH_BYTES <= this.#pending.length) {
      const end = at + TYPE_BYTES + this.#pending.readUInt32BE(at + TYPE_BYTES);
      if (end > this.#pending.length) return null;
      last = this.#pending.readUInt8(at);
      at = end;
    }
    if (at !== this.#pending.length || last === null) return null;
    if (last === TERMINATE) this.#take(at);
    return last === QUERY || last === SYNC ? this.#take(at) : null;
  }

  #take(length: number): Uint8Array {
    const taken = this.#pending.subarray(0, length);
    this.#pending = this.#pending.subarray(length);
    return Uint8Array.from(taken);
  }
}
