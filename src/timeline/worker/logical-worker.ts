import type { Clock, Logger } from '../../base/index.ts';
import type { LogicalWorker } from '../logical/contract.ts';
import { failureOf, runWorker } from './bulk-worker.ts';
import type { Confinement } from './confinement.ts';
import type { SpareProcess } from './spare-process.ts';

/** Backs up and restores databases and tables, in processes like those of `createBulkWorker`. */
export function createLogicalWorker(options: {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Make way when others wait for the CPU; on unless set to false. */
  readonly isLimited?: boolean;
  /** As in `createBulkWorker`. */
  readonly confinement?: Confinement;
  /** What keeps a process for the next work; without it each has a process of its own. */
  readonly spare?: SpareProcess;
}): LogicalWorker {
  const { clock, logger, isLimited = true, ...processes } = options;
  return {
    async backupObjects(request, rest) {
      const work = { kind: 'backup_objects', request } as const;
      const outcome = await runWorker(work, { clock, logger, isLimited, ...rest, ...processes });
      if (outcome.kind === 'objects_backed_up') return outcome.result;
      throw failureOf(outcome);
    },
    async restoreObjects(request, rest) {
      const work = { kind: 'restore_objects', request } as const;
      const outcome = await runWorker(work, { clock, logger, isLimited, ...rest, ...processes });
      if (outcome.kind === 'objects_restored') return outcome.result;
      throw failureOf(outcome);
    },
    async describeDatabases(request, { signal }) {
      const work = { kind: 'describe_databases', request } as const;
      const onProgress = () => undefined;
      const outcome = await runWorker(work, { clock, logger, isLimited, onProgress, signal, ...processes });
      if (outcome.kind === 'databases_described') return outcome.result;
      throw failureOf(outcome);
    },
  };
}
