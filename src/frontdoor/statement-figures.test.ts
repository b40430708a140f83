import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BACKEND, encodeReadyForQuery, FRONTEND } from '../pg/index.ts';
import { ManualClock } from '../../test/harness/manual-clock.ts';
import { BackendFlow } from './backend-flow.ts';
import { ReplyLedger } from './reply-ledger.ts';
import { LATENCY_BOUNDS_MS, StatementMeter, sumFigures, zeroFigures } from './statement-figures.ts';

function message(type: number, body: string): Buffer {
  const bytes = Buffer.alloc(5 + Buffer.byteLength(body) + 1);
  bytes[0] = type;
  bytes.writeInt32BE(bytes.length - 1, 1);
  bytes.write(body, 5);
  return bytes;
}
const done = (tag: string): Buffer => message(BACKEND.commandComplete, tag);
const FAILED = message(BACKEND.errorResponse, 'SERROR');

/** A session whose backend says this; each piece comes a millisecond after the one before. */
function answered(pieces: readonly Buffer[], { queries = 1 }: { queries?: number } = {}) {
  const clock = new ManualClock();
  const figures = zeroFigures();
  const ledger = new ReplyLedger();
  const meter = new StatementMeter(figures, { clock });
  const flow = new BackendFlow({ ledger, meter, forward: () => undefined });
  for (let query = 0; query < queries; query += 1) ledger.sent(FRONTEND.query);
  clock.advance(1);
  meter.asked();
  for (const piece of pieces) {
    clock.advance(1);
    flow.push(piece);
  }
  return { figures, flow, ledger, meter, clock };
}

const countsOf = (counts: readonly number[]) =>
  Object.fromEntries(
    counts.map((count, at) => [LATENCY_BOUNDS_MS[at] ?? 'more', count]).filter(([, count]) => count !== 0),
  );

test('statements are told apart by their tags, wherever the bytes are cut', () => {
  const tags = ['SELECT 1', 'SET', 'SAVEPOINT', 'INSERT 0 1', 'UPDATE 2', 'DELETE 3', 'DEALLOCATE', 'DECLARE CURSOR', 'BEGIN', 'START TRANSACTION', 'COMMIT', 'DO']; // biome-ignore format: a list
  const all = Buffer.concat([...tags.map(done), FAILED, encodeReadyForQuery('I')]);
  for (let cut = 0; cut <= all.length; cut += 1) {
    const { figures } = answered([all.subarray(0, cut), all.subarray(cut)]);
    const { service, transactions, ...counts } = figures;
    assert.deepEqual(counts, {
      selects: 1,
      inserts: 1,
      updates: 1,
      deletes: 1,
      begins: 2,
      statements: tags.length + 1,
      failures: 1,
      aborts: 0,
    });
    assert.equal(service.counts.reduce((sum, count) => sum + count, 0), 1); // biome-ignore format: one line
    assert.deepEqual(service, transactions);
  }
});

test('an answer is measured from its query, a transaction from its first', () => {
  const session = answered([done('BEGIN'), encodeReadyForQuery('T')]);
  const { figures, ledger, meter, clock, flow } = session;
  assert.deepEqual(countsOf(figures.service.counts), { 2.5: 1 });
  assert.deepEqual(countsOf(figures.transactions.counts), {});
  // What the client thinks over belongs to the transaction alone.
  clock.advance(80);
  ledger.sent(FRONTEND.query);
  meter.asked();
  meter.asked();
  clock.advance(4);
  flow.push(Buffer.concat([FAILED, encodeReadyForQuery('E')]));
  assert.equal(figures.aborts, 1);
  ledger.sent(FRONTEND.query);
  meter.asked();
  flow.push(Buffer.concat([done('ROLLBACK'), encodeReadyForQuery('I')]));
  assert.deepEqual(countsOf(figures.service.counts), { 0.25: 1, 2.5: 1, 5: 1 });
  assert.deepEqual(countsOf(figures.transactions.counts), { 100: 1 });
  assert.equal(figures.transactions.sumMs, 86);
});

test('in a pipeline each answer counts from the one before; what nobody asked for counts nowhere', () => {
  const ready = encodeReadyForQuery('I');
  const { figures, flow } = answered([ready, ready, ready], { queries: 2 });
  assert.deepEqual(countsOf(figures.service.counts), { 1: 2 });
  flow.push(ready);
  assert.deepEqual(countsOf(figures.transactions.counts), { 1: 2 });
});

test('what we say to a backend ourselves is not the client’s', () => {
  const { figures, flow, ledger, meter } = answered([]);
  flow.filter = { types: [BACKEND.errorResponse, BACKEND.readyForQuery], map: () => undefined };
  flow.push(Buffer.concat([FAILED, encodeReadyForQuery('I')]));
  flow.filter = undefined;
  assert.deepEqual(figures, zeroFigures());
  ledger.sent(FRONTEND.query);
  meter.asked();
  flow.push(Buffer.concat([done('SELECT 0'), encodeReadyForQuery('I')]));
  assert.equal(figures.service.sumMs, 0);
});

test('figures of several processes add up', () => {
  const one = answered([done('SELECT 1'), encodeReadyForQuery('I')]).figures;
  const sum = sumFigures([one, one]);
  assert.deepEqual([sum.selects, sum.statements, sum.service.sumMs], [2, 2, 4]);
  assert.deepEqual(countsOf(sum.service.counts), { 2.5: 2 });
  assert.deepEqual(sumFigures([]), zeroFigures());
});
