import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { TestDaemon } from '../../../test/harness/daemon.ts';
import { waitFor } from '../../../test/harness/wait.ts';

const RELAYS = 2;
/** So many that no process is left out but by a miracle: (2/3)^40. */
const SESSIONS = 40;

describe('relay processes', {
  skip: process.platform === 'linux' ? false : 'ports are shared on Linux only',
}, () => {
  let daemon: TestDaemon;
  before(async () => {
    daemon = await TestDaemon.start({ flags: [`--relay-processes=${RELAYS}`] });
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  const relays = (): number[] => {
    const children = readFileSync(`/proc/${daemon.pid}/task/${daemon.pid}/children`, 'utf8').split(' ');
    return children
      .filter((pid) => pid !== '' && readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('atoll relay'))
      .map(Number);
  };

  const openSessions = async (): Promise<pg.Client[]> =>
    await Promise.all(Array.from({ length: SESSIONS }, () => daemon.connect()));

  test("serve everything: Postgres's statements, ours, their errors, screening", async () => {
    assert.equal(relays().length, RELAYS);
    for (let round = 0; round < SESSIONS; round += 1) {
      const client = await daemon.connect({ cluster: 'system' });
      try {
        const { rows } = await client.query("SELECT name FROM [SHOW VIRTUAL CLUSTERS] WHERE name = 'main'");
        assert.deepEqual(rows, [{ name: 'main' }]);
        await assert.rejects(client.query('CREATE TABLE t ()'), (error) => hasCode(error, '42501'));
        await assert.rejects(client.query('DROP VIRTUAL CLUSTER nobody'), (error) => hasCode(error, '42704'));
        const described = await client.query({ text: 'SHOW CLUSTER SETTING version', values: [] });
        assert.equal(described.rows.length, 1);
      } finally {
        await client.end();
      }
    }
    await assert.rejects(daemon.connect({ cluster: 'nobody' }), (error) => hasCode(error, '08004'));
  });

  test('a cancel request finds its session in whichever process', async () => {
    const clients = await openSessions();
    try {
      const sleeping = clients.map((client) =>
        client.query('SELECT pg_sleep(600)').catch((error: unknown) => error),
      );
      await waitFor('all to sleep', async () => {
        const rows = await daemon.query(
          "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'",
        );
        return rows.length === SESSIONS;
      });
      for (const client of clients) sendCancel(daemon.port, client);
      for (const error of await Promise.all(sleeping)) assert.ok(hasCode(error, '57014'), String(error));
    } finally {
      await Promise.all(clients.map((client) => client.end()));
    }
  });

  test('one that is killed takes its own sessions alone, and is replaced', async () => {
    const clients = await openSessions();
    const [victim = 0, other = 0] = relays();
    process.kill(victim, 'SIGKILL');
    const lost = await Promise.all(
      clients.map((client) =>
        client.query('SELECT 1').then(
          () => 0,
          () => 1,
        ),
      ),
    );
    const count = lost.reduce((sum: number, each) => sum + each, 0);
    assert.ok(count > 0 && count < SESSIONS, `${count} of ${SESSIONS} sessions were lost`);
    await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
    const now = await waitFor('another relay', () => relays().length === RELAYS && relays());
    assert.ok(now.includes(other) && !now.includes(victim));
    assert.deepEqual(await daemon.query('SELECT 1 AS one'), [{ one: 1 }]);
  });

  test('an orderly stop ends them all', async () => {
    const pids = relays();
    assert.equal(await daemon.stop(), 0);
    for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
  });

  test('a daemon that is killed leaves none behind', async () => {
    await daemon.startAgain();
    const pids = relays();
    await daemon.kill();
    for (const pid of pids) await waitFor(`relay ${pid} to end`, () => !isAlive(pid));
    await daemon.startAgain();
    assert.deepEqual(await daemon.query('SELECT 1 AS one'), [{ one: 1 }]);
  });
});

/** Zombies that nobody has collected yet are dead. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof pg.DatabaseError && error.code === code;
}

/** A cancel request on a connection of its own, which any of the processes may get. */
function sendCancel(port: number, client: pg.Client): void {
  const { processID, secretKey } = client as pg.Client & { processID: number; secretKey: number };
  const request = Buffer.alloc(16);
  request.writeInt32BE(16, 0);
  request.writeInt32BE(80877102, 4);
  request.writeInt32BE(processID, 8);
  request.writeInt32BE(secretKey, 12);
  connect({ host: '127.0.0.1', port }).end(request);
}
