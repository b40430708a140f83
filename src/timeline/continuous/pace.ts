/** When log sets out to the collection: seldom enough that requests are few, soon enough that what is missing there is bounded. */

/** Log waits no longer than this for company, and sets out at once when so much of it waits. */
const LOG_INTERVAL_MS = 5000;
export const LOG_BYTES = 4n * 1024n * 1024n;
/** A timeline without a base there is looked at as often. */
const BEGIN_INTERVAL_MS = 1000;
/** How often it is looked whether there is anything to send. */
export const LOOK_MS = 250;

/** `waitingBytes` is null while it is not known how far the collection reaches in this life of the data. */
export function isLogDue({
  sinceMs,
  waitingBytes,
}: {
  /** Since log was last sent. */
  readonly sinceMs: number;
  readonly waitingBytes: bigint | null;
}): boolean {
  if (waitingBytes === null) return sinceMs >= BEGIN_INTERVAL_MS;
  return waitingBytes >= LOG_BYTES || sinceMs >= LOG_INTERVAL_MS;
}
