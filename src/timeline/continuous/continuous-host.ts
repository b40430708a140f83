/** The daemon's side of continuous backup: one process for all virtual clusters, started when one is to be published, and again when it ends. */
import { isDeepStrictEqual } from 'node:util';
import type { Clock, Logger, VirtualClusterId } from '../../base/index.ts';
import type { VaultStatus } from '../store-contract.ts';
import { KeptProcess } from '../worker/kept-process.ts';
import type { ContinuousHost, ContinuousStatus, ContinuousTarget } from './contract.ts';
import type { FromPublishing, ToPublishing } from './messages.ts';

const RESTART_MS = { first: 200, max: 10_000 };
const CLOSE_MS_MAX = 5000;
/** Pieces of log lie outside the heap. */
const HEAP_MIB_MAX = 256;

export function openContinuousHost(options: {
  readonly clock: Clock;
  readonly logger: Logger;
}): ContinuousHost {
  return new ProcessContinuousHost(options);
}

class ProcessContinuousHost implements ContinuousHost {
  readonly #logger: Logger;
  readonly #process: KeptProcess<ToPublishing, FromPublishing>;
  readonly #targets = new Map<VirtualClusterId, ContinuousTarget>();
  readonly #statuses = new Map<VirtualClusterId, ContinuousStatus>();

  constructor({ clock, logger }: { readonly clock: Clock; readonly logger: Logger }) {
    this.#logger = logger;
    this.#process = new KeptProcess<ToPublishing, FromPublishing>({
      script: new URL('./publishing-main.ts', import.meta.url),
      heapMiBMax: HEAP_MIB_MAX,
      isApart: true,
      hasNodeCredentials: true,
      restartMs: RESTART_MS,
      closeMsMax: CLOSE_MS_MAX,
      clock,
      onStart: () => {
        for (const target of this.#targets.values()) this.#process.send({ kind: 'publish', target });
      },
      onMessage: (message) => this.#take(message),
      onEnd: (how, { isClosing }) => {
        if (isClosing) return;
        logger.error(`the process of continuous backup ended (${how}), another takes its place`);
      },
    });
  }

  publish(target: ContinuousTarget): void {
    const { virtualClusterId } = target;
    if (isDeepStrictEqual(this.#targets.get(virtualClusterId), target)) return;
    this.#targets.set(virtualClusterId, target);
    this.#process.send({ kind: 'publish', target });
    this.#process.start();
  }

  stop(virtualClusterId: VirtualClusterId): void {
    if (!this.#targets.delete(virtualClusterId)) return;
    this.#statuses.delete(virtualClusterId);
    this.#process.send({ kind: 'stop', virtualClusterId });
  }

  note(statuses: readonly VaultStatus[]): void {
    const wanted = statuses.filter(({ virtualClusterId }) => this.#targets.has(virtualClusterId));
    if (wanted.length > 0) this.#process.send({ kind: 'vault', statuses: wanted });
  }

  status(virtualClusterId: VirtualClusterId): ContinuousStatus | undefined {
    return this.#statuses.get(virtualClusterId);
  }

  close(): Promise<void> {
    return this.#process.close({ kind: 'close' });
  }

  #take(message: FromPublishing): void {
    if (message.kind === 'log') {
      this.#logger.for(message.scope).log(message.severity, message.message);
      return;
    }
    for (const status of message.statuses) {
      if (this.#targets.has(status.virtualClusterId)) this.#statuses.set(status.virtualClusterId, status);
    }
  }
}
