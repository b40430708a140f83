import { readdirSync, readFileSync } from 'node:fs';

/** The processes that another one has started and whose command lines say so. */
export function childPids(parent: number, commandLine: RegExp): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const isChild = new RegExp(`^PPid:\\s+${parent}$`, 'm').test(
          readFileSync(`/proc/${pid}/status`, 'latin1'),
        );
        return isChild && commandLine.test(readFileSync(`/proc/${pid}/cmdline`, 'latin1'));
      } catch {
        return false; // It ended meanwhile.
      }
    })
    .map(Number);
}
