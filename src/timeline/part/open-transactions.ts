/** Which transactions are open where a log ends, and since where they have written. No I/O. */
import type { Lsn } from '../../base/index.ts';
import {
  decodeRunningTransactions,
  decodeTransactionEnd,
  type RunningTransactions,
  type WalRecord,
} from '../../pg/index.ts';

/** Numbers of transactions go round. */
const XID_CIRCLE = 2 ** 32;

/** Holds what is open, nothing of what has ended. */
export class OpenTransactions {
  /** Where each began to write; null when nobody knows, because that was before the log was looked at. */
  readonly #begun = new Map<number, Lsn | null>();
  /** What was open already when the log began is known. */
  #isListed = false;

  /** Records in the order of the log. */
  add(record: WalRecord): void {
    const running = decodeRunningTransactions(record);
    if (running !== null) return this.list(running);
    const end = decodeTransactionEnd(record);
    if (end === null) return this.write(record.xid, record.lsn);
    for (const xid of [end.xid, ...end.subtransactionIds]) this.end(xid);
  }

  write(xid: number, lsn: Lsn): void {
    if (xid !== 0 && !this.#begun.has(xid)) this.#begun.set(xid, lsn);
  }

  end(xid: number): void {
    this.#begun.delete(xid);
  }

  /** What a crash ended has no record of its end: whoever is not listed any more is over. */
  list({ xids, subtransactionIds, isOverflowed, nextXid, oldestRunningXid }: RunningTransactions): void {
    const listed = new Set([...xids, ...subtransactionIds]);
    const isOver = isOverflowed ? oldestRunningXid : nextXid;
    for (const xid of this.#begun.keys()) {
      if (!listed.has(xid) && isBefore(xid, isOver)) this.#begun.delete(xid);
    }
    // One of the first list may have begun before the log did.
    if (!this.#isListed) for (const xid of listed) this.#begun.set(xid, null);
    this.#isListed = true;
  }

  /**
   * A position before which nothing was written by whoever is open at `endLsn`, where the log ends; null when nobody knows one. What they
   * commit later was named in the log from there on.
   */
  quietLsn(endLsn: Lsn): Lsn | null {
    if (!this.#isListed) return null;
    let quiet = endLsn;
    for (const lsn of this.#begun.values()) {
      if (lsn === null) return null;
      if (lsn < quiet) quiet = lsn;
    }
    return quiet;
  }
}

/** `TransactionIdPrecedes` */
function isBefore(left: number, right: number): boolean {
  const ahead = (right - left + XID_CIRCLE) % XID_CIRCLE;
  return ahead > 0 && ahead < XID_CIRCLE / 2;
}
