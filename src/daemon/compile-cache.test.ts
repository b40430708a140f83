import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { scratchDirectory } from '../../test/harness/scratch.ts';
import { boundCompileCache, ownCompileCache } from './compile-cache.ts';

const OLD = 'v24.20.0-x64-1c717fce-0';
const NEW = 'v24.21.0-x64-964aae3f-0';

describe('the cache of compiled code', () => {
  let directory: string;

  beforeEach(async () => {
    directory = await scratchDirectory('atoll-compiled-');
    for (const folder of [OLD, NEW]) mkdirSync(join(directory, folder));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  function write(folder: string, number: number, writtenS: number): void {
    const path = join(directory, folder, number.toString(16).padStart(8, '0'));
    writeFileSync(path, 'compiled');
    utimesSync(path, writtenS, writtenS);
  }
  const count = (folder: string) => readdirSync(join(directory, folder)).length;

  it('loses what was written longest ago when there is too much, wherever it lies', () => {
    for (let n = 0; n < 6; n++) write(OLD, n, 1000 + n);
    for (let n = 0; n < 3; n++) write(NEW, n, 2000 + n);
    write(NEW, 9, 10);
    boundCompileCache(directory, { filesMax: 10 });
    assert.deepEqual([count(OLD), count(NEW)], [6, 4]);
    write(NEW, 3, 2003);
    boundCompileCache(directory, { filesMax: 10 });
    assert.deepEqual(readdirSync(join(directory, OLD)), ['00000005']);
    assert.deepEqual(readdirSync(join(directory, NEW)), ['00000000', '00000001', '00000002', '00000003']);
  });

  it('loses nothing that Node.js has not put there, and nothing elsewhere', () => {
    const elsewhere = join(directory, 'elsewhere');
    mkdirSync(elsewhere);
    writeFileSync(join(elsewhere, '00000001'), 'kept');
    symlinkSync(elsewhere, join(directory, 'v24.22.0-x64-00000000-0'));
    for (const name of ['notes', '0000000g', '00000001.tmp'])
      writeFileSync(join(directory, OLD, name), 'kept');
    mkdirSync(join(directory, OLD, '0000abcd'));
    write(OLD, 1, 1000);
    boundCompileCache(directory, { filesMax: 0 });
    assert.deepEqual(readdirSync(join(directory, OLD)), ['00000001.tmp', '0000000g', '0000abcd', 'notes']);
    assert.ok(existsSync(join(elsewhere, '00000001')));
    boundCompileCache(join(directory, 'nowhere'), { filesMax: 0 });
  });

  it('is cleared only where nobody has chosen another', () => {
    const HOME = '/home/a';
    assert.equal(
      ownCompileCache({ HOME, NODE_COMPILE_CACHE: '/home/a/.cache/atoll' }),
      '/home/a/.cache/atoll',
    );
    assert.equal(ownCompileCache({ HOME, XDG_CACHE_HOME: '/c', NODE_COMPILE_CACHE: '/c/atoll' }), '/c/atoll');
    assert.equal(ownCompileCache({ HOME, XDG_CACHE_HOME: '', NODE_COMPILE_CACHE: '/c/atoll' }), null);
    assert.equal(ownCompileCache({ HOME, NODE_COMPILE_CACHE: '/var/cache/node' }), null);
    assert.equal(ownCompileCache({ HOME }), null);
  });
});
