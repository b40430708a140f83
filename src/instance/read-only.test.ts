import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NEVER, TestStore, withTenant } from '../../test/harness/instance-store.ts';
import type { VirtualClusterId } from '../base/index.ts';
import type { Instance } from './contract.ts';
import { readControlFile } from './data-directory.ts';

const MAIN = 3 as VirtualClusterId;

let store: TestStore;
let main: Instance;
before(async () => {
  store = await TestStore.open();
  main = await store.serve(3, 'main');
});
after(async () => {
  await store[Symbol.asyncDispose]();
});

const login = { user: 'root', database: 'defaultdb' };
const rows = async () =>
  withTenant(main, login, async (client) => {
    await client.query('INSERT INTO written VALUES (1)');
    return (await client.query('SELECT count(*)::int AS n FROM written')).rows[0].n;
  });

/** What is left when the daemon is killed here: what it has made durable, and the server, which goes on. */
async function daemonKilled(): Promise<void> {
  await store.reopen();
  main = store.host.get(MAIN) as Instance;
}

const stop = (mode: 'orderly' | 'immediate' = 'orderly') => main.stop({ mode, signal: NEVER });
const start = () => main.start({ signal: NEVER });

test('a switch that is cut off anywhere is made or not made, and can be made again', async () => {
  await withTenant(main, login, (client) => client.query('CREATE TABLE written (n int)'));
  const { incarnation } = main.identity;
  await stop();
  await daemonKilled();
  await start();
  assert.equal(await rows(), 1, 'stopped, not recorded');

  await stop();
  await main.setReadOnly(true);
  await daemonKilled();
  assert.equal(main.isReadOnly, true);
  await start();
  await assert.rejects(rows, { code: '25006' }, 'recorded, not started');

  await daemonKilled();
  assert.deepEqual([main.state.kind, main.isReadOnly], ['running', true], 'started');
  await stop();
  await daemonKilled();
  await start();
  await assert.rejects(rows, { code: '25006' }, 'stopped, its end not recorded');

  await stop();
  await main.setReadOnly(false);
  await daemonKilled();
  await start();
  assert.equal(await rows(), 2, 'its end recorded, not started');

  // A server that crashes before the end of its recovery was checkpointed still has the control file of one in recovery.
  await stop('immediate');
  await daemonKilled();
  await start();
  assert.equal(await rows(), 3);

  await stop();
  await start();
  assert.equal(await rows(), 4);
  assert.ok(!(await readdir(join(store.directory, 'vc', '3', 'conf'))).includes('read-only.json'));
  const { state, timelineId } = await readControlFile(main.dataDirectory);
  assert.deepEqual([main.identity.incarnation, state, timelineId], [incarnation, 'in_production', 1]);
});
