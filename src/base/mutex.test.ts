import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { KeyedMutex, Mutex, Semaphore } from './mutex.ts';

const SIGNAL = new AbortController().signal;

describe('a mutex', () => {
  it('lets tasks through one at a time, in order, also after one has failed', async () => {
    const mutex = new Mutex();
    const seen: string[] = [];
    const task = (name: string) => async () => {
      seen.push(`${name} begins`);
      await Promise.resolve();
      seen.push(`${name} ends`);
      if (name === 'b') throw new Error('b fails');
    };
    const results = await Promise.allSettled(['a', 'b', 'c'].map((name) => mutex.run(task(name))));
    assert.deepEqual(seen, ['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
    assert.deepEqual(
      results.map((result) => result.status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
  });

  it('keeps keys apart', async () => {
    const mutex = new KeyedMutex<string>();
    const gate = Promise.withResolvers<void>();
    const slow = mutex.run('a', () => gate.promise);
    assert.equal(await mutex.run('b', () => Promise.resolve('through')), 'through');
    gate.resolve();
    await slow;
  });
});

describe('a semaphore', () => {
  it('never lets more through than it has places', async () => {
    const semaphore = new Semaphore(2);
    let inside = 0;
    let most = 0;
    const task = async () => {
      inside += 1;
      most = Math.max(most, inside);
      await new Promise((resolve) => setImmediate(resolve));
      inside -= 1;
    };
    await Promise.all(Array.from({ length: 7 }, () => semaphore.run(task, { signal: SIGNAL })));
    assert.equal(most, 2);
  });

  it('forgets who stopped waiting', async () => {
    const semaphore = new Semaphore(1);
    const release = await semaphore.acquire({ signal: SIGNAL });
    const impatient = new AbortController();
    const refused = assert.rejects(semaphore.acquire({ signal: impatient.signal }), { code: 'cancelled' });
    const patient = semaphore.acquire({ signal: SIGNAL });
    impatient.abort();
    await refused;
    release();
    release();
    (await patient)();
    (await semaphore.acquire({ signal: SIGNAL }))();
    await assert.rejects(semaphore.acquire({ signal: AbortSignal.abort() }), { code: 'cancelled' });
  });
});
