import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { MemoryLogger } from '../../test/harness/instance-store.ts';
import type { Clock, Timestamp } from '../base/index.ts';
import { LogForwarder } from './log-forwarder.ts';

let directory = '';
let path = '';
let nowMs = 0;
const clock: Clock = {
  now: () => 0n as Timestamp,
  monotonicMs: () => nowMs,
  sleep: async () => undefined,
};
beforeEach(async () => {
  nowMs = 0;
  directory = await mkdtemp(join(tmpdir(), 'atoll-log-'));
  path = join(directory, 'postgres-3.log');
});
afterEach(() => rm(directory, { recursive: true }));

const line = (text: string) => `@1763683200.123 7 00000 LOG:  ${text}\n`;
const messages = (logger: MemoryLogger) => logger.entries.map(({ message }) => message);

test('forwards what is written after it was opened, the last entry once nothing follows', async () => {
  await appendFile(path, line('before'));
  const logger = new MemoryLogger();
  const forwarder = await LogForwarder.open({ path, clock, logger });
  await appendFile(path, `${line('one')}\tmore\n${line('two')}`);
  await forwarder.poll();
  assert.deepEqual(messages(logger), ['postgres[7]: ‹one more›']);
  await forwarder.poll();
  assert.deepEqual(messages(logger), ['postgres[7]: ‹one more›', 'postgres[7]: ‹two›']);
});

test('keeps characters whole that arrive in two pieces', async () => {
  const logger = new MemoryLogger();
  const forwarder = await LogForwarder.open({ path, clock, logger });
  const bytes = Buffer.from(line('größer €'));
  for (const byte of bytes) {
    await appendFile(path, Buffer.from([byte]));
    await forwarder.poll();
  }
  await forwarder.poll();
  assert.deepEqual(messages(logger), ['postgres[7]: ‹größer €›']);
});

test('bounds the rate, and says what it left out', async () => {
  const logger = new MemoryLogger();
  const forwarder = await LogForwarder.open({ path, clock, logger });
  await appendFile(path, Array.from({ length: 1000 }, (_, index) => line(`entry ${index}`)).join(''));
  await forwarder.poll();
  await forwarder.poll();
  assert.equal(logger.entries.length, 200);
  nowMs += 1000;
  await appendFile(path, line('later'));
  await forwarder.poll();
  await forwarder.poll();
  assert.match(messages(logger)[200] ?? '', /^left out 800 entries of/);
  assert.equal(messages(logger).at(-1), 'postgres[7]: ‹later›');
});

test('leaves out the middle when it has fallen far behind', async () => {
  const logger = new MemoryLogger();
  const forwarder = await LogForwarder.open({ path, clock, logger });
  await appendFile(path, line('x'.repeat(1000)).repeat(3000));
  await appendFile(path, line('the end'));
  await forwarder.poll();
  assert.match(messages(logger)[0] ?? '', /^left out \d+ bytes of/);
});

test('a large file becomes the first of two predecessors', async () => {
  const logger = new MemoryLogger();
  const forwarder = await LogForwarder.open({ path, clock, logger, rotateBytes: 100 });
  for (const text of ['first', 'second', 'third']) {
    await appendFile(path, line(`${text} ${'.'.repeat(100)}`));
    await forwarder.poll();
    assert.equal((await stat(path)).size, 0);
  }
  assert.match(await readFile(`${path}.1`, 'utf8'), /third/);
  assert.match(await readFile(`${path}.2`, 'utf8'), /second/);
  await appendFile(path, line('on'));
  await forwarder.poll();
  await forwarder.poll();
  assert.equal(messages(logger).at(-1), 'postgres[7]: ‹on›');
});
