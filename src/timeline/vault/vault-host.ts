/** The daemon's side of the vault: one process for all virtual clusters, started again when it ends, told again what to follow. */
import { join } from 'node:path';
import {
  AppError,
  CancelledError,
  type Clock,
  type Logger,
  type Lsn,
  type VirtualClusterId,
} from '../../base/index.ts';
import type { VaultHost, VaultSource, VaultStatus } from '../store-contract.ts';
import { KeptProcess } from '../worker/kept-process.ts';
import { fromWireError } from '../worker/wire-error.ts';
import { makeFolderDurably } from './files.ts';
import type { FromVault, ToVault } from './messages.ts';

const RESTART_MS = { first: 100, max: 5000 };
/** Longest a caller waits to hear that reception is under way; it comes about without him. */
const FOLLOW_MS_MAX = 15_000;
/** What a process has acknowledged is durable, however it ends. */
const CLOSE_MS_MAX = 10_000;
/** What it holds does not grow with the backlog. */
const HEAP_MIB_MAX = 256;
/** Most waits for the disk under way at once. */
const SYSTEM_CALLS = 16;

const LOCK_NAME = 'vault-lock';

export interface VaultHostOptions {
  /** The folder of all timeline stores of the node: one vault at a time writes below it. */
  readonly directory: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

export async function openVaultHost(options: VaultHostOptions): Promise<VaultHost> {
  await makeFolderDurably(options.directory);
  return new ProcessVaultHost(options);
}

interface Waiter {
  readonly virtualClusterId: VirtualClusterId;
  readonly lsn: Lsn;
  readonly settle: (error: Error | null) => void;
}

class ProcessVaultHost implements VaultHost {
  readonly #options: VaultHostOptions;
  readonly #process: KeptProcess<ToVault, FromVault>;
  readonly #sources = new Map<VirtualClusterId, VaultSource>();
  readonly #statuses = new Map<VirtualClusterId, VaultStatus>();
  /** Received by processes that have ended. */
  readonly #receivedBefore = new Map<VirtualClusterId, bigint>();
  readonly #asked = new Map<number, (error: Error | null) => void>();
  readonly #followers = new Map<VirtualClusterId, readonly PromiseWithResolvers<void>[]>();
  readonly #unfollowing = new Set<() => void>();
  readonly #waiters = new Set<Waiter>();
  #isOpen = false;
  #lastId = 0;

  constructor(options: VaultHostOptions) {
    this.#options = options;
    const { clock, logger, directory } = options;
    this.#process = new KeptProcess<ToVault, FromVault>({
      script: new URL('./vault-main.ts', import.meta.url),
      heapMiBMax: HEAP_MIB_MAX,
      systemCalls: SYSTEM_CALLS,
      restartMs: RESTART_MS,
      closeMsMax: CLOSE_MS_MAX,
      clock,
      onStart: () => this.#process.send({ kind: 'open', lockPath: join(directory, LOCK_NAME) }),
      onMessage: (message) => this.#take(message),
      onEnd: (how, { isClosing }) => {
        this.#forget();
        if (!isClosing) logger.error(`the vault's process ended (${how}), another takes its place`);
      },
    });
    this.#process.start();
  }

  async follow(source: VaultSource): Promise<void> {
    const { virtualClusterId } = source;
    this.#sources.set(virtualClusterId, source);
    const begun = Promise.withResolvers<void>();
    const others = this.#followers.get(virtualClusterId) ?? [];
    this.#followers.set(virtualClusterId, [...others, begun]);
    if (this.#isOpen) this.#sendFollow(source);
    const waiting = new AbortController();
    const signal = AbortSignal.any([waiting.signal, this.#process.closing]);
    const patience = this.#options.clock.sleep(FOLLOW_MS_MAX, { signal }).catch(() => undefined);
    await Promise.race([begun.promise, patience]).finally(() => waiting.abort());
  }

  async unfollow(virtualClusterId: VirtualClusterId): Promise<void> {
    if (!this.#sources.delete(virtualClusterId)) return;
    this.#settleFollowers(virtualClusterId, null);
    await this.#askToUnfollow(virtualClusterId);
    this.#statuses.delete(virtualClusterId);
    this.#receivedBefore.delete(virtualClusterId);
    this.#wake(virtualClusterId);
  }

  status(virtualClusterId: VirtualClusterId): VaultStatus | undefined {
    return this.#statuses.get(virtualClusterId);
  }

  statuses(): readonly VaultStatus[] {
    return [...this.#statuses.values()];
  }

  async whenDurable(
    virtualClusterId: VirtualClusterId,
    lsn: Lsn,
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
    const done = Promise.withResolvers<void>();
    const waiter: Waiter = {
      virtualClusterId,
      lsn,
      settle: (error) => (error === null ? done.resolve() : done.reject(error)),
    };
    const onAbort = () => done.reject(new CancelledError('cancelled', { cause: signal.reason }));
    signal.addEventListener('abort', onAbort, { once: true });
    this.#waiters.add(waiter);
    try {
      this.#wake(virtualClusterId);
      if (this.#waiters.has(waiter)) this.#process.send({ kind: 'hurry', virtualClusterId, lsn });
      await done.promise;
    } finally {
      this.#waiters.delete(waiter);
      signal.removeEventListener('abort', onAbort);
    }
  }

  close(): Promise<void> {
    return this.#process.close({ kind: 'close' });
  }

  #take(message: FromVault): void {
    switch (message.kind) {
      case 'opened':
        this.#isOpen = true;
        for (const source of this.#sources.values()) this.#sendFollow(source);
        return;
      case 'done':
        return this.#settle(message.id, null);
      case 'failed':
        return this.#settle(message.id, fromWireError(message.error));
      case 'status':
        for (const status of message.statuses) this.#takeStatus(status);
        return;
      case 'log': {
        const { logger } = this.#options;
        (message.scope === null ? logger : logger.for(message.scope)).log(message.severity, message.message);
      }
    }
  }

  #takeStatus(status: VaultStatus): void {
    const { virtualClusterId } = status;
    if (!this.#sources.has(virtualClusterId)) return;
    const before = this.#receivedBefore.get(virtualClusterId) ?? 0n;
    this.#statuses.set(virtualClusterId, { ...status, receivedBytes: before + status.receivedBytes });
    this.#wake(virtualClusterId);
  }

  /** Those whose wait is over, one way or the other. */
  #wake(virtualClusterId: VirtualClusterId): void {
    const status = this.#statuses.get(virtualClusterId);
    for (const waiter of this.#waiters) {
      if (waiter.virtualClusterId !== virtualClusterId) continue;
      const verdict = verdictOf(status, waiter);
      if (verdict === 'wait') continue;
      this.#waiters.delete(waiter);
      waiter.settle(verdict);
    }
  }

  /** Its process is gone: nothing that it was asked is answered any more. What is followed will be again. */
  #forget(): void {
    this.#isOpen = false;
    for (const [id, status] of this.#statuses) {
      this.#receivedBefore.set(id, status.receivedBytes);
      const state = { kind: 'waiting', reason: "the vault's process is being restarted" } as const;
      this.#statuses.set(id, { ...status, state });
    }
    this.#asked.clear();
    for (const resolve of this.#unfollowing) resolve();
    for (const { virtualClusterId } of this.#waiters) this.#wake(virtualClusterId);
  }

  #sendFollow(source: VaultSource): void {
    const id = (this.#lastId += 1);
    this.#asked.set(id, (error) => this.#settleFollowers(source.virtualClusterId, error));
    this.#process.send({ kind: 'follow', id, source });
  }

  /** Those who follow are answered by the process that gets so far, be it a later one. */
  #settleFollowers(virtualClusterId: VirtualClusterId, error: Error | null): void {
    const followers = this.#followers.get(virtualClusterId) ?? [];
    this.#followers.delete(virtualClusterId);
    for (const { resolve, reject } of followers) {
      if (error === null) resolve();
      else reject(error);
    }
  }

  /** A process that is not there has nothing under way, and one that ends neither. */
  async #askToUnfollow(virtualClusterId: VirtualClusterId): Promise<void> {
    if (!this.#isOpen) return;
    const id = (this.#lastId += 1);
    const done = Promise.withResolvers<void>();
    this.#asked.set(id, (error) => (error === null ? done.resolve() : done.reject(error)));
    this.#unfollowing.add(done.resolve);
    this.#process.send({ kind: 'unfollow', id, virtualClusterId });
    await done.promise.finally(() => this.#unfollowing.delete(done.resolve));
  }

  #settle(id: number, error: Error | null): void {
    const settle = this.#asked.get(id);
    this.#asked.delete(id);
    settle?.(error);
  }
}

function verdictOf(
  status: VaultStatus | undefined,
  { virtualClusterId, lsn }: Waiter,
): Error | null | 'wait' {
  if (status !== undefined && status.durableLsn >= lsn) return null;
  if (status?.state.kind === 'receiving' || status?.state.kind === 'gap') return 'wait';
  const reason = status === undefined ? 'its log is not received' : reasonOf(status);
  return new AppError(
    'cannot_connect_now',
    `the log of virtual cluster ${virtualClusterId} stands still: ${reason}`,
    {
      hint: 'try again in a moment',
    },
  );
}

function reasonOf({ state }: VaultStatus): string {
  return 'reason' in state ? state.reason : state.kind;
}
