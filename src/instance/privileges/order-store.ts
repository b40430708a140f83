/**
 * Puts a store in order for a daemon that has a user of its own, each time before root's rights are given up: on the first start what belonged to
 * root becomes the daemon's, and instances of before are ended, since their files can't be read by a group. Later that is only what an operator
 * has put there as root. A crash at any step leaves what the next start completes: the record of the store is written last.
 */
import { lchownSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { type Clock, errnoOf, isAppError, type Logger } from '../../base/index.ts';
import { type Owner, syncDirectory } from '../durable-files.ts';
import { makeDirectories, removeEmpty } from '../make-directories.ts';
import { adoptPostmaster, DEFAULT_STOP_LIMITS, endLeftovers, stopPostmaster } from '../postmaster.ts';
import { readPostmasterPid } from '../postmaster-pid.ts';
import { startTokenOf } from '../os-process.ts';
import { readRecord, writeRecord } from '../sealed-record.ts';
import { CONFIGURATION_NAME, DATA_DIRECTORY_NAME, type StoreLayout } from '../store-layout.ts';
import { lockStore } from '../store-lock.ts';
import { requireOwner, STORE_FORMAT, usableLayout } from '../store.ts';
import { isUidOfInstance, ownerOf, UID_BASE } from '../users.ts';
import { directPrivileges } from './direct.ts';
import { Folder } from './folder.ts';
import { walk } from './ownership.ts';

/** Of a file system, and not of ours. */
const FOREIGN = ['lost+found'];
/** Opening them would cost the lock: closing any descriptor of a file gives up the locks on it. */
const LOCKS = ['lock', 'lock-journal', 'lock-wal', 'lock-shm'];

export interface OrderOptions {
  readonly directory: string;
  readonly daemon: Owner;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Called before each change; a test then looks at what a crash would leave. */
  readonly onStep?: () => void;
}

/**
 * Makes the folder where it is missing; gives its real path.
 * @throws AppError `store_in_use`, `store_invalid`; CorruptError
 */
export async function orderStore(options: OrderOptions): Promise<string> {
  const { directory, daemon } = options;
  const made = await makeDirectories(directory);
  try {
    const layout = await usableLayout(directory, { isShared: true });
    for (const folder of made) await syncDirectory(join(folder, '..'));
    const ownerUid = await ownerOfStore(layout);
    if (ownerUid !== null && ownerUid !== 0) requireOwner(layout, { ownerUid, uid: daemon.uid });
    const lock = lockStore(layout);
    try {
      await order(layout, { ...options, isFirst: ownerUid === 0 });
    } finally {
      lock.release();
    }
    for (const name of LOCKS) chownIfAny(join(layout.root, name), daemon);
    return layout.root;
  } catch (error) {
    await removeEmpty(made);
    throw error;
  }
}

/** Null when there is no record yet, or none that can be understood: whoever opens the store says so. */
async function ownerOfStore(layout: StoreLayout): Promise<number | null> {
  try {
    return (await readRecord(STORE_FORMAT, layout.storeRecord)).ownerUid;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || isAppError(error)) return null;
    throw error;
  }
}

async function order(
  layout: StoreLayout,
  options: OrderOptions & { readonly isFirst: boolean },
): Promise<void> {
  const { daemon, isFirst, logger } = options;
  if (isFirst) {
    logger.warning(`store ${layout.root} becomes that of user ${daemon.uid}: its instances are started anew`);
    await endInstances(layout, options);
  }
  using root = Folder.open(layout.root);
  for (const name of root.names()) {
    if (FOREIGN.includes(name) || LOCKS.includes(name)) continue;
    using folder = root.folderIfAny(name);
    if (folder === null) root.ownFile(name, { ownership: daemon, from: isRoot });
    else if (name === 'vc') await orderClusters(folder, options);
    else await giveTree(folder, { ...options, isTheirs: name === 'run' ? isRootOrInstance : isRoot });
  }
  root.own({ ...daemon, mode: 0o711 });
  options.onStep?.();
  if (!isFirst) return;
  const record = await readRecord(STORE_FORMAT, layout.storeRecord);
  await writeRecord(STORE_FORMAT, {
    path: layout.storeRecord,
    body: { ...record, ownerUid: daemon.uid },
    mode: 0o600,
    owner: daemon,
  });
}

async function orderClusters(clusters: Folder, options: OrderOptions & { isFirst: boolean }): Promise<void> {
  const { daemon } = options;
  clusters.own(daemon);
  for (const name of clusters.names()) {
    using cluster = clusters.folderIfAny(name);
    if (cluster === null) {
      clusters.ownFile(name, { ownership: daemon, from: isRoot });
      continue;
    }
    const id = Number(name);
    if (Number.isInteger(id)) await orderCluster(cluster, { ...options, instance: ownerOf(UID_BASE + id) });
    // Of a creation or removal that was cut off: it is deleted.
    else await giveTree(cluster, { ...options, isTheirs: isRootOrInstance });
  }
}

async function orderCluster(
  cluster: Folder,
  options: OrderOptions & { instance: Owner; isFirst: boolean },
): Promise<void> {
  const { daemon, instance } = options;
  // Its server's group, if it has one, may enter.
  cluster.own({ uid: daemon.uid, gid: instance.gid });
  for (const name of cluster.names()) {
    using folder = cluster.folderIfAny(name);
    if (folder === null) cluster.ownFile(name, { ownership: daemon, from: isRoot });
    else if (name === CONFIGURATION_NAME) await giveTree(folder, { ...options, isTheirs: isRoot });
    else if (DATA_DIRECTORY_NAME.test(name)) await orderDataDirectory(folder, options);
  }
}

/**
 * Of before are those that are not the daemon's, and whose server's group is not the daemon's: they become the daemon's, as one that is being
 * made, and with the next start of a server its own.
 */
async function orderDataDirectory(
  directory: Folder,
  { daemon, instance, isFirst, onStep }: OrderOptions & { instance: Owner; isFirst: boolean },
): Promise<void> {
  const { uid, gid } = directory.status();
  const isAsToday = uid === daemon.uid || (uid === instance.uid && gid === daemon.gid);
  if (isAsToday && !isFirst) return;
  const isTheirs = (status: Stats) => isRoot(status) || [daemon.uid, instance.uid].includes(status.uid);
  if (!isTheirs(directory.status())) return;
  await walk(directory, {
    ...(onStep === undefined ? {} : { onStep }),
    isTheirs,
    before: { ...daemon, mode: 0o700 },
    file: { ...daemon, mode: 0o600 },
  });
}

/** A folder and what is in it, with the modes that they have. What is the daemon's already keeps its group: it may be an instance's. */
async function giveTree(
  folder: Folder,
  options: OrderOptions & { readonly isTheirs: (status: Stats) => boolean },
): Promise<void> {
  const { daemon, isTheirs, onStep } = options;
  const status = folder.status();
  if (status.uid !== daemon.uid) {
    if (!isTheirs(status)) return;
    onStep?.();
    folder.own(daemon);
  }
  for (const name of folder.names()) {
    onStep?.();
    using below = folder.look(name)?.isDirectory() === true ? folder.folderIfAny(name) : null;
    if (below === null) folder.ownFile(name, { ownership: daemon, from: isTheirs });
    else await giveTree(below, options);
  }
}

/** A second name may be one that somebody else has made for a file that is none of ours. */
function isRoot(status: Stats): boolean {
  return status.uid === 0 && (status.isDirectory() || status.nlink === 1);
}

function isRootOrInstance(status: Stats): boolean {
  return isRoot(status) || isUidOfInstance(status.uid);
}

/** So that nothing of what changes hands is in use. */
async function endInstances(layout: StoreLayout, options: OrderOptions): Promise<void> {
  const { clock, logger, signal } = options;
  const privileges = directPrivileges();
  for (const dataDirectory of dataDirectoriesOf(layout)) {
    const claim = await readPostmasterPid(dataDirectory).catch(() => undefined);
    const startToken = claim === undefined ? undefined : await startTokenOf(claim.pid);
    if (
      claim !== undefined &&
      startToken !== undefined &&
      (await privileges.worksIn(claim.pid, dataDirectory))
    ) {
      logger.info(`ending the instance in ${dataDirectory}`);
      await stopPostmaster(adoptPostmaster({ pid: claim.pid, startToken, clock, privileges }), {
        mode: 'orderly',
        limits: DEFAULT_STOP_LIMITS,
        clock,
        hurry: signal,
        signal,
      });
    }
    await endLeftovers({ dataDirectory, clock, privileges, signal });
  }
}

function dataDirectoriesOf({ clusters }: StoreLayout): string[] {
  using folder = folderAt(clusters);
  return (folder?.names() ?? []).flatMap((name) => {
    using cluster = folder?.folderIfAny(name) ?? null;
    return (cluster?.names() ?? [])
      .filter((each) => DATA_DIRECTORY_NAME.test(each))
      .map((each) => join(clusters, name, each));
  });
}

function folderAt(path: string): Folder | null {
  try {
    return Folder.open(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

function chownIfAny(path: string, { uid, gid }: Owner): void {
  try {
    lchownSync(path, uid, gid);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}
