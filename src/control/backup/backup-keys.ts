/** Passphrases and KMS keys of backups: what statements say, and the chains of backups that they begin and open. */
import {
  AppError,
  type IncarnationId,
  InputError,
  isAppError,
  type Mutex,
  type Rng,
} from '../../base/index.ts';
import {
  type ClusterKey,
  DATA_KEY_BYTES,
  type DataKey,
  dataKeyOf,
  encodeEncryptionInfo,
  type EncryptionInfo,
  type EncryptionLocks,
  type KmsLock,
  lockWithPassphrase,
  unlockWithPassphrase,
} from '../../keys/index.ts';
import {
  type KmsKey,
  openKmsKey,
  parseKmsUri,
  usesImplicitKmsRights,
  usesNodeKmsCredentials,
} from '../../kms/index.ts';
import { isList, type Option, type Value } from '../../sql/index.ts';
import { type CollectionLocation, type CollectionReader, CONTINUOUS_CHAIN } from '../../timeline/index.ts';
import { requireConnectionPrivilege } from '../connections/connection-access.ts';
import type { ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { requirePrivilege } from '../privileges/privileges.ts';
import { parseExternalUri } from './storage-location.ts';
import { askerOf } from '../use-case.ts';
import { textValue } from '../values.ts';

/** What a statement gives to encrypt with, or to open what is encrypted. */
export type BackupKeys =
  | { readonly kind: 'none' }
  | { readonly kind: 'passphrase'; readonly passphrase: string }
  | { readonly kind: 'kms'; readonly keys: readonly [KmsKey, ...KmsKey[]] };

/** What these options are called, for the statements that know them. */
export const KEY_OPTIONS = ['encryption_passphrase', 'kms'] as const;

/**
 * Reads the options of a statement, for who may use them. Asks no service yet.
 * @throws InputError `parameter_invalid`, `insufficient_privilege`, `object_not_found`, `feature_not_supported`
 */
export async function readBackupKeys(
  core: Core,
  options: readonly Option[],
  context: ExecuteContext,
): Promise<BackupKeys> {
  const valueOf = (name: (typeof KEY_OPTIONS)[number]) =>
    options.find((option) => option.name === name)?.value;
  const [passphrase, kms] = [valueOf('encryption_passphrase'), valueOf('kms')];
  if (passphrase !== undefined && kms !== undefined) {
    throw new InputError('parameter_invalid', 'cannot have both encryption_passphrase and kms option set', {
      hint: 'give a passphrase, or KMS keys',
    });
  }
  if (kms !== undefined) {
    return { kind: 'kms', keys: await readKmsKeys(core, isList(kms) ? kms : [kms], context) };
  }
  if (passphrase === undefined || isList(passphrase)) return { kind: 'none' };
  return passphraseKeys(textValue(passphrase, 'encryption_passphrase'));
}

/** @throws InputError `parameter_invalid` */
export function passphraseKeys(passphrase: string): BackupKeys {
  if (passphrase !== '') return { kind: 'passphrase', passphrase };
  throw new InputError('parameter_invalid', 'the encryption passphrase is empty', {
    hint: 'leave encryption_passphrase out for a backup that is not encrypted',
  });
}

/** Each key once, however often it is named. @throws as `readBackupKeys` */
export async function readKmsKeys(
  core: Core,
  values: readonly Value[],
  context: ExecuteContext,
): Promise<readonly [KmsKey, ...KmsKey[]]> {
  const keys = new Map<string, KmsKey>();
  for (const value of values) {
    const key = await readKmsKey(core, textValue(value, 'the URI of a KMS key'), context);
    if (!keys.has(key.id)) keys.set(key.id, key);
  }
  const [first, ...others] = keys.values();
  if (first === undefined) throw new InputError('parameter_invalid', 'no KMS key is named');
  return [first, ...others];
}

async function readKmsKey(core: Core, uri: string, context: ExecuteContext): Promise<KmsKey> {
  const reference = parseExternalUri(uri);
  const asker = askerOf(core, context);
  if (reference === undefined) {
    await requireKmsAccess(core, uri, context);
    return openKmsKey(parseKmsUri(uri), core.options);
  }
  const { name, path } = reference;
  const connection = await requireConnectionPrivilege(asker, { name, privilege: 'USAGE' });
  if (connection.type !== 'KMS' || path !== '') {
    throw new InputError('parameter_invalid', `external connection "${name}" is not of a KMS key`, {
      hint: 'name one that was created with the URI of a KMS key, without a path behind the name',
    });
  }
  requireNodeCredentials(core, connection.uri);
  return openKmsKey(parseKmsUri(connection.uri), core.options);
}

/** What naming a key itself takes. @throws InputError `insufficient_privilege`, `feature_not_supported`, `parameter_invalid` */
export async function requireKmsAccess(core: Core, uri: string, context: ExecuteContext): Promise<void> {
  requireNodeCredentials(core, uri);
  if (!usesImplicitKmsRights(parseKmsUri(uri))) return;
  await requirePrivilege(askerOf(core, context), {
    anyOf: ['EXTERNALIOIMPLICITACCESS'],
    refusal:
      'only users with the admin role or the EXTERNALIOIMPLICITACCESS system privilege are allowed to access the specified KMS URI',
  });
}

function requireNodeCredentials(core: Core, uri: string): void {
  if (!core.options.implicitCredentialsDisabled || !usesNodeKmsCredentials(parseKmsUri(uri))) return;
  throw new InputError('feature_not_supported', 'implicit credentials are disabled on this node', {
    hint: 'give the credentials in the URI (AUTH=specified), or start the node without --external-io-disable-implicit-credentials',
  });
}

/** A data key that nobody had before, and what gets at it. */
export interface NewDataKey {
  readonly dataKey: DataKey;
  readonly locks: EncryptionLocks;
}

/** Makes a data key and locks it with all the keys. @throws AppError `kms_refused`, `kms_unavailable` */
export async function lockNewDataKey(
  keys: Exclude<BackupKeys, { kind: 'none' }>,
  options: { readonly rng: Rng; readonly derivations: Mutex; readonly signal: AbortSignal },
): Promise<NewDataKey> {
  const { rng, derivations, signal } = options;
  const dataKey = dataKeyOf(rng.bytes(DATA_KEY_BYTES));
  if (keys.kind === 'passphrase') {
    const randomBytes = (count: number) => rng.bytes(count);
    const lock = await derivations.run(() => lockWithPassphrase(dataKey.secret, { ...keys, randomBytes }));
    return { dataKey, locks: { kind: 'passphrase', lock } };
  }
  const [first, ...others] = await Promise.all(keys.keys.map((key) => lockWith(key, dataKey, signal)));
  if (first === undefined) throw new TypeError('a tuple of one or more has a first');
  return { dataKey, locks: { kind: 'kms', locks: [first, ...others] } };
}

export async function lockWith(key: KmsKey, { secret }: DataKey, signal: AbortSignal): Promise<KmsLock> {
  return { keyId: key.id, wrapped: await key.wrap(secret, { signal }) };
}

/** The record of a chain that begins. */
export function encodeNewInfo(
  { dataKey, locks }: NewDataKey,
  options: {
    readonly folder: string;
    readonly incarnation: IncarnationId;
    readonly key: ClusterKey;
  },
): Uint8Array {
  const { folder, incarnation, key } = options;
  return encodeEncryptionInfo({ folder, incarnation, dataKeyId: dataKey.id, locks }, { key });
}

export interface ChainQuestion {
  readonly collection: CollectionLocation;
  /** The folder of the full backup that the chain begins with; `CONTINUOUS_CHAIN` for all of a continuous backup. */
  readonly folder: string;
  readonly keys: BackupKeys;
  /** An incremental backup takes the keys of its full backup, or some of them, and no others. */
  readonly isAppending?: boolean;
  readonly signal: AbortSignal;
}

/** How errors call it. */
export function chainName(folder: string): string {
  return folder === CONTINUOUS_CHAIN ? 'the continuous backup' : `backup ${folder}`;
}

function addedName(folder: string): string {
  return folder === CONTINUOUS_CHAIN ? 'a continuous backup' : 'a chain of backups';
}

/** Which chain what lies in this folder of a collection belongs to. */
export async function chainFolderOf(
  { options }: { readonly options: { readonly collectionReader: Pick<CollectionReader, 'isContinuous'> } },
  { collection, folder, signal }: Pick<ChainQuestion, 'collection' | 'folder' | 'signal'>,
): Promise<string> {
  const isContinuous = await options.collectionReader.isContinuous(collection, { signal });
  return isContinuous ? CONTINUOUS_CHAIN : folder;
}

/** What reading the key of a chain takes: also without a cluster. */
export interface KeyReader {
  readonly derivations: Mutex;
  readonly options: {
    readonly collectionReader: Pick<CollectionReader, 'encryptionInfo'>;
    readonly cluster: { readonly key: ClusterKey };
  };
}

/**
 * The data key of a chain; null when it is not encrypted.
 * @throws InputError `parameter_invalid` for a key that is missing, wrong, or not needed; AppError `kms_refused`, `kms_unavailable`,
 * `backup_untrusted`
 */
export async function unlockChain(core: KeyReader, question: ChainQuestion): Promise<DataKey | null> {
  const { collection, folder, keys, signal } = question;
  const { cluster, collectionReader } = core.options;
  const request = { collection, folder, key: cluster.key, signal };
  const info = await collectionReader.encryptionInfo(request);
  if (info === null) {
    if (keys.kind === 'none') return null;
    throw new InputError('parameter_invalid', 'could not find or read encryption information', {
      detail: `${chainName(folder)} in ${collection.displayUri} is not encrypted`,
      hint: 'leave encryption_passphrase and kms out',
    });
  }
  const secret = await unlock(core, info, question);
  const dataKey = secret.length === DATA_KEY_BYTES ? dataKeyOf(secret) : null;
  if (dataKey?.id === info.dataKeyId) return dataKey;
  throw new AppError('backup_untrusted', `what opens ${chainName(folder)} is not its key`);
}

async function unlock(
  { derivations }: KeyReader,
  info: EncryptionInfo,
  question: ChainQuestion,
): Promise<Uint8Array> {
  const { folder, keys, isAppending = false, signal } = question;
  const { locks } = info;
  if (keys.kind === 'none') {
    throw new InputError('parameter_invalid', `${chainName(folder)} is encrypted`, {
      hint:
        locks.kind === 'passphrase'
          ? 'give its passphrase: WITH encryption_passphrase = ...'
          : 'give one of its KMS keys: WITH kms = ...',
    });
  }
  if (locks.kind === 'passphrase') {
    if (keys.kind !== 'passphrase') throw otherKind(folder, 'a passphrase', 'KMS keys');
    const secret = await derivations.run(() => unlockWithPassphrase(locks.lock, keys));
    if (secret !== null) return secret;
    throw new InputError('parameter_invalid', `the passphrase is not that of ${chainName(folder)}`, {
      hint: isAppending ? `${addedName(folder)} takes the passphrase that it began with` : 'try another',
    });
  }
  if (keys.kind !== 'kms') throw otherKind(folder, 'KMS keys', 'a passphrase');
  return unlockWithKms(locks.locks, { keys: keys.keys, folder, isAppending, signal });
}

function otherKind(folder: string, used: string, given: string): InputError {
  return new InputError(
    'parameter_invalid',
    `${chainName(folder)} was encrypted with ${used}, not with ${given}`,
    {
      hint: `give ${used === 'a passphrase' ? 'encryption_passphrase' : 'kms'} instead`,
    },
  );
}

/** Any one that is available is enough: a region may be lost. */
export async function unlockWithKms(
  locks: readonly KmsLock[],
  options: {
    readonly keys: readonly KmsKey[];
    readonly folder: string;
    readonly isAppending: boolean;
    readonly signal: AbortSignal;
  },
): Promise<Uint8Array> {
  const { keys, folder, isAppending, signal } = options;
  const lockOf = (key: KmsKey) => locks.find(({ keyId }) => keyId === key.id);
  const unknown = keys.find((key) => lockOf(key) === undefined);
  if (unknown !== undefined && (isAppending || keys.every((key) => lockOf(key) === undefined))) {
    throw new InputError(
      'parameter_invalid',
      `KMS key ${unknown.displayUri} is none of ${chainName(folder)}`,
      {
        hint: isAppending
          ? `${addedName(folder)} takes the KMS keys that it began with, or some of them; ALTER BACKUP adds further ones`
          : 'name one that it was encrypted with, as it was named then',
      },
    );
  }
  const failures: unknown[] = [];
  for (const key of keys) {
    const lock = lockOf(key);
    if (lock === undefined) continue;
    try {
      return await key.unwrap(lock.wrapped, { signal });
    } catch (error) {
      if (!isAppError(error, 'kms_refused', 'kms_unavailable')) throw error;
      failures.push(error);
    }
  }
  throw failures[0];
}
