import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { connect, TestBed } from '../../test/harness/front-door.ts';
import { errorFields, RawClient } from '../../test/harness/raw-client.ts';
import { waitFor } from '../../test/harness/wait.ts';
import type { StatementResult } from '../control/index.ts';
import {
  encodeBind,
  encodeCancelRequest,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
} from '../pg/index.ts';
import type { FrontDoor } from './front-door.ts';

const { signal } = new AbortController();
const RESULT: StatementResult = { kind: 'done', tag: 'RESTORE' };
const RESTORE = "RESTORE FROM LATEST IN 'nodelocal://1/x'";
const nothing = Buffer.alloc(0);

let bed: TestBed;
let door: FrontDoor;
before(async () => {
  bed = await TestBed.start();
  door = await bed.open();
});
beforeEach(async () => {
  await bed.instance.start({ signal });
  bed.service.names.add('main');
  bed.service.columns = undefined;
  bed.service.onExecute = async () => {
    await restart();
    return RESULT;
  };
});
afterEach(async () => {
  await bed.instance.start({ signal });
  await bed.expectQuiet();
  assert.deepEqual(bed.logger.complaints, []);
});
after(async () => {
  await bed[Symbol.asyncDispose]();
});

async function restart(): Promise<void> {
  await bed.instance.stop({ mode: 'immediate', signal });
  await bed.instance.start({ signal });
}

function lastError(client: RawClient): Record<string, string> {
  return errorFields(client.messages.findLast(({ type }) => type === 'E')?.body ?? nothing);
}

/** Parse, Bind, Execute of one text, nameless. */
function extended(text: string): Buffer[] {
  const none = { parameterFormats: [], parameters: [], resultFormats: [] };
  return [
    encodeParse({ statementName: '', text, parameterOids: [] }),
    encodeBind({ portalName: '', statementName: '', ...none }),
    encodeExecute({ portalName: '', rowsMax: 0 }),
  ];
}

test('a session outlives the instance that its own statement replaces, in the simple protocol', async () => {
  const client = await RawClient.connect(door.address);
  client.sendStartup({ user: 'root', database: 'postgres', application_name: 'survivor' });
  const key = (await client.until('Z')).find(({ type }) => type === 'K')?.body ?? nothing;
  client.clear();
  client.send(encodeQuery(`${RESTORE}; SELECT current_database(), current_setting('application_name')`));
  await client.until('Z');
  assert.equal(client.types, 'CTDCZ');
  assert.equal(
    client.messages
      .find(({ type }) => type === 'D')
      ?.body.toString('utf8', 2)
      .slice(4, 12),
    'postgres',
  );
  const notice = errorFields(client.messages.findLast(({ type }) => type === 'N')?.body ?? nothing);
  assert.equal(notice['S'], 'WARNING');
  assert.match(notice['M'] ?? '', /was replaced during the statement/);
  assert.ok(
    client.messages.some(({ type }) => type === 'S'),
    'the new parameters are told',
  );
  // The key that the client was given once still cancels, though the backend has another.
  client.clear();
  client.send(encodeQuery('SELECT pg_sleep(600)'));
  await waitFor('the query to run', async () => {
    const rows = await bed.instance.withSystemClient(
      (system) => system.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"),
      { signal },
    );
    return rows.length === 1;
  });
  const canceller = await RawClient.connect(door.address);
  canceller.send(encodeCancelRequest({ processId: key.readUInt32BE(0), secret: key.subarray(4) }));
  await client.until('Z');
  assert.equal(lastError(client)['C'], '57014');
  client.close();
});

test('... and in the extended protocol', async () => {
  const client = await connect(door);
  await client.query({ name: 'kept', text: RESTORE });
  assert.deepEqual((await client.query('SELECT $1::int AS n', [1])).rows, [{ n: 1 }]);
  await client.end();
  const raw = await RawClient.logIn(door.address);
  raw.send(...extended(RESTORE), ...extended('SELECT 1'), encodeSync());
  await raw.until('Z');
  assert.equal(raw.types, '12C12DCZ');
  raw.close();
});

test('a failing statement leaves the session usable too', async () => {
  bed.service.onExecute = async () => {
    await restart();
    throw new Error('failed after the restart');
  };
  const client = await RawClient.logIn(door.address);
  client.send(encodeQuery(`${RESTORE}; SELECT 1`), encodeQuery('SELECT 1'));
  await client.until('Z', 2);
  assert.equal(client.types, 'EZTDCZ');
  assert.equal(bed.logger.complaints.splice(0).length, 1);
  client.close();
});

test('a transaction can not outlive its instance', async () => {
  const client = await RawClient.logIn(door.address);
  client.send(encodeQuery('BEGIN'));
  await client.until('Z');
  client.clear();
  client.send(encodeQuery(RESTORE));
  await client.untilClosed();
  assert.equal(client.types, 'CE');
  assert.equal(lastError(client)['C'], '57P02');
  assert.equal(lastError(client)['S'], 'FATAL');
});

test('a session whose database is gone with the former data ends behind the outcome, and says why', async () => {
  const systemClient = (sql: string) =>
    bed.instance.withSystemClient((system) => system.query(sql), { signal });
  await systemClient('CREATE DATABASE "Früher"');
  bed.service.onExecute = async () => {
    await systemClient('DROP DATABASE "Früher" WITH (FORCE)');
    return RESULT;
  };
  const client = await RawClient.connect(door.address);
  client.sendStartup({ user: 'root', database: 'Früher' });
  await client.until('Z');
  client.clear();
  client.send(encodeQuery(RESTORE));
  await client.untilClosed();
  assert.equal(client.types, 'CZE');
  assert.deepEqual([lastError(client)['S'], lastError(client)['C']], ['FATAL', '3D000']);
  assert.match(lastError(client)['M'] ?? '', /database "Früher" does not exist any more/);
});

test('when the virtual cluster can not be entered again, the outcome is told before the end', async () => {
  bed.service.onExecute = async () => {
    await bed.instance.stop({ mode: 'immediate', signal });
    bed.service.names.delete('main');
    return RESULT;
  };
  const client = await RawClient.logIn(door.address);
  client.send(encodeQuery(RESTORE));
  await client.untilClosed();
  assert.equal(client.types, 'CE');
  assert.equal(lastError(client)['C'], '08004');
});

test('an instance that dies takes its sessions along, each with a word', async () => {
  const idle = await RawClient.logIn(door.address);
  const busy = await RawClient.logIn(door.address);
  busy.send(encodeQuery("SELECT 'first'; SELECT pg_sleep(600)"));
  const streaming = await RawClient.logIn(door.address);
  streaming.send(encodeQuery("SELECT repeat('x', 100000) FROM generate_series(1, 100000)"));
  await streaming.until('D');
  const lost = door.counters.backendsLost;
  const { state } = bed.instance;
  assert.ok(state.kind === 'running');
  process.kill(state.pid, 'SIGKILL');
  for (const client of [idle, busy]) {
    await client.untilClosed();
    assert.equal(lastError(client)['S'], 'FATAL');
    assert.match(lastError(client)['C'] ?? '', /^57P0[12]$/);
  }
  await streaming.untilClosed();
  assert.ok(door.counters.backendsLost > lost);
  await waitFor(
    'the instance to be restarted',
    () => bed.instance.state.kind === 'running' && bed.instance.generation > 0,
  );
  bed.logger.complaints.length = 0;
});

test('a session whose backend is terminated hears it from Postgres', async () => {
  const client = await RawClient.connect(door.address);
  client.sendStartup({ user: 'root', database: 'defaultdb' });
  const key = (await client.until('Z')).find(({ type }) => type === 'K')?.body ?? nothing;
  client.clear();
  await bed.instance.withSystemClient(
    (system) => system.query('SELECT pg_terminate_backend($1::int)', [String(key.readUInt32BE(0))]),
    { signal },
  );
  await client.untilClosed();
  assert.equal(client.types, 'E');
  assert.equal(lastError(client)['C'], '57P01');
});

test('a client that leaves during such a statement leaves nothing behind', async () => {
  const gate = Promise.withResolvers<void>();
  bed.service.onExecute = async () => {
    await gate.promise;
    await restart();
    return RESULT;
  };
  const client = await RawClient.logIn(door.address);
  client.send(encodeQuery(RESTORE));
  await waitFor('the statement to begin', () => bed.service.executed.length > 0);
  client.close();
  gate.resolve();
  await waitFor('the session to end', () => door.sessions === 0);
});
