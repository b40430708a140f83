import { statSync } from 'node:fs';
import { dirname } from 'node:path';

/** Whom a daemon of tests becomes that is started as root. Every Linux has this user. */
export const DROPPED_USER = 'daemon';

/** Why a daemon cannot become another user here; null when it can. */
export function whyNotDropped(): string | null {
  if (process.getuid?.() !== 0 || process.platform !== 'linux') return 'root gives its rights up on Linux';
  for (let at = import.meta.dirname; at !== dirname(at); at = dirname(at)) {
    if ((statSync(at).mode & 0o005) !== 0o005) return `NOT TRIED: other users may not enter ${at}`;
  }
  return null;
}

/** Flags of a daemon that gives root's rights up, where it can. */
export function droppedFlags(): string[] {
  return whyNotDropped() === null ? [`--user=${DROPPED_USER}`] : [];
}
