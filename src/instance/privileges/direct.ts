import { rm } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { AppError } from '../../base/index.ts';
import { ControlGroups, type ControlGroupsSpec } from '../control-groups.ts';
import { syncDirectory, writeFileDurably } from '../durable-files.ts';
import { processesIn, signalProcess, startTokenOf, worksIn } from '../os-process.ts';
import { spawnPostmaster } from '../postmaster.ts';
import { isRoot, ownerOf, UID_BASE } from '../users.ts';
import type { Privileges } from './contract.ts';

/** What this very process may: everything as root, and else everything too, for then instances have its user. */
export function directPrivileges({
  controlGroups = null,
}: {
  readonly controlGroups?: ControlGroupsSpec | null;
} = {}): Privileges {
  const groups = controlGroups === null ? null : new ControlGroups(controlGroups);
  return {
    isSeparate: false,
    peers: () => [ownName()],
    uidOf: (id) => (isRoot() ? UID_BASE + id : null),
    ownerOf: (uid) => (uid === null ? null : ownerOf(uid)),
    processesIn,
    worksIn,
    async signal({ pid, startToken }, signal) {
      if (startToken === undefined || (await startTokenOf(pid)) === startToken) signalProcess(pid, signal);
    },
    launch: (command) => spawnPostmaster(command, groups),
    take: async () => undefined,
    async removeFiles(dataDirectory, names) {
      for (const name of names) await rm(join(dataDirectory, name), { force: true });
      await syncDirectory(dataDirectory);
    },
    sign: (dataDirectory, name, { owner }) =>
      writeFileDurably({ path: join(dataDirectory, name), content: '', mode: 0o600, owner }),
    openConfiguration: async () => undefined,
    openSockets: async () => undefined,
  };
}

function ownName(): string {
  try {
    return userInfo().username;
  } catch (error) {
    throw new AppError('store_invalid', `user ${process.getuid?.()} has no name on this machine`, {
      cause: error,
      hint: 'instances know the daemon by the name of its user: add the user to /etc/passwd',
    });
  }
}
