/**
 * Entry of the process that publishes the timelines of a node continuously. Ends at once when the daemon that started it is gone: what it had
 * not sent is found again by comparing what is here with what is there.
 */
import {
  type Logger,
  type LogScope,
  Semaphore,
  type Severity,
  type VirtualClusterId,
} from '../../base/index.ts';
import { lowerPriority } from '../worker/priority.ts';
import { workerClock, workerRng } from '../worker/worker-environment.ts';
import type { ContinuousTarget } from './contract.ts';
import type { FromPublishing, ToPublishing } from './messages.ts';
import { Publisher } from './publisher.ts';

/** Each takes up to 16 MiB of log, and as much again while it is compressed. */
const PIECES_AT_ONCE = 4;
const STATUS_MS = 500;

const clock = workerClock;
const places = new Semaphore(PIECES_AT_ONCE);
const publishers = new Map<VirtualClusterId, Publisher>();
/** One change after the other. */
let changing: Promise<void> = Promise.resolve();

process.title = 'atoll continuous backup';
lowerPriority();
// Signals of a terminal reach the whole group; the daemon says when it is time.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.once('disconnect', () => process.exit(0));
process.on('message', (message: ToPublishing) => {
  if (message.kind === 'vault') return note(message);
  changing = changing.then(() => change(message));
});
void tell();

async function change(message: Exclude<ToPublishing, { kind: 'vault' }>): Promise<void> {
  switch (message.kind) {
    case 'publish':
      return publish(message.target);
    case 'stop': {
      const publisher = publishers.get(message.virtualClusterId);
      publishers.delete(message.virtualClusterId);
      return publisher?.stop({ isReleased: true });
    }
    case 'close':
      await Promise.all([...publishers.values()].map((publisher) => publisher.stop({ isReleased: false })));
      process.exit(0);
  }
}

async function publish(target: ContinuousTarget): Promise<void> {
  const { virtualClusterId, virtualClusterName } = target;
  await publishers.get(virtualClusterId)?.stop({ isReleased: false });
  const logger = loggerFor({ virtualClusterId, virtualClusterName });
  const onChange = () => tellStatuses();
  publishers.set(
    virtualClusterId,
    new Publisher({ target, clock, rng: workerRng, places, logger, onChange }),
  );
}

function note({ statuses }: Extract<ToPublishing, { kind: 'vault' }>): void {
  for (const status of statuses) publishers.get(status.virtualClusterId)?.note(status);
}

async function tell(): Promise<void> {
  const { signal } = new AbortController();
  for (;;) {
    await clock.sleep(STATUS_MS, { signal });
    tellStatuses();
  }
}

function tellStatuses(): void {
  if (publishers.size > 0)
    send({ kind: 'status', statuses: [...publishers.values()].map((each) => each.status()) });
}

function send(message: FromPublishing): void {
  if (process.connected) process.send?.(message, () => undefined);
}

function loggerFor(scope: LogScope): Logger {
  const log = (severity: Severity, message: string) => send({ kind: 'log', severity, message, scope });
  return {
    log,
    info: (message) => log('info', message),
    warning: (message) => log('warning', message),
    error: (message) => log('error', message),
    for: (other) => loggerFor(other),
  };
}
