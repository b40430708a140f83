import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { connect, TestBed } from '../../test/harness/front-door.ts';
import { errorFields, RawClient } from '../../test/harness/raw-client.ts';
import { waitFor } from '../../test/harness/wait.ts';
import { encodeGssencRequest, encodeQuery, encodeSslRequest, PROTOCOL_3_2 } from '../pg/index.ts';
import type { FrontDoor } from './front-door.ts';

let bed: TestBed;
let door: FrontDoor;
before(async () => {
  bed = await TestBed.start();
  door = await bed.open();
});
after(async () => {
  await bed[Symbol.asyncDispose]();
});

async function refusal(
  parameters: Record<string, string>,
  protocol?: number,
): Promise<Record<string, string>> {
  const client = await RawClient.connect(door.address);
  client.sendStartup(parameters, protocol);
  const messages = await client.until('E');
  await client.untilClosed();
  return errorFields(messages.at(-1)?.body ?? Buffer.alloc(0));
}

test('encryption is declined, then the session goes on in the clear', async () => {
  const client = await RawClient.connect(door.address);
  client.send(encodeGssencRequest());
  await waitFor('the first answer', () => client.received.toString() === 'N');
  client.send(encodeSslRequest());
  await waitFor('the second answer', () => client.received.toString() === 'NN');
  client.clear();
  client.sendStartup({ user: 'root' });
  await client.until('Z');
  client.close();
  await bed.expectQuiet();
});

test('protocol 3.0 and 3.2 are spoken, and what is newer is brought down to 3.2', async () => {
  for (const { asked, answer, keyBytes } of [
    { asked: 0x0003_0000, answer: undefined, keyBytes: 4 },
    { asked: 0x0003_0001, answer: 0x0003_0000, keyBytes: 4 },
    { asked: PROTOCOL_3_2, answer: undefined, keyBytes: 32 },
    { asked: 0x0003_270f, answer: PROTOCOL_3_2, keyBytes: 32 },
  ]) {
    const client = await RawClient.connect(door.address);
    client.sendStartup({ user: 'root', ...(asked === 0x0003_270f ? { '_pq_.future': '1' } : {}) }, asked);
    const messages = await client.until('Z');
    const negotiation = messages.find(({ type }) => type === 'v')?.body;
    assert.equal(negotiation?.readUInt32BE(0), answer, asked.toString(16));
    if (asked === 0x0003_270f) assert.equal(negotiation?.toString('utf8', 8), '_pq_.future\0');
    assert.equal(messages.find(({ type }) => type === 'K')?.body.length, 4 + keyBytes);
    client.close();
  }
  assert.equal((await refusal({ user: 'root' }, 0x0002_0000))['C'], '08P01');
  await bed.expectQuiet();
});

test('the virtual cluster is taken from options in every spelling, and the rest is passed on', async () => {
  const where = async (
    parameters: Record<string, string>,
  ): Promise<[string | undefined, unknown, unknown]> => {
    bed.service.executed.length = 0;
    const client = await connect(door, parameters);
    await client.query('SHOW JOBS');
    const { rows } = await client.query('SELECT current_setting($1) AS v, current_database() AS d', [
      'search_path',
    ]);
    await client.end();
    return [bed.service.executed[0]?.context.session.virtualClusterName, rows[0]?.v, rows[0]?.d];
  };
  const path = '"$user", public';
  assert.deepEqual(await where({}), ['main', path, 'defaultdb']);
  assert.deepEqual(await where({ options: '-ccluster=other' }), ['other', path, 'defaultdb']);
  assert.deepEqual(await where({ options: '-c cluster=other -c search_path=x' }), [
    'other',
    'x',
    'defaultdb',
  ]);
  assert.deepEqual(await where({ options: '--search-path=a,\\ b --cluster=other' }), [
    'other',
    'a, b',
    'defaultdb',
  ]);
  assert.deepEqual(await where({ options: '-ccluster%3Dsystem' }), ['system', path, 'defaultdb']);
  assert.deepEqual(await where({ database: 'cluster:other/postgres' }), ['other', path, 'postgres']);
  assert.deepEqual(await where({ database: 'cluster:other' }), ['other', path, 'defaultdb']);
  await bed.expectQuiet();
});

test('no database means defaultdb', async () => {
  const client = await RawClient.connect(door.address);
  client.sendStartup({ user: 'root' });
  await client.until('Z');
  client.clear();
  client.send(encodeQuery('SELECT current_database()'));
  const row = (await client.until('Z')).find(({ type }) => type === 'D');
  assert.equal(row?.body.toString('utf8', 6), 'defaultdb');
  client.close();
});

test('refusals carry their SQLSTATE and close the connection', async () => {
  const refusedBefore = door.counters.connectionsRefused;
  const unknown = await refusal({ user: 'root', options: '-ccluster=nowhere' });
  assert.equal(unknown['C'], '08004');
  assert.equal(unknown['S'], 'FATAL');
  assert.equal(unknown['M'], 'service unavailable for target virtual cluster (nowhere)');
  assert.equal((await refusal({}))['C'], '28000');
  assert.equal((await refusal({ user: 'outsider' }))['C'], '42501');
  // Postgres's own refusals come through as they are.
  const noDatabase = await refusal({ user: 'root', database: 'missing' });
  assert.equal(noDatabase['C'], '3D000');
  assert.equal(noDatabase['M'], 'database "missing" does not exist');
  assert.equal((await refusal({ user: 'nobody_here' }))['C'], '28000');
  assert.equal((await refusal({ user: 'root', replication: 'maybe' }))['C'], '22023');
  assert.equal((await refusal({ user: 'root', options: '-cno_such_setting=1' }))['C'], '42704');
  assert.equal(door.counters.connectionsRefused, refusedBefore + 7);
  await bed.expectQuiet();
});

test('names with quotes, unicode and too many bytes reach Postgres or are refused', async () => {
  for (const database of ['a"b', "o'brien", 'größe', '../../etc', 'x'.repeat(63)]) {
    assert.equal((await refusal({ user: 'root', database }))['C'], '3D000', database);
  }
  assert.equal((await refusal({ user: 'root', database: 'x'.repeat(64) }))['C'], '42602');
  assert.equal((await refusal({ user: 'root', options: '-ccluster=../x' }))['C'], '08004');
});

test('more connections than the limit are refused', async () => {
  const small = await bed.open({ limits: { connectionsMax: 2 } });
  const clients = [await connect(small), await connect(small)];
  await assert.rejects(connect(small), (error: pg.DatabaseError) => error.code === '53300');
  await clients[0]?.end();
  await waitFor('room', () => small.sessions === 1);
  clients.push(await connect(small));
  assert.equal(small.counters.connectionsRefused, 1);
  await Promise.all(clients.slice(1).map((client) => client.end()));
});

test('who does not log in in time is shown out', async () => {
  const hasty = await bed.open({ limits: { authenticationTimeoutMs: 50 } });
  const client = await RawClient.connect(hasty.address);
  const [message] = await client.until('E');
  assert.match(errorFields(message?.body ?? Buffer.alloc(0))['M'] ?? '', /too long/);
  await client.untilClosed();
  await waitFor('the session to end', () => hasty.sessions === 0);
});

test('a server that is stopped is told, and lets its clients in again when it goes on', async () => {
  const door = await bed.open({ limits: { answerTimeoutMs: 300 } });
  const { state } = bed.instance;
  const pid = state.kind === 'running' ? state.pid : 0;
  process.kill(pid, 'SIGSTOP');
  try {
    await assert.rejects(connect(door), (error: pg.DatabaseError) => {
      assert.deepEqual([error.severity, error.code], ['FATAL', '57P03']);
      assert.equal(error.message, 'the server of virtual cluster "main" is not responding');
      assert.ok(error.hint);
      return true;
    });
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  const patient = await bed.open();
  const client = await connect(patient);
  await client.end();
});

test('the operator comes in by the socket file, which only its owner can reach', async () => {
  const socketDirectory = join(bed.directory, 'sql');
  const scram = await bed.open({
    authentication: 'scram',
    listen: { host: '127.0.0.1', port: 0, socketDirectory },
  });
  const { mode } = await stat(socketDirectory);
  assert.equal(mode & 0o777, 0o700);
  const client = new pg.Client({
    host: socketDirectory,
    port: scram.address.port,
    user: 'root',
    database: 'defaultdb',
  });
  await client.connect();
  assert.equal((await client.query('SELECT current_user AS u')).rows[0]?.u, 'root');
  await client.end();
});

test('closing tells the clients, and a taken address is named', async () => {
  const other = await bed.open();
  const client = await RawClient.logIn(other.address);
  await assert.rejects(bed.open({ listen: other.address }), { code: 'address_in_use' });
  await other.close();
  const [message] = await client.until('E');
  assert.equal(errorFields(message?.body ?? Buffer.alloc(0))['C'], '57P01');
  await client.untilClosed();
  assert.equal(other.sessions, 0);
});

test('nothing was complained about in the log', async () => {
  await bed.expectQuiet();
  assert.deepEqual(bed.logger.complaints, []);
});
