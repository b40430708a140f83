import type { Clock, Logger } from '../../base/index.ts';
import type { ReceiveWorker } from '../store-contract.ts';
import { failureOf, runWorker } from './bulk-worker.ts';
import type { Confinement } from './confinement.ts';

/** Fetches images of instances elsewhere, each time in a process of its own like those of `createBulkWorker`. */
export function createReceiveWorker(options: {
  readonly clock: Clock;
  readonly logger: Logger;
  /** As in `createBulkWorker`. */
  readonly confinement?: Confinement;
}): ReceiveWorker {
  return {
    async receiveBase(request, rest) {
      const outcome = await runWorker(
        { kind: 'receive_base', request },
        { ...options, isLimited: false, ...rest },
      );
      if (outcome.kind === 'base_received') return outcome.result;
      throw failureOf(outcome);
    },
  };
}
