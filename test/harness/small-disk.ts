import { execFileSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { scratchDirectory } from './scratch.ts';

export const NO_SMALL_DISK = 'NOT TESTED: a small file system cannot be mounted here (needs root)';

/** Its own file system, which nobody else fills; null where it cannot be made. */
export async function mountSmall(megabytes: number): Promise<string | null> {
  const directory = await scratchDirectory('atoll-disk-');
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', directory]);
    return directory;
  } catch {
    await rm(directory, { recursive: true });
    return null;
  }
}

/** @throws Error while something on it is open */
export async function unmountSmall(directory: string): Promise<void> {
  execFileSync('umount', [directory], { stdio: 'ignore' });
  await rm(directory, { recursive: true });
}
