import type { Clock, Logger } from '../../base/index.ts';
import type { VerifyWorker } from '../verify/contract.ts';
import { failureOf, runWorker } from './bulk-worker.ts';
import type { Confinement } from './confinement.ts';

/** Checks what is stored and what was restored, each time in a process of its own like those of `createBulkWorker`. */
export function createVerifyWorker(options: {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Make way when others wait for the CPU; on unless set to false. */
  readonly isLimited?: boolean;
  /** As in `createBulkWorker`. */
  readonly confinement?: Confinement;
}): VerifyWorker {
  const { clock, logger, isLimited = true, ...processes } = options;
  return {
    async checkDirectory(request, { onProgress, signal }) {
      const work = { kind: 'check_directory', request } as const;
      const outcome = await runWorker(work, { clock, logger, isLimited, onProgress, signal, ...processes });
      if (outcome.kind === 'directory_checked') return outcome.result;
      throw failureOf(outcome);
    },
    async checkObjects(request, { onProgress, signal }) {
      const work = { kind: 'check_objects', request } as const;
      const outcome = await runWorker(work, { clock, logger, isLimited, onProgress, signal, ...processes });
      if (outcome.kind === 'objects_checked') return outcome.result;
      throw failureOf(outcome);
    },
    async listFiles(request, { signal }) {
      const work = { kind: 'list_files', request } as const;
      const onProgress = () => undefined;
      const outcome = await runWorker(work, { clock, logger, isLimited, onProgress, signal, ...processes });
      if (outcome.kind === 'files_listed') return outcome.result;
      throw failureOf(outcome);
    },
  };
}
