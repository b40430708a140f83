/**
 * Entry of the vault's process: receives the log of all virtual clusters of the node. Ends at once when the daemon that started it is gone;
 * what it has acknowledged is durable by then.
 */
import {
  type Clock,
  type FileLock,
  isAppError,
  type Logger,
  type LogScope,
  type Severity,
  tryFileLock,
  type VirtualClusterId,
} from '../../base/index.ts';
import type { VaultSource, VaultStatus } from '../store-contract.ts';
import { toWireError } from '../worker/wire-error.ts';
import { workerClock, workerRng } from '../worker/worker-environment.ts';
import type { FromVault, ToVault } from './messages.ts';
import { PING_MS, Receiver } from './receiver.ts';
import { SegmentCloser } from './segment-closer.ts';

/** Statuses are told no more often, unless somebody waits. */
const STATUS_MS = 250;
/** A process that is ending still holds the lock. */
const LOCK_RETRY_MS = 50;

const clock: Clock = workerClock;
const ending = new AbortController();
const receivers = new Map<VirtualClusterId, Receiver>();
const closer = new SegmentCloser({ clock, receivedBytes, signal: ending.signal });
/** Whoever waits for log of a virtual cluster waits at most for this. */
const wanted = new Map<VirtualClusterId, bigint>();
const changed = new Set<VirtualClusterId>();
let lock: FileLock | null = null;
let isTelling = false;

process.title = 'atoll vault';
// Signals of a terminal reach the whole group; the daemon says when it is time.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.once('disconnect', () => process.exit(0));
process.on('message', (message: ToVault) => void take(message));

async function take(message: ToVault): Promise<void> {
  switch (message.kind) {
    case 'open':
      return open(message.lockPath);
    case 'follow':
      return answer(message.id, () => follow(message.source));
    case 'unfollow':
      return answer(message.id, () => unfollow(message.virtualClusterId));
    case 'hurry':
      return hurry(message.virtualClusterId, message.lsn);
    case 'close':
      return close();
  }
}

async function open(lockPath: string): Promise<void> {
  const { signal } = ending;
  for (lock = tryFileLock(lockPath); lock === null; lock = tryFileLock(lockPath)) {
    await clock.sleep(LOCK_RETRY_MS, { signal }).catch(() => undefined);
    if (signal.aborted) return;
  }
  send({ kind: 'opened' });
  void tick();
}

/** One follow or unfollow of a virtual cluster at a time: the daemon asks one after the other. */
async function follow(source: VaultSource): Promise<void> {
  const { virtualClusterId, virtualClusterName } = source;
  const present = receivers.get(virtualClusterId);
  if (present !== undefined && isSame(present.source, source)) return present.begun();
  await unfollow(virtualClusterId);
  const receiver = new Receiver({
    source,
    closer,
    clock,
    rng: workerRng,
    logger: loggerFor({ virtualClusterId, virtualClusterName }),
    onChange: () => noteChange(virtualClusterId),
  });
  receivers.set(virtualClusterId, receiver);
  await receiver.begun();
  tellStatuses([virtualClusterId]);
}

async function unfollow(virtualClusterId: VirtualClusterId): Promise<void> {
  const receiver = receivers.get(virtualClusterId);
  if (receiver === undefined) return;
  await receiver.stop();
  tellStatuses([virtualClusterId]);
  receivers.delete(virtualClusterId);
  wanted.delete(virtualClusterId);
}

function receivedBytes(): bigint {
  let bytes = 0n;
  for (const receiver of receivers.values()) bytes += receiver.receivedBytes;
  return bytes;
}

function isSame(left: VaultSource, right: VaultSource): boolean {
  return (
    left.incarnation === right.incarnation &&
    left.dataDirectory === right.dataDirectory &&
    left.socketDirectory === right.socketDirectory &&
    left.login?.user === right.login?.user &&
    left.bytesMax === right.bytesMax
  );
}

function hurry(virtualClusterId: VirtualClusterId, lsn: bigint): void {
  const before = wanted.get(virtualClusterId);
  if (before === undefined || before < lsn) wanted.set(virtualClusterId, lsn);
  receivers.get(virtualClusterId)?.hurry();
  tellStatuses([virtualClusterId]);
}

async function close(): Promise<void> {
  await Promise.all([...receivers.keys()].map(unfollow));
  ending.abort();
  await closer.settled();
  lock?.release();
  process.exit(0);
}

async function tick(): Promise<void> {
  while (!ending.signal.aborted) {
    for (const receiver of receivers.values()) receiver.tick();
    await clock.sleep(PING_MS, { signal: ending.signal }).catch(() => undefined);
  }
}

/** Statuses go out together and not too often; whoever waits is told at once. */
function noteChange(virtualClusterId: VirtualClusterId): void {
  const wantedLsn = wanted.get(virtualClusterId);
  const status = receivers.get(virtualClusterId)?.status();
  if (wantedLsn !== undefined && status !== undefined) {
    if (status.durableLsn >= wantedLsn) wanted.delete(virtualClusterId);
    if (status.durableLsn >= wantedLsn || status.state.kind !== 'receiving')
      return tellStatuses([virtualClusterId]);
    receivers.get(virtualClusterId)?.hurry();
  }
  changed.add(virtualClusterId);
  if (!isTelling) void tellSoon();
}

async function tellSoon(): Promise<void> {
  isTelling = true;
  await clock.sleep(STATUS_MS, { signal: ending.signal }).catch(() => undefined);
  isTelling = false;
  const ids = [...changed];
  changed.clear();
  tellStatuses(ids);
}

function tellStatuses(ids: readonly VirtualClusterId[]): void {
  const statuses = ids
    .map((id) => receivers.get(id)?.status())
    .filter((status): status is VaultStatus => status !== undefined);
  if (statuses.length > 0) send({ kind: 'status', statuses });
}

async function answer(id: number, work: () => Promise<void>): Promise<void> {
  try {
    await work();
    send({ kind: 'done', id });
  } catch (error) {
    send({ kind: 'failed', id, error: toWireError(error) });
  }
}

function send(message: FromVault): void {
  if (process.connected) process.send?.(message, () => undefined);
}

function loggerFor(scope: LogScope | null): Logger {
  const log = (severity: Severity, message: string, cause?: unknown) => {
    const detail = cause === undefined ? '' : `: ${describe(cause)}`;
    send({ kind: 'log', severity, message: message + detail, scope });
  };
  return {
    log,
    info: (message) => log('info', message),
    warning: (message, cause) => log('warning', message, cause),
    error: (message, cause) => log('error', message, cause),
    for: (other) => loggerFor(other),
  };
}

/** Facts of life by their message, bugs with where they come from. */
function describe(cause: unknown): string {
  if (isAppError(cause)) return cause.message;
  return cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
}
