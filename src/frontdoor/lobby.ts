/** Connections that have not logged in yet. Anybody can have them, so there must not be too many, nor may they keep others out. */

/** One that waits to log in. */
export interface Pending {
  /** Ends it, with a word. */
  turnAway(): void;
}

interface Entry {
  readonly address: string;
  readonly sinceMs: number;
}

/** A login takes milliseconds: who has been at it for less may be one of many honest clients that came at once. */
const PATIENCE_MS = 1_000;

/**
 * Knows who is logging in. When there are too many, the one that has taken longest, of the address that has the most, makes room: a flood
 * of connections that say nothing turns itself out, and clients from elsewhere are let in.
 */
export class Lobby {
  readonly #entries = new Map<Pending, Entry>();
  /** By address, the oldest first. */
  readonly #byAddress = new Map<string, Set<Pending>>();

  get size(): number {
    return this.#entries.size;
  }

  enter(pending: Pending, entry: Entry): void {
    this.#entries.set(pending, entry);
    const same = this.#byAddress.get(entry.address);
    if (same === undefined) this.#byAddress.set(entry.address, new Set([pending]));
    else same.add(pending);
  }

  /** Harmless when it has left. */
  leave(pending: Pending): void {
    const entry = this.#entries.get(pending);
    if (entry === undefined) return;
    this.#entries.delete(pending);
    const same = this.#byAddress.get(entry.address);
    same?.delete(pending);
    if (same?.size === 0) this.#byAddress.delete(entry.address);
  }

  /** To be called when there are too many; false when nobody has waited long enough to be turned away, unless it `isUrgent`. */
  makeRoom(options: { nowMs: number; isUrgent: boolean }): boolean {
    let most: Set<Pending> | undefined;
    for (const same of this.#byAddress.values()) {
      if (most === undefined || same.size > most.size) most = same;
    }
    const [oldest] = most ?? [];
    const entry = oldest && this.#entries.get(oldest);
    if (oldest === undefined || entry === undefined) return false;
    if (!options.isUrgent && options.nowMs - entry.sinceMs < PATIENCE_MS) return false;
    this.leave(oldest);
    oldest.turnAway();
    return true;
  }
}
