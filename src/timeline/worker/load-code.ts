/** Loads what workers and their threads run, and does nothing: so that it is compiled and kept. Writes the file it is told when it is done. */
import { writeFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { lowerPriority } from './priority.ts';

lowerPriority();
// A thread's script begins by asking for its thread, and fails here: it was compiled before.
await Promise.allSettled([
  import('./worker-main.ts'),
  import('../capture/backup.ts'),
  import('../capture/capture-base.ts'),
  import('../capture/capture-thread.ts'),
  import('../materialize/materialize.ts'),
  import('../materialize/materialize-point.ts'),
  import('../materialize/materialize-thread.ts'),
  import('../materialize/changes-of-span.ts'),
  import('../materialize/rewind.ts'),
  import('../publish/publish.ts'),
  import('../receive/receive-base.ts'),
  import('../logical/backup-objects.ts'),
  import('../logical/restore-objects.ts'),
  import('../logical/describe-databases.ts'),
  import('../verify/check-directory.ts'),
  import('../verify/check-objects.ts'),
  import('../verify/list-backup-files.ts'),
]);
flushCompileCache();
const [, , done] = process.argv;
try {
  if (done !== undefined) writeFileSync(done, '');
} catch {
  // Nothing can be kept there; the next daemon tries it again.
}
process.exit(0);
