import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import type { Rng } from '../../base/index.ts';
import { memoryBlobStore, parseBlobKey, readBlob } from '../../blob/index.ts';
import { clusterKeyOf, dataKeyOf, decodeEncryptionInfo, unlockWithPassphrase } from '../../keys/index.ts';
import { sealedBlobStore } from './sealed-store.ts';

const { signal } = new AbortController();
const golden = (name: string) => readFileSync(new URL(`../golden/${name}`, import.meta.url));
/** Two chunks, the second of 100 bytes. */
const CONTENT = new Uint8Array(64 * 1024 + 100).map((_, index) => (index * 7 + (index >> 9)) % 256);
const SECRET = new Uint8Array(32).fill(9);
const FOLDER = '2026/01/02-030405.06';
const PATH = parseBlobKey(`${FOLDER}/data/1-0.pack`);
const CLUSTER_KEY = clusterKeyOf(new Uint8Array(32).fill(7));
const PASSPHRASE = 'a golden passphrase';

const storeOf = (inner = memoryBlobStore({ displayUri: 'memory://golden' })) => ({
  inner,
  store: sealedBlobStore({
    inner,
    dataKey: dataKeyOf(SECRET),
    isSealed: () => true,
    rng: { bytes: (count: number) => new Uint8Array(count).fill(5) } as Rng,
  }),
});

describe('encrypted backups of the first release that made them', () => {
  it('stay readable', async () => {
    const { inner, store } = storeOf();
    await inner.put(PATH, golden('sealed-1.bin'), { signal });
    const read = await readBlob(store, PATH, { bytesMax: CONTENT.length, signal });
    assert.ok(Buffer.from(read).equals(CONTENT));
  });

  it('are written in the same way', async () => {
    const { inner, store } = storeOf();
    await store.put(PATH, CONTENT, { signal });
    const written = await readBlob(inner, PATH, { bytesMax: 2 * CONTENT.length, signal });
    assert.ok(golden('sealed-1.bin').equals(written));
  });

  it('are what the page of the format says, read by another library', async () => {
    const bytes = golden('sealed-1.bin');
    const header = bytes.subarray(0, 64);
    const { subtle } = webcrypto;
    const root = await subtle.importKey('raw', SECRET, 'HKDF', false, ['deriveKey', 'deriveBits']);
    const derivation = (salt: Uint8Array, info: Uint8Array) => ({
      name: 'HKDF',
      hash: 'SHA-256',
      salt,
      info,
    });
    const id = await subtle.deriveBits(
      derivation(new Uint8Array(0), Buffer.from('atoll 1 data key id')),
      root,
      128,
    );
    assert.equal(header.toString('latin1', 0, 8), 'ATOLSEAL');
    assert.deepEqual(
      [header.readUInt16LE(8), header.readUInt16LE(10), header.readUInt32LE(12)],
      [1, 0, 65_536],
    );
    assert.deepEqual(header.subarray(16, 32), Buffer.from(id));
    const info = Buffer.concat([Buffer.from('atoll 1 sealed object\0'), header, Buffer.from(PATH)]);
    const algorithm = { name: 'AES-GCM', length: 256 };
    const key = await subtle.deriveKey(derivation(header.subarray(32, 64), info), root, algorithm, false, [
      'decrypt',
    ]);
    const open = (chunk: Uint8Array, nonce: readonly number[]) =>
      subtle.decrypt(
        { name: 'AES-GCM', iv: Uint8Array.from([...nonce, 0, 0, 0, 0, 0, 0, 0]) },
        key,
        Uint8Array.from(chunk),
      );
    const first = await open(bytes.subarray(64, 64 + 65_552), [0, 0, 0, 0, 0]);
    const second = await open(bytes.subarray(64 + 65_552), [1, 0, 0, 0, 1]);
    assert.ok(Buffer.concat([Buffer.from(first), Buffer.from(second)]).equals(CONTENT));
  });

  it('keep their key where it is found', async () => {
    const name = `${FOLDER}/ENCRYPTION-INFO`;
    const info = decodeEncryptionInfo(golden('encryption-info-1'), {
      key: CLUSTER_KEY,
      folder: FOLDER,
      name,
    });
    assert.equal(info.dataKeyId, dataKeyOf(SECRET).id);
    assert.ok(info.locks.kind === 'passphrase');
    assert.deepEqual(
      await unlockWithPassphrase(info.locks.lock, { passphrase: PASSPHRASE }),
      Buffer.from(SECRET),
    );
  });
});
