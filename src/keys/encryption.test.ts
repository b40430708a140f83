import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError, parseIncarnationId } from '../base/index.ts';
import { clusterKeyOf } from './cluster-key.ts';
import { dataKeyOf, objectKey, openSeal, seal } from './data-key.ts';
import { decodeEncryptionInfo, encodeEncryptionInfo, type EncryptionInfo } from './encryption-info.ts';
import { KDF_PARAMETERS, lockWithPassphrase, unlockWithPassphrase } from './passphrase.ts';

const key = clusterKeyOf(new Uint8Array(32).fill(7));
const dataKey = dataKeyOf(new Uint8Array(32).fill(9));
/** Counts, so that no two asked for are the same. */
const counting = () => {
  let next = 0;
  return (count: number) => new Uint8Array(count).fill((next += 1));
};
const FAST = { logN: 14, r: 8, p: 1 };

describe('keys of encrypted backups', () => {
  it('never change: what was encrypted must stay readable', () => {
    assert.equal(dataKey.id, 'abf0d2ced1ed2bb2ef39437451f59cd4');
    const derived = objectKey({
      dataKey,
      salt: new Uint8Array(32).fill(1),
      header: new Uint8Array(64).fill(2),
      path: '2026/01/02-030405.06/BACKUP_MANIFEST',
    });
    assert.equal(
      derived.export().toString('hex'),
      '54fbc8908dd2eec5cf8d2e97305877a7f0d2045ba173d8290c1213f9bf5c9a1d',
    );
  });

  it('open a seal in its own context alone, and only unchanged', () => {
    const sealed = seal(Buffer.from('secret'), {
      key: dataKey.secret,
      context: 'a',
      nonce: new Uint8Array(12),
    });
    const open = (bytes: Uint8Array, context = 'a', secret = dataKey.secret) =>
      openSeal(bytes, { key: secret, context });
    assert.equal(Buffer.from(open(sealed) ?? []).toString(), 'secret');
    assert.equal(open(sealed, 'b'), null);
    assert.equal(open(sealed, 'a', key.secret), null);
    assert.equal(open(sealed.subarray(1)), null);
    assert.equal(open(new Uint8Array(3)), null);
    for (let at = 0; at < sealed.length; at++) {
      const changed = Uint8Array.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ 1;
      assert.equal(open(changed), null, `byte ${at}`);
    }
  });
});

describe('a passphrase', () => {
  it('opens what it has locked, and nothing else does', async () => {
    for (const passphrase of ['x', 'ü'.repeat(5000)]) {
      const lock = await lockWithPassphrase(dataKey.secret, {
        passphrase,
        randomBytes: counting(),
        kdf: FAST,
      });
      assert.deepEqual(await unlockWithPassphrase(lock, { passphrase }), Buffer.from(dataKey.secret));
      assert.equal(await unlockWithPassphrase(lock, { passphrase: `${passphrase} ` }), null);
    }
  });

  it('costs what the documents say', async () => {
    assert.deepEqual(KDF_PARAMETERS, { logN: 16, r: 8, p: 2 });
    const lock = await lockWithPassphrase(dataKey.secret, { passphrase: 'x', randomBytes: counting() });
    assert.deepEqual(lock.kdf, KDF_PARAMETERS);
    assert.deepEqual(await unlockWithPassphrase(lock, { passphrase: 'x' }), Buffer.from(dataKey.secret));
  });
});

describe('the record of an encrypted chain', () => {
  const folder = '2026/01/02-030405.06';
  const name = `${folder}/ENCRYPTION-INFO`;
  const incarnation = parseIncarnationId('11111111-2222-4333-8444-555555555555');
  const kms: EncryptionInfo = {
    folder,
    incarnation,
    dataKeyId: dataKey.id,
    locks: {
      kind: 'kms',
      locks: [
        { keyId: 'a'.repeat(64), wrapped: Uint8Array.of(1, 2, 3) },
        { keyId: 'b'.repeat(64), wrapped: new Uint8Array(700).fill(5) },
      ],
    },
  };
  const passphrase: EncryptionInfo = {
    folder,
    incarnation,
    dataKeyId: dataKey.id,
    locks: {
      kind: 'passphrase',
      lock: { kdf: KDF_PARAMETERS, salt: new Uint8Array(32).fill(3), wrapped: new Uint8Array(60).fill(4) },
    },
  };
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  const plain = ({ locks, ...rest }: EncryptionInfo) => [
    rest,
    locks.kind === 'kms'
      ? locks.locks.map(({ keyId, wrapped }) => [keyId, hex(wrapped)])
      : [locks.lock.kdf, hex(locks.lock.salt), hex(locks.lock.wrapped)],
  ];

  it('is read as it was written', () => {
    for (const info of [kms, passphrase]) {
      const read = decodeEncryptionInfo(encodeEncryptionInfo(info, { key }), { key, folder, name });
      assert.deepEqual(plain(read), plain(info));
    }
  });

  it('is refused when any byte is another', () => {
    const record = encodeEncryptionInfo(passphrase, { key });
    for (let at = 0; at < record.length; at++) {
      const changed = Uint8Array.from(record);
      changed[at] = (changed[at] ?? 0) ^ 1;
      assert.throws(
        () => decodeEncryptionInfo(changed, { key, folder, name }),
        (error) => isAppError(error, 'data_corrupt'),
        `byte ${at}`,
      );
    }
  });

  it('is refused for another backup, and when another cluster has written it', () => {
    const record = encodeEncryptionInfo(kms, { key });
    const untrusted = (reason: RegExp) => (error: unknown) =>
      isAppError(error, 'backup_untrusted') && reason.test(error.message);
    assert.throws(
      () => decodeEncryptionInfo(record, { key, folder: '2026/01/02-030405.07', name }),
      untrusted(/it is of backup 2026\/01\/02-030405\.06$/),
    );
    const other = clusterKeyOf(new Uint8Array(32).fill(8));
    assert.throws(
      () => decodeEncryptionInfo(record, { key: other, folder, name }),
      untrusted(/it was signed with the key e272e990b9701532$/),
    );
    const forged = encodeEncryptionInfo(kms, { key: { id: key.id, secret: other.secret } });
    assert.throws(
      () => decodeEncryptionInfo(forged, { key, folder, name }),
      untrusted(/its signature is wrong$/),
    );
  });
});
