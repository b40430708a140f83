/** Whether a server takes up connections at all: no login, no session, and so nothing that a tenant could configure. */
import { connect } from 'node:net';
import type { Clock } from '../base/index.ts';

/** SSLRequest: the server's first process makes another one, which answers with one byte. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);

/** False when nothing was answered within `timeoutMs`, or nobody listens. */
export async function answersClients(
  socketPath: string,
  options: { clock: Clock; timeoutMs: number; signal: AbortSignal },
): Promise<boolean> {
  const finished = new AbortController();
  const answer = Promise.withResolvers<boolean>();
  const socket = connect({ path: socketPath });
  socket.on('error', () => answer.resolve(false));
  socket.on('close', () => answer.resolve(false));
  socket.on('data', () => answer.resolve(true));
  socket.write(SSL_REQUEST);
  const signal = AbortSignal.any([options.signal, finished.signal]);
  const timer = options.clock.sleep(options.timeoutMs, { signal }).then(
    () => answer.resolve(false),
    () => answer.resolve(false),
  );
  try {
    return await answer.promise;
  } finally {
    finished.abort();
    socket.destroy();
    await timer;
  }
}
