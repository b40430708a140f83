/**
 * What a daemon finds when it opens a store after any end of the one before: virtual clusters with their identity,
 * unfinished work that is undone, and whatever no record names, which is set aside and never deleted.
 */
import type { Dirent } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  RESTORE_PROGRESS_FILE,
  AppError,
  type Clock,
  errnoOf,
  type Logger,
  type Rng,
  timestampToMs,
  toError,
} from '../base/index.ts';
import type { InstanceIdentity } from './contract.ts';
import { isPresent } from './data-directory.ts';
import { renameDurably } from './durable-files.ts';
import { readIdentity } from './identity.ts';
import { endLeftovers } from './postmaster.ts';
import type { Privileges } from './privileges/contract.ts';
import { finishReplacement } from './replace-life.ts';
import {
  BEGUN_SUFFIX,
  CONFIGURATION_NAME,
  CREATING_PREFIX,
  DATA_DIRECTORY_NAME,
  REMOVING_PREFIX,
  REWINDING_SUFFIX,
  SCRATCH_SUFFIX,
  SUPERSEDED_SUFFIX,
  clusterLayout,
  randomSuffix,
  type ClusterLayout,
  type StoreLayout,
} from './store-layout.ts';

export interface ScanOptions {
  readonly store: StoreLayout;
  readonly clock: Clock;
  readonly privileges: Privileges;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/** Puts the folder of virtual clusters in order and gives the identities of all that can be served. */
export async function scanStore(options: ScanOptions): Promise<InstanceIdentity[]> {
  const { store, logger } = options;
  const identities: InstanceIdentity[] = [];
  for (const name of (await readdir(store.clusters)).toSorted()) {
    const path = join(store.clusters, name);
    if (name.startsWith(REMOVING_PREFIX)) {
      logger.info(`finishing the removal of ${path}`);
      await discard(path, options);
    } else if (name.startsWith(CREATING_PREFIX)) {
      await undoCreation(path, options);
    } else if (/^[1-9]\d*$/.test(name)) {
      const identity = await scanCluster({ ...options, path, id: Number(name) });
      if (identity !== undefined) identities.push(identity);
    } else {
      await setAside(path, 'it is no folder of a virtual cluster', options);
    }
  }
  return identities;
}

/** An unfinished copy of the template is worth nothing; one that already says who it is, is left to an operator. */
async function undoCreation(path: string, options: ScanOptions): Promise<void> {
  const hasIdentity = await readIdentity(path).then(
    () => true,
    () => false,
  );
  if (hasIdentity) await setAside(path, 'its creation was interrupted', options);
  else await discard(path, options);
}

/** A folder whose identity is damaged, newer or another's stays where it is: its data may be all there. */
async function scanCluster(
  options: ScanOptions & { path: string; id: number },
): Promise<InstanceIdentity | undefined> {
  const { path, id, logger } = options;
  let identity: InstanceIdentity;
  try {
    identity = await readIdentity(path);
    if (identity.virtualClusterId !== id) {
      throw new AppError('store_invalid', `${path} holds virtual cluster ${identity.virtualClusterId}`);
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') await setAside(path, 'it has no identity', options);
    else logger.error(`${path} is left alone: ${toError(error).message}`, error);
    return undefined;
  }
  const layout = clusterLayout(options.store, identity.virtualClusterId);
  const former = await finishReplacement(layout, identity);
  if (former !== null)
    logger.warning(`${former} is current: the daemon ended while one life replaced another`);
  for (const name of await readdir(path)) await scanEntry({ ...options, identity, name });
  await removeScratchTraces(layout);
  return identity;
}

async function scanEntry(
  options: ScanOptions & { path: string; identity: InstanceIdentity; name: string },
): Promise<void> {
  const { identity, name } = options;
  const path = join(options.path, name);
  const isKnown =
    name === identity.incarnation ||
    name === CONFIGURATION_NAME ||
    name.endsWith('.json') ||
    // A job goes on with it, or makes it anew from the timeline.
    name.endsWith(REWINDING_SUFFIX) ||
    // Deleted when the incarnation that replaced it has served.
    name.endsWith(SUPERSEDED_SUFFIX);
  if (isKnown) return;
  if (name.endsWith('.tmp')) return rm(path, { force: true });
  if (name.endsWith(BEGUN_SUFFIX)) {
    // No server has worked in it, and its job goes on with what is whole, or gives it up.
    if (await isPresent(join(path, RESTORE_PROGRESS_FILE))) return;
    options.logger.warning(`discarding ${path}: the daemon ended while it was made`);
    return discard(path, options);
  }
  if (name.endsWith(SCRATCH_SUFFIX)) {
    return discard(path, options);
  }
  return setAside(path, 'no record names it', options);
}

/** Deletes a folder, once no server works in or below it. */
export async function discard(path: string, options: DiscardOptions): Promise<void> {
  for (const dataDirectory of await endServersBelow(path, options)) {
    await options.privileges.take(dataDirectory);
  }
  await rm(path, { recursive: true, force: true });
}

export interface DiscardOptions {
  readonly clock: Clock;
  readonly privileges: Privileges;
  readonly signal: AbortSignal;
}

/** What copies that were looked at have left outside of the virtual cluster's folder. None must be in use. */
export async function removeScratchTraces({ scratchTraces }: ClusterLayout): Promise<void> {
  for (const { directory, prefix } of scratchTraces) {
    const names = await readdir(directory).catch((error: unknown): string[] => {
      if (errnoOf(error) === 'ENOENT') return [];
      throw error;
    });
    for (const name of names.filter((each) => each.startsWith(prefix))) {
      await rm(join(directory, name), { recursive: true, force: true });
    }
  }
}

async function setAside(path: string, reason: string, options: ScanOptions): Promise<void> {
  const { store, clock, rng, logger } = options;
  await endServersBelow(path, options);
  await mkdir(store.quarantine, { recursive: true });
  const name = path
    .slice(store.clusters.length + 1)
    .replaceAll('/', '-')
    .replace(/^\./, '');
  const seconds = Math.trunc(timestampToMs(clock.now()) / 1000);
  const target = join(store.quarantine, `${name}-${seconds}-${randomSuffix(rng)}`);
  await renameDurably({ from: path, to: target });
  logger.warning(`moved ${path} to ${target}: ${reason}`);
}

/** A folder is a data directory, or holds some: which those are, or may be. */
async function endServersBelow(path: string, options: DiscardOptions): Promise<readonly string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: unknown): Dirent[] => {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  });
  const isDataDirectory =
    DATA_DIRECTORY_NAME.test(basename(path)) || entries.some(({ name }) => name === 'PG_VERSION');
  const directories = isDataDirectory
    ? [path]
    : entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(path, name));
  for (const dataDirectory of directories) await endLeftovers({ ...options, dataDirectory });
  return directories.filter((directory) => DATA_DIRECTORY_NAME.test(basename(directory)));
}
