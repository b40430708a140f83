import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import type { AppError } from '../base/index.ts';
import { systemRng } from '../daemon/index.ts';
import { clusterKeyOf, formatKeyFile } from '../keys/index.ts';
import { readRecord, writeRecord } from './sealed-record.ts';
import { STORE_FORMAT, Store } from './store.ts';
import { isRoot } from './users.ts';

const rng = systemRng();
let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'atoll-store-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function make(): Promise<void> {
  (await Store.open({ directory, rng })).close();
}

test('is made in an empty folder, and opened again with the same identity and key', async () => {
  const first = await Store.open({ directory, rng });
  first.close();
  assert.equal(first.isNew, true);
  const again = await Store.open({ directory, rng });
  again.close();
  assert.equal(again.isNew, false);
  assert.equal(again.clusterId, first.clusterId);
  assert.deepEqual(Buffer.from(again.clusterKey.secret), Buffer.from(first.clusterKey.secret));
  assert.equal((await stat(first.layout.clusterKey)).mode & 0o777, 0o600);
  assert.equal((await stat(first.layout.root)).mode & 0o777, isRoot() ? 0o711 : 0o700);
});

test('is made in a folder that does not exist, and after a crash at any step of its making', async () => {
  const store = await Store.open({ directory: join(directory, 'a'), rng }).catch((error: unknown) => error);
  // The folder above is private, as mkdtemp makes it: root's instances could not pass through.
  if (isRoot()) assert.match(String(store), /cannot pass through/);
  await chmod(directory, 0o755);
  (await Store.open({ directory: join(directory, 'b', 'c'), rng })).close();

  for (const present of [
    ['lock'],
    ['lock', 'lock-holder', 'cluster-key.tmp'],
    ['lock', 'cluster-key', 'STORE.tmp'],
  ]) {
    const path = join(directory, present.join('-'));
    await mkdir(path);
    // A key is there whole, or not at all.
    const contentOf = (name: string) => (name === 'cluster-key' ? Buffer.alloc(32, 7) : '');
    for (const name of present) await writeFile(join(path, name), contentOf(name));
    const opened = await Store.open({ directory: path, rng });
    opened.close();
    assert.equal(opened.isNew, true);
  }
});

test("a key that somebody put there becomes the store's, as bytes or as it was exported; part of one does not", async () => {
  await chmod(directory, 0o755);
  const key = clusterKeyOf(Buffer.alloc(32, 9));
  const exported = Buffer.from(formatKeyFile(key));
  for (const [name, content] of [
    ['bytes', key.secret],
    ['text', exported],
  ] as const) {
    const path = join(directory, name);
    await mkdir(path);
    await writeFile(join(path, 'cluster-key'), content);
    const opened = await Store.open({ directory: path, rng });
    opened.close();
    assert.equal(opened.clusterKey.id, key.id);
  }
  const partial = join(directory, 'partial');
  await mkdir(partial);
  await writeFile(join(partial, 'cluster-key'), exported.subarray(0, 50));
  await assert.rejects(Store.open({ directory: partial, rng }), {
    code: 'data_corrupt',
    hint: /put a whole copy/,
  });
});

test('a folder that holds something else is refused and left as it was', async () => {
  await writeFile(join(directory, 'PG_VERSION'), '18\n');
  await chmod(directory, 0o750);
  await assert.rejects(Store.open({ directory, rng }), { code: 'store_invalid', message: /is not a store/ });
  assert.equal((await stat(directory)).mode & 0o777, 0o750);
  await assert.rejects(stat(join(directory, 'lock')), { code: 'ENOENT' });
});

test('a store that is refused leaves no folder behind', { skip: !isRoot() }, async () => {
  await assert.rejects(Store.open({ directory: join(directory, 'a', 'b'), rng }), {
    code: 'store_invalid',
    message: /cannot pass through/,
  });
  assert.deepEqual(await readdir(directory), []);
  await mkdir(join(directory, 'own'));
  await assert.rejects(Store.open({ directory: join(directory, 'own'), rng }), { code: 'store_invalid' });
  assert.deepEqual(await readdir(directory), ['own'], 'a folder that was there stays');
});

test('a place where no folder can be made is refused', { skip: process.platform !== 'linux' }, async () => {
  for (const path of ['/proc/atoll', '/proc/atoll/store']) {
    await assert.rejects(Store.open({ directory: path, rng }), (error: AppError) => {
      assert.equal(error.code, 'store_invalid');
      assert.match(error.message, /store \/proc\/atoll.* cannot be opened: .*'\/proc\/atoll'/);
      assert.ok(error.hint);
      return true;
    });
  }
});

test('has the one id of its key that manifests name too, also where its record holds the early one', async () => {
  await make();
  const store = await Store.open({ directory, rng });
  store.close();
  const { secret, id } = store.clusterKey;
  assert.equal(id, clusterKeyOf(secret).id);
  const body = await readRecord(STORE_FORMAT, store.layout.storeRecord);
  assert.equal(body.clusterKeyId, id);
  const early = createHash('sha256')
    .update('atoll cluster key id\0')
    .update(secret)
    .digest('hex')
    .slice(0, 32);
  const path = store.layout.storeRecord;
  await writeRecord(STORE_FORMAT, { path, body: { ...body, clusterKeyId: early }, mode: 0o600 });
  const again = await Store.open({ directory, rng });
  again.close();
  assert.equal(again.clusterKey.id, id);
  await writeRecord(STORE_FORMAT, {
    path,
    body: { ...body, clusterKeyId: early.replaceAll(/./g, '0') },
    mode: 0o600,
  });
  await assert.rejects(Store.open({ directory, rng }), { code: 'data_corrupt' });
});

test('a path that is no folder is refused', async () => {
  await writeFile(join(directory, 'file'), '');
  await assert.rejects(Store.open({ directory: join(directory, 'file'), rng }), { code: 'store_invalid' });
});

test('a path too long for sockets is refused', async () => {
  await assert.rejects(Store.open({ directory: join(directory, 'x'.repeat(90)), rng }), {
    code: 'store_invalid',
    message: /too long/,
  });
});

test('a damaged record is refused, and so is one of a newer release', async () => {
  await make();
  const path = join(directory, 'STORE');
  const text = await readFile(path, 'utf8');
  await writeFile(path, text.replace(/"clusterId": "[0-9a-f]/, '"clusterId": "x'));
  await assert.rejects(Store.open({ directory, rng }), { code: 'data_corrupt' });
  await writeFile(path, '');
  await assert.rejects(Store.open({ directory, rng }), {
    code: 'data_corrupt',
    hint: /STORE back from a copy/,
  });
  await writeFile(path, text.replace('"version": 1', '"version": 2'));
  await assert.rejects(Store.open({ directory, rng }), { code: 'format_unsupported' });
  await writeFile(path, text);
  await make();
});

test('a missing or exchanged key is an error, never a new key', async () => {
  await make();
  const path = join(directory, 'cluster-key');
  await writeFile(path, Buffer.alloc(32));
  await assert.rejects(Store.open({ directory, rng }), { code: 'data_corrupt' });
  await unlink(path);
  await assert.rejects(Store.open({ directory, rng }), {
    code: 'data_corrupt',
    message: /key of store .* is missing/,
    hint: /cluster-key back from a copy/,
  });
  await assert.rejects(stat(path), { code: 'ENOENT' });
});

test('one opener at a time: in this process', async () => {
  const store = await Store.open({ directory, rng });
  await assert.rejects(Store.open({ directory, rng }), {
    code: 'store_in_use',
    message: new RegExp(`in use by process ${process.pid}`),
  });
  store.close();
  store.close();
  await make();
});

test('one opener at a time: across processes, until the other is killed', async () => {
  const script = `
    import { Store } from ${JSON.stringify(join(import.meta.dirname, 'store.ts'))};
    import { systemRng } from ${JSON.stringify(join(import.meta.dirname, '../daemon/index.ts'))};
    await Store.open({ directory: ${JSON.stringify(directory)}, rng: systemRng() });
    process.stdout.write('open');
    setInterval(() => {}, 1000);
  `;
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const ended = new Promise((resolve) => child.once('exit', resolve));
  try {
    await new Promise((resolve) => child.stdout.once('data', resolve));
    await assert.rejects(Store.open({ directory, rng }), {
      code: 'store_in_use',
      message: new RegExp(`in use by process ${child.pid}`),
    });
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
  await make();
});
