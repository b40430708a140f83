import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { NEVER } from '../../../test/harness/instance-store.ts';
import { scratchDirectory } from '../../../test/harness/scratch.ts';
import { isAppError, type Lsn } from '../../base/index.ts';
import {
  BACKEND,
  encodeAuthenticationOk,
  encodeCommandComplete,
  encodeErrorResponse,
  encodeReadyForQuery,
  encodeRowDescription,
  MessageWriter,
  writeDataRow,
} from '../../pg/index.ts';
import { ReplicationConnection, ReplicationError, type StreamEvent } from './replication-connection.ts';

const EPOCH_US = 946_684_800_000_000n;

let directory: string;
let server: Server;
/** What the server says once it is asked to stream. */
let script: Buffer = Buffer.alloc(0);
/** In pieces of this many bytes. */
let pieceBytes = 1;
let isPassword = false;

before(async () => {
  directory = await scratchDirectory('atoll-walsender-');
  server = createServer((socket) => serve(socket));
  await new Promise<void>((resolve) => server.listen(join(directory, 's'), resolve));
});

after(async () => {
  await new Promise((resolve) => server.close(resolve));
  await rm(directory, { recursive: true, force: true });
});

/** As little of a walsender as is needed: lets everybody in, and answers any command with the script. */
function serve(socket: Socket): void {
  socket.on('error', () => undefined);
  socket.once('data', () => {
    if (isPassword) socket.write(Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 3]));
    else socket.write(Buffer.concat([encodeAuthenticationOk(), encodeReadyForQuery('I')]));
    socket.once('data', () => void say(socket));
  });
}

async function say(socket: Socket): Promise<void> {
  for (let at = 0; at < script.length; at += pieceBytes) {
    socket.write(script.subarray(at, at + pieceBytes));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function open(): Promise<ReplicationConnection> {
  return ReplicationConnection.open({
    socketPath: join(directory, 's'),
    applicationName: 'test',
    signal: NEVER,
  });
}

function copyBoth(): Buffer {
  return new MessageWriter().begin(BACKEND.copyBothResponse).uint8(0).uint16(0).end().take();
}

function copyDone(): Buffer {
  return new MessageWriter().begin(BACKEND.copyDone).end().take();
}

function log(lsn: bigint, content: Buffer): Buffer {
  const head = Buffer.alloc(25);
  head.write('w');
  head.writeBigUInt64BE(lsn, 1);
  return new MessageWriter().begin(BACKEND.copyData).bytes(head).bytes(content).end().take();
}

function keepalive(lsn: bigint, options: { atUs: bigint; isReplyWanted: boolean }): Buffer {
  const body = Buffer.alloc(18);
  body.write('k');
  body.writeBigUInt64BE(lsn, 1);
  body.writeBigInt64BE(options.atUs - EPOCH_US, 9);
  body.writeUInt8(Number(options.isReplyWanted), 17);
  return new MessageWriter().begin(BACKEND.copyData).bytes(body).end().take();
}

function nextTimeline(): Buffer {
  const writer = new MessageWriter();
  writeDataRow(writer, ['2', '16/B374D848']);
  const fields = ['next_tli', 'next_tli_startpos'].map((name) => ({
    name,
    typeOid: 25,
    typeLength: -1,
    format: 0 as const,
  }));
  return Buffer.concat([
    encodeRowDescription(fields),
    writer.take(),
    encodeCommandComplete('START_STREAMING'),
    encodeReadyForQuery('I'),
  ]);
}

async function eventsOf(): Promise<
  (Exclude<StreamEvent, { kind: 'log' }> | { kind: 'log'; lsn: Lsn; hex: string })[]
> {
  using connection = await open();
  const events = [];
  for await (const event of connection.stream({ slot: 's', lsn: 0n as Lsn, timelineId: 1 })) {
    events.push(
      event.kind === 'log'
        ? { kind: event.kind, lsn: event.lsn, hex: Buffer.from(event.bytes).toString('hex') }
        : { ...event },
    );
  }
  return events;
}

describe('a replication connection', () => {
  it('tells the same however its bytes are cut', async () => {
    const content = Buffer.from(Array.from({ length: 50 }, (_, index) => index));
    script = Buffer.concat([
      copyBoth(),
      log(0x1000n, content),
      keepalive(0x1032n, { atUs: EPOCH_US + 5n, isReplyWanted: true }),
      log(0x1032n, content.subarray(0, 8)),
      copyDone(),
      nextTimeline(),
    ]);
    for (pieceBytes of [1, 2, 3, 7, 30, 31, 64, 1000]) {
      const events = await eventsOf();
      const logged = events.filter((event) => event.kind === 'log');
      assert.equal(
        logged.map(({ hex }) => hex).join(''),
        Buffer.concat([content, content.subarray(0, 8)]).toString('hex'),
      );
      let expected = 0x1000n;
      for (const { lsn, hex } of logged) {
        assert.equal(lsn, expected);
        expected += BigInt(hex.length / 2);
      }
      assert.deepEqual(
        events.filter((event) => event.kind !== 'log'),
        [
          { kind: 'begun' },
          { kind: 'keepalive', sentLsn: 0x1032n, sentAt: EPOCH_US + 5n, isReplyWanted: true },
          { kind: 'timeline_end', nextTimelineId: 2, switchLsn: 0x16_b374_d848n },
        ],
      );
    }
  });

  it('knows a server that stops from one that is lost', async () => {
    pieceBytes = 1000;
    script = Buffer.concat([copyBoth(), encodeCommandComplete('COPY 0')]);
    assert.deepEqual(await eventsOf(), [{ kind: 'begun' }, { kind: 'server_stop' }]);
    script = copyBoth();
    using connection = await open();
    const stream = connection.stream({ slot: 's', lsn: 0n as Lsn, timelineId: 1 });
    assert.deepEqual((await stream.next()).value, { kind: 'begun' });
    const next = stream.next();
    connection[Symbol.dispose]();
    await assert.rejects(next, (error) => isAppError(error, 'connection_failure'));
  });

  it('passes on what the server refuses, with its SQLSTATE', async () => {
    const fields = new Map([
      ['S', 'ERROR'],
      ['V', 'ERROR'],
      ['C', '58P01'],
      ['M', 'requested WAL segment 1 has already been removed'],
    ]);
    script = Buffer.concat([copyBoth(), encodeErrorResponse(fields), encodeReadyForQuery('I')]);
    await assert.rejects(eventsOf(), (error) => {
      return (
        error instanceof ReplicationError &&
        error.serverSqlstate === '58P01' &&
        /already been removed/.test(error.message)
      );
    });
  });

  it('refuses what no walsender sends', async () => {
    const bad = [
      new MessageWriter().begin(BACKEND.copyData).uint8(0x7a).end().take(),
      Buffer.from([BACKEND.copyData, 0, 0, 0, 1]),
      Buffer.from([BACKEND.dataRow, 0x7f, 0xff, 0xff, 0xff]),
      new MessageWriter().begin(BACKEND.copyData).uint8(0x77).uint8(0).end().take(),
    ];
    for (const message of bad) {
      script = Buffer.concat([copyBoth(), message]);
      await assert.rejects(eventsOf(), (error) => isAppError(error, 'protocol_violation'));
    }
  });

  it('gives no password to anybody', async () => {
    isPassword = true;
    await assert.rejects(open(), (error) => isAppError(error, 'authentication_failed'));
    isPassword = false;
  });
});
