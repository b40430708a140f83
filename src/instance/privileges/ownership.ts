/**
 * Who owns what in a store whose daemon and instances have users of their own. All of it is the daemon's but data directories that serve:
 * those are the instance's, and the daemon's group may read them, which the folders' set-group-id bit makes true of what is added.
 * Folders of configuration and of sockets are the daemon's, and the instance's group may enter them.
 */
import type { Stats } from 'node:fs';
import { AppError } from '../../base/index.ts';
import type { Owner } from '../durable-files.ts';
import { CONFIGURATION_FILES } from '../configuration.ts';
import { SECRET_FILES } from '../following.ts';
import { CONFIGURATION_NAME } from '../store-layout.ts';
import type { Folder, Ownership } from './folder.ts';

/** Of users that nobody else has: see users.ts. */
export interface Parties {
  readonly daemon: Owner;
  readonly instance: Owner;
}

const OURS = { folder: 0o700, file: 0o600 };
/** What PostgreSQL itself gives its files when a group may read them. */
const SERVED = { folder: 0o2750, file: 0o640 };

/** Entries that are looked at before others get their turn. */
const ENTRIES_AT_ONCE = 2000;
/** Deeper than anything of ours; each level holds a descriptor. */
const DEPTH_MAX = 100;

/**
 * Makes a data directory the daemon's. Its top comes first: from then on nobody else finds a way in, and a crash leaves what the next
 * call completes.
 */
export async function take(directory: Folder, { daemon, instance }: Parties): Promise<void> {
  const isTheirs = ownedBy([daemon.uid, instance.uid]);
  requireOwner(directory, isTheirs);
  const folder = { ...daemon, mode: OURS.folder };
  const file = { ...daemon, mode: OURS.file };
  await walk(directory, { isTheirs, before: folder, file });
}

/** Makes a data directory its server's, the top last: it tells that all below is done. Nothing to do when it is. */
export async function give(directory: Folder, { daemon, instance }: Parties): Promise<void> {
  const { uid } = directory.status();
  if (uid === instance.uid) return;
  const isTheirs = ownedBy([daemon.uid, instance.uid]);
  requireOwner(directory, isTheirs);
  const owner = { uid: instance.uid, gid: daemon.gid };
  await walk(directory, {
    isTheirs,
    after: { ...owner, mode: SERVED.folder },
    file: { ...owner, mode: SERVED.file },
  });
}

/** What a server reads of its virtual cluster's folder; secrets of its own become its own, for libpq reads no others. */
export function openConfiguration(cluster: Folder, { daemon, instance }: Parties): void {
  const isTheirs = ownedBy([daemon.uid, instance.uid]);
  requireOwner(cluster, ownedBy([daemon.uid]));
  const shared = { uid: daemon.uid, gid: instance.gid };
  cluster.own({ ...shared, mode: 0o710 });
  using configuration = cluster.folder(CONFIGURATION_NAME);
  requireOwner(configuration, ownedBy([daemon.uid]));
  configuration.own({ ...shared, mode: 0o2750 });
  for (const name of CONFIGURATION_FILES) {
    configuration.ownFile(name, { ownership: { ...shared, mode: 0o640 }, from: isTheirs });
  }
  for (const name of SECRET_FILES) {
    configuration.ownFile(name, { ownership: { ...instance, mode: 0o600 }, from: isTheirs });
  }
}

/** A server makes its socket there; only the two of them get at it. */
export function openSockets(sockets: Folder, { daemon, instance }: Parties): void {
  requireOwner(sockets, ownedBy([daemon.uid]));
  sockets.own({ uid: daemon.uid, gid: instance.gid, mode: 0o770 });
}

export interface Walk {
  /** What else is met is left as it is: somebody may have made names for files that are not in the store's hands. */
  readonly isTheirs: (status: Stats) => boolean;
  /** Before and after what is in a folder. */
  readonly before?: Ownership;
  readonly after?: Ownership;
  readonly file: Ownership;
  /** Called before each change of a file or folder. */
  readonly onStep?: () => void;
}

/** Everything below a folder, and itself. Links, sockets and pipes are left alone: who owns the folder can remove them. */
export async function walk(folder: Folder, options: Walk, depth = 0): Promise<void> {
  if (depth > DEPTH_MAX) throw new AppError('io', 'folders are nested too deeply');
  const { isTheirs, before, after, file, onStep } = options;
  onStep?.();
  if (before !== undefined) folder.own(before);
  let entries = 0;
  for (const name of folder.names()) {
    if ((entries += 1) % ENTRIES_AT_ONCE === 0) await new Promise(setImmediate);
    const status = folder.look(name);
    if (status?.isDirectory() !== true) {
      onStep?.();
      folder.ownFile(name, { ownership: file, from: isTheirs });
      continue;
    }
    using below = folder.folderIfAny(name);
    if (below !== null && isTheirs(below.status())) await walk(below, options, depth + 1);
  }
  if (after !== undefined) folder.own(after);
}

export function ownedBy(uids: readonly number[]): (status: Stats) => boolean {
  return ({ uid }) => uids.includes(uid);
}

/** @throws AppError `io` */
function requireOwner(folder: Folder, isTheirs: (status: Stats) => boolean): void {
  const status = folder.status();
  if (isTheirs(status)) return;
  throw new AppError('io', `a folder of the store belongs to user ${status.uid}`, {
    hint: 'start atoll as root again: what is in the store is then put in order',
  });
}
