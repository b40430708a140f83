/** What the thread that runs pg_dump and the one that holds its socket say to each other. */
import type { MessagePort } from 'node:worker_threads';

export interface DumpThreadData {
  readonly port: MessagePort;
  /** One 32-bit number: how many replies have been put into the port. The thread sleeps on it. */
  readonly replies: SharedArrayBuffer;
  readonly parameters: readonly string[];
}

/** From the thread. It waits for one reply to each `frames`. */
export type FromDumpThread =
  | { readonly kind: 'frames'; readonly bytes: Uint8Array }
  | { readonly kind: 'done'; readonly text: string }
  | { readonly kind: 'failed'; readonly message: string };

/** What the server answered, up to where it waits for the next command. */
export interface ToDumpThread {
  readonly bytes: Uint8Array;
}
