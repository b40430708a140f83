import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import type pg from 'pg';
import postgres from 'postgres';
import { connect, TestBed } from '../../test/harness/front-door.ts';
import { errorFields, RawClient, type RawMessage } from '../../test/harness/raw-client.ts';
import { waitFor } from '../../test/harness/wait.ts';
import { AppError } from '../base/index.ts';
import type { StatementResult } from '../control/index.ts';
import {
  encodeBind,
  encodeCancelRequest,
  encodeClose,
  encodeDescribe,
  encodeExecute,
  encodeFlush,
  encodeParse,
  encodeQuery,
  encodeSync,
} from '../pg/index.ts';
import type { FrontDoor } from './front-door.ts';

let bed: TestBed;
let door: FrontDoor;
before(async () => {
  bed = await TestBed.start();
  door = await bed.open();
});
beforeEach(() => {
  bed.service.executed.length = 0;
  bed.service.columns = COLUMNS;
  bed.service.onExecute = () => RESULT;
});
afterEach(async () => {
  await bed.expectQuiet();
  assert.deepEqual(bed.logger.complaints, []);
});
after(async () => {
  await bed[Symbol.asyncDispose]();
});

const COLUMNS = [
  { name: 'job_id', type: 'int8' },
  { name: 'status', type: 'text' },
  { name: 'at "x"', type: 'timestamptz' },
  { name: 'done', type: 'bool' },
  { name: 'fraction', type: 'float8' },
  { name: 'detail', type: 'jsonb' },
] as const;
const RESULT: StatementResult = {
  kind: 'rows',
  columns: COLUMNS,
  rows: [
    ['9007199254740993', "it's \\ ä", '2024-04-18 10:07:45.000001+00', 't', '0.25', '{"a": [1, "x\'\\\\"]}'],
    ['2', null, null, 'f', 'NaN', null],
  ],
  tag: 'SHOW 2',
};
const nothing = Buffer.alloc(0);

function fieldsOf(messages: readonly RawMessage[]): Record<string, string> {
  return errorFields(messages.find(({ type }) => type === 'E')?.body ?? nothing);
}

function parse(text: string, name = '', parameterOids: number[] = []): Buffer {
  return encodeParse({ statementName: name, text, parameterOids });
}

function bind(options: Partial<Parameters<typeof encodeBind>[0]> = {}): Buffer {
  return encodeBind({
    portalName: '',
    statementName: '',
    parameterFormats: [],
    parameters: [],
    resultFormats: [],
    ...options,
  });
}

function execute(rowsMax = 0, portalName = ''): Buffer {
  return encodeExecute({ portalName, rowsMax });
}

/** What is left of a conversation: types of messages, the status in each ReadyForQuery. */
async function talk(client: RawClient, messages: readonly Buffer[], count = 1): Promise<string> {
  client.clear();
  client.send(...messages);
  await client.until('Z', count);
  return client.messages
    .filter(({ type }) => !'SNA'.includes(type))
    .map(({ type, body }) => (type === 'Z' ? `Z${body.toString()}` : type))
    .join('');
}

describe('in the simple protocol', () => {
  test('rows come with their types, notices before them', async () => {
    bed.service.onExecute = (_statement, { onNotice }) => {
      onNotice({ severity: 'NOTICE', sqlstate: '00000', message: 'look', hint: 'there' });
      return RESULT;
    };
    const client = await connect(door);
    const notices: string[] = [];
    client.on('notice', ({ message, hint }) => notices.push(`${message} ${hint}`));
    const result = await client.query('SHOW JOBS');
    assert.deepEqual(
      result.fields.map(({ name, dataTypeID }) => [name, dataTypeID]),
      [
        ['job_id', 20],
        ['status', 25],
        ['at "x"', 1184],
        ['done', 16],
        ['fraction', 701],
        ['detail', 3802],
      ],
    );
    assert.deepEqual(notices, ['look there']);
    assert.equal(result.command, 'SHOW');
    assert.equal(result.rows[0].job_id, '9007199254740993');
    assert.deepEqual(result.rows[0].detail, { a: [1, "x'\\"] });
    assert.equal(result.rows[1].status, null);
    const { context } = bed.service.executed[0] ?? {};
    assert.deepEqual(context?.session, {
      virtualClusterId: 3,
      virtualClusterName: 'main',
      user: 'root',
      database: 'defaultdb',
      applicationName: '',
    });
    assert.equal(context?.text, 'SHOW JOBS');
    assert.equal(context?.transaction, 'idle');
    await client.end();
  });

  test("ours and Postgres's own stand in one text, answered in order by one ReadyForQuery", async () => {
    const client = await RawClient.logIn(door.address);
    const text =
      "SELECT 1; SELECT ';'; SHOW JOBS; CREATE TEMP TABLE t (v int); INSERT INTO t VALUES (1); SHOW JOBS;";
    assert.equal(await talk(client, [encodeQuery(text)]), 'TDCTDCTDDCCCTDDCZI');
    assert.equal(await talk(client, [encodeQuery('BEGIN; SHOW JOBS')]), 'CTDDCZT');
    assert.equal(bed.service.executed.at(-1)?.context.transaction, 'in_transaction');
    assert.equal(await talk(client, [encodeQuery('SHOW JOBS; COMMIT')]), 'TDDCCZI');
    assert.equal(await talk(client, [encodeQuery(';')]), 'IZI');
    client.close();
  });

  test("an error ends the text; nothing runs when a part of it can't be read", async () => {
    const client = await RawClient.logIn(door.address);
    assert.equal(await talk(client, [encodeQuery('SHOW JOBS; SELECT 1/0; SHOW JOBS')]), 'TDDCEZI');
    assert.equal(bed.service.executed.length, 1);
    assert.equal(await talk(client, [encodeQuery("SELECT 'ä'; SHOW JOBS; SELECT nope")]), 'TDCTDDCEZI');
    assert.equal(fieldsOf(client.messages)['P'], '31', 'counted in the whole text');
    bed.service.executed.length = 0;
    assert.equal(await talk(client, [encodeQuery("SELECT 'ä'; SHOW JOB; SELECT 1")]), 'EZI');
    assert.equal(fieldsOf(client.messages)['C'], '42601');
    assert.equal(fieldsOf(client.messages)['P'], '21');
    assert.equal(bed.service.executed.length, 0);
    client.close();
  });

  test('an error of ours fails the transaction, and a failed one takes no statement of ours', async () => {
    const client = await RawClient.logIn(door.address);
    bed.service.onExecute = () => {
      throw new AppError('object_state', 'not now', { hint: 'later', detail: 'why', position: 3 });
    };
    assert.equal(await talk(client, [encodeQuery('SHOW JOBS')]), 'EZI');
    assert.deepEqual(fieldsOf(client.messages), {
      S: 'ERROR',
      V: 'ERROR',
      C: '55000',
      M: 'not now',
      D: 'why',
      H: 'later',
      P: '3',
    });
    assert.equal(await talk(client, [encodeQuery('BEGIN')]), 'CZT');
    assert.equal(await talk(client, [encodeQuery('SHOW JOBS')]), 'EZE');
    bed.service.executed.length = 0;
    assert.equal(await talk(client, [encodeQuery('SHOW JOBS')]), 'EZE');
    assert.equal(fieldsOf(client.messages)['C'], '25P02');
    assert.equal(bed.service.executed.length, 0);
    assert.equal(await talk(client, [encodeQuery('ROLLBACK; SELECT 1')]), 'CTDCZI');
    client.close();
  });

  test('a bug becomes an internal error that tells nothing, and is logged', async () => {
    const client = await RawClient.logIn(door.address);
    bed.service.onExecute = () => {
      throw new Error('secret detail');
    };
    assert.equal(await talk(client, [encodeQuery('SHOW JOBS')]), 'EZI');
    assert.equal(fieldsOf(client.messages)['C'], 'XX000');
    assert.ok(!client.received.includes('secret'));
    assert.match(bed.logger.complaints.splice(0).join(), /secret detail/);
    client.close();
  });

  test('COPY stands beside ours', async () => {
    const client = await RawClient.logIn(door.address);
    client.send(
      encodeQuery('CREATE TEMP TABLE t (v int); COPY t FROM STDIN; SHOW JOBS; SELECT count(*) FROM t'),
    );
    await client.until('G');
    client.send(Buffer.from('d\0\0\0\x06' + '1\n', 'latin1'), Buffer.from('d\0\0\0\x06' + '2\n', 'latin1'));
    client.send(Buffer.from('c\0\0\0\x04', 'latin1'), encodeQuery('SELECT 7'));
    await client.until('Z', 2);
    assert.equal(client.types, 'CGCTDDCTDCZTDCZ');
    assert.equal(client.messages.filter(({ type }) => type === 'D')[2]?.body.toString('latin1', 6), '2');
    client.close();
  });

  test('a cancel request stops ours with 57014, a client that goes away stops it too', async () => {
    let aborted = 0;
    bed.service.onExecute = (_statement, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          aborted += 1;
          reject(new AppError('cancelled', 'cancelled'));
        });
      });
    const client = await RawClient.connect(door.address);
    client.sendStartup({ user: 'root', database: 'defaultdb' });
    const key = (await client.until('Z')).find(({ type }) => type === 'K')?.body ?? nothing;
    client.clear();
    client.send(encodeQuery('SHOW JOBS'));
    await waitFor('ours to run', () => bed.service.executed.length === 1);
    const canceller = await RawClient.connect(door.address);
    canceller.send(encodeCancelRequest({ processId: key.readUInt32BE(0), secret: key.subarray(4) }));
    await client.until('Z');
    assert.equal(fieldsOf(client.messages)['C'], '57014');
    assert.equal(fieldsOf(client.messages)['M'], 'canceling statement due to user request');
    client.send(encodeQuery('SHOW JOBS'));
    await waitFor('ours to run again', () => bed.service.executed.length === 2);
    client.close();
    await waitFor('the abort', () => aborted === 2);
  });

  test('a client may send ahead while ours runs; much of it waits in the network', async () => {
    const gate = Promise.withResolvers<StatementResult>();
    bed.service.onExecute = () => gate.promise;
    const client = await RawClient.logIn(door.address);
    const query = encodeQuery(`SELECT '${'x'.repeat(100_000)}'`);
    client.send(encodeQuery('SHOW JOBS'), ...Array.from({ length: 200 }, () => query));
    await waitFor('ours to run', () => bed.service.executed.length === 1);
    await waitFor('the client to be held', () => client.socket.writableLength > 0);
    gate.resolve(RESULT);
    await client.until('Z', 201);
    assert.equal(client.types, `TDDCZ${'TDCZ'.repeat(200)}`);
    client.close();
  });
});

describe('in the extended protocol', () => {
  test('drivers prepare, bind and run ours like any statement', async () => {
    const client = await connect(door);
    for (let round = 0; round < 3; round += 1) {
      const { rows } = await client.query({ name: 'jobs', text: 'SHOW JOB $1', values: [42] });
      assert.equal(rows.length, 2);
      assert.deepEqual((await client.query('SELECT $1::int AS one', [1])).rows, [{ one: 1 }]);
    }
    assert.deepEqual(bed.service.executed[0]?.context.parameters, ['42']);
    await client.end();
    const sql = postgres({
      ...door.address,
      user: 'root',
      database: 'defaultdb',
      max: 1,
      onnotice: () => undefined,
    });
    const [row] = await sql`SHOW JOB ${'43'}`;
    assert.equal(row?.['status'], "it's \\ ä");
    assert.deepEqual(bed.service.executed.at(-1)?.context.parameters, ['43']);
    bed.service.onExecute = () => ({ kind: 'done', tag: 'PAUSE JOB' });
    bed.service.columns = undefined as unknown as typeof COLUMNS;
    assert.equal((await sql`PAUSE JOB ${'43'}`).command, 'PAUSE JOB');
    await sql.end();
  });

  test("replies keep their order in a pipeline with Postgres's own", async () => {
    const client = await RawClient.logIn(door.address);
    const pgOwn = [parse('SELECT 1'), bind(), execute()];
    const own = [parse('SHOW JOBS'), bind(), encodeDescribe({ kind: 'portal', name: '' }), execute()];
    assert.equal(await talk(client, [...pgOwn, ...own, ...pgOwn, encodeSync()]), '12DC12TDDC12DCZI');
    assert.equal(
      await talk(client, [...own, encodeSync(), ...pgOwn, encodeSync(), ...own, encodeSync()], 3),
      '12TDDCZI12DCZI12TDDCZI',
    );
    assert.equal(bed.service.executed[0]?.context.transaction, 'in_transaction', 'of the pipeline');
    assert.equal(bed.service.executed[1]?.context.transaction, 'idle');
    assert.equal(await talk(client, [...own, encodeQuery('SELECT 1'), encodeSync()], 2), '12TDDCTDCZIZI');
    assert.equal(await talk(client, [...pgOwn, encodeQuery('SHOW JOBS')], 1), '12DCTDDCZI');
    client.close();
  });

  test('Describe tells parameters and columns', async () => {
    const client = await RawClient.logIn(door.address);
    await talk(client, [
      parse('SHOW JOB $1', 's', [20]),
      encodeDescribe({ kind: 'statement', name: 's' }),
      parse('SHOW JOB $2', 't'),
      encodeDescribe({ kind: 'statement', name: 't' }),
      encodeSync(),
    ]);
    assert.equal(client.types, '1tT1tTZ');
    const descriptions = client.messages
      .filter(({ type }) => type === 't')
      .map(({ body }) => body.toString('hex'));
    assert.deepEqual(descriptions, ['000100000014', '00020000001900000019']);
    bed.service.columns = undefined as unknown as typeof COLUMNS;
    assert.equal(
      await talk(client, [encodeDescribe({ kind: 'statement', name: 's' }), encodeSync()]),
      'tnZI',
    );
    client.close();
  });

  test('rows are handed out in portions', async () => {
    const client = await RawClient.logIn(door.address);
    const messages = [
      parse('SHOW JOBS'),
      bind(),
      execute(1),
      execute(1),
      execute(1),
      execute(),
      encodeSync(),
    ];
    assert.equal(await talk(client, messages), '12DsDsCEZI');
    assert.equal(fieldsOf(client.messages)['C'], '55000');
    assert.equal(bed.service.executed.length, 1);
    client.close();
  });

  test('parameters come in text and binary, and must be as many as declared', async () => {
    const client = await RawClient.logIn(door.address);
    const int8 = Buffer.alloc(8);
    int8.writeBigInt64BE(-5n);
    const double = Buffer.alloc(8);
    double.writeDoubleBE(1.5);
    await talk(client, [
      parse('SHOW JOB $5', 's', [20, 16, 701]),
      bind({
        statementName: 's',
        parameterFormats: [1, 1, 1, 0, 1],
        parameters: [int8, Buffer.of(1), double, null, Buffer.from('ä')],
      }),
      execute(),
      encodeSync(),
    ]);
    assert.deepEqual(bed.service.executed[0]?.context.parameters, ['-5', 't', '1.5', null, 'ä']);
    assert.equal(await talk(client, [bind({ statementName: 's' }), execute(), encodeSync()]), 'EZI');
    assert.equal(fieldsOf(client.messages)['C'], '08P01');
    client.close();
  });

  test('an error of ours discards up to Sync, and fails an open transaction', async () => {
    const client = await RawClient.logIn(door.address);
    bed.service.onExecute = () => {
      throw new AppError('object_state', 'not now');
    };
    const own = [parse('SHOW JOBS'), bind(), execute()];
    const pgOwn = [parse('SELECT 1'), bind(), execute()];
    assert.equal(
      await talk(client, [...own, ...pgOwn, encodeSync(), ...pgOwn, encodeSync()], 2),
      '12EZI12DCZI',
    );
    await talk(client, [encodeQuery('CREATE TEMP TABLE t (v int)')]);
    const insert = [parse('INSERT INTO t VALUES (1)'), bind(), execute()];
    assert.equal(await talk(client, [...insert, ...own, ...insert, encodeSync()]), '12C12EZI');
    await talk(client, [encodeQuery('SELECT count(*) FROM t')]);
    assert.equal(client.messages.find(({ type }) => type === 'D')?.body.toString('latin1', 6), '0');
    assert.equal(await talk(client, [encodeQuery('BEGIN')]), 'CZT');
    assert.equal(await talk(client, [...own, encodeSync()]), '12EZE');
    assert.equal(await talk(client, [...own, encodeSync()]), '12EZE');
    assert.equal(fieldsOf(client.messages)['C'], '25P02');
    assert.equal(await talk(client, [encodeQuery('ROLLBACK')]), 'CZI');
    // An error of Postgres's skips ours.
    bed.service.executed.length = 0;
    assert.equal(await talk(client, [parse('SELECT nope'), ...own, encodeSync()]), 'EZI');
    assert.equal(bed.service.executed.length, 0);
    // What can't be read, and two statements in one.
    assert.equal(await talk(client, [parse('SHOW JOB'), ...pgOwn, encodeSync()]), 'EZI');
    assert.equal(fieldsOf(client.messages)['C'], '42601');
    assert.equal(await talk(client, [parse('SHOW JOBS; SELECT 1'), encodeSync()]), 'EZI');
    assert.equal(fieldsOf(client.messages)['C'], '42601');
    client.close();
  });

  test("names are taken and freed in one place, whoever's the statement is", async () => {
    const client = await RawClient.logIn(door.address);
    const close = (name: string): Buffer => encodeClose({ kind: 'statement', name });
    assert.equal(await talk(client, [parse('SELECT 1', 'a'), parse('SHOW JOBS', 'a'), encodeSync()]), '1EZI');
    assert.equal(fieldsOf(client.messages)['C'], '42P05');
    assert.equal(await talk(client, [parse('SHOW JOBS', 'b'), encodeSync()]), '1ZI');
    assert.equal(await talk(client, [parse('SELECT 1', 'b'), encodeSync()]), 'EZI');
    assert.equal(fieldsOf(client.messages)['C'], '42P05');
    assert.equal(await talk(client, [bind({ statementName: 'b' }), execute(), encodeSync()]), '2DDCZI');
    assert.equal(await talk(client, [close('b'), parse('SELECT 1', 'b'), encodeSync()]), '31ZI');
    assert.equal(await talk(client, [bind({ statementName: 'b' }), execute(), encodeSync()]), '2DCZI');
    // Without a name the next one replaces the last, in both directions.
    assert.equal(
      await talk(client, [parse('SHOW JOBS'), parse('SELECT 1'), bind(), execute(), encodeSync()]),
      '112DCZI',
    );
    assert.equal(
      await talk(client, [parse('SELECT 1'), parse('SHOW JOBS'), bind(), execute(), encodeSync()]),
      '112DDCZI',
    );
    // A Query ends the nameless ones; DISCARD ALL frees names.
    assert.equal(await talk(client, [encodeQuery('SELECT 1')]), 'TDCZI');
    assert.equal(await talk(client, [bind(), encodeSync()]), 'EZI');
    assert.equal(fieldsOf(client.messages)['C'], '26000');
    await talk(client, [parse('SHOW JOBS', 'c'), encodeSync()]);
    await talk(client, [encodeQuery('DISCARD ALL')]);
    assert.equal(await talk(client, [parse('SHOW JOBS', 'c'), encodeSync()]), '1ZI');
    // Portals end with their transaction.
    assert.equal(await talk(client, [bind({ statementName: 'c', portalName: 'p' }), encodeSync()]), '2ZI');
    assert.equal(await talk(client, [execute(0, 'p'), encodeSync()]), 'EZI');
    assert.equal(fieldsOf(client.messages)['C'], '34000');
    client.close();
  });

  test('while COPY takes data, ours is as unexpected as anything', async () => {
    const client = await RawClient.logIn(door.address);
    await talk(client, [encodeQuery('CREATE TEMP TABLE t (v int)')]);
    client.clear();
    client.send(parse('COPY t FROM STDIN'), bind(), execute(), encodeFlush());
    await client.until('G');
    client.clear();
    client.send(parse('SHOW JOBS'), bind(), execute(), encodeSync());
    await client.untilClosed(); // As Postgres does: it no longer knows where messages begin.
    assert.equal(fieldsOf(client.messages)['C'], '08P01');
    assert.equal(bed.service.executed.length, 0);
  });

  test('a Sync that the server ignores during COPY is not waited for', async () => {
    const client = await RawClient.logIn(door.address);
    await talk(client, [encodeQuery('CREATE TEMP TABLE t (v int)')]);
    client.clear();
    client.send(parse('COPY t FROM STDIN'), bind(), execute(), encodeSync());
    await client.until('G');
    const end = Buffer.from('c\0\0\0\x04', 'latin1');
    assert.equal(await talk(client, [end, encodeSync()]), 'CZI');
    assert.equal(await talk(client, [parse('SHOW JOBS'), bind(), execute(), encodeSync()]), '12DDCZI');
    client.close();
  });

  test('a message for ours of a megabyte is refused, one for Postgres passes', async () => {
    const client = await RawClient.logIn(door.address);
    const big = Buffer.alloc(2_000_000, 'x');
    await talk(client, [parse('SHOW JOB $1', 's'), parse('SELECT length($1)', 'l'), encodeSync()]);
    const bindBig = (statementName: string): Buffer => bind({ statementName, parameters: [big] });
    assert.equal(await talk(client, [bindBig('l'), execute(), encodeSync()]), '2DCZI');
    assert.equal(await talk(client, [bindBig('s'), execute(), encodeSync()]), 'EZI');
    assert.equal(fieldsOf(client.messages)['C'], '54000');
    assert.equal(await talk(client, [bindBig('l'), execute(), encodeSync()]), '2DCZI');
    client.close();
  });
});

describe('rows in brackets', () => {
  test('are a table to Postgres, in the simple protocol', async () => {
    const client = await connect(door);
    const { rows, fields } = await client
      .query(
        'SELECT j.*, 1 AS one FROM [SHOW JOBS] AS j ORDER BY job_id; SELECT count(*) FROM [SHOW JOBS] WHERE done',
      )
      .then((results) => (results as unknown as pg.QueryResult[])[0] ?? assert.fail());
    assert.deepEqual(
      fields.map(({ dataTypeID }) => dataTypeID),
      [20, 25, 1184, 16, 701, 3802, 23],
    );
    assert.equal(rows[1].job_id, '9007199254740993');
    assert.equal(rows[1].status, "it's \\ ä");
    assert.equal(rows[1]['at "x"'].toISOString(), '2024-04-18T10:07:45.000Z');
    assert.deepEqual(rows[1].detail, { a: [1, "x'\\"] });
    assert.deepEqual([rows[0].status, rows[0].fraction], [null, Number.NaN]);
    await client.query('SET standard_conforming_strings = off; SET escape_string_warning = off');
    const again = await client.query('SELECT status FROM [SHOW JOBS] LIMIT 1');
    assert.equal(again.rows[0].status, "it's \\ ä");
    await assert.rejects(client.query('SELECT nope FROM [SHOW JOBS]'), (error: pg.DatabaseError) => {
      return error.code === '42703' && error.position === undefined;
    });
    const common = await client.query(
      'WITH x AS (SHOW JOBS), y AS MATERIALIZED (SHOW JOBS) SELECT count(*) FROM x, y',
    );
    assert.equal(common.rows[0].count, '4');
    // What Postgres keeps would show the rows of this moment for ever.
    for (const [text, position] of [
      ['CREATE VIEW v AS SELECT * FROM [SHOW JOBS]', '32'],
      ['SELECT 1; /* x */ create or replace temp recursive view v(a) as select 1 from [show jobs]', '79'],
      ['CREATE MATERIALIZED VIEW v AS SELECT * FROM [SHOW JOBS]', '45'],
      ['PREPARE p AS SELECT * FROM [SHOW JOBS]', '28'],
      ['CREATE RULE r AS ON INSERT TO t DO INSTEAD SELECT * FROM [SHOW JOBS]', '58'],
    ] as const) {
      await assert.rejects(client.query(text), { code: '0A000', position }, text);
    }
    await client.query('CREATE TEMPORARY TABLE "view" AS SELECT * FROM [SHOW JOBS]');
    bed.service.columns = undefined as unknown as typeof COLUMNS;
    await assert.rejects(client.query('SELECT 1 FROM [SHOW JOBS]'), { code: '42601', position: '15' });
    await client.end();
  });

  test('are fetched anew at each Bind, in the extended protocol', async () => {
    const client = await connect(door);
    for (let round = 0; round < 2; round += 1) {
      const { rows } = await client.query({
        name: 'n',
        text: 'SELECT j.status, $1::text AS p, k.job_id FROM [SHOW JOB $2] j JOIN [SHOW JOBS] k USING (job_id) WHERE j.job_id <> $3',
        values: ['x', '77', 5],
      });
      assert.deepEqual(
        rows.map(({ p }) => p),
        ['x', 'x'],
      );
    }
    assert.equal(bed.service.executed.length, 4);
    assert.deepEqual(bed.service.executed[0]?.context.parameters, ['x', '77', '5']);
    assert.equal(bed.service.executed[0]?.context.text, 'SHOW JOB $2');
    const common = await client.query('WITH x AS (SHOW JOB $2) SELECT status, $1::text AS p FROM x', [
      'p',
      '1',
    ]);
    assert.equal(common.rows[0].p, 'p');
    await assert.rejects(client.query('SELECT nope, $1::int FROM [SHOW JOBS]', [1]), { code: '42703' });
    await client.end();
    const raw = await RawClient.logIn(door.address);
    const text = 'SELECT $1::int8 FROM [SHOW JOBS]';
    const number = Buffer.alloc(8);
    number.writeBigInt64BE(9n);
    assert.equal(
      await talk(raw, [
        parse(text),
        encodeDescribe({ kind: 'statement', name: '' }),
        bind({ parameters: [number], parameterFormats: [1], resultFormats: [1] }),
        encodeDescribe({ kind: 'portal', name: '' }),
        execute(),
        encodeSync(),
      ]),
      '1tT2TDDCZI',
    );
    const [description] = raw.messages.filter(({ type }) => type === 't');
    assert.equal(description?.body.toString('hex'), '000100000014', 'the added parameter is not shown');
    assert.equal(await talk(raw, [parse(text), bind(), execute(), encodeSync()]), '1EZI');
    assert.match(fieldsOf(raw.messages)['M'] ?? '', /supplies 0 parameters, .* requires 1/);
    raw.close();
  });
});

describe('tables of ours by name', () => {
  test('are a table to Postgres, under their own names', async () => {
    const client = await connect(door);
    const { rows } = await client.query(
      'SELECT jobs.status, (SELECT count(*) FROM SYSTEM.USERS u WHERE u.done) FROM system.jobs WHERE jobs.job_id > 2',
    );
    assert.deepEqual(rows, [{ status: "it's \\ ä", count: '1' }]);
    assert.deepEqual(
      bed.service.executed.map(({ statement, context }) => [statement, context.text]),
      [
        [{ kind: 'show_system_table', table: 'users' }, 'SYSTEM.USERS'],
        [{ kind: 'show_system_table', table: 'jobs' }, 'system.jobs'],
      ],
    );
    assert.equal((await client.query('TABLE system.jobs')).rows.length, 2);
    assert.equal((await client.query('SELECT $1::int FROM system.jobs j', [1])).rows.length, 2);
    await assert.rejects(client.query('SELECT * FROM system.nothing'), { code: '42P01' });
    await assert.rejects(client.query('DELETE FROM system.jobs'), { code: '42P01' });
    await assert.rejects(client.query('CREATE VIEW v AS SELECT * FROM system.jobs'), { code: '0A000' });
    await client.end();
  });

  test('give way to a table of the tenant’s, also to one of this transaction', async () => {
    const client = await connect(door);
    await client.query('BEGIN; CREATE SCHEMA system; CREATE TABLE system.jobs AS SELECT 7 AS own');
    for (const query of [
      'SELECT * FROM system.jobs',
      { text: 'SELECT * FROM system.jobs', name: 'own' },
      'TABLE system.jobs',
    ]) {
      assert.deepEqual((await client.query(query)).rows, [{ own: 7 }]);
    }
    assert.equal(bed.service.executed.length, 0);
    assert.equal((await client.query('SELECT 1 FROM system.jobs, system.users')).rows.length, 2);
    await assert.rejects(client.query('SELECT 1/0'), { code: '22012' });
    await assert.rejects(client.query('SELECT * FROM system.jobs'), { code: '25P02' });
    await client.query('ROLLBACK');
    await client.end();
  });

  test('are looked for within a pipeline', async () => {
    const client = await RawClient.logIn(door.address);
    const one = [parse('SELECT 1'), bind(), execute()];
    const ours = [parse('SELECT * FROM system.jobs'), bind(), execute()];
    assert.equal(await talk(client, [...one, ...ours, ...one, encodeSync()]), '12DC12DDC12DCZI');
    assert.equal(
      await talk(client, [...one, parse('TABLE system.jobs'), bind(), execute(), encodeSync()]),
      '12DC12DDCZI',
    );
    const fails = [parse('SELECT 1/0'), bind(), execute()];
    assert.equal(await talk(client, [...one, ...fails, ...ours, encodeSync()]), '12DC1EZI');
    client.close();
  });
});

test('in the system virtual cluster, texts are shown to the service first', async () => {
  bed.service.screen = ({ text }) => {
    if (/create/i.test(text)) throw new AppError('insufficient_privilege', 'no DDL here');
  };
  const screened = await bed.open();
  const client = await connect(screened, { options: '-ccluster=system' });
  assert.deepEqual((await client.query('SELECT $1::int AS n', [1])).rows, [{ n: 1 }]);
  await assert.rejects(client.query('CREATE TABLE x (v int)'), { code: '42501' });
  await assert.rejects(client.query({ text: 'CREATE TABLE x (v int)', values: [], name: 'c' }), {
    code: '42501',
  });
  await client.query('BEGIN');
  await assert.rejects(client.query('SELECT 1; CREATE TABLE x (v int)'), { code: '42501' });
  await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
  await client.query('ROLLBACK');
  await client.end();
  const elsewhere = await connect(screened);
  await elsewhere.query('CREATE TEMP TABLE x (v int)');
  await elsewhere.end();
  delete bed.service.screen;
});
