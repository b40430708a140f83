import type { Clock, Logger } from '../../base/index.ts';
import type { TimelineWorker } from '../store-contract.ts';
import { failureOf, runWorker } from './bulk-worker.ts';
import type { Confinement } from './confinement.ts';
import type { SpareProcess } from './spare-process.ts';

/** Captures bases of timeline stores, in processes like those of `createBulkWorker`. */
export function createCaptureWorker(options: {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Make way when others wait for the CPU; on unless set to false. */
  readonly isLimited?: boolean;
  /** What keeps the process of a capture for the next; without it each has a process of its own. */
  readonly spare?: SpareProcess;
  /** As in `createBulkWorker`. */
  readonly confinement?: Confinement;
}): Pick<TimelineWorker, 'captureBase'> {
  const { clock, logger, isLimited = true, ...processes } = options;
  return {
    async captureBase(request, { onProgress, signal }) {
      const work = { kind: 'capture_base', request } as const;
      const outcome = await runWorker(work, { clock, logger, isLimited, onProgress, signal, ...processes });
      if (outcome.kind === 'base_done') return outcome.result;
      throw failureOf(outcome);
    },
  };
}
