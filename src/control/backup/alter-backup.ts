/** ALTER BACKUP LATEST | 'path' IN 'collection' ADD NEW_KMS = ... WITH OLD_KMS = ... */
import { AppError, InputError } from '../../base/index.ts';
import { dataKeyOf, encodeEncryptionInfo, macsEqual } from '../../keys/index.ts';
import type { KmsKey } from '../../kms/index.ts';
import type { Statement } from '../../sql/index.ts';
import { openCollectionStore, putEncryptionInfo, readEncryptionInfo } from '../../timeline/index.ts';
import { chainFolderOf, chainName, lockWith, readKmsKeys, unlockWithKms } from './backup-keys.ts';
import { openCollection, selectBackup } from './collection.ts';
import { type Core, loggerOf } from '../core.ts';
import type { ExecuteContext } from '../contract.ts';
import { requirePrivilege } from '../privileges/privileges.ts';
import { type UseCase, askerOf, done } from '../use-case.ts';

type AlterBackup = Extract<Statement, { kind: 'alter_backup' }>;

/** Others may add keys at the same time: each takes the next ordinal, and who finds it taken begins anew. */
const ATTEMPTS_MAX = 5;

export const alterBackup: UseCase<AlterBackup> = {
  columns: () => undefined,
  refusedInTransaction: 'ALTER BACKUP',
  async run(core, statement, context) {
    const { session, signal } = context;
    await requirePrivilege(askerOf(core, context), {
      refusal: 'only users with the admin role are allowed to ALTER BACKUP',
    });
    const collection = await openCollection(core, statement.collection, context);
    const oldKeys = await readKmsKeys(core, statement.oldKms, context);
    const newKeys = await readKmsKeys(core, statement.newKms, context);
    const full = await selectBackup(core, { collection, selector: statement.from, signal });
    await core.options.collectionReader.chain({ collection, subdirectory: full, signal });
    const folder = await chainFolderOf(core, { collection, folder: full, signal });
    const store = openCollectionStore(collection, core.options);
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const change = await changeOf(core, { store, folder, oldKeys, newKeys }, context);
      if (change === null || (await putEncryptionInfo(store, { folder, ...change, signal }))) {
        const { virtualClusterId: id, virtualClusterName: name } = session;
        loggerOf(core, { id, name }).info(
          `KMS keys of ${chainName(folder)} in ${collection.displayUri} added by ${session.user}`,
        );
        return done('ALTER BACKUP');
      }
    }
    throw new AppError(
      'object_in_use',
      `others are adding keys to ${chainName(folder)} in ${collection.displayUri}`,
      {
        hint: 'try again',
      },
    );
  },
};

/** The next record of the chain; null when the keys are there already. */
async function changeOf(
  core: Core,
  options: {
    store: ReturnType<typeof openCollectionStore>;
    folder: string;
    oldKeys: readonly KmsKey[];
    newKeys: readonly KmsKey[];
  },
  { signal, onNotice }: ExecuteContext,
): Promise<{ readonly ordinal: number; readonly record: Uint8Array } | null> {
  const { store, folder, oldKeys, newKeys } = options;
  const { key } = core.options.cluster;
  const found = await readEncryptionInfo(store, { folder, key, signal });
  if (found === null) {
    throw new InputError('parameter_invalid', 'could not find or read encryption information', {
      detail: `${chainName(folder)} in ${store.displayUri} is not encrypted`,
    });
  }
  const { info, ordinal } = found;
  if (info.locks.kind !== 'kms') {
    throw new InputError(
      'parameter_invalid',
      `${chainName(folder)} was encrypted with a passphrase, not with KMS keys`,
      {
        hint: 'only backups that were encrypted with KMS keys take further ones',
      },
    );
  }
  const { locks } = info.locks;
  const secret = await unlockWithKms(locks, { keys: oldKeys, folder, isAppending: false, signal });
  const dataKey = dataKeyOf(secret);
  if (dataKey.id !== info.dataKeyId) {
    throw new AppError('backup_untrusted', `what opens ${chainName(folder)} is not its key`);
  }
  const added = newKeys.filter(({ id }) => locks.every(({ keyId }) => keyId !== id));
  for (const known of newKeys.filter((each) => !added.includes(each))) {
    onNotice({
      severity: 'NOTICE',
      sqlstate: '00000',
      message: `KMS key ${known.displayUri} opens ${chainName(folder)} already`,
    });
  }
  if (added.length === 0) return null;
  const [first, ...rest] = locks;
  for (const each of added) {
    const lock = await lockWith(each, dataKey, signal);
    // Somebody will rely on it when the old keys are gone.
    if (!macsEqual(await each.unwrap(lock.wrapped, { signal }), secret)) {
      throw new AppError('kms_refused', `KMS key ${each.displayUri} does not give back what it was given`);
    }
    rest.push(lock);
  }
  const record = encodeEncryptionInfo({ ...info, locks: { kind: 'kms', locks: [first, ...rest] } }, { key });
  return { ordinal: ordinal + 1, record };
}
