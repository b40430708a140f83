import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { connect, TestBed } from '../../test/harness/front-door.ts';
import { errorFields, RawClient } from '../../test/harness/raw-client.ts';
import {
  encodeBind,
  encodeDescribe,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
} from '../pg/index.ts';
import type { FrontDoor } from './front-door.ts';

/** Stands for any statement of ours that becomes one of Postgres's. */
const OURS = 'SHOW JOBS';

let bed: TestBed;
let door: FrontDoor;
before(async () => {
  bed = await TestBed.start();
  door = await bed.open();
  bed.service.columns = undefined;
  const client = await connect(door);
  await client.query('CREATE TABLE t (a int)');
  await client.end();
});
afterEach(async () => {
  await bed.expectQuiet();
  assert.deepEqual(bed.logger.complaints, []);
});
after(async () => {
  await bed[Symbol.asyncDispose]();
});

/** What OURS turns into from now on. */
function becomes(sql: string): void {
  bed.service.onExecute = () => ({ kind: 'in_session', sql, tag: 'GRANT' });
}

const extended = (text: string): Buffer[] => [
  encodeParse({ statementName: '', text, parameterOids: [] }),
  encodeBind({ portalName: '', statementName: '', parameterFormats: [], parameters: [], resultFormats: [] }),
  encodeDescribe({ kind: 'portal', name: '' }),
  encodeExecute({ portalName: '', rowsMax: 0 }),
];

/** Types of messages, the status in each ReadyForQuery, the tags of what was carried out. */
async function talk(client: RawClient, messages: readonly Buffer[], count = 1): Promise<string> {
  client.clear();
  client.send(...messages);
  await client.until('Z', count);
  return client.messages
    .filter(({ type }) => !'SNA12nTD'.includes(type))
    .map(({ type, body }) =>
      type === 'Z' ? `Z${body.toString()}` : type === 'C' ? `[${body.toString().replace('\0', '')}]` : type,
    )
    .join('');
}

async function count(): Promise<number> {
  const client = await connect(door);
  try {
    return (await client.query('SELECT * FROM t')).rows.length;
  } finally {
    await client.end();
  }
}

describe('a statement of ours that becomes one of Postgres’s', () => {
  test('is told by its own tag, and belongs to the session’s transaction', async () => {
    becomes('INSERT INTO t VALUES (1)');
    const client = await RawClient.logIn(door.address);
    assert.equal(await talk(client, [encodeQuery(OURS)]), '[GRANT]ZI');
    assert.equal(await count(), 1);
    assert.equal(await talk(client, [encodeQuery(`BEGIN; ${OURS}; ROLLBACK`)]), '[BEGIN][GRANT][ROLLBACK]ZI');
    assert.equal(await count(), 1);
    assert.equal(await talk(client, [...extended(OURS), encodeSync()]), '[GRANT]ZI');
    assert.equal(await count(), 2);
    await talk(client, [encodeQuery('BEGIN')]);
    assert.equal(await talk(client, [...extended(OURS), encodeSync()]), '[GRANT]ZT');
    await talk(client, [encodeQuery('ROLLBACK')]);
    assert.equal(await count(), 2);
    client.close();
  });

  test('joins the transaction of the pipeline it stands in', async () => {
    becomes('INSERT INTO t VALUES (2)');
    const client = await RawClient.logIn(door.address);
    const begun = await count();
    const insert = extended('INSERT INTO t VALUES (3)');
    const fails = extended('SELECT 1/0');
    assert.match(
      await talk(client, [...insert, ...extended(OURS), ...fails, encodeSync()]),
      /^\[INSERT 0 1\]\[GRANT\]E+ZI$/,
    );
    assert.equal(await count(), begun);
    const twice = [...insert, ...extended(OURS), ...extended(OURS), ...insert, encodeSync()];
    assert.equal(await talk(client, twice), '[INSERT 0 1][GRANT][GRANT][INSERT 0 1]ZI');
    assert.equal(await count(), begun + 4);
    client.close();
  });

  test('fails with what Postgres says, without its inner workings, and what follows is skipped', async () => {
    becomes("DO $$BEGIN RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'no ä', HINT = 'ask'; END$$");
    const client = await RawClient.logIn(door.address);
    assert.equal(await talk(client, [encodeQuery(`${OURS}; SELECT 1`)]), 'EZI');
    const fields = errorFields(client.messages.find(({ type }) => type === 'E')?.body ?? Buffer.alloc(0));
    assert.deepEqual([fields['C'], fields['M'], fields['H']], ['42501', 'no ä', 'ask']);
    assert.deepEqual([fields['W'], fields['P'], fields['q']], [undefined, undefined, undefined]);
    assert.equal(await talk(client, [...extended(OURS), ...extended('SELECT 1'), encodeSync()]), 'EZI');
    const insert = extended('INSERT INTO t VALUES (4)');
    const begun = await count();
    assert.equal(
      await talk(client, [...insert, ...extended(OURS), ...insert, encodeSync()]),
      '[INSERT 0 1]EZI',
    );
    assert.equal(await count(), begun);
    assert.equal(await talk(client, [encodeQuery('BEGIN')]), '[BEGIN]ZT');
    assert.equal(await talk(client, [encodeQuery(OURS)]), 'EZE');
    assert.equal(await talk(client, [encodeQuery('ROLLBACK')]), '[ROLLBACK]ZI');
    client.close();
  });
});
