import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CopyOutQuery } from './copy-out.ts';

function message(type: string, content: Buffer): Buffer {
  const header = Buffer.alloc(5);
  header.write(type, 'latin1');
  header.writeUInt32BE(content.length + 4, 1);
  return Buffer.concat([header, content]);
}

/** A connection of the client library's, as far as it is used, and what its own reader was given. */
class FakeConnection {
  readonly stream = Object.assign(new EventEmitter(), {
    pause: () => (this.isPaused = true),
    resume: () => (this.isPaused = false),
  });
  readonly given: Buffer[] = [];
  isPaused = false;
  asked = '';
  constructor() {
    this.stream.on('data', (chunk: Buffer) => this.given.push(Buffer.from(chunk)));
  }
  query(text: string): void {
    this.asked = text;
  }
  feed(chunk: Buffer): void {
    this.stream.emit('data', chunk);
  }
}

function begin(): { query: CopyOutQuery; connection: FakeConnection } {
  const query = new CopyOutQuery('copy t to stdout');
  const connection = new FakeConnection();
  query.submit(connection as never);
  assert.equal(connection.asked, 'copy t to stdout');
  return { query, connection };
}

const BEGIN = message('H', Buffer.from([1, 0, 0]));
const DONE = message('c', Buffer.alloc(0));
const END = Buffer.concat([message('C', Buffer.from('COPY 7\0')), message('Z', Buffer.from('I'))]);

/** The same bytes, parted at these places. */
function parted(bytes: Buffer, places: readonly number[]): Buffer[] {
  const cuts = [...new Set(places.map((place) => place % (bytes.length + 1)))].toSorted((a, b) => a - b);
  return [0, ...cuts].map((from, at) => Buffer.from(bytes.subarray(from, cuts[at] ?? bytes.length)));
}

describe('what COPY sends', () => {
  it('is its content, however the messages arrive, and the rest is the library’s', async () => {
    const row = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
    const other = fc.constantFrom(message('N', Buffer.from('notice\0')), message('S', Buffer.from('a\0b\0')));
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            { weight: 9, arbitrary: row },
            { weight: 1, arbitrary: other.map((whole) => ({ whole })) },
          ),
        ),
        fc.array(fc.nat(2000), { maxLength: 30 }),
        async (pieces, places) => {
          const { query, connection } = begin();
          const bytes = Buffer.concat([
            BEGIN,
            ...pieces.map((piece) => ('whole' in piece ? piece.whole : message('d', piece))),
            DONE,
            END,
          ]);
          for (const chunk of parted(bytes, places)) connection.feed(chunk);
          query.handleReadyForQuery();
          const copied: Buffer[] = [];
          for await (const chunk of query) copied.push(chunk as Buffer);
          const rows = pieces.flatMap((piece) => ('whole' in piece ? [] : [piece]));
          assert.deepEqual(Buffer.concat(copied), Buffer.concat(rows));
          assert.deepEqual(Buffer.concat(connection.given), END);
        },
      ),
    );
  });

  it('waits where nobody reads', async () => {
    const { query, connection } = begin();
    const piece = message('d', Buffer.alloc(1100 * 1024, 'x'));
    connection.feed(Buffer.concat([BEGIN, piece]));
    assert.equal(connection.isPaused, true);
    await once(query, 'readable');
    query.read();
    assert.equal(connection.isPaused, false);
  });

  it('that ends in an error gives the connection back', async () => {
    const { query, connection } = begin();
    const failed = once(query, 'error');
    const error = message('E', Buffer.from('SERROR\0\0'));
    connection.feed(Buffer.concat([BEGIN, message('d', Buffer.from('row')), error]));
    assert.deepEqual(Buffer.concat(connection.given), error);
    query.handleError(new Error('refused'));
    const [thrown] = (await failed) as [Error];
    assert.equal(thrown.message, 'refused');
  });

  it('is let go when it is given up, and the end is still seen', async () => {
    const { query, connection } = begin();
    connection.feed(Buffer.concat([BEGIN, message('d', Buffer.alloc(300 * 1024, 'x'))]));
    query.destroy();
    await once(query, 'close');
    assert.equal(connection.isPaused, false);
    connection.feed(Buffer.concat([message('d', Buffer.from('more')), DONE, END]));
    assert.deepEqual(Buffer.concat(connection.given), END);
  });

  it('tells how many rows there were', () => {
    const { query } = begin();
    query.handleCommandComplete({ text: 'COPY 3000000000' });
    assert.equal(query.rowCount, 3_000_000_000n);
  });
});
