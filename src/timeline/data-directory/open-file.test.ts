import assert from 'node:assert/strict';
import {
  closeSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { listDataFiles } from './list-files.ts';
import { openDataFile } from './open-file.ts';

let root: string;
let data: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'atoll-links-'));
  data = join(root, 'data');
  for (const folder of ['data/base/5', 'data/pg_xact', 'data/pg_tblspc', 'elsewhere']) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  for (const path of ['data/PG_VERSION', 'data/base/5/16384', 'data/pg_xact/0000', 'elsewhere/0000']) {
    writeFileSync(join(root, path), `of ${path}`);
  }
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

test('a file of the directory is opened, and one that is gone is nothing', () => {
  const fd = openDataFile(data, 'pg_xact/0000');
  assert.ok(fd !== null);
  assert.equal(readFileSync(fd, 'utf8'), 'of data/pg_xact/0000');
  closeSync(fd);
  assert.equal(openDataFile(data, 'pg_xact/0001'), null);
});

test('the directory may itself be reached by a link', () => {
  symlinkSync(data, join(root, 'link'));
  const fd = openDataFile(join(root, 'link'), 'pg_xact/0000');
  assert.ok(fd !== null);
  closeSync(fd);
});

test('a link is never followed, whether it is a file or a folder, and whenever it was made', {
  skip: process.platform !== 'linux' && 'only Linux tells where an open file lies',
}, () => {
  const refused = { code: 'object_state', message: /is no ordinary file/ };
  renameSync(join(data, 'PG_VERSION'), join(root, 'PG_VERSION'));
  symlinkSync('/etc/passwd', join(data, 'PG_VERSION'));
  assert.throws(() => listDataFiles(data), refused);
  assert.throws(() => openDataFile(data, 'PG_VERSION'), refused);
  unlinkSync(join(data, 'PG_VERSION'));
  renameSync(join(root, 'PG_VERSION'), join(data, 'PG_VERSION'));
  assert.deepEqual(
    listDataFiles(data).map(({ path }) => path),
    ['PG_VERSION', 'base/5/16384', 'pg_xact/0000'],
  );
  // After it was listed.
  renameSync(join(data, 'pg_xact'), join(root, 'pg_xact'));
  symlinkSync(join(root, 'elsewhere'), join(data, 'pg_xact'));
  assert.throws(() => openDataFile(data, 'pg_xact/0000'), refused);
});
