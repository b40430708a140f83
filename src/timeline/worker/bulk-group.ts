/**
 * The control group of bulk work, where the node has groups (docs/decisions/0160-control-groups.md). A process is in the group of who starts it, and that of
 * the daemon comes first of all: what is started for bulk work is moved out of it before it does anything.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../base/index.ts';

/** Folder of the group, in the daemon's environment; no group when it is not there. Whatever is in it when the daemon starts is dropped. */
export const BULK_GROUP_VARIABLE = 'ATOLL_BULK_GROUP';

/** A process that is not taken stays where it is, and has the niceness of bulk work there. */
export function enterBulkGroup(pid: number | undefined): void {
  const group = process.env[BULK_GROUP_VARIABLE];
  if (group === undefined || pid === undefined) return;
  try {
    writeFileSync(join(group, 'cgroup.procs'), String(pid));
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
  }
}
