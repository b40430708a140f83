import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestDaemon } from '../harness/daemon.ts';
import { assertLedger, Ledger } from '../harness/ledger.ts';
import { waitFor } from '../harness/wait.ts';

describe('crashes', () => {
  test('kill -9 of the daemon: instances live on, are adopted, nothing acknowledged is lost', async () => {
    await using daemon = await TestDaemon.start();
    const connect = () => daemon.connect({ cluster: 'main' });
    await using ledger = await Ledger.start({ connect, writers: 4 });
    for (let round = 0; round < 3; round += 1) {
      const goal = ledger.commits + 50;
      await waitFor('some commits', () => ledger.commits > goal);
      const before = await daemon.postmasters();
      assert.deepEqual(
        [...before.keys()].sort((a, b) => a - b),
        [1, 3],
      );
      await daemon.kill();
      const floor = ledger.acknowledged();
      for (const pid of before.values()) process.kill(pid, 0); // Throws when it is gone.
      await daemon.startAgain();
      assert.deepEqual(await daemon.postmasters(), before, 'instances were restarted instead of adopted');
      const client = await connect();
      await assertLedger(client, { floor });
      await client.end();
    }
    await ledger.stop();
    const client = await connect();
    await assertLedger(client, { floor: ledger.acknowledged(), ceiling: ledger.acknowledged() });
    await client.end();
  });

  test('kill -9 of an instance: it comes back, and its neighbour does not notice', async () => {
    await using daemon = await TestDaemon.start();
    await daemon.query(['CREATE VIRTUAL CLUSTER quiet', 'ALTER VIRTUAL CLUSTER quiet START SERVICE SHARED'], {
      cluster: 'system',
    });
    const neighbour = await daemon.connect({ cluster: 'quiet' });
    await neighbour.query('CREATE TEMP TABLE still_here (a int)');
    await using ledger = await Ledger.start({
      connect: () => daemon.connect({ cluster: 'main' }),
      writers: 4,
    });
    for (let round = 0; round < 3; round += 1) {
      const goal = ledger.commits + 30;
      await waitFor('some commits', () => ledger.commits > goal);
      const pid = (await daemon.postmasters()).get(3);
      assert.ok(pid !== undefined);
      const floor = ledger.acknowledged();
      process.kill(pid, 'SIGKILL');
      const client = await daemon.connect({ cluster: 'main' }); // Waits for the instance instead of failing.
      await assertLedger(client, { floor });
      await client.end();
      assert.notEqual((await daemon.postmasters()).get(3), pid);
    }
    assert.equal((await neighbour.query('SELECT count(*)::int AS n FROM still_here')).rows[0]?.n, 0);
    await neighbour.end();
  });

  test('an orderly stop ends everything, and the next start brings it back', async () => {
    await using daemon = await TestDaemon.start();
    await daemon.query(['CREATE TABLE kept (a int)', 'INSERT INTO kept VALUES (7)'], { cluster: 'main' });
    const pids = [...(await daemon.postmasters()).values()];
    assert.equal(await daemon.stop(), 0, daemon.output);
    for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
    await daemon.startAgain();
    assert.deepEqual(await daemon.query('SELECT a FROM kept', { cluster: 'main' }), [{ a: 7 }]);
  });

  test('a second daemon on the same store is refused and changes nothing', async () => {
    await using daemon = await TestDaemon.start();
    await assert.rejects(TestDaemon.start({ store: daemon.store }), /in use/);
    assert.deepEqual(await daemon.query('SELECT 1 AS one', { cluster: 'main' }), [{ one: 1 }]);
  });
});
