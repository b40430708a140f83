import { timingSafeEqual } from 'node:crypto';
import { connect } from 'node:net';
import { type CancelKey, encodeCancelRequest } from '../pg/index.ts';

/** What a cancel request stops. */
export interface CancelTarget {
  cancel(): void;
}

/** How long a server may take to close a connection that brought a cancel request. */
const CANCEL_TIMEOUT_MS = 10_000;

/** Who may be cancelled by which key. Process ids come from several instances, so one id may stand for several sessions. */
export class CancelRegistry {
  readonly #byProcessId = new Map<number, { secret: Uint8Array; target: CancelTarget }[]>();

  /** Gives a function that takes the entry out again; it may be called twice. */
  register(key: CancelKey, target: CancelTarget): () => void {
    const entry = { secret: key.secret, target };
    const entries = this.#byProcessId.get(key.processId) ?? [];
    entries.push(entry);
    this.#byProcessId.set(key.processId, entries);
    return () => {
      const at = entries.indexOf(entry);
      if (at !== -1) entries.splice(at, 1);
      if (entries.length === 0 && this.#byProcessId.get(key.processId) === entries) {
        this.#byProcessId.delete(key.processId);
      }
    };
  }

  /** Cancels what the key names, and says whether there was such a session. */
  cancel(key: CancelKey): boolean {
    for (const { secret, target } of this.#byProcessId.get(key.processId) ?? []) {
      if (secret.length === key.secret.length && timingSafeEqual(secret, key.secret)) {
        target.cancel();
        return true;
      }
    }
    return false;
  }

  get size(): number {
    return this.#byProcessId.size;
  }
}

/** Hands a cancel request to an instance, on a connection of its own as the protocol wants. Nothing is answered. */
export function forwardCancel(options: { socketPath: string; key: CancelKey }): void {
  const socket = connect(options.socketPath);
  socket.setTimeout(CANCEL_TIMEOUT_MS, () => socket.destroy());
  socket.on('error', () => undefined); // An instance that is gone has nothing left to cancel.
  socket.on('data', () => undefined);
  socket.end(encodeCancelRequest(options.key));
}
