/** Whether a server that ended has run out of disk. */
import { statfs } from 'node:fs/promises';
import { namesDiskFull } from './log-lines.ts';

/** A server that cannot make one more segment of its log ends, and no start helps. */
const NEEDED_BYTES = 16 * 1024 * 1024;

/** By what its log says, or where it could not even say so, by what is left. */
export async function ranOutOfDisk(options: { log: string; directory: string }): Promise<boolean> {
  if (namesDiskFull(options.log)) return true;
  const { bavail, bsize } = await statfs(options.directory);
  return bavail * bsize < NEEDED_BYTES;
}
