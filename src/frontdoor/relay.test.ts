import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { after, afterEach, before, test } from 'node:test';
import type pg from 'pg';
import copy from 'pg-copy-streams';
import postgres from 'postgres';
import { connect, TestBed } from '../../test/harness/front-door.ts';
import { errorFields, RawClient } from '../../test/harness/raw-client.ts';
import { waitFor } from '../../test/harness/wait.ts';
import {
  encodeBind,
  encodeCancelRequest,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
  encodeTerminate,
} from '../pg/index.ts';
import type { FrontDoor } from './front-door.ts';

let bed: TestBed;
let door: FrontDoor;
before(async () => {
  bed = await TestBed.start();
  door = await bed.open();
});
afterEach(async () => {
  await bed.expectQuiet();
  assert.deepEqual(bed.logger.complaints, []);
});
after(async () => {
  await bed[Symbol.asyncDispose]();
});

const nothing = Buffer.alloc(0);

function driver(): postgres.Sql {
  return postgres({
    host: door.address.host,
    port: door.address.port,
    user: 'root',
    database: 'defaultdb',
    max: 4,
    onnotice: () => undefined,
  });
}

test('transactions, errors and prepared statements work as with Postgres', async () => {
  const client = await connect(door);
  await client.query('CREATE TEMP TABLE t (id int PRIMARY KEY, v text)');
  await client.query('BEGIN');
  await client.query({ name: 'add', text: 'INSERT INTO t VALUES ($1, $2)', values: [1, 'ä€😀'] });
  await client.query({ name: 'add', text: 'INSERT INTO t VALUES ($1, $2)', values: [2, null] });
  await assert.rejects(client.query('INSERT INTO t VALUES (1, $1)', ['twice']), { code: '23505' });
  await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
  await client.query('ROLLBACK');
  assert.deepEqual((await client.query('SELECT count(*)::int AS n FROM t')).rows, [{ n: 0 }]);
  const { rows } = await client.query({
    text: 'VALUES ($1::text), ($2)',
    values: ['a', 'b'],
    rowMode: 'array',
  });
  assert.deepEqual(rows, [['a'], ['b']]);
  await client.end();
});

test('postgres.js pipelines, and its cursors stop early', async () => {
  const sql = driver();
  const answers = await Promise.all(Array.from({ length: 500 }, (_, at) => sql`SELECT ${at}::int AS at`));
  assert.deepEqual(
    answers.map(([row]) => row?.['at']),
    answers.map((_, at) => at),
  );
  let seen = 0;
  for await (const rows of sql`SELECT * FROM generate_series(1, 100000) AS g(v)`.cursor(100)) {
    seen += rows.length;
    if (seen === 1000) break;
  }
  assert.equal(seen, 1000);
  await assert.rejects(sql`SELECT 1 / ${0}::int`, { code: '22012' });
  await sql.end();
});

test('COPY goes both ways, and a failed one leaves the session usable', async () => {
  const client = await connect(door);
  await client.query('CREATE TEMP TABLE t (id int, v text)');
  const lines = Array.from({ length: 200_000 }, (_, at) => `${at}\tline ${at}\n`);
  await pipeline(Readable.from(lines), client.query(copy.from('COPY t FROM STDIN')));
  let bytes = 0;
  for await (const chunk of client.query(copy.to('COPY t TO STDOUT'))) bytes += (chunk as Buffer).length;
  assert.equal(
    bytes,
    lines.reduce((total, line) => total + line.length, 0),
  );
  await assert.rejects(
    pipeline(Readable.from(['1\tx\n', 'no number\tx\n']), client.query(copy.from('COPY t FROM STDIN'))),
    { code: '22P02' },
  );
  assert.deepEqual((await client.query('SELECT count(*)::int AS n FROM t')).rows, [{ n: 200_000 }]);
  await client.end();
});

test('notifications and notices come unasked', async () => {
  const [listener, speaker] = [await connect(door), await connect(door)];
  const heard: (string | undefined)[] = [];
  listener.on('notification', ({ payload }) => heard.push(payload));
  await listener.query('LISTEN news');
  await speaker.query("NOTIFY news, 'first'");
  await speaker.query("SELECT pg_notify('news', repeat('x', 7000))");
  await waitFor('both notifications', () => heard.length === 2);
  assert.deepEqual([heard[0], heard[1]?.length], ['first', 7000]);
  const notices: string[] = [];
  speaker.on('notice', ({ message }) => notices.push(message ?? ''));
  await speaker.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$");
  assert.deepEqual(notices, ['hello']);
  await Promise.all([listener.end(), speaker.end()]);
});

test('rows and parameters of 100 MB stream through in bounded memory', async () => {
  const client = await connect(door);
  const length = 100 * 1024 * 1024;
  const { rows } = await client.query(`SELECT repeat('x', ${length}) AS big`);
  assert.equal(rows[0]?.big.length, length);
  const big = rows[0]?.big;
  assert.deepEqual((await client.query('SELECT length($1::text) AS n', [big])).rows, [{ n: length }]);
  assert.deepEqual((await client.query(`SELECT length('${big}') AS n`)).rows, [{ n: length }]);
  await client.end();
});

test('a reader that is slow slows the backend, not the front door', async () => {
  const client = await RawClient.logIn(door.address);
  client.socket.pause();
  const before = door.counters.backendBytes;
  client.send(encodeQuery("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"));
  await waitFor('the backend to be held back', async () => {
    const rows = await bed.instance.withSystemClient(
      (system) => system.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'ClientWrite'"),
      { signal: new AbortController().signal },
    );
    return rows.length === 1;
  });
  assert.ok(door.counters.backendBytes - before < 50_000_000, 'most of 200 MB is still in the backend');
  client.socket.resume();
  await client.until('Z');
  assert.equal(client.messages.filter(({ type }) => type === 'D').length, 200_000);
  client.close();
});

test('a cancel request reaches the backend it names, and no other', async () => {
  const client = await RawClient.connect(door.address);
  client.sendStartup({ user: 'root', database: 'defaultdb' });
  const key = (await client.until('Z')).find(({ type }) => type === 'K')?.body ?? nothing;
  client.clear();
  client.send(encodeQuery('SELECT pg_sleep(600)'));
  await waitFor('the query to run', async () => {
    const rows = await bed.instance.withSystemClient(
      (system) => system.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"),
      { signal: new AbortController().signal },
    );
    return rows.length === 1;
  });
  const cancel = async (secret: Buffer): Promise<void> => {
    const canceller = await RawClient.connect(door.address);
    canceller.send(encodeCancelRequest({ processId: key.readUInt32BE(0), secret }));
    await canceller.untilClosed();
    assert.equal(canceller.received.length, 0);
  };
  const wrong = Buffer.from(key.subarray(4));
  wrong[0] = (wrong[0] ?? 0) ^ 1;
  await cancel(wrong);
  await cancel(key.subarray(4, 6));
  assert.equal(client.types, '');
  await cancel(key.subarray(4));
  const error = (await client.until('E')).find(({ type }) => type === 'E');
  assert.equal(errorFields(error?.body ?? nothing)['C'], '57014');
  await client.until('Z');
  client.close();
});

test('replication connections pass, but not with any output plugin', async () => {
  const client = await connect(door, { replication: 'database' });
  const system = await client.query('IDENTIFY_SYSTEM');
  assert.equal(system.rows[0]?.dbname, 'defaultdb');
  for (const command of [
    'CREATE_REPLICATION_SLOT s LOGICAL "/tmp/evil"',
    'create_replication_slot s temporary logical evil',
    `${' '.repeat(100_000)}CREATE_REPLICATION_SLOT s LOGICAL evil`,
    'CREATE_REPLICATION_SLOT"s"LOGICAL"evil"',
    '\n\tCREATE_REPLICATION_SLOT "a ""LOGICAL pgoutput" LOGICAL evil',
  ]) {
    await assert.rejects(client.query(command), { code: '42501' }, command);
  }
  await assert.rejects(client.query('CREATE_REPLICATION_SLOT s LOGICAL'), { code: '42601' });
  await client.query('CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL pgoutput');
  await client.query('CREATE_REPLICATION_SLOT p TEMPORARY PHYSICAL');
  await client.query('BEGIN');
  await assert.rejects(client.query('CREATE_REPLICATION_SLOT x LOGICAL evil'), { code: '42501' });
  for (const query of [
    'DROP_REPLICATION_SLOT atoll_vault',
    'drop_replication_slot ATOLL_VAULT WAIT',
    'START_REPLICATION SLOT "atoll_vault" PHYSICAL 0/0',
    'READ_REPLICATION_SLOT atoll_vault',
    'ALTER_REPLICATION_SLOT atoll_vault ( FAILOVER )',
    'CREATE_REPLICATION_SLOT atoll_other PHYSICAL',
  ]) {
    await assert.rejects(client.query(query), { code: '42501' }, query);
  }
  await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
  await client.query('ROLLBACK');
  // The replication grammar knows no comments, so none can hide a command.
  await assert.rejects(client.query('/* x */ CREATE_REPLICATION_SLOT c LOGICAL evil'), { code: '42601' });
  await assert.rejects(client.query('-- x\nCREATE_REPLICATION_SLOT c LOGICAL evil'), { code: '42601' });
  await client.end();
});

test('a physical stream runs both ways until the client ends it', async () => {
  const client = await RawClient.logIn(door.address, { replication: 'true' });
  client.send(encodeQuery('IDENTIFY_SYSTEM'));
  const row = (await client.until('Z')).find(({ type }) => type === 'D')?.body.toString('latin1') ?? '';
  client.clear();
  client.send(encodeQuery(`START_REPLICATION PHYSICAL ${/[0-9A-F]+\/[0-9A-F]+/.exec(row)?.[0]}`));
  await client.until('W');
  const status = Buffer.alloc(1 + 4 + 1 + 8 * 4 + 1);
  status.write('d');
  status.writeInt32BE(status.length - 1, 1);
  status.write('r', 5);
  status[status.length - 1] = 1; // Asks for an answer.
  client.send(status);
  await client.until('d');
  client.send(Buffer.from('c\0\0\0\x04', 'latin1'));
  await client.until('Z');
  assert.match(client.types, /^Wd+cC+Z$/);
  client.close();
});

test('messages may arrive in pieces of any size', async () => {
  const conversation = Buffer.concat([
    encodeParse({ statementName: '', text: 'SELECT $1::text, $2::text', parameterOids: [] }),
    encodeBind({
      portalName: '',
      statementName: '',
      parameterFormats: [],
      parameters: [Buffer.from('left'), null],
      resultFormats: [],
    }),
    encodeExecute({ portalName: '', rowsMax: 0 }),
    encodeSync(),
    encodeQuery('SELECT 1; SELECT 2'),
  ]);
  const client = await RawClient.logIn(door.address);
  for (let cut = 1; cut < conversation.length; cut += 1) {
    client.clear();
    client.send(conversation.subarray(0, cut));
    await new Promise(setImmediate);
    client.send(conversation.subarray(cut));
    await client.until('Z', 2);
    assert.equal(client.types, '12DCZTDCTDCZ', `cut at ${cut}`);
  }
  client.clear();
  for (const byte of conversation) client.send(Buffer.of(byte));
  await client.until('Z', 2);
  assert.equal(client.types, '12DCZTDCTDCZ');
  client.close();
});

test('what was sent before goodbye is carried out', async () => {
  const other = await connect(door);
  await other.query('CREATE TABLE goodbye (v int)');
  const client = await RawClient.logIn(door.address);
  client.send(encodeQuery('INSERT INTO goodbye VALUES (1)'), encodeTerminate());
  client.socket.end();
  await client.untilClosed();
  const half = await RawClient.logIn(door.address);
  half.send(encodeQuery('INSERT INTO goodbye VALUES (2)'));
  half.socket.end(); // A half-closed socket still hears the answer.
  await half.until('Z');
  await half.untilClosed();
  assert.deepEqual((await other.query('SELECT v FROM goodbye ORDER BY v')).rows, [{ v: 1 }, { v: 2 }]);
  await other.query('DROP TABLE goodbye');
  await other.end();
});

test('clients may vanish at any moment: in a query, in COPY, with unread rows', async () => {
  for (const [begin, ready] of [
    ['SELECT pg_sleep(0.2)', undefined],
    ['CREATE TEMP TABLE t (v text); COPY t FROM STDIN', 'G'],
    ["SELECT repeat('x', 100000) FROM generate_series(1, 1000)", 'D'],
    ["COPY (SELECT repeat('x', 100000) FROM generate_series(1, 1000)) TO STDOUT", 'd'],
  ] as const) {
    const client = await RawClient.logIn(door.address);
    client.send(encodeQuery(begin));
    if (ready !== undefined) await client.until(ready);
    client.socket.resetAndDestroy();
  }
});

test('without the fast lane all is the same, only slower', async () => {
  const plain = await bed.open({ isPlain: true });
  const client = await connect(plain);
  const big = 'x'.repeat(5_000_000);
  assert.deepEqual((await client.query('SELECT length($1::text) AS n', [big])).rows, [{ n: big.length }]);
  assert.equal((await client.query(`SELECT repeat('x', ${big.length}) AS big`)).rows[0]?.big, big);
  await client.query('CREATE TEMP TABLE t (v text)');
  await pipeline(Readable.from([`${big}\n`, `${big}\n`]), client.query(copy.from('COPY t FROM STDIN')));
  assert.deepEqual((await client.query('SELECT count(*)::int AS n FROM t')).rows, [{ n: 2 }]);
  await client.end();
});

test('a thousand sessions at once', async () => {
  const crowd = await TestBed.start({ maxConnections: 1_020 });
  try {
    const wide = await crowd.open();
    const clients: pg.Client[] = [];
    while (clients.length < 1_000) {
      clients.push(...(await Promise.all(Array.from({ length: 50 }, () => connect(wide)))));
    }
    assert.equal(wide.sessions, 1_000);
    const answers = await Promise.all(
      clients.map((client, at) => client.query('SELECT $1::int AS at', [at])),
    );
    assert.ok(answers.every(({ rows }, at) => rows[0]?.at === at));
    await Promise.all(clients.map((client) => client.end()));
    await crowd.expectQuiet();
  } finally {
    await crowd[Symbol.asyncDispose]();
  }
});
