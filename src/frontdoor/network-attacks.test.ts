/** Clients that mean harm and need no password for it: the front door stays open to the others. docs/security.md */
import assert from 'node:assert/strict';
import { connect as connectSocket, Socket } from 'node:net';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { connect, TestBed } from '../../test/harness/front-door.ts';
import { errorFields, RawClient } from '../../test/harness/raw-client.ts';
import { waitFor } from '../../test/harness/wait.ts';
import { LoginThrottle } from '../control/index.ts';
import { systemClock } from '../daemon/index.ts';
import { encodeSslRequest, encodeStartup, PROTOCOL_3_0 } from '../pg/index.ts';
import type { FrontDoor } from './front-door.ts';

/** Where addresses other than the first of the loopback can be used. */
const HAS_ADDRESSES = process.platform === 'linux';
const FLOOD = 600;
const CONNECTIONS_MAX = 150;
const PENDING_MAX = 50;

let bed: TestBed;
before(async () => {
  bed = await TestBed.start();
});
after(async () => {
  await bed[Symbol.asyncDispose]();
});

/** Connects from another address of this machine. */
class SocketFrom extends Socket {
  readonly #address: string;
  constructor(address: string) {
    super();
    this.#address = address;
  }
  override connect(...target: unknown[]): this {
    return super.connect({ port: Number(target[0]), host: String(target[1]), localAddress: this.#address });
  }
}

async function logInFrom(
  door: FrontDoor,
  address: string,
  login: { user: string; password: string },
): Promise<string> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port: door.address.port,
    database: 'defaultdb',
    ...login,
    stream: () => new SocketFrom(address),
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return 'entered';
  } catch (error) {
    return error instanceof pg.DatabaseError ? String(error.code) : String(error);
  } finally {
    await client.end().catch(() => undefined);
  }
}

test('a flood of connections that say nothing turns itself out', { skip: !HAS_ADDRESSES }, async () => {
  const door = await bed.open({ limits: { connectionsMax: CONNECTIONS_MAX, pendingMax: PENDING_MAX } });
  const regular = await connect(door);
  let gone = 0;
  const flood = Array.from({ length: FLOOD }, () => {
    const socket = connectSocket({ host: '127.0.0.1', port: door.address.port, localAddress: '127.0.0.2' });
    socket.on('error', () => undefined);
    socket.on('close', () => (gone += 1));
    // Half of them begin to speak, and ask for what takes longest.
    socket.on('connect', () => {
      if (socket.localPort !== undefined && socket.localPort % 2 === 0) socket.write(Buffer.from([0, 0, 0]));
    });
    socket.resume();
    return socket;
  });
  // New clients come in meanwhile and afterwards, and those that are in are served.
  for (let count = 0; count < 5; count += 1) {
    const client = await connect(door);
    assert.deepEqual((await client.query('SELECT 1 AS one')).rows, [{ one: 1 }]);
    await client.end();
  }
  await waitFor('the flood to be turned out', () => gone >= FLOOD - 2 * PENDING_MAX);
  assert.ok(door.sessions <= CONNECTIONS_MAX, `${door.sessions} connections are open`);
  assert.deepEqual((await regular.query('SELECT 2 AS two')).rows, [{ two: 2 }]);
  await regular.end();
  for (const socket of flood) socket.destroy();
  await bed.expectQuiet();
});

test('who has logged in is not in the lobby any more', async () => {
  const door = await bed.open({ limits: { connectionsMax: 3, pendingMax: 1 } });
  const clients = [await connect(door), await connect(door), await connect(door)];
  await assert.rejects(connect(door), { code: '53300' });
  for (const client of clients) {
    assert.deepEqual((await client.query('SELECT 1 AS one')).rows, [{ one: 1 }]);
    await client.end();
  }
  await bed.expectQuiet();
});

test('each silence of a client that logs in is bounded, and it is told', async () => {
  const door = await bed.open({
    authentication: 'scram',
    limits: { loginTimeoutMs: 300, authenticationTimeoutMs: 60_000 },
  });
  const silent = await RawClient.connect(door.address);
  const begun = await RawClient.connect(door.address);
  begun.send(encodeSslRequest());
  const asked = await RawClient.connect(door.address);
  asked.send(encodeStartup({ protocol: PROTOCOL_3_0, parameters: new Map([['user', 'nobody']]) }));
  for (const client of [silent, begun, asked]) await client.untilClosed();
  assert.equal(errorFields(silent.messages.at(-1)?.body ?? Buffer.alloc(0))['C'], '57014');
  assert.equal(asked.types, 'RE');
  await bed.expectQuiet();
});

test('guessing is slowed down by address, and locks nobody out', { skip: !HAS_ADDRESSES }, async () => {
  const throttle = new LoginThrottle({ clock: systemClock() });
  throttle.limits = { failuresMax: 3, failuresPerMinute: 1 };
  const door = await bed.open({ authentication: 'scram', throttle });
  await bed.instance.withSystemClient(
    async (client) => {
      await client.query("CREATE ROLE app LOGIN PASSWORD 'right'");
      const [row] = await client.query("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
      const verifier = row?.['rolpassword'] ?? null;
      bed.service.credentials.set('app', { canLogin: true, verifier, isExpired: false });
    },
    { signal: new AbortController().signal },
  );
  const from = (address: string, user: string, password: string) =>
    logInFrom(door, address, { user, password });
  // Known from here before the guessing began, and from nowhere else.
  assert.equal(await from('127.0.0.4', 'app', 'right'), 'entered');
  const outcomes: string[] = [];
  for (let guess = 0; guess < 6; guess += 1) outcomes.push(await from('127.0.0.3', 'app', `guess ${guess}`));
  assert.deepEqual(outcomes, ['28P01', '28P01', '28P01', '53300', '53300', '53300']);
  // The right guess tells nothing either, once there were too many.
  assert.equal(await from('127.0.0.3', 'app', 'right'), '53300');
  for (const address of ['127.0.0.4', '127.0.0.5'])
    assert.equal(await from(address, 'app', 'right'), 'entered');
  // One who guesses at others from where the user is at home disturbs only himself.
  for (let guess = 0; guess < 6; guess += 1) await from('127.0.0.4', `other${guess}`, 'x');
  assert.equal(await from('127.0.0.4', 'other', 'x'), '53300');
  assert.equal(await from('127.0.0.4', 'app', 'right'), 'entered');
  await bed.expectQuiet();
  assert.deepEqual(bed.logger.complaints, []);
});
