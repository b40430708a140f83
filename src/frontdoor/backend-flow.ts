import { BACKEND, MESSAGE_HEADER_BYTES, protocolViolation, type ReadyStatus } from '../pg/index.ts';
import type { ReplyLedger } from './reply-ledger.ts';
import { COMPLETION_BYTES, type StatementMeter } from './statement-figures.ts';

/** Changes or drops some of a backend's messages, while one of our own exchanges with it is under way. */
export interface BackendFilter {
  /** Types to be shown to `map`, as whole messages. */
  readonly types: readonly number[];
  /** What goes to the client instead; undefined for nothing. */
  map(type: number, message: Buffer): Buffer | undefined;
}

const IDLE = 0x49;

export interface BackendFlowOptions {
  readonly ledger: ReplyLedger;
  /** Counts what the client is answered. */
  readonly meter: StatementMeter;
  /** To the client. The bytes are valid during the call. */
  readonly forward: (bytes: Buffer) => void;
}

/**
 * Walks a backend's messages by their headers and passes them on chunk by chunk, keeping the ledger and the transaction
 * status. Only an incomplete header, or a message that must be seen whole, is kept back until the rest comes.
 */
export class BackendFlow {
  readonly #ledger: ReplyLedger;
  readonly #meter: StatementMeter;
  readonly #forward: (bytes: Buffer) => void;
  #bodyLeft = 0;
  #kept: Buffer[] = [];
  #keptBytes = 0;
  #neededBytes = 0;
  #status = IDLE;
  #idleCount = 0;
  #lastType = 0;
  /** Set while an exchange of ours is under way. */
  filter: BackendFilter | undefined;

  constructor({ ledger, meter, forward }: BackendFlowOptions) {
    this.#ledger = ledger;
    this.#meter = meter;
    this.#forward = forward;
  }

  /** What the last ReadyForQuery said. */
  get status(): ReadyStatus {
    return String.fromCharCode(this.#status) as ReadyStatus;
  }

  set status(status: ReadyStatus) {
    this.#status = status.charCodeAt(0);
  }

  /** How often a ReadyForQuery that the client saw found no transaction. */
  get idleCount(): number {
    return this.#idleCount;
  }

  /** Type of the last message that went to the client. */
  get lastType(): number {
    return this.#lastType;
  }

  /** Nothing of a message has gone to the client whose rest is still to come. */
  get isAtBoundary(): boolean {
    return this.#bodyLeft === 0;
  }

  /** Takes what the backend sent. The bytes are valid during the call. @throws InputError `protocol_violation` */
  push(bytes: Buffer): void {
    if (this.#keptBytes === 0) {
      this.#walk(bytes);
      return;
    }
    this.#keep(bytes);
    if (this.#keptBytes < this.#neededBytes) return;
    const whole = Buffer.concat(this.#kept);
    this.#kept = [];
    this.#keptBytes = 0;
    this.#walk(whole);
  }

  /** Another backend takes over: what the former one left unfinished is dropped. */
  reset(status: ReadyStatus): void {
    this.status = status;
    this.#lastType = 0;
    this.#bodyLeft = 0;
    this.#kept = [];
    this.#keptBytes = 0;
    this.filter = undefined;
    this.#meter.forget();
  }

  #keep(bytes: Buffer): void {
    this.#kept.push(Buffer.from(bytes));
    this.#keptBytes += bytes.length;
  }

  #walk(bytes: Buffer): void {
    const length = bytes.length;
    const ledger = this.#ledger;
    const { filter } = this;
    let begin = 0; // Of what is not yet forwarded.
    let at = 0;
    if (this.#bodyLeft > 0) {
      at = Math.min(this.#bodyLeft, length);
      this.#bodyLeft -= at;
    }
    this.#neededBytes = MESSAGE_HEADER_BYTES;
    while (length - at >= MESSAGE_HEADER_BYTES) {
      const type = bytes[at] as number;
      const bodyBytes = bytes.readInt32BE(at + 1);
      if (bodyBytes < 4) throw protocolViolation('invalid message length from the backend');
      const end = at + 1 + bodyBytes;
      const isShown = filter?.types.includes(type) === true;
      if ((isShown || type === BACKEND.readyForQuery) && end > length) {
        this.#neededBytes = end - at;
        break;
      }
      if (type === BACKEND.commandComplete && end > length && length - at < COMPLETION_BYTES) {
        this.#neededBytes = Math.min(COMPLETION_BYTES, end - at);
        break;
      }
      if (type !== BACKEND.dataRow || isShown) {
        const before = this.#status;
        if (type === BACKEND.readyForQuery) {
          this.#status = bytes[at + MESSAGE_HEADER_BYTES] as number;
          if (this.#status === IDLE && !isShown) this.#idleCount += 1;
        }
        this.#lastType = type;
        ledger.seen(type);
        if (!isShown) this.#measure(type, { bytes, at, end, before });
        else if (type === BACKEND.readyForQuery) this.#meter.forget();
        if (isShown) {
          if (at > begin) this.#forward(bytes.subarray(begin, at));
          const mapped = filter.map(type, bytes.subarray(at, end));
          if (mapped === undefined) this.#lastType = 0;
          else this.#forward(mapped);
          begin = end;
        }
      }
      at = end;
    }
    if (at > length) {
      this.#bodyLeft = at - length;
      at = length;
    }
    if (at > begin) this.#forward(begin === 0 && at === length ? bytes : bytes.subarray(begin, at));
    if (at < length) this.#keep(bytes.subarray(at));
  }

  #measure(
    type: number,
    { bytes, at, end, before }: { bytes: Buffer; at: number; end: number; before: number },
  ): void {
    if (type === BACKEND.commandComplete) this.#meter.completed(bytes, { at, end });
    else if (type === BACKEND.errorResponse) this.#meter.failed();
    else if (type === BACKEND.readyForQuery) {
      this.#meter.ready({ before, status: this.#status, owesMore: this.#ledger.owesReady });
    }
  }
}
