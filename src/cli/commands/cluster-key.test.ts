import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { clusterKeyOf, formatKeyFile } from '../../keys/index.ts';
import { readKeyFile } from './cluster-key.ts';

describe('the file of a cluster key', () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'atoll-key-file-'));
  });
  after(async () => {
    await rm(directory, { recursive: true });
  });

  test('is read as it was exported', async () => {
    const key = clusterKeyOf(randomBytes(32));
    const path = join(directory, 'exported');
    await writeFile(path, formatKeyFile(key));
    assert.deepEqual(await readKeyFile(path), key);
  });

  test('is refused for what is wrong with it: it is no key, or cannot be read', async () => {
    const path = join(directory, 'passphrase');
    await writeFile(path, 'hush\n');
    await assert.rejects(readKeyFile(path), {
      code: 'parameter_invalid',
      message: `${path} is not the key of a cluster, or is damaged`,
    });
    await assert.rejects(readKeyFile(join(directory, 'absent')), { code: 'usage', message: /: ENOENT$/ });
  });
});
