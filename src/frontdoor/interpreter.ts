/** Decides which of a client's messages are not simply Postgres's, and deals with them. */
export interface Interpreter {
  /**
   * Whether the whole message in `[begin, end)` of `bytes` is to be taken out of the stream. Asked for every Query and
   * Parse, so a no must be cheap.
   */
  wants(type: number, bytes: Buffer, begin: number, end: number): boolean;
  /** The same for a message too long to be kept in memory, by its beginning; the names it begins with are there. */
  wantsLong(type: number, bytes: Buffer, begin: number): boolean;
  /**
   * Deals with a message, its type byte first; the stream stands still until then. Of a long one only the beginning is
   * given, which `isCut` tells; its rest is dropped.
   */
  handle(type: number, message: Buffer): Promise<void>;
}

/** Whether `message` is only the beginning of one that was too long. */
export function isCut(message: Buffer): boolean {
  return message.readInt32BE(1) + 1 > message.length;
}
