/**
 * Keys of other physical clusters whose backups are accepted here: files in the store, put there by who owns it. Read whenever they are
 * asked for, so that a node need not be started again.
 */
import { chown, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, errnoOf } from '../base/index.ts';
import { type ClusterKey, clusterKeyOf, formatKeyFile, parseKeyFile } from '../keys/index.ts';
import { syncDirectory, writeFileDurably } from './durable-files.ts';
import { storeLayout } from './store-layout.ts';

/** More physical clusters than anybody takes backups from. */
export const TRUSTED_KEYS_MAX = 1000;

/** The keys that were imported, by id. @throws InputError `parameter_invalid` naming a damaged file */
export async function readTrustedKeys(storeDirectory: string): Promise<readonly ClusterKey[]> {
  const { trustedKeys } = storeLayout(storeDirectory);
  const keys: ClusterKey[] = [];
  for (const name of await namesIn(trustedKeys)) {
    const path = join(trustedKeys, name);
    keys.push(parseKeyFile(await readFile(path), path));
  }
  return keys;
}

/** Accepts backups that were sealed with this key from now on. Durable when it returns; harmless when done before. */
export async function addTrustedKey(storeDirectory: string, key: ClusterKey): Promise<void> {
  const { root, trustedKeys } = await requireStore(storeDirectory);
  const made = await mkdir(trustedKeys, { recursive: true, mode: 0o700 });
  // The node may run as another user than who carries keys.
  const { uid, gid } = await stat(root);
  if (made !== undefined) await chown(trustedKeys, uid, gid);
  if ((await namesIn(trustedKeys)).length >= TRUSTED_KEYS_MAX) {
    throw new AppError('limit_exceeded', `there are already ${TRUSTED_KEYS_MAX} trusted keys`);
  }
  await writeFileDurably({
    path: join(trustedKeys, `${key.id}.key`),
    content: Buffer.from(formatKeyFile(key)),
    mode: 0o600,
    owner: { uid, gid },
  });
  await syncDirectory(root);
}

/** Backups that were sealed with it are accepted no more. False when it was not trusted. */
export async function removeTrustedKey(storeDirectory: string, id: string): Promise<boolean> {
  const { trustedKeys } = await requireStore(storeDirectory);
  if (!(await namesIn(trustedKeys)).includes(`${id}.key`)) return false;
  await rm(join(trustedKeys, `${id}.key`));
  await syncDirectory(trustedKeys);
  return true;
}

/** The key of the store itself, also while a node runs on it. @throws AppError `store_invalid` */
export async function readStoreKey(storeDirectory: string): Promise<ClusterKey> {
  const { clusterKey } = await requireStore(storeDirectory);
  try {
    return clusterKeyOf(await readFile(clusterKey));
  } catch (cause) {
    if (errnoOf(cause) === undefined) throw cause;
    throw new AppError('store_invalid', `the key of the store cannot be read: ${clusterKey}`, { cause });
  }
}

async function requireStore(directory: string) {
  const layout = storeLayout(directory);
  try {
    await stat(layout.storeRecord);
    return layout;
  } catch (cause) {
    if (errnoOf(cause) === undefined) throw cause;
    throw new AppError('store_invalid', `${directory} is no store`, {
      cause,
      hint: 'give the folder that the node was started with: --store=DIR',
    });
  }
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return (await readdir(directory)).filter((name) => /^[0-9a-f]{16}\.key$/.test(name)).toSorted();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
