import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { connect, TestBed } from '../../test/harness/front-door.ts';
import { errorFields, RawClient } from '../../test/harness/raw-client.ts';
import { waitFor } from '../../test/harness/wait.ts';
import {
  encodeBind,
  encodeClose,
  encodeDescribe,
  encodeExecute,
  encodeFlush,
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
  door = await bed.open({ limits: { authenticationTimeoutMs: 2_000 } });
});
after(async () => {
  await bed[Symbol.asyncDispose]();
});

/** The front door serves on, and nothing of the mistreatment is left. */
async function expectUnharmed(): Promise<void> {
  const client = await connect(door);
  assert.deepEqual((await client.query('SELECT 1 AS one')).rows, [{ one: 1 }]);
  await client.end();
  await bed.expectQuiet();
  assert.deepEqual(bed.logger.complaints, []);
}

const bytes = fc.uint8Array({ minLength: 1, maxLength: 200 });

test('any bytes may come first', async () => {
  const packet = fc.oneof(
    bytes,
    bytes.map((body) => {
      const head = Buffer.alloc(8);
      head.writeInt32BE(body.length + 8);
      head.writeInt32BE(0x0003_0000, 4);
      return Buffer.concat([head, body]);
    }),
    fc.constantFrom(Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from('160301', 'hex'), Buffer.alloc(8)),
  );
  await fc.assert(
    fc.asyncProperty(packet, async (first) => {
      const client = await RawClient.connect(door.address);
      client.send(first);
      client.socket.end();
      await client.untilClosed();
      const [answer] = client.messages;
      if (answer !== undefined) assert.equal(answer.type, 'E');
    }),
    { numRuns: 100 },
  );
  await expectUnharmed();
});

test('a Flush with a body is refused, whatever follows it', async () => {
  const client = await RawClient.logIn(door.address);
  const flush = Buffer.from([0x48, 0, 0, 0, 5, 0]);
  const ours = encodeParse({ statementName: '', text: 'SHOW JOBS', parameterOids: [] });
  client.send(flush, encodeQuery('SELECT 1'), ours);
  client.socket.end();
  await client.untilClosed();
});

test('any bytes may follow the login', async () => {
  const type = fc.constantFrom(...Buffer.from('BCDEFHPQSXcdfp').values(), 0, 255);
  const message = fc.tuple(type, bytes, fc.constantFrom(0, 0, 0, 0, 1, -1)).map(([code, body, error]) => {
    const head = Buffer.alloc(5);
    head[0] = code;
    head.writeInt32BE(body.length + 4 + error, 1);
    return Buffer.concat([head, body]);
  });
  const wellFormed = fc.constantFrom(
    encodeQuery('SELECT 1'),
    encodeQuery('SHOW JOBS'),
    encodeQuery('SELECT * FROM [SHOW JOBS]; BEGIN; SHOW JOB'),
    encodeParse({ statementName: '', text: 'SHOW JOBS', parameterOids: [] }),
    encodeParse({ statementName: 'x', text: 'SHOW JOB $1', parameterOids: [] }),
    encodeParse({ statementName: '', text: 'SELECT $1 FROM [SHOW JOBS]', parameterOids: [] }),
    encodeBind({
      portalName: '',
      statementName: 'x',
      parameterFormats: [1],
      parameters: [null],
      resultFormats: [1],
    }),
    encodeBind({
      portalName: '',
      statementName: '',
      parameterFormats: [],
      parameters: [],
      resultFormats: [],
    }),
    encodeDescribe({ kind: 'statement', name: 'x' }),
    encodeDescribe({ kind: 'portal', name: '' }),
    encodeExecute({ portalName: '', rowsMax: 1 }),
    encodeClose({ kind: 'statement', name: 'x' }),
    encodeFlush(),
    encodeSync(),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(wellFormed, wellFormed, message), { maxLength: 30 }),
      async (messages) => {
        const client = await RawClient.logIn(door.address);
        client.send(...messages);
        client.socket.end();
        await client.untilClosed();
        assert.ok(client.messages.every(({ type: answer }) => '123CDEGHIKNRSTZnst'.includes(answer)));
      },
    ),
    { numRuns: 300 },
  );
  await expectUnharmed();
});

test("a pipeline of ours and Postgres's own, whole or cut, always ends in its ReadyForQuery", async () => {
  const none = { portalName: '', statementName: '', parameterFormats: [], parameters: [], resultFormats: [] };
  const extended = (text: string): Buffer[] => [
    encodeParse({ statementName: '', text, parameterOids: [] }),
    encodeBind(none),
    encodeDescribe({ kind: 'portal', name: '' }),
    encodeExecute({ portalName: '', rowsMax: 0 }),
  ];
  const steps = fc.constantFrom(
    { messages: [encodeQuery('SELECT 1')], answer: 'TDCZ' },
    { messages: [encodeQuery('SHOW JOBS; SELECT 1')], answer: 'TDCTDCZ' },
    { messages: [encodeQuery('SELECT nope; SHOW JOBS')], answer: 'EZ' },
    { messages: [...extended('SELECT 1'), encodeSync()], answer: '12TDCZ' },
    { messages: [...extended('SHOW JOBS'), encodeSync()], answer: '12TDCZ' },
    { messages: [...extended('SELECT * FROM [SHOW JOBS]'), encodeSync()], answer: '12TDCZ' },
    { messages: [...extended('SELECT 1'), ...extended('SHOW JOBS'), encodeSync()], answer: '12TDC12TDCZ' },
    { messages: [...extended('SELECT nope'), ...extended('SHOW JOBS'), encodeSync()], answer: 'EZ' },
    { messages: [...extended('SHOW JOB'), ...extended('SELECT 1'), encodeSync()], answer: 'EZ' },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(steps, { minLength: 1, maxLength: 30 }), fc.nat(), async (chosen, cut) => {
      const client = await RawClient.logIn(door.address);
      const all = Buffer.concat(chosen.flatMap(({ messages }) => messages));
      const at = cut % all.length;
      client.send(all.subarray(0, at));
      await new Promise(setImmediate);
      client.send(all.subarray(at));
      await client.until('Z', chosen.length);
      assert.equal(client.types, chosen.map(({ answer }) => answer).join(''));
      client.send(encodeTerminate());
      await client.untilClosed();
    }),
    { numRuns: 60 },
  );
  await expectUnharmed();
});

test('lengths that can not be are told, and end the connection', async () => {
  for (const head of [
    '5100000003',
    '51ffffffff',
    '5140000000',
    '6400000000',
    '2100000004',
    '7000000008616263',
  ]) {
    const client = await RawClient.logIn(door.address);
    client.send(Buffer.from(head, 'hex'));
    await client.untilClosed();
    const fields = errorFields(client.messages.at(-1)?.body ?? Buffer.alloc(0));
    assert.deepEqual([fields['S'], fields['C']], ['FATAL', '08P01'], head);
  }
  assert.ok(door.counters.protocolViolations >= 6);
  await expectUnharmed();
});

test('who sends nothing, little or slowly is not waited for forever', async () => {
  const silent = await RawClient.connect(door.address);
  const slow = await RawClient.connect(door.address);
  slow.send(Buffer.from([0, 0]));
  const deaf = await RawClient.logIn(door.address);
  deaf.socket.pause();
  deaf.send(encodeQuery("SELECT repeat('x', 1000000) FROM generate_series(1, 100)"));
  await silent.untilClosed();
  await slow.untilClosed();
  deaf.close();
  await waitFor('all sessions to end', () => door.sessions === 0);
  await expectUnharmed();
});
