import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { waitFor } from '../../test/harness/wait.ts';
import { Channel } from './channel.ts';
import { LanePool } from './fast-lane.ts';

/** A relay of two channels between a client and an echo, over a Unix socket each. */
async function withEcho(
  pool: LanePool | undefined,
  use: (connect: () => Socket, channels: Channel[]) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'atoll-ch-'));
  const echo = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined); // Peers vanish in these tests.
    socket.pipe(socket);
  });
  const channels: Channel[] = [];
  const relay = createServer({ allowHalfOpen: true }, (socket) => {
    const near = Channel.accepted(socket, {
      pool,
      events: {
        onData: (bytes) => far.write(bytes) || near.pause(),
        onEnd: () => far.end(),
        onDrain: () => far.resume(),
        onClose: () => far.destroy(),
      },
    });
    const far = Channel.toSocket(join(directory, 'echo'), {
      pool,
      events: {
        onData: (bytes) => near.write(bytes) || far.pause(),
        onEnd: () => near.end(),
        onDrain: () => near.resume(),
        onClose: () => near.closeGently(),
      },
    });
    channels.push(near, far);
  });
  await new Promise<void>((resolve) => echo.listen(join(directory, 'echo'), resolve));
  await new Promise<void>((resolve) => relay.listen(join(directory, 'relay'), resolve));
  try {
    await use(() => connect({ path: join(directory, 'relay'), allowHalfOpen: true }), channels);
    await waitFor('all channels to close', () => channels.every((channel) => channel.isClosed));
  } finally {
    relay.close();
    echo.close();
    await rm(directory, { recursive: true, force: true });
  }
}

for (const [name, pool] of [
  ['past the streams', new LanePool()],
  ['the documented way', undefined],
] as const) {
  test(`bytes arrive whole and in order, however slowly they are read: ${name}`, async () => {
    await withEcho(pool, async (connect) => {
      await Promise.all(
        Array.from({ length: 8 }, async (_, number) => {
          const socket = connect();
          const sent = createHash('sha256');
          const received = createHash('sha256');
          const ended = new Promise((resolve) => socket.on('end', resolve));
          socket.on('data', (bytes: Buffer) => {
            received.update(bytes);
            if (number % 2 === 0 && bytes[0] === 0) {
              socket.pause(); // A reader that is slow at times fills all buffers on the way.
              setImmediate(() => socket.resume());
            }
          });
          for (let round = 0; round < 200; round += 1) {
            const bytes = randomBytes(1 + ((round * 7919 * (number + 1)) % 200_000));
            sent.update(bytes);
            if (!socket.write(bytes)) await new Promise((resolve) => socket.once('drain', resolve));
          }
          socket.end();
          await ended;
          assert.equal(received.digest('hex'), sent.digest('hex'));
        }),
      );
    });
  });

  test(`a peer that vanishes closes both sides: ${name}`, async () => {
    await withEcho(pool, async (connect, channels) => {
      const socket = connect();
      socket.on('error', () => undefined);
      socket.write('hello');
      await new Promise((resolve) => socket.once('data', resolve));
      socket.pause();
      for (let round = 0; round < 50; round += 1) socket.write(Buffer.alloc(100_000));
      socket.destroy();
      await waitFor('both channels', () => channels.length === 2);
    });
  });
}

test('writing to a closed channel does nothing', async () => {
  await withEcho(new LanePool(), async (connect, channels) => {
    connect().end('x').resume();
    await waitFor(
      'the channels to close',
      () => channels.length === 2 && channels.every(({ isClosed }) => isClosed),
    );
    for (const channel of channels) {
      assert.equal(channel.write(Buffer.from('late')), true);
      channel.pause();
      channel.resume();
      channel.destroy();
    }
  });
});

test('what is written after the end of a channel goes nowhere, whoever has its descriptor now', async () => {
  await withSockets(async ({ channel, socket, peer }) => {
    channel.write(Buffer.from('first'));
    await once(peer, 'data');
    const descriptor = descriptorOf(socket);
    const closed = once(socket, 'close');
    channel.destroy();
    await closed;
    const path = join(await mkdtemp(join(tmpdir(), 'atoll-ch-')), 'successor');
    const opened: number[] = [];
    while (opened.at(-1) !== descriptor && opened.length < 100) opened.push(openSync(path, 'a'));
    assert.equal(opened.at(-1), descriptor, 'the system gives the lowest free number');
    channel.write(Buffer.from('late'));
    for (const number of opened) closeSync(number);
    assert.equal(readFileSync(path, 'utf8'), '');
    await rm(join(path, '..'), { recursive: true });
  });
});

test('after its own goodbye a channel writes nothing, and hears on', async () => {
  await withSockets(async ({ channel, peer, heard }) => {
    channel.write(Buffer.from('bye'));
    channel.end();
    assert.equal(channel.write(Buffer.from('late')), true);
    let said = '';
    for await (const bytes of peer) said += (bytes as Buffer).toString();
    assert.equal(said, 'bye');
    peer.end('answer');
    await waitFor('the answer', () => heard() === 'answer');
  });
});

test('the last words of a server that has closed are heard, though a write fails before them', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'atoll-ch-'));
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer((socket) => accepted.resolve(socket));
  await new Promise<void>((resolve) => server.listen(join(directory, 'server'), resolve));
  let heard = '';
  const closed = Promise.withResolvers<void>();
  const channel = Channel.toSocket(join(directory, 'server'), {
    pool: new LanePool(),
    events: {
      onData: (bytes) => (heard += bytes.toString()),
      onEnd: () => undefined,
      onDrain: () => undefined,
      onClose: () => closed.resolve(),
    },
  });
  const peer = await accepted.promise;
  await waitFor('the connection', () => !channel.isConnecting);
  channel.pause();
  await new Promise<void>((resolve) => peer.end('last words', resolve));
  peer.destroy();
  await once(peer, 'close');
  channel.write(Buffer.from('nobody reads this'));
  assert.equal(channel.isClosed, false);
  channel.resume();
  await closed.promise;
  assert.equal(heard, 'last words');
  server.close();
  await rm(directory, { recursive: true, force: true });
});

interface Sockets {
  readonly channel: Channel;
  /** The channel's own. */
  readonly socket: Socket;
  /** The other end. */
  readonly peer: Socket;
  readonly heard: () => string;
}

/** An accepted channel past the streams and the socket that connected to it. */
async function withSockets(use: (sockets: Sockets) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'atoll-ch-'));
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => accepted.resolve(socket));
  await new Promise<void>((resolve) => server.listen(join(directory, 'server'), resolve));
  let heard = '';
  const peer = connect({ path: join(directory, 'server'), allowHalfOpen: true });
  const socket = await accepted.promise;
  const channel = Channel.accepted(socket, {
    pool: new LanePool(),
    events: {
      onData: (bytes) => (heard += bytes.toString()),
      onEnd: () => undefined,
      onDrain: () => undefined,
      onClose: () => undefined,
    },
  });
  try {
    await use({ channel, socket, peer, heard: () => heard });
  } finally {
    channel.destroy();
    peer.destroy();
    server.close();
    await rm(directory, { recursive: true, force: true });
  }
}

function descriptorOf(socket: Socket): number {
  return (socket as Socket & { _handle: { fd: number } })._handle.fd;
}
