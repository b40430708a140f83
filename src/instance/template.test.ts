import assert from 'node:assert/strict';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TestStore } from '../../test/harness/instance-store.ts';
import { scratchDirectory } from '../../test/harness/scratch.ts';
import { SHARED_TEMPLATES_VARIABLE } from './template.ts';

describe('a template that the stores of tests share', () => {
  const given = process.env[SHARED_TEMPLATES_VARIABLE];
  let folder: string;

  before(async () => {
    folder = await scratchDirectory('atoll-templates-');
    process.env[SHARED_TEMPLATES_VARIABLE] = join(folder, 'shared');
  });
  after(async () => {
    if (given === undefined) delete process.env[SHARED_TEMPLATES_VARIABLE];
    else process.env[SHARED_TEMPLATES_VARIABLE] = given;
    await rm(folder, { recursive: true, force: true });
  });

  /** Opens a store, and tells whether it made its template itself. */
  const makesOne = async (serves: boolean): Promise<boolean> => {
    await using store = await TestStore.open();
    if (serves) {
      const instance = await store.serve(3);
      const rows = await instance.withSystemClient((client) => client.query('SELECT 1 AS one'), {
        signal: new AbortController().signal,
      });
      assert.deepEqual(rows, [{ one: '1' }]);
    }
    return store.logger.has('making the template');
  };
  const shared = () => readdir(join(folder, 'shared'));

  it('is made by the first of those that begin together, or by several, and stays whole', async () => {
    const made = await Promise.all([makesOne(false), makesOne(false)]);
    assert.ok(made.includes(true));
    assert.equal((await shared()).length, 1);
  });

  it('is taken by those that come later', async () => {
    assert.equal(await makesOne(true), false);
  });

  it('is made anew when it cannot be trusted, or not be shared', async () => {
    const [name = ''] = await shared();
    await writeFile(join(folder, 'shared', name, 'template.json'), 'torn');
    assert.equal(await makesOne(true), true);
    process.env[SHARED_TEMPLATES_VARIABLE] = join(folder, 'shared', name, 'template.json', 'no folder');
    assert.equal(await makesOne(false), true);
  });
});
