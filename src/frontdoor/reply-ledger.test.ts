import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { TestBed } from '../../test/harness/front-door.ts';
import { RawClient } from '../../test/harness/raw-client.ts';
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
} from '../pg/index.ts';
import { ReplyLedger } from './reply-ledger.ts';

let bed: TestBed;
before(async () => {
  bed = await TestBed.start();
});
after(async () => {
  await bed[Symbol.asyncDispose]();
});

const none = { parameterFormats: [], parameters: [], resultFormats: [] };
const COPY_ROW = Buffer.from('d\0\0\0\x061\n', 'latin1');
const COPY_DONE = Buffer.from('c\0\0\0\x04', 'latin1');

/** Messages of a client; those in one entry are sent together. */
const MESSAGES: Readonly<Record<string, readonly Buffer[]>> = {
  parse: [encodeParse({ statementName: '', text: 'SELECT 1', parameterOids: [] })],
  parseBad: [encodeParse({ statementName: '', text: 'SELECT nope', parameterOids: [] })],
  parseEmpty: [encodeParse({ statementName: '', text: '', parameterOids: [] })],
  bind: [encodeBind({ portalName: '', statementName: '', ...none })],
  describe: [encodeDescribe({ kind: 'statement', name: '' })],
  describePortal: [encodeDescribe({ kind: 'portal', name: '' })],
  execute: [encodeExecute({ portalName: '', rowsMax: 0 })],
  close: [encodeClose({ kind: 'statement', name: '' })],
  sync: [encodeSync()],
  query: [encodeQuery('SELECT 1; SELECT 2')],
  queryBad: [encodeQuery('SELECT 1; SELECT nope')],
  queryEmpty: [encodeQuery('')],
  copyQuery: [encodeQuery('COPY t FROM STDIN'), COPY_ROW, COPY_DONE],
  // Under a name of its own: a later Execute of the unnamed statement would wait for data for ever.
  copyBlind: [
    encodeClose({ kind: 'statement', name: 'copying' }),
    encodeParse({ statementName: 'copying', text: 'COPY t FROM STDIN', parameterOids: [] }),
    encodeBind({ portalName: '', statementName: 'copying', ...none }),
    encodeExecute({ portalName: '', rowsMax: 0 }),
    encodeSync(), // Ignored by the server.
    COPY_ROW,
    COPY_DONE,
    encodeSync(),
  ],
  strayCopyDone: [COPY_DONE],
};

/** The messages of a Query are held back while a pipeline is unfinished; the ledger need not know them there. */
function withoutQueriesInPipelines(names: readonly string[]): string[] {
  let isOpen = false;
  let isStray = false;
  return names.filter((name) => {
    const isQuery = name.startsWith('query') || name === 'copyQuery';
    if (isQuery && isOpen) return false;
    if (name === 'copyBlind' && (isOpen || isStray)) return false;
    if (!isQuery && name !== 'strayCopyDone') isOpen = name !== 'sync' && name !== 'copyBlind';
    // Which COPY a stray end would belong to, if one followed in the same breath, can't be told.
    if (name === 'strayCopyDone') isStray = true;
    return true;
  });
}

test('what the ledger expects is what Postgres answers, for any pipeline', async () => {
  const setUp = await RawClient.logIn({ path: bed.instance.socketPath });
  setUp.send(encodeQuery('CREATE TABLE t (v int)'));
  await setUp.until('Z');
  setUp.close();
  const names = fc.array(fc.constantFrom(...Object.keys(MESSAGES)), { minLength: 1, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(names.map(withoutQueriesInPipelines), async (pipeline) => {
      const client = await RawClient.logIn({ path: bed.instance.socketPath });
      const ledger = new ReplyLedger();
      const messages = pipeline.flatMap((name) => MESSAGES[name] ?? []);
      for (const message of messages) ledger.sent(message[0] ?? 0);
      client.send(...messages, encodeFlush());
      let seen = 0;
      const take = (): void => {
        const all = client.messages;
        for (; seen < all.length; seen += 1) ledger.seen(all[seen]?.type.charCodeAt(0) ?? 0);
      };
      await waitFor(`replies to ${pipeline.join(' ')}`, () => {
        take();
        return ledger.isSettled;
      });
      // Settled means settled: a Sync is answered by its ReadyForQuery and nothing else.
      client.clear();
      client.send(encodeSync());
      await client.until('Z');
      assert.equal(client.types, 'Z', pipeline.join(' '));
      client.close();
    }),
    { numRuns: 150 },
  );
});
