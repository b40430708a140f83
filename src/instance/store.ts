/** The store: a folder that one daemon at a time owns, with an identity and a key of its own. */
import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { AppError, CorruptError, errnoOf, isAppError, type Rng, toError } from '../base/index.ts';
import { type ClusterKey, clusterKeyOf, parseKeyFile } from '../keys/index.ts';
import { syncDirectory, withDiskFullNamed, writeFileDurably } from './durable-files.ts';
import { makeDirectories, removeEmpty } from './make-directories.ts';
import { type RecordFormat, readRecord, writeRecord } from './sealed-record.ts';
import { type StoreLayout, storeLayout } from './store-layout.ts';
import { lockStore, type StoreLock } from './store-lock.ts';
import { isRoot } from './users.ts';

const CLUSTER_KEY_BYTES = 32;
/** Socket addresses hold 107 bytes and a zero on Linux, 103 on macOS. */
const SOCKET_PATH_BYTES_MAX = process.platform === 'darwin' ? 103 : 107;
/** `/run/<id>p/.s.PGSQL.5432` with an id of six digits. */
const SOCKET_SUFFIX_BYTES = 26;

/** What a store may hold before its record is written: what a crash while it was made leaves, and the node's log. */
const EARLY_ENTRIES = [
  'lock',
  'lock-holder',
  'lock-holder.tmp',
  'cluster-key',
  'cluster-key.tmp',
  'STORE.tmp',
  'logs',
  'lost+found',
];

const bodySchema = z.strictObject({
  clusterId: z.uuid(),
  /** The id of the cluster key; 32 digits in stores of the first days, which had an id of their own for it. */
  clusterKeyId: z.string().regex(/^(?:[0-9a-f]{16}|[0-9a-f]{32})$/),
  /** The OS user who made the store; no other can run its instances. */
  ownerUid: z.int().nonnegative(),
});

export const STORE_FORMAT: RecordFormat<z.infer<typeof bodySchema>> = {
  format: 'atoll-store',
  version: 1,
  body: bodySchema,
};

/** An opened store. It stays locked until `close` or the end of the process. */
export class Store {
  readonly layout: StoreLayout;
  readonly clusterId: string;
  readonly clusterKey: ClusterKey;
  /** True when this open made it. */
  readonly isNew: boolean;
  readonly #lock: StoreLock;

  private constructor(facts: {
    layout: StoreLayout;
    clusterId: string;
    clusterKey: ClusterKey;
    isNew: boolean;
    lock: StoreLock;
  }) {
    this.layout = facts.layout;
    this.clusterId = facts.clusterId;
    this.clusterKey = facts.clusterKey;
    this.isNew = facts.isNew;
    this.#lock = facts.lock;
  }

  /**
   * Opens the store in a folder, or makes one where the folder is missing or empty. Other users must be able to pass through one that is shared
   * with instances of users of their own.
   * @throws AppError `store_in_use`, `store_invalid`, `format_unsupported`
   * @throws CorruptError when its record or key is damaged
   */
  static async open(options: { directory: string; rng: Rng; isShared?: boolean }): Promise<Store> {
    const directory = resolve(options.directory);
    try {
      return await Store.#open(directory, options);
    } catch (error) {
      if (errnoOf(error) === undefined || isAppError(error)) throw error;
      const full = withDiskFullNamed(error, `opening store ${directory}`);
      if (isAppError(full)) throw full;
      throw new AppError('store_invalid', `store ${directory} cannot be opened: ${toError(error).message}`, {
        cause: error,
        hint: 'the store must be a folder that belongs to the user atoll runs as',
      });
    }
  }

  static async #open(
    directory: string,
    { rng, isShared = isRoot() }: { rng: Rng; isShared?: boolean },
  ): Promise<Store> {
    const made = await makeDirectories(directory);
    const layout = await usableLayout(directory, { isShared }).catch(async (error: unknown) => {
      await removeEmpty(made);
      throw error;
    });
    for (const folder of made) await syncDirectory(dirname(folder));
    const lock = lockStore(layout);
    try {
      const existing = await readStoreRecord(layout);
      const isNew = existing === undefined;
      const record = existing ?? (await initialise(layout, rng));
      const clusterKey = await readClusterKey(layout, record.clusterKeyId);
      for (const directory of [layout.engines, layout.templates, layout.sockets, layout.clusters]) {
        await ensureDirectory(directory, isShared ? 0o711 : 0o700);
      }
      for (const directory of [layout.logs, layout.quarantine]) await ensureDirectory(directory, 0o700);
      return new Store({ layout, clusterId: record.clusterId, clusterKey, isNew, lock });
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  close(): void {
    this.#lock.release();
  }
}

/** The layout of a folder that may be, or become, a store. Nothing is in the folder that was not before. */
export async function usableLayout(
  directory: string,
  { isShared }: { readonly isShared: boolean },
): Promise<StoreLayout> {
  // Processes are recognised by the folder they work in, which the kernel tells without symbolic links.
  const layout = storeLayout(await realpath(directory));
  assertShortSocketPaths(layout);
  await assertNotForeign(layout);
  await chmod(layout.root, isShared ? 0o711 : 0o700);
  if (isShared) await assertReachable(layout.root);
  return layout;
}

function assertShortSocketPaths(layout: StoreLayout): void {
  const bytes = Buffer.byteLength(layout.root) + SOCKET_SUFFIX_BYTES;
  if (bytes <= SOCKET_PATH_BYTES_MAX) return;
  throw new AppError('store_invalid', `the path of store ${layout.root} is too long for Unix sockets in it`, {
    hint: `use a store whose absolute path has at most ${SOCKET_PATH_BYTES_MAX - SOCKET_SUFFIX_BYTES} bytes`,
  });
}

async function assertNotForeign(layout: StoreLayout): Promise<void> {
  const names = await readdir(layout.root);
  if (names.includes('STORE')) return;
  const foreign = names.find((name) => !EARLY_ENTRIES.includes(name));
  if (foreign === undefined) return;
  throw new AppError('store_invalid', `${layout.root} is not a store of Atoll and not empty`, {
    detail: `it holds "${foreign}" and no file STORE`,
    hint: 'name an empty or new folder with --store',
  });
}

/** As root, instances run under other users, who must be able to pass through every folder above theirs. */
async function assertReachable(path: string): Promise<void> {
  for (let at = path; ; at = dirname(at)) {
    if (((await stat(at)).mode & 0o001) === 0) {
      throw new AppError(
        'store_invalid',
        `users other than root cannot pass through ${at} to store ${path}`,
        {
          detail: 'as root, every virtual cluster runs under an unprivileged user of its own',
          hint: `choose another place with --store, for example /var/lib/atoll, or run: chmod o+x ${at}`,
        },
      );
    }
    if (at === dirname(at)) return;
  }
}

async function readStoreRecord(layout: StoreLayout): Promise<z.infer<typeof bodySchema> | undefined> {
  try {
    const record = await readRecord(STORE_FORMAT, layout.storeRecord);
    requireOwner(layout, { ownerUid: record.ownerUid, uid: process.getuid?.() });
    return record;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    if (!isAppError(error, 'data_corrupt')) throw error;
    throw new CorruptError(error.message, { cause: error.cause, hint: putBack('STORE') });
  }
}

/** @throws AppError `store_invalid` */
export function requireOwner(
  { root }: StoreLayout,
  { ownerUid, uid }: { readonly ownerUid: number; readonly uid: number | undefined },
): void {
  if (ownerUid === uid) return;
  throw new AppError('store_invalid', `store ${root} belongs to user ${ownerUid}`, {
    hint: 'start atoll as the user who made the store; as root, name that user with --user',
  });
}

/** Neither can be made anew: the one knows the other, and backups are signed with the key. */
function putBack(name: string): string {
  return `put the file ${name} back from a copy of the store folder; the virtual clusters in vc/ have not been touched`;
}

/**
 * The key first, the record last: without the record there is no store yet, and all of this may run again. A key that is there already, put there
 * by whoever wants to restore what was sealed with it, becomes the store's.
 */
async function initialise(layout: StoreLayout, rng: Rng): Promise<z.infer<typeof bodySchema>> {
  const secret = (await readGivenKey(layout)) ?? rng.bytes(CLUSTER_KEY_BYTES);
  await writeFileDurably({ path: layout.clusterKey, content: secret, mode: 0o600 });
  const record = {
    clusterId: randomUuid(rng),
    clusterKeyId: clusterKeyOf(secret).id,
    ownerUid: process.getuid?.() ?? 0,
  };
  await writeRecord(STORE_FORMAT, { path: layout.storeRecord, body: record, mode: 0o600 });
  return record;
}

async function readGivenKey({ root, clusterKey }: StoreLayout): Promise<Uint8Array | null> {
  try {
    return parseKeyFile(await readFile(clusterKey), clusterKey).secret;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    if (!isAppError(error)) throw error;
    throw new CorruptError(error.message, {
      cause: error,
      hint: `put a whole copy there, or remove it: then store ${root} gets a key of its own`,
    });
  }
}

async function readClusterKey(layout: StoreLayout, expectedId: string): Promise<ClusterKey> {
  const hint = putBack('cluster-key');
  let secret: Uint8Array;
  try {
    secret = await readFile(layout.clusterKey);
  } catch (cause) {
    const what = errnoOf(cause) === 'ENOENT' ? 'is missing' : 'cannot be read';
    throw new CorruptError(`the key of store ${layout.root} ${what}: ${layout.clusterKey}`, { cause, hint });
  }
  const key = clusterKeyOf(secret);
  const id = expectedId.length === key.id.length ? key.id : earlyKeyId(secret);
  if (secret.length !== CLUSTER_KEY_BYTES || id !== expectedId) {
    throw new CorruptError(`${layout.clusterKey} is not the key of store ${layout.root}`, { hint });
  }
  return key;
}

/** What the record of a store of the first days holds. */
function earlyKeyId(secret: Uint8Array): string {
  return createHash('sha256').update('atoll cluster key id\0').update(secret).digest('hex').slice(0, 32);
}

async function ensureDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path, { recursive: true });
  await chmod(path, mode);
}

/** A random UUID of version 4. */
export function randomUuid(rng: Rng): string {
  const bytes = Uint8Array.from(rng.bytes(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Buffer.from(bytes).toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
