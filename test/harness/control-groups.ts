import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from './wait.ts';

/** Where a kernel shows its groups, version 2 and the trees of version 1, and the file by which a group has a controller. */
const PLACES = {
  cpu: [
    { root: '/sys/fs/cgroup', file: 'cpu.weight' },
    { root: '/sys/fs/cgroup/cpu', file: 'cpu.shares' },
  ],
  memory: [
    { root: '/sys/fs/cgroup', file: 'memory.max' },
    { root: '/sys/fs/cgroup/memory', file: 'memory.limit_in_bytes' },
  ],
} as const;
/** So that what runs in the folder together weighs as much as the machine, and shares are its own affair. */
const SHARES_OF_ALL = 65_536;

/** A fresh folder for groups with a controller; null, with the reason, where this machine gives none. */
export function makeGroupsFolder(
  controller: keyof typeof PLACES = 'cpu',
  { shares = SHARES_OF_ALL }: { readonly shares?: number } = {},
): { path: string } | { path: null; why: string } {
  for (const { root, file } of PLACES[controller]) {
    const path = join(root, `atoll-test-${randomBytes(6).toString('hex')}`);
    try {
      mkdirSync(path);
      if (existsSync(join(path, file))) {
        if (file === 'cpu.shares') writeFileSync(join(path, file), String(shares));
        return { path };
      }
      rmdirSync(path);
    } catch {
      // Not here.
    }
  }
  return { path: null, why: `NOT TRIED: nobody may make control groups with ${controller} on this machine` };
}

/** Groups can be removed once their last process has ended, which may be after the daemon that started it. */
export async function removeGroupsFolder(path: string): Promise<void> {
  const own = join(path, 'node', 'cgroup.procs');
  // Who prepares groups in a test is the test.
  if (existsSync(own) && readFileSync(own, 'latin1').split('\n').includes(String(process.pid)))
    writeFileSync(join(path, '..', 'cgroup.procs'), String(process.pid));
  const groups = readdirSync(path, { withFileTypes: true }).filter((each) => each.isDirectory());
  for (const { name } of groups) {
    await waitFor(`group ${name} to be empty`, () => {
      rmdirSync(join(path, name));
      return true;
    });
  }
  rmdirSync(path);
}
