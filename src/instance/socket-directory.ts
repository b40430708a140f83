import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../base/index.ts';
import { makeDirectory, type Owner } from './durable-files.ts';
import type { Privileges } from './privileges/contract.ts';

/**
 * Makes the private folder of a server's socket, or empties it: a lock file left there names a pid that may belong to
 * somebody else by now. To be called when no server of that folder runs.
 */
export async function emptySocketDirectory(options: {
  path: string;
  user: Owner | null;
  privileges: Privileges;
}): Promise<void> {
  const { path, user, privileges } = options;
  try {
    await makeDirectory({ path, mode: 0o700, owner: user });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    for (const name of await readdir(path)) await rm(join(path, name), { recursive: true });
  }
  await privileges.openSockets(path);
}
