import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import type { IncarnationId, Lsn, VirtualClusterId, VirtualClusterName } from '../base/index.ts';
import type { InstanceIdentity } from './contract.ts';
import { IDENTITY_FORMAT, readIdentity, writeIdentity } from './identity.ts';
import { readRecord } from './sealed-record.ts';
import { STORE_FORMAT } from './store.ts';

let directory = '';
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'atoll-identity-'));
});
after(() => rm(directory, { recursive: true }));

const IDENTITY: InstanceIdentity = {
  virtualClusterId: 3 as VirtualClusterId,
  virtualClusterName: 'main' as VirtualClusterName,
  incarnation: '6d6b3fb2-6f0a-4dd2-9b2f-0d3a1f8f4a11' as IncarnationId,
  parentIncarnation: null,
  forkLsn: null,
  systemIdentifier: 18446744073709551615n,
  engineMajor: 18,
  uid: 700003,
};

test('reads back what it wrote', async () => {
  const uuid = fc.uuid().map((text) => text as IncarnationId);
  const anyIdentity: fc.Arbitrary<InstanceIdentity> = fc.record(
    {
      virtualClusterId: fc.integer({ min: 1 }).map((id) => id as VirtualClusterId),
      virtualClusterName: fc
        .stringMatching(/^[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?$/)
        .map((name) => name as VirtualClusterName),
      incarnation: uuid,
      parentIncarnation: fc.option(uuid),
      forkLsn: fc.option(fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }).map((lsn) => lsn as Lsn)),
      systemIdentifier: fc.bigInt({ min: 1n, max: 0xffff_ffff_ffff_ffffn }),
      engineMajor: fc.integer({ min: 1, max: 99 }),
      uid: fc.option(fc.integer({ min: 1 })),
    },
    { noNullPrototype: true },
  );
  await fc.assert(
    fc.asyncProperty(anyIdentity, async (identity) => {
      await writeIdentity(directory, identity);
      assert.deepEqual(await readIdentity(directory), identity);
    }),
    { numRuns: 30 },
  );
});

test('refuses a change of any character', async () => {
  await writeIdentity(directory, IDENTITY);
  const path = join(directory, 'identity.json');
  const text = await readFile(path, 'utf8');
  const changed = fc.tuple(fc.nat(text.length - 2), fc.stringMatching(/^[!-~]$/));
  await fc.assert(
    fc.asyncProperty(changed, async ([at, character]) => {
      const forged = text.slice(0, at) + character + text.slice(at + 1);
      // Blanks between JSON's tokens carry nothing; anything else must be noticed.
      fc.pre(character !== text[at]);
      await writeFile(path, forged);
      await assert.rejects(readIdentity(directory), { name: /^(?:CorruptError|AppError)$/ });
    }),
  );
});

test('refuses a record cut at any length', async () => {
  await writeIdentity(directory, IDENTITY);
  const path = join(directory, 'identity.json');
  const text = await readFile(path, 'utf8');
  for (let length = 0; length < text.length - 1; length += 7) {
    await writeFile(path, text.slice(0, length));
    await assert.rejects(readIdentity(directory), { code: 'data_corrupt' });
  }
});

test('refuses a newer version, naming it, and the record of something else', async () => {
  const path = join(directory, 'identity.json');
  const newer = { format: IDENTITY_FORMAT.format, version: 2, checksum: 'crc32c:00000000', body: {} };
  await writeFile(path, JSON.stringify(newer));
  await assert.rejects(readIdentity(directory), {
    code: 'format_unsupported',
    message: /of version 2, newer than 1/,
  });
  await writeFile(path, JSON.stringify({ ...newer, format: 'atoll-store' }));
  await assert.rejects(readIdentity(directory), { code: 'data_corrupt' });
});

test('reads what release 26.2 wrote', async () => {
  const golden = join(import.meta.dirname, 'golden');
  await writeFile(join(directory, 'identity.json'), await readFile(join(golden, 'identity-v1.json')));
  assert.deepEqual(await readIdentity(directory), {
    virtualClusterId: 3,
    virtualClusterName: 'main',
    incarnation: '6d6b3fb2-6f0a-4dd2-9b2f-0d3a1f8f4a11',
    parentIncarnation: '0a0b3fb2-6f0a-4dd2-9b2f-0d3a1f8f4a11',
    forkLsn: 0x16b374d848n,
    systemIdentifier: 7710422902563580170n,
    engineMajor: 18,
    uid: 700003,
  });
  assert.deepEqual(await readRecord(STORE_FORMAT, join(golden, 'STORE-v1')), {
    clusterId: '5b1c3e0e-94a6-4d52-8a40-2e7fb3b0f7a1',
    clusterKeyId: '00112233445566778899aabbccddeeff',
    ownerUid: 1000,
  });
});
