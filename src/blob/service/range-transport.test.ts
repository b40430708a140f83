import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { TestAuthority } from '../../../test/harness/certificates.ts';
import { errnoOf, isAppError } from '../../base/index.ts';
import { BLOB_CHUNK_BYTES_MAX } from '../blob-store.ts';
import { parseAnswerHead, type RangeRequest, RangeTransport, UnavailableAnswer } from './range-transport.ts';

const { signal } = new AbortController();
const CONTENT = randomBytes(3 * BLOB_CHUNK_BYTES_MAX + 17);
const answer = (content: Uint8Array, fields = '') =>
  Buffer.concat([
    Buffer.from(
      `HTTP/1.1 206 Partial Content\r\nContent-Length: ${content.length}\r\ncontent-range: bytes 5-9/10\r\n${fields}\r\n`,
    ),
    content,
  ]);

describe('the way of ranges', () => {
  let transport: RangeTransport;
  let server: Server;
  let request: RangeRequest;
  let connections: Socket[];
  let heads: string[];
  /** What the server does with a request, by their number. */
  let serve: (socket: Socket, number: number) => unknown;

  function onConnection(socket: Socket): void {
    connections.push(socket);
    let begun = '';
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => {
      begun += bytes.toString('latin1');
      if (!begun.endsWith('\r\n\r\n')) return;
      heads.push(begun);
      begun = '';
      serve(socket, heads.length);
    });
  }

  async function listen(over: Server): Promise<void> {
    server = over;
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }

  beforeEach(async () => {
    [connections, heads] = [[], []];
    transport = new RangeTransport({ authorities: undefined });
    await listen(createServer(onConnection));
    const { port } = server.address() as AddressInfo;
    request = {
      isTls: false,
      hostname: '127.0.0.1',
      port,
      path: '/b/o?x=1',
      headers: { host: 'here', range: 'bytes=5-9' },
    };
  });
  afterEach(async () => {
    transport.close();
    for (const socket of connections) socket.destroy();
    server.close();
    await once(server, 'close');
  });

  const get = (bytesMax = CONTENT.length) => transport.get(request, { bytesMax, signal });
  const isLost = (error: unknown) => errnoOf(error) !== undefined;

  it('gives what came, in whatever pieces it came, over one connection', async () => {
    const whole = answer(CONTENT);
    const cuts = [
      [],
      [1, 2, 3],
      [30, 31],
      [whole.length - CONTENT.length],
      [whole.length - CONTENT.length - 2, whole.length - 1],
    ];
    serve = async (socket, number) => {
      const at = [0, ...(cuts[number - 1] ?? []), whole.length];
      for (const [index, begin] of at.slice(0, -1).entries()) {
        if (!socket.write(whole.subarray(begin, at[index + 1]))) await once(socket, 'drain');
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    };
    for (const _ of cuts) {
      const response = await get();
      assert.ok(response !== null);
      assert.ok(response.chunks.every(({ length }) => length <= BLOB_CHUNK_BYTES_MAX));
      assert.ok(Buffer.concat(response.chunks).equals(CONTENT));
      assert.deepEqual([response.status, response.contentRange], [206, 'bytes 5-9/10']);
    }
    assert.equal(connections.length, 1);
    assert.equal(
      heads[0],
      'GET /b/o?x=1 HTTP/1.1\r\nhost: here\r\nrange: bytes=5-9\r\nconnection: keep-alive\r\n\r\n',
    );
  });

  it('has several connections for requests at a time, and uses them again', async () => {
    let waiting: Socket[] = [];
    serve = (socket) => {
      waiting.push(socket);
      if (waiting.length < 3) return;
      for (const each of waiting) each.write(answer(CONTENT));
      waiting = [];
    };
    for (let round = 0; round < 2; round++) await Promise.all([get(), get(), get()]);
    assert.equal(connections.length, 3);
  });

  it('leaves to others what is no plain answer', async () => {
    const strange = [
      'HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n',
      'HTTP/1.1 301 Moved\r\nlocation: x\r\n\r\n',
      'HTTP/1.1 100 Continue\r\n\r\n',
      'HTTP/1.0 206 Partial\r\ncontent-length: 1\r\n\r\nx',
      'HTTP/1.1 206 Partial\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n',
      'HTTP/1.1 206 Partial\r\ncontent-length: 1\r\ncontent-encoding: gzip\r\n\r\nx',
      'HTTP/1.1 206 Partial\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx',
      'HTTP/1.1 206 Partial\r\n\r\nx',
      'HTTP/1.1 206 Partial\r\nno field\r\ncontent-length: 1\r\n\r\nx',
      `HTTP/1.1 206 Partial\r\n${'x: y\r\n'.repeat(10_000)}`,
      'something else\r\n\r\n',
    ];
    serve = (socket, number) => socket.write(strange[number - 1] ?? '');
    for (const each of strange) assert.equal(await get(), null, each.slice(0, 60));
    assert.equal(connections.length, strange.length, 'what is left of such an answer is not read');
  });

  it('has it from one request that the service cannot answer now', async () => {
    const statuses = [429, 500, 502, 503, 504];
    serve = (socket, number) =>
      socket.write(`HTTP/1.1 ${statuses[number - 1]} Later\r\ncontent-length: 3\r\n\r\nwhy`);
    for (const status of statuses) {
      await assert.rejects(get(), (error) => error instanceof UnavailableAnswer && error.status === status);
    }
    assert.equal(connections.length, statuses.length, 'what is left of such an answer is not read');
  });

  it('says when it was lost, wherever that happened', async () => {
    const whole = answer(CONTENT);
    const head = whole.length - CONTENT.length;
    const lengths = [0, 3, head - 1, head, head + 1, whole.length - 1];
    serve = (socket, number) => socket.end(whole.subarray(0, lengths[number - 1]));
    for (const length of lengths) await assert.rejects(get(), isLost, `after ${length}`);
    serve = (socket) => socket.write(whole);
    assert.notEqual(await get(), null);
  });

  it('says when nobody is there', async () => {
    server.close();
    await once(server, 'close');
    await assert.rejects(get(), isLost);
    await listen(createServer(onConnection));
  });

  it('asks again when the connection that it kept was ended meanwhile', async () => {
    serve = (socket) => socket.write(answer(CONTENT));
    await get();
    // It may learn of the end before it asks, while it asks, or when it has asked.
    serve = (socket, number) => (number === 2 ? socket.destroy() : socket.write(answer(CONTENT)));
    assert.notEqual(await get(), null);
    assert.equal(connections.length, 2);
  });

  it('does not keep a connection that the other side will not', async () => {
    serve = (socket) => socket.write(answer(CONTENT, 'Connection: keep-alive, Close\r\n'));
    await get();
    await get();
    assert.equal(connections.length, 2);
  });

  it('believes neither more bytes than were told of nor more than were asked for', async () => {
    serve = (socket) => socket.write(Buffer.concat([answer(CONTENT.subarray(0, 5)), Buffer.from('more')]));
    await assert.rejects(get(), isLost);
    serve = (socket) => socket.write(answer(CONTENT.subarray(0, 6)));
    await assert.rejects(get(5), (error) => isAppError(error, 'blob_unavailable'));
  });

  it('ends when it is told to, and holds nothing then', async () => {
    const ending = new AbortController();
    serve = (socket) => {
      socket.write(answer(CONTENT).subarray(0, 1000));
      setImmediate(() => ending.abort(new Error('enough')));
    };
    const asked = transport.get(request, { bytesMax: CONTENT.length, signal: ending.signal });
    await assert.rejects(asked, /enough/);
    const [socket] = connections;
    if (socket?.destroyed === false) await new Promise((resolve) => socket.once('close', resolve));
    await assert.rejects(transport.get(request, { bytesMax: 1, signal: ending.signal }), /enough/);
    assert.equal(heads.length, 1);
  });

  it('leads through TLS to whom an authority vouches for, and to nobody else', async () => {
    const authority = await TestAuthority.make();
    const { certificate: cert, key } = await authority.node();
    server.close();
    await listen(createTlsServer({ cert, key }, onConnection));
    const { port } = server.address() as AddressInfo;
    const secure = { ...request, isTls: true, hostname: 'localhost', port };
    serve = (socket) => socket.write(answer(CONTENT));
    const options = { bytesMax: CONTENT.length, signal };
    await assert.rejects(transport.get(secure, options), isLost);
    const trusting = new RangeTransport({ authorities: [authority.certificate] });
    for (let round = 0; round < 2; round++) {
      const response = await trusting.get(secure, options);
      assert.ok(Buffer.concat(response?.chunks ?? []).equals(CONTENT));
    }
    await assert.rejects(trusting.get({ ...secure, hostname: 'ip6-localhost' }, options), isLost);
    trusting.close();
    assert.equal(heads.length, 2);
  });
});

describe('the head of an answer', () => {
  it('is read whatever the case of its names', () => {
    const head = parseAnswerHead('HTTP/1.1 200 OK\r\nCONTENT-length:\t12 \r\nx-a: 1\r\nX-A: 2');
    assert.deepEqual([head?.status, head?.length, head?.isLast, head?.contentRange], [200, 12, false, null]);
    assert.equal(head?.fields.get('x-a'), '1, 2');
  });
});
