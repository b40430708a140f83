/** The chain that a statement works on, with its key. */
import { CorruptError, type IncarnationId, isAppError, required } from '../../base/index.ts';
import type { DataKey } from '../../keys/index.ts';
import type { BackupSelector } from '../../sql/index.ts';
import { type CollectionLocation, CONTINUOUS_CHAIN } from '../../timeline/index.ts';
import {
  type BackupKeys,
  type ChainQuestion,
  chainFolderOf,
  encodeNewInfo,
  lockNewDataKey,
  type NewDataKey,
  unlockChain,
} from './backup-keys.ts';
import { withChain } from './chain-encryption.ts';
import { selectBackup } from './collection.ts';
import type { Core } from '../core.ts';
import { recordedUri } from './storage-location.ts';

/**
 * The collection with the key of the chain that begins in `folder`, or of the continuous backup that it is part of; as it is when that is not
 * encrypted.
 * @throws as `unlockChain`
 */
export async function openChain(core: Core, question: ChainQuestion): Promise<CollectionLocation> {
  const { collection } = question;
  const folder = await chainFolderOf(core, question);
  const dataKey = await unlockChain(core, { ...question, folder });
  return dataKey === null ? collection : attach(core, collection, { folder, dataKey, info: null });
}

/**
 * The collection of a continuous backup with the key of all of it: a new one where nothing is yet.
 * @throws as `unlockChain` for keys that it did not begin with; CorruptError when what opens it is gone
 */
export async function openContinuous(
  core: Core,
  options: {
    collection: CollectionLocation;
    keys: BackupKeys;
    /** The life of the data that is served. */
    incarnation: IncarnationId;
    signal: AbortSignal;
  },
): Promise<CollectionLocation> {
  const { collection, keys, incarnation, signal } = options;
  if (keys.kind === 'none') return collection;
  const { collectionReader, cluster, rng } = core.options;
  const folder = CONTINUOUS_CHAIN;
  const question = { collection, folder, key: cluster.key, signal };
  if ((await collectionReader.encryptionInfo(question)) !== null) {
    const dataKey = await unlockChain(core, { ...question, keys, isAppending: true });
    return attach(core, collection, { folder, dataKey: required(dataKey, 'a data key'), info: null });
  }
  if ((await collectionReader.continuousForm(collection, { signal })) === 'encrypted') {
    throw new CorruptError(`${collection.displayUri} lacks what opens it: metadata/ENCRYPTION-INFO`, {
      hint: 'put the object back, or name another collection',
    });
  }
  const made = await lockNewDataKey(keys, { rng, derivations: core.derivations, signal });
  const info = encodeNewInfo(made, { folder, incarnation, key: cluster.key });
  return attach(core, collection, { folder, dataKey: made.dataKey, info });
}

/**
 * The keys of one BACKUP. Services for keys and passphrases take their time, which nobody else shall wait for: each question is asked once,
 * and before the place of the backup is chosen.
 */
export class ChainKeys {
  readonly #core: Core;
  readonly #collection: CollectionLocation;
  readonly #keys: BackupKeys;
  readonly #onKmsFailure: () => void;
  readonly #signal: AbortSignal;
  readonly #unlocked = new Map<string, Promise<DataKey | null>>();
  #locked: Promise<NewDataKey> | undefined;

  constructor(
    core: Core,
    options: {
      collection: CollectionLocation;
      keys: BackupKeys;
      /** Told when a service for keys does not give a key. */
      onKmsFailure: () => void;
      signal: AbortSignal;
    },
  ) {
    this.#core = core;
    this.#collection = options.collection;
    this.#keys = options.keys;
    this.#onKmsFailure = options.onKmsFailure;
    this.#signal = options.signal;
  }

  /** Asks what will probably be needed. What goes wrong is told when it is needed. */
  async prepare(appendTo: BackupSelector | undefined): Promise<void> {
    if (this.#keys.kind === 'none') return;
    try {
      if (appendTo === undefined) await this.#lock(this.#keys);
      else {
        const options = { collection: this.#collection, selector: appendTo, signal: this.#signal };
        await this.#unlock(await selectBackup(this.#core, options));
      }
    } catch (error) {
      if (!isAppError(error) || isAppError(error, 'cancelled')) throw error;
    }
  }

  /** For a full backup, of this life of the data, in this folder. @throws AppError `kms_refused`, `kms_unavailable` */
  async begin(folder: string, incarnation: IncarnationId): Promise<CollectionLocation> {
    if (this.#keys.kind === 'none') return this.#collection;
    const made = await this.#lock(this.#keys);
    const info = encodeNewInfo(made, { folder, incarnation, key: this.#core.options.cluster.key });
    return attach(this.#core, this.#collection, { folder, dataKey: made.dataKey, info });
  }

  /** For what is added to the full backup in this folder. @throws as `unlockChain` */
  async open(folder: string): Promise<CollectionLocation> {
    const dataKey = await this.#unlock(folder);
    if (dataKey === null) return this.#collection;
    return attach(this.#core, this.#collection, { folder, dataKey, info: null });
  }

  #lock(keys: Exclude<BackupKeys, { kind: 'none' }>): Promise<NewDataKey> {
    this.#locked ??= this.#watched(
      lockNewDataKey(keys, {
        rng: this.#core.options.rng,
        derivations: this.#core.derivations,
        signal: this.#signal,
      }),
    );
    return this.#locked;
  }

  #unlock(folder: string): Promise<DataKey | null> {
    const known = this.#unlocked.get(folder);
    if (known !== undefined) return known;
    const asked = this.#watched(
      unlockChain(this.#core, {
        collection: this.#collection,
        folder,
        keys: this.#keys,
        isAppending: true,
        signal: this.#signal,
      }),
    );
    this.#unlocked.set(folder, asked);
    return asked;
  }

  async #watched<T>(asked: Promise<T>): Promise<T> {
    try {
      return await asked;
    } catch (error) {
      if (isAppError(error, 'kms_unavailable', 'kms_refused')) this.#onKmsFailure();
      throw error;
    }
  }
}

function attach(
  { options }: Core,
  collection: CollectionLocation,
  chain: { folder: string; dataKey: DataKey; info: Uint8Array | null },
): CollectionLocation {
  const { cluster, rng } = options;
  return withChain(collection, { chain, uri: recordedUri(collection), key: cluster.key, rng });
}
