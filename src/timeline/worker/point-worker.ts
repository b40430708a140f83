import type { Clock, Logger } from '../../base/index.ts';
import type { TimelineWorker } from '../store-contract.ts';
import { failureOf, type RunOptions, runWorker } from './bulk-worker.ts';
import type { BulkWork } from './messages.ts';
import type { Confinement } from './confinement.ts';
import type { SpareProcess } from './spare-process.ts';

/** Goes back in timeline stores and publishes moments of them, in processes like those of `createBulkWorker`. */
export function createPointWorker(options: {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Make way when others wait for the CPU; on unless set to false. */
  readonly isLimited?: boolean;
  /** What keeps a process for the next work; without it each has a process of its own. */
  readonly spare?: SpareProcess;
  /** As in `createBulkWorker`. */
  readonly confinement?: Confinement;
}): Pick<TimelineWorker, 'materializePoint' | 'rewind' | 'publish'> {
  const { clock, logger, isLimited = true, ...processes } = options;
  const run = async (work: BulkWork, rest: Pick<RunOptions, 'onProgress' | 'signal'>) => {
    const outcome = await runWorker(work, { clock, logger, isLimited, ...rest, ...processes });
    if (outcome.kind === 'point_done') return outcome.result;
    throw failureOf(outcome);
  };
  return {
    materializePoint: (request, rest) => run({ kind: 'materialize_point', request }, rest),
    rewind: (request, rest) => run({ kind: 'rewind', request }, rest),
    async publish(request, rest) {
      const work = { kind: 'publish', request } as const;
      const outcome = await runWorker(work, { clock, logger, isLimited, ...rest, ...processes });
      if (outcome.kind === 'publish_done') return outcome.result;
      throw failureOf(outcome);
    },
  };
}
