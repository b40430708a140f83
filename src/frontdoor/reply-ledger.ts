import { BACKEND, FRONTEND } from '../pg/index.ts';

const RING_INITIAL = 16;

/**
 * Keeps count of what a backend still owes. The client's messages fall into segments, each ended by a Query, Sync or
 * FunctionCall, which the backend answers by ReadyForQuery; the extended-protocol messages of a segment are answered one
 * by one, until one fails and the rest is skipped. Pure bookkeeping, one call per message, nothing allocated per call.
 */
export class ReplyLedger {
  /**
   * Type bytes of the Query, Sync and FunctionCall messages that are not yet answered, and between them of the CopyDone and
   * CopyFail messages that were sent before the backend asked for data.
   */
  #ring = new Uint8Array(RING_INITIAL);
  /** Entries `[first, next)` are in the ring, each at its number modulo the length. */
  #first = 0;
  #next = 0;
  /** How many of them end a segment. */
  #endsPending = 0;
  /** Extended-protocol messages sent since the last segment end. */
  #extendedSent = 0;
  #executesSent = 0;
  /** Replies to such messages, and an error, since the last ReadyForQuery. */
  #extendedSeen = 0;
  #hasFailed = false;
  #isCopyingIn = false;

  /** Nothing more comes from the backend until the client sends more (but for what comes unasked). */
  get isSettled(): boolean {
    return this.#endsPending === 0 && (this.#hasFailed || this.#extendedSeen >= this.#extendedSent);
  }

  /** A ReadyForQuery is still to come. */
  get owesReady(): boolean {
    return this.#endsPending > 0;
  }

  /** When settled: a message failed, and the backend discards what it gets until the next Sync. */
  get isSkipping(): boolean {
    return this.#hasFailed && this.#endsPending === 0;
  }

  /** Extended-protocol messages were sent that no Sync has ended yet. */
  get hasOpenSegment(): boolean {
    return this.#extendedSent > 0;
  }

  /** Something was executed in the open segment: an implicit transaction is under way. */
  get hasExecuted(): boolean {
    return this.#executesSent > 0;
  }

  /** The backend waits for the client's COPY data. */
  get isCopyingIn(): boolean {
    return this.#isCopyingIn;
  }

  /** Another backend takes over, which owes nothing. */
  reset(): void {
    this.#first = 0;
    this.#next = 0;
    this.#endsPending = 0;
    this.#extendedSent = 0;
    this.#executesSent = 0;
    this.#extendedSeen = 0;
    this.#hasFailed = false;
    this.#isCopyingIn = false;
  }

  /** Notes a message that goes to the backend. */
  sent(type: number): void {
    switch (type) {
      case FRONTEND.query:
      case FRONTEND.sync:
      case FRONTEND.functionCall:
        // While it takes COPY data, the backend ignores Sync.
        if (this.#isCopyingIn && type === FRONTEND.sync) return;
        this.#push(type);
        this.#endsPending += 1;
        this.#extendedSent = 0;
        this.#executesSent = 0;
        return;
      case FRONTEND.execute:
        this.#executesSent += 1;
        this.#extendedSent += 1;
        return;
      case FRONTEND.parse:
      case FRONTEND.bind:
      case FRONTEND.describe:
      case FRONTEND.close:
        this.#extendedSent += 1;
        return;
      case FRONTEND.copyDone:
      case FRONTEND.copyFail:
        // One sent ahead is remembered once, however often it comes: a stray one means nothing.
        if (!this.#isCopyingIn && !this.isSettled && !isCopyEnd(this.#last)) this.#push(type);
        this.#isCopyingIn = false;
        return;
      default:
    }
  }

  /** Notes a message that the backend sent. */
  seen(type: number): void {
    switch (type) {
      case BACKEND.readyForQuery:
        this.#popEnd();
        this.#extendedSeen = 0;
        this.#hasFailed = false;
        this.#isCopyingIn = false;
        return;
      case BACKEND.commandComplete:
        this.#isCopyingIn = false;
        this.#extendedSeen += 1;
        return;
      case BACKEND.parseComplete:
      case BACKEND.bindComplete:
      case BACKEND.closeComplete:
      case BACKEND.emptyQueryResponse:
      case BACKEND.portalSuspended:
      case BACKEND.rowDescription:
      case BACKEND.noData:
        this.#extendedSeen += 1;
        return;
      case BACKEND.errorResponse:
        this.#hasFailed = true;
        this.#isCopyingIn = false;
        return;
      case BACKEND.copyInResponse:
        this.#onCopyIn();
        return;
      default:
    }
  }

  /** A backend that takes COPY data ignores every Sync up to the end of the data: these get no ReadyForQuery. */
  #onCopyIn(): void {
    let read = this.#first;
    // In the simple protocol it is the first Query that copies; what was sent ahead stands behind it.
    if (this.#firstEnd() !== FRONTEND.sync) while (read < this.#next && isCopyEnd(this.#at(read++)));
    let write = read;
    let hasEnded = false;
    for (; read < this.#next; read += 1) {
      const type = this.#at(read);
      if (hasEnded) this.#put(write++, type);
      else if (isCopyEnd(type)) hasEnded = true;
      else this.#endsPending -= 1;
    }
    this.#next = write;
    this.#isCopyingIn = !hasEnded;
    // The segment is open again: what was answered so far, and the Execute that copies.
    if (this.#endsPending === 0) this.#extendedSent += this.#extendedSeen + 1;
  }

  /** The type of the first segment end that is not answered; of a Sync when none was sent yet. */
  #firstEnd(): number {
    for (let at = this.#first; at < this.#next; at += 1) if (!isCopyEnd(this.#at(at))) return this.#at(at);
    return FRONTEND.sync;
  }

  get #last(): number {
    return this.#next > this.#first ? this.#at(this.#next - 1) : 0;
  }

  #at(number: number): number {
    return this.#ring[number & (this.#ring.length - 1)] as number;
  }

  #put(number: number, type: number): void {
    this.#ring[number & (this.#ring.length - 1)] = type;
  }

  /** The first ReadyForQuery, after login, was not asked for. */
  #popEnd(): void {
    while (this.#first < this.#next) {
      const type = this.#at(this.#first);
      this.#first += 1;
      if (isCopyEnd(type)) continue;
      this.#endsPending -= 1;
      return;
    }
  }

  #push(type: number): void {
    if (this.#next - this.#first === this.#ring.length) {
      const grown = new Uint8Array(this.#ring.length * 2);
      for (let at = this.#first; at < this.#next; at += 1) grown[at & (grown.length - 1)] = this.#at(at);
      this.#ring = grown;
    }
    this.#put(this.#next, type);
    this.#next += 1;
  }
}

function isCopyEnd(type: number): boolean {
  return type === FRONTEND.copyDone || type === FRONTEND.copyFail;
}
