import assert from 'node:assert/strict';
import { copyFile, cp, open, readdir, rm, truncate } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BackupRig, type RestoreTarget } from '../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { filesBelow } from '../../test/harness/oracle.ts';
import { type ErrorCode, isAppError } from '../base/index.ts';
import { clusterKeyOf } from '../keys/index.ts';
import type { BackupSummary, FolderLocation } from './contract.ts';

const ROOT = { user: 'root', database: 'defaultdb' };

describe('a stored backup', () => {
  let rig: BackupRig;
  let summary: BackupSummary;
  let target: RestoreTarget;
  let copies = 0;

  before(async () => {
    rig = await BackupRig.open();
    await withTenant(rig.source, ROOT, (client) =>
      client.query('CREATE TABLE t AS SELECT n, md5(n::text) AS h FROM generate_series(1, 50000) n'),
    );
    summary = await rig.backup();
    target = await rig.beginTarget();
  });

  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  /** A copy of the collection in which one file was changed. */
  async function damaged(
    file: string,
    change: (path: string) => Promise<void>,
  ): Promise<{ collection: FolderLocation; subdirectory: string }> {
    const collection = rig.newCollection(`copy-${copies++}`);
    await cp(rig.collection.directory, collection.directory, { recursive: true });
    await change(join(collection.directory, file));
    return { collection, subdirectory: summary.subdirectory };
  }

  async function assertRefused(
    backup: { collection: FolderLocation; subdirectory: string; key?: ReturnType<typeof clusterKeyOf> },
    { code, name }: { code: ErrorCode; name: string },
  ): Promise<void> {
    await assert.rejects(rig.materialize(target, backup), (error) => {
      assert.ok(isAppError(error, code), String(error));
      assert.ok(error.message.includes(name), `${error.message} names ${name}`);
      return true;
    });
    assert.deepEqual(await readdir(target.targetDirectory), []);
    await rm(backup.collection.directory, { recursive: true });
  }

  const filesOf = async (pattern: RegExp) =>
    (await filesBelow(rig.collection.directory)).filter((file) => pattern.test(file));

  it('is refused by name when a byte of any object is another', async () => {
    for (const pattern of [/\.pack$/, /\.wal$/, /BACKUP_MANIFEST$/]) {
      const [file] = await filesOf(pattern);
      assert.ok(file !== undefined);
      // Also in the index and the footer of a pack, which no frame's checksum covers.
      for (const place of [0.01, 0.3, 0.6, 0.9999, 0.999999]) {
        await assertRefused(await damaged(file, (path) => flipByte(path, place)), {
          code: 'data_corrupt',
          name: basename(file),
        });
      }
    }
  });

  it('is refused by name when an object is cut off, too long or missing', async () => {
    const changes: ((path: string) => Promise<void>)[] = [
      (path) => truncate(path, 100),
      async (path) => {
        await using file = await open(path, 'a');
        await file.appendFile('x');
      },
    ];
    for (const pattern of [/\.pack$/, /\.wal$/, /BACKUP_MANIFEST$/]) {
      const [file] = await filesOf(pattern);
      assert.ok(file !== undefined);
      for (const change of changes) {
        await assertRefused(await damaged(file, change), { code: 'data_corrupt', name: basename(file) });
      }
      const gone = await damaged(file, (path) => rm(path));
      const code = file.endsWith('MANIFEST') ? 'backup_not_found' : 'data_corrupt';
      const name = file.endsWith('MANIFEST') ? summary.subdirectory : basename(file);
      if (code === 'data_corrupt') {
        const missing = await rig.reader.missingFiles({ ...gone, key: rig.key, signal: NEVER });
        assert.deepEqual(missing, [file]);
      }
      await assertRefused(gone, { code, name });
    }
  });

  it('is refused when two of its objects were exchanged', async () => {
    for (const pattern of [/\.pack$/, /\.wal$/]) {
      const [first, second] = await filesOf(pattern);
      if (first === undefined || second === undefined) continue;
      const exchanged = await damaged(first, (path) =>
        copyFile(join(rig.collection.directory, second), path),
      );
      await assertRefused(exchanged, { code: 'data_corrupt', name: basename(first) });
    }
  });

  it('is not trusted when another key signed it', async () => {
    const copy = await damaged('metadata/collection-owner', async () => undefined);
    const key = clusterKeyOf(new Uint8Array(32).fill(1));
    await assert.rejects(rig.reader.summary({ ...copy, key, signal: NEVER }), (error) =>
      isAppError(error, 'backup_untrusted'),
    );
    await assertRefused({ ...copy, key }, { code: 'backup_untrusted', name: 'BACKUP_MANIFEST' });
  });

  it('is found whole when nothing was changed', async () => {
    const { writtenBytes } = await rig.materialize(target, summary);
    assert.ok(writtenBytes >= summary.bytes);
  });
});

describe('a damaged data directory', () => {
  it('is not backed up, and the page that is wrong is named', async () => {
    await using rig = await BackupRig.open();
    const path = await withTenant(rig.source, ROOT, async (client) => {
      await client.query('CREATE TABLE t AS SELECT n, md5(n::text) AS h FROM generate_series(1, 50000) n');
      await client.query('CHECKPOINT');
      const { rows } = await client.query<{ path: string }>(`SELECT pg_relation_filepath('t') AS path`);
      return rows[0]?.path ?? '';
    });
    {
      await using file = await open(join(rig.source.dataDirectory, path), 'r+');
      await file.write(Buffer.from('damage'), 0, 6, 7 * 8192 + 4000);
    }
    await assert.rejects(rig.backup(), (error) => {
      assert.ok(isAppError(error, 'data_corrupt'));
      assert.match(error.message, new RegExp(`block 7 of ${path}$`));
      return true;
    });
    assert.deepEqual(await rig.reader.list(rig.collection, { signal: NEVER }), []);
    const left = await filesBelow(rig.collection.directory);
    assert.ok(
      left.every((file) => /collection-owner$|BACKUP-LOCK-/.test(file)),
      left.join(),
    );
  });
});

async function flipByte(path: string, place: number): Promise<void> {
  await using file = await open(path, 'r+');
  const { size } = await file.stat();
  const at = Math.floor(size * place);
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte.writeUInt8(byte.readUInt8(0) ^ 0x20);
  await file.write(byte, 0, 1, at);
}
