import { FRONTEND, MESSAGE_BYTES_MAX, MESSAGE_HEADER_BYTES } from '../pg/index.ts';
import type { ReplyLedger } from './reply-ledger.ts';

/** Messages up to this size are looked at whole; longer ones can't be ours and stream through. */
export const INSPECTED_BYTES_MAX = 1_048_576;
/** As much of a long message is looked at as holds its names. */
const LONG_PREFIX_BYTES = 1_024;
/** What a client may send ahead while one of our statements runs, before it has to wait. */
const AHEAD_BYTES_MAX = 1_048_576;

/** Decides on the messages of one client. */
export interface FrontendHandler {
  /** To the backend, unchanged. The bytes are valid during the call. */
  forward(bytes: Buffer): void;
  /**
   * Whether the whole message in `[begin, end)` is to be taken out of the stream. Called for Query and Parse, while
   * `isAttentive` for all of the extended protocol, and for a Query that ends an open segment.
   */
  wants(type: number, bytes: Buffer, begin: number, end: number): boolean;
  /**
   * A message that `wants` chose; the flow stands still until `proceed`. The bytes are the handler's. Of a long one they are
   * only the beginning, and the rest is dropped.
   */
  take(type: number, message: Buffer): void;
  /** The same for a message longer than `INSPECTED_BYTES_MAX`, of which only the beginning is there, from `begin` on. */
  wantsLong(type: number, bytes: Buffer, begin: number): boolean;
  /** The stream makes no sense from here on. */
  violated(message: string): void;
  /** Asks the client to wait, or to go on. */
  hold(isHeld: boolean): void;
}

/**
 * Walks a client's messages by their headers, in place: whole chunks go on to the backend, unless a message in them is
 * taken out. Only the beginning of a message whose text must be seen is kept back, and only until it is complete.
 */
export class FrontendFlow {
  readonly #handler: FrontendHandler;
  readonly #ledger: ReplyLedger;
  /** Bytes of the message under way that are still to come, all to be forwarded. */
  #bodyLeft = 0;
  /** Bytes that came and are not yet walked: the beginning of a message, or what came while the flow stood still. */
  #kept: Buffer[] = [];
  #keptBytes = 0;
  /** How much must be there before walking on makes sense. */
  #neededBytes = 0;
  #isStanding = false;
  #isHeld = false;
  #isEnded = false;
  #isDiscarding = false;
  /** Bytes of a discarded message that are still to come. */
  #dropLeft = 0;
  /** The client has said goodbye. */
  hasTerminated = false;
  /** Look at the whole extended protocol: the session has prepared statements of ours. */
  isAttentive = false;

  constructor(options: { handler: FrontendHandler; ledger: ReplyLedger }) {
    this.#handler = options.handler;
    this.#ledger = options.ledger;
  }

  /** Takes what the client sent. The bytes are valid during the call. */
  push(bytes: Buffer): void {
    if (this.#isEnded) return;
    if (this.#keptBytes === 0 && !this.#isStanding) {
      this.#walk(bytes, { isOwned: false });
      return;
    }
    this.#keep(Buffer.from(bytes));
    if (this.#isStanding) this.passCopyData();
    else if (this.#keptBytes >= this.#neededBytes) this.#walkKept();
    if (this.#isStanding && !this.#isHeld && this.#keptBytes > AHEAD_BYTES_MAX) {
      this.#isHeld = true;
      this.#handler.hold(true);
    }
  }

  /** The message that was taken is dealt with: walk on. */
  proceed(): void {
    this.#isStanding = false;
    this.#walkKept();
    if (this.#isHeld && !this.#isStanding) {
      this.#isHeld = false;
      this.#handler.hold(false);
    }
  }

  /** While the flow stands still, COPY data that the backend waits for passes all the same. */
  passCopyData(): void {
    if (this.#isStanding && this.#ledger.isCopyingIn) this.#walkKept();
    if (this.#isHeld && this.#keptBytes <= AHEAD_BYTES_MAX) {
      this.#isHeld = false;
      this.#handler.hold(false);
    }
  }

  /** Drops what comes up to the next Sync, as a server does after an error. */
  discardUntilSync(): void {
    this.#isDiscarding = true;
  }

  /** Drops whatever else comes. */
  end(): void {
    this.#isEnded = true;
    this.#kept = [];
    this.#keptBytes = 0;
  }

  #keep(bytes: Buffer): void {
    this.#kept.push(bytes);
    this.#keptBytes += bytes.length;
  }

  #walkKept(): void {
    if (this.#keptBytes === 0 || this.#isEnded) return;
    const bytes = this.#kept.length === 1 ? (this.#kept[0] as Buffer) : Buffer.concat(this.#kept);
    this.#kept = [];
    this.#keptBytes = 0;
    this.#walk(bytes, { isOwned: true });
  }

  #walk(bytes: Buffer, options: { isOwned: boolean }): void {
    const length = bytes.length;
    let at = 0;
    if (this.#bodyLeft > 0) {
      at = Math.min(this.#bodyLeft, length);
      this.#bodyLeft -= at;
    }
    this.#neededBytes = 0;
    if (this.#dropLeft > 0) {
      const dropped = Math.min(this.#dropLeft, length);
      this.#dropLeft -= dropped;
      if (dropped < length) this.#walk(bytes.subarray(dropped), options);
      return;
    }
    if (this.#isDiscarding) {
      if (at > 0) this.#handler.forward(bytes.subarray(0, at));
      this.#discard(at === 0 ? bytes : bytes.subarray(at), options);
      return;
    }
    while (length - at >= MESSAGE_HEADER_BYTES) {
      const type = bytes[at] as number;
      const bodyBytes = bytes.readInt32BE(at + 1);
      if (bodyBytes < 4 || bodyBytes > MESSAGE_BYTES_MAX) {
        this.#violate(bytes, at, bodyBytes < 4 ? 'invalid message length' : 'message is too long');
        return;
      }
      // Postgres answers a Flush that has a body by an error, then skips what follows up to a Sync: no ledger could tell.
      if (bodyBytes > 4 && (type === FRONTEND.flush || type === FRONTEND.sync)) {
        this.#violate(bytes, at, 'invalid message length');
        return;
      }
      const end = at + 1 + bodyBytes;
      if (this.#isStanding && !(isCopyMessage(type) && this.#ledger.isCopyingIn)) break;
      if (this.#mustInspect(type)) {
        if (bodyBytes > INSPECTED_BYTES_MAX) {
          if (length - at < LONG_PREFIX_BYTES) {
            this.#neededBytes = LONG_PREFIX_BYTES;
            break;
          }
          if (this.#handler.wantsLong(type, bytes, at)) {
            this.#takeOut(type, bytes, { begin: at, end, isOwned: options.isOwned });
            return;
          }
        } else if (end > length) {
          this.#neededBytes = end - at;
          break;
        } else if (this.#handler.wants(type, bytes, at, end)) {
          this.#takeOut(type, bytes, { begin: at, end, isOwned: options.isOwned });
          return;
        }
      } else if (!isFrontendType(type)) {
        this.#violate(bytes, at, `invalid frontend message type ${type}`);
        return;
      }
      this.#ledger.sent(type);
      at = end;
    }
    if (at > length) {
      this.#bodyLeft = at - length;
      at = length;
    }
    if (at > 0) this.#handler.forward(at === length ? bytes : bytes.subarray(0, at));
    if (at < length) {
      if (this.#neededBytes === 0 && !this.#isStanding) this.#neededBytes = MESSAGE_HEADER_BYTES;
      this.#keep(options.isOwned ? bytes.subarray(at) : Buffer.from(bytes.subarray(at)));
    }
  }

  /** Walks without forwarding, up to a Sync, from which on all is as usual. */
  #discard(bytes: Buffer, options: { isOwned: boolean }): void {
    let at = 0;
    while (bytes.length - at >= MESSAGE_HEADER_BYTES) {
      const type = bytes[at] as number;
      const bodyBytes = bytes.readInt32BE(at + 1);
      if (bodyBytes < 4 || bodyBytes > MESSAGE_BYTES_MAX) {
        this.#violate(bytes, 0, 'invalid message length');
        return;
      }
      if (type === FRONTEND.sync || type === FRONTEND.terminate) {
        this.#isDiscarding = false;
        this.#walk(bytes.subarray(at), options);
        return;
      }
      this.#dropLeft = Math.max(0, at + 1 + bodyBytes - bytes.length);
      at = Math.min(at + 1 + bodyBytes, bytes.length);
    }
    if (at < bytes.length) {
      this.#neededBytes = MESSAGE_HEADER_BYTES;
      this.#keep(options.isOwned ? bytes.subarray(at) : Buffer.from(bytes.subarray(at)));
    }
  }

  #mustInspect(type: number): boolean {
    switch (type) {
      case FRONTEND.query:
      case FRONTEND.parse:
        return true;
      case FRONTEND.functionCall:
        return this.#ledger.hasOpenSegment;
      case FRONTEND.terminate:
        this.hasTerminated = true;
        return false;
      case FRONTEND.bind:
      case FRONTEND.describe:
      case FRONTEND.execute:
      case FRONTEND.close:
        return this.isAttentive;
      default:
        return false;
    }
  }

  #takeOut(
    type: number,
    bytes: Buffer,
    { begin, end, isOwned }: { begin: number; end: number; isOwned: boolean },
  ): void {
    const own = isOwned ? bytes : Buffer.from(bytes);
    this.#dropLeft = Math.max(0, end - bytes.length);
    if (begin > 0) this.#handler.forward(own.subarray(0, begin));
    if (end < bytes.length) this.#keep(own.subarray(end));
    this.#isStanding = true;
    this.#handler.take(type, own.subarray(begin, end));
  }

  #violate(bytes: Buffer, begin: number, message: string): void {
    if (begin > 0) this.#handler.forward(bytes.subarray(0, begin));
    this.end();
    this.#handler.violated(message);
  }
}

function isCopyMessage(type: number): boolean {
  return type === FRONTEND.copyData || type === FRONTEND.copyDone || type === FRONTEND.copyFail;
}

const FRONTEND_TYPES = new Uint8Array(256);
for (const type of Object.values(FRONTEND)) FRONTEND_TYPES[type] = 1;
// Passwords are for the login, which is over.
FRONTEND_TYPES[FRONTEND.password] = 0;

function isFrontendType(type: number): boolean {
  return FRONTEND_TYPES[type] === 1;
}
