import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  MemoryLogger,
  NEVER,
  openTestHost,
  TestStore,
  withTenant,
} from '../../test/harness/instance-store.ts';
import type { VirtualClusterId, VirtualClusterName } from '../base/index.ts';
import { systemRng } from '../daemon/index.ts';
import {
  EXTENSIONS,
  isWantedExtensionFile,
  isWantedLibrary,
  libraryOfControlFile,
} from './engine-contents.ts';
import { DEFAULT_INSTANCE_SETTINGS } from './index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { namedUnprivilegedUser } from './users.ts';

let store: TestStore;
before(async () => {
  store = await TestStore.open();
});
after(async () => {
  await store[Symbol.asyncDispose]();
});

async function prepareIn(engines: string, path: string) {
  const user = await namedUnprivilegedUser({ signal: NEVER });
  return prepareEngine({
    source: { kind: 'directory', path },
    engines,
    user,
    rng: systemRng(),
    signal: NEVER,
  });
}

test('extensions are told by their files, libraries by their control files', () => {
  assert.ok(isWantedExtensionFile('hstore.control'));
  assert.ok(isWantedExtensionFile('hstore--1.4--1.5.sql'));
  assert.ok(isWantedExtensionFile('uuid-ossp--1.1.sql'));
  assert.ok(!isWantedExtensionFile('hstore_plperl.control'));
  assert.ok(!isWantedExtensionFile('dblink--1.2.sql'));
  assert.ok(
    !EXTENSIONS.some((name) => /plperl|plpython|pltcl|fdw|dblink|insert_username|adminpack/.test(name)),
  );
  assert.equal(libraryOfControlFile("comment = 'x'\nmodule_pathname = '$libdir/_int'\n"), '_int');
  assert.equal(libraryOfControlFile("comment = 'x'\n"), undefined);
  assert.ok(isWantedLibrary('_int.so', ['_int']));
  assert.ok(isWantedLibrary('utf8_and_win.dylib', []));
  assert.ok(isWantedLibrary('pgoutput.so', []));
  assert.ok(!isWantedLibrary('dblink.so', ['_int']));
  assert.ok(!isWantedLibrary('notes.txt', []));
});

test("a distribution's own PostgreSQL serves, with our extensions only", async () => {
  // The prepared tree stands for an installation that everybody can reach.
  const engines = join(store.directory, 'engine');
  const [prepared = ''] = await readdir(engines);
  const other = await mkdtemp(join(tmpdir(), 'atoll-store-'));
  const host = await openTestHost(other, new MemoryLogger(), {
    engine: { kind: 'directory', path: join(engines, prepared) },
  });
  try {
    const instance = await host.create({
      virtualClusterId: 3 as VirtualClusterId,
      name: 'main' as VirtualClusterName,
      settings: DEFAULT_INSTANCE_SETTINGS,
      signal: NEVER,
    });
    await instance.start({ signal: NEVER });
    await withTenant(instance, { user: 'root', database: 'defaultdb' }, async (tenant) => {
      await tenant.query('CREATE EXTENSION hstore');
      const { rows } = await tenant.query<{ name: string }>('SELECT name FROM pg_available_extensions');
      const names = rows.map((row) => row.name);
      assert.deepEqual(new Set(names), new Set(EXTENSIONS));
    });
    await instance.stop({ mode: 'immediate', signal: NEVER });
  } finally {
    await host.close();
    await rm(other, { recursive: true });
  }
});

test('an engine that is missing, or of another version, is refused', async (context) => {
  const engines = join(store.directory, 'engine');
  await assert.rejects(prepareIn(engines, '/nonexistent'), {
    code: 'engine_invalid',
    message: /there is no/,
  });
  const older = '/usr/lib/postgresql/15';
  if (!existsSync(older)) return context.skip('no older PostgreSQL here');
  await assert.rejects(prepareIn(engines, older), { code: 'engine_invalid', message: /not PostgreSQL 18/ });
  // What was half made is removed by the next preparation.
  assert.equal((await readdir(engines)).filter((name) => name.startsWith('.preparing-')).length, 1);
  await store.reopen();
  assert.equal((await readdir(engines)).filter((name) => name.startsWith('.preparing-')).length, 0);
});

test('a store under a folder that others cannot enter is refused to root, with the way out', async (context) => {
  if (process.getuid?.() !== 0) return context.skip('only root runs instances as others');
  const hidden = await mkdtemp(join(tmpdir(), 'atoll-hidden-'));
  try {
    await chmod(hidden, 0o700);
    await assert.rejects(
      openTestHost(join(hidden, 'store'), new MemoryLogger()),
      (error: { code?: string; hint?: string }) => {
        assert.equal(error.code, 'store_invalid');
        assert.match(error.hint ?? '', new RegExp(`chmod o\\+x ${hidden}`));
        return true;
      },
    );
  } finally {
    await rm(hidden, { recursive: true });
  }
});
