/** A process that relays SQL traffic beside the daemon. It lives as long as its channel to the daemon, and no longer. */
import type { Logger, LogScope, Severity } from '../../base/index.ts';
import { openFrontDoor, type FrontDoor } from '../../frontdoor/index.ts';
import { systemClock } from '../clock.ts';
import { describeCause } from '../log/entry.ts';
import { systemRng } from '../rng.ts';
import { toTravelling, type FromRelay, type RelayListen, type ToRelay } from './messages.ts';
import { RemoteService } from './remote-service.ts';

function send(message: FromRelay): void {
  if (process.connected) process.send?.(message);
}

function loggerFor(scope: LogScope | undefined): Logger {
  const log = (severity: Severity, message: string, cause?: unknown) => {
    const text = cause === undefined ? message : `${message}: ${describeCause(cause)}`;
    send({ kind: 'log', severity, message: text, scope });
  };
  return {
    log,
    info: (message) => log('info', message),
    warning: (message, cause) => log('warning', message, cause),
    error: (message, cause) => log('error', message, cause),
    for: (other) => loggerFor(other),
  };
}

const service = new RemoteService(send);
let frontDoor: FrontDoor | undefined;

async function listen({ host, port, authentication, tls, mockKey }: RelayListen): Promise<void> {
  try {
    frontDoor = await openFrontDoor({
      service,
      listen: { host, port, reusePort: true },
      authentication,
      tls,
      mockKey,
      clock: systemClock(),
      rng: systemRng(),
      logger: loggerFor(undefined),
      signal: new AbortController().signal,
      cancelElsewhere: (key) => send({ kind: 'cancel_elsewhere', key }),
    });
    send({ kind: 'listening' });
  } catch (error) {
    send({ kind: 'failed', error: toTravelling(error) });
  }
}

async function take(message: ToRelay): Promise<void> {
  if (service.take(message)) return;
  switch (message.kind) {
    case 'listen':
      await listen(message.listen);
      break;
    case 'cancel':
      frontDoor?.cancel(message.key);
      break;
    case 'certificate':
      frontDoor?.useCertificate(message.material);
      break;
    case 'report':
      if (frontDoor === undefined) break;
      send({
        kind: 'figures',
        id: message.id,
        figures: {
          counters: { ...frontDoor.counters },
          sessions: frontDoor.sessions,
          statements: frontDoor.statements,
        },
      });
      break;
    case 'close':
      await frontDoor?.close();
      process.exit(0);
  }
}

process.title = 'atoll relay';
// Signals of a terminal reach the whole group; the daemon says when it is time.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit(0));
process.on('message', (message) => void take(message as ToRelay));
