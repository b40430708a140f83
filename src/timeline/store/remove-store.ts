import { mkdir, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from '../../base/index.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';
import { syncFolder } from '../vault/files.ts';

/**
 * Removes all bases and log of a virtual cluster that is being removed and that nobody follows any more. At once under its own name, so
 * that half a store is never taken for one. Harmless when there is none.
 */
export async function removeTimelineStore({ directory }: TimelineStoreLocation): Promise<void> {
  const removed = `${directory}.removed`;
  await rm(removed, { recursive: true, force: true });
  await mkdir(dirname(directory), { recursive: true, mode: 0o700 });
  try {
    await rename(directory, removed);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  await syncFolder(dirname(directory));
  await rm(removed, { recursive: true, force: true });
}
