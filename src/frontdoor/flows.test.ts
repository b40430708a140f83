import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BACKEND, encodeReadyForQuery, FRONTEND } from '../pg/index.ts';
import { BackendFlow } from './backend-flow.ts';
import { FrontendFlow, INSPECTED_BYTES_MAX } from './frontend-flow.ts';
import { ReplyLedger } from './reply-ledger.ts';
import { StatementMeter, zeroFigures } from './statement-figures.ts';
import { ManualClock } from '../../test/harness/manual-clock.ts';

function message(type: number, body: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head[0] = type;
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

/** The stream in pieces that end where `cuts` say. */
function pieces(stream: Buffer, cuts: readonly number[]): Buffer[] {
  const ends = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b);
  return [...ends, stream.length].map((end, at) => stream.subarray(at === 0 ? 0 : ends[at - 1], end));
}

/** What a flow did, in order: messages taken, and bytes forwarded between them. */
function walk(
  stream: Buffer,
  cuts: readonly number[],
  options: { takes: (bytes: Buffer) => boolean },
): Buffer[] {
  const events: Buffer[] = [Buffer.alloc(0)];
  const flow: FrontendFlow = new FrontendFlow({
    ledger: new ReplyLedger(),
    handler: {
      forward: (bytes) => events.push(Buffer.concat([events.pop() ?? Buffer.alloc(0), bytes])),
      wants: (_type, bytes, begin, end) => options.takes(bytes.subarray(begin, end)),
      wantsLong: () => false,
      take: (_type, taken) => {
        events.push(Buffer.from(taken), Buffer.alloc(0));
        pending = true;
      },
      violated: (text) => events.push(Buffer.from(`violated: ${text}`)),
      hold: () => undefined,
    },
  });
  let pending = false;
  for (const piece of pieces(stream, cuts)) {
    const lent = Buffer.from(piece);
    flow.push(lent);
    lent.fill(0xee); // The bytes were lent for the call only.
    while (pending) {
      pending = false;
      flow.proceed();
    }
  }
  return events.map((event) => Buffer.from(event));
}

const types = fc.constantFrom(FRONTEND.query, FRONTEND.parse, FRONTEND.bind, FRONTEND.copyData);
const messages = fc.array(
  fc.oneof(
    fc.tuple(types, fc.uint8Array({ maxLength: 40 })).map(([type, body]) => message(type, body)),
    fc.constantFrom(FRONTEND.sync, FRONTEND.flush).map((type) => message(type, Buffer.alloc(0))),
  ),
  { maxLength: 20 },
);

test("a client's stream is forwarded byte for byte and taken apart message by message, however it is cut", () => {
  fc.assert(
    fc.property(messages, fc.array(fc.nat(), { maxLength: 12 }), (all, cuts) => {
      const takes = (bytes: Buffer): boolean => bytes[0] === FRONTEND.query && bytes.length % 3 === 0;
      const expected: Buffer[] = [Buffer.alloc(0)];
      for (const each of all) {
        const isTaken = each[0] === FRONTEND.query && takes(each);
        if (isTaken) expected.push(each, Buffer.alloc(0));
        else expected.push(Buffer.concat([expected.pop() ?? Buffer.alloc(0), each]));
      }
      const actual = walk(Buffer.concat(all), cuts, { takes });
      assert.deepEqual(actual.map(String), expected.map(String));
    }),
    { numRuns: 1_000 },
  );
});

test('a Sync or Flush with a body violates the protocol, after what came before it', () => {
  for (const type of [FRONTEND.sync, FRONTEND.flush]) {
    const before = message(FRONTEND.bind, Buffer.from('x'));
    const events = walk(Buffer.concat([before, message(type, Buffer.of(0))]), [], { takes: () => false });
    assert.deepEqual(events.map(String), [before.toString(), 'violated: invalid message length']);
  }
});

test('a message too long to be looked at is never held back', () => {
  const long = message(FRONTEND.query, Buffer.alloc(INSPECTED_BYTES_MAX + 1, 'x'));
  let forwarded = 0;
  const flow = new FrontendFlow({
    ledger: new ReplyLedger(),
    handler: {
      forward: (bytes) => (forwarded += bytes.length),
      wants: () => assert.fail('too long to be wanted'),
      wantsLong: () => false,
      take: () => assert.fail('nothing is taken'),
      violated: (text) => assert.fail(text),
      hold: () => undefined,
    },
  });
  for (let at = 0; at < long.length; at += 65_536) {
    flow.push(long.subarray(at, at + 65_536));
    assert.equal(forwarded, Math.min(at + 65_536, long.length));
  }
});

test('after an error of ours all is dropped up to the next Sync', () => {
  const forwarded: Buffer[] = [];
  const flow = new FrontendFlow({
    ledger: new ReplyLedger(),
    handler: {
      forward: (bytes) => forwarded.push(Buffer.from(bytes)),
      wants: () => assert.fail('what is dropped is not looked at'),
      wantsLong: () => false,
      take: () => assert.fail('nothing is taken'),
      violated: (text) => assert.fail(text),
      hold: () => undefined,
    },
  });
  flow.discardUntilSync();
  const stream = Buffer.concat([
    message(FRONTEND.query, Buffer.from('dropped\0')),
    message(FRONTEND.copyData, Buffer.alloc(1000)),
    message(FRONTEND.sync, Buffer.alloc(0)),
    message(FRONTEND.flush, Buffer.alloc(0)),
  ]);
  for (const byte of stream) flow.push(Buffer.of(byte));
  assert.equal(Buffer.concat(forwarded).toString('latin1'), 'S\0\0\0\x04H\0\0\0\x04');
});

test("a backend's stream passes whole, and the filter sees each message once, however it is cut", () => {
  const backendTypes = fc.constantFrom(
    BACKEND.dataRow,
    BACKEND.commandComplete,
    BACKEND.errorResponse,
    BACKEND.noticeResponse,
  );
  const stream = fc.array(
    fc.oneof(
      fc.tuple(backendTypes, fc.uint8Array({ maxLength: 40 })).map(([type, body]) => message(type, body)),
      fc.constantFrom(encodeReadyForQuery('I'), encodeReadyForQuery('T'), encodeReadyForQuery('E')),
    ),
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(stream, fc.array(fc.nat(), { maxLength: 12 }), fc.boolean(), (all, cuts, isFiltered) => {
      const forwarded: Buffer[] = [];
      const seen: Buffer[] = [];
      const flow = new BackendFlow({
        ledger: new ReplyLedger(),
        meter: new StatementMeter(zeroFigures(), { clock: new ManualClock() }),
        forward: (bytes) => forwarded.push(Buffer.from(bytes)),
      });
      const hidden = BACKEND.readyForQuery;
      if (isFiltered) {
        flow.filter = {
          types: [hidden],
          map: (_type, bytes) => {
            seen.push(Buffer.from(bytes));
            return undefined;
          },
        };
      }
      for (const piece of pieces(Buffer.concat(all), cuts)) {
        const lent = Buffer.from(piece);
        flow.push(lent);
        lent.fill(0xee);
      }
      const isHidden = (each: Buffer): boolean => isFiltered && each[0] === hidden;
      assert.deepEqual(Buffer.concat(forwarded), Buffer.concat(all.filter((each) => !isHidden(each))));
      assert.deepEqual(seen, all.filter(isHidden));
      const last = all.findLast((each) => each[0] === BACKEND.readyForQuery);
      assert.equal(flow.status, last === undefined ? 'I' : String.fromCharCode(last[5] ?? 0));
      assert.ok(flow.isAtBoundary);
    }),
    { numRuns: 1_000 },
  );
});
