import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AppError, CorruptError, isAppError } from '../../base/index.ts';
import { createRestCell, readPressure, rest, restPermille } from './limiter.ts';
import { forEachConcurrently } from './thread-pool.ts';
import { fromWireError, toWireError } from './wire-error.ts';

describe('errors that travel', () => {
  it('keep what people need', () => {
    const error = new CorruptError('x is damaged', { hint: 'do', detail: 'more', cause: new Error('inner') });
    const arrived = fromWireError(structuredClone(toWireError(error)));
    assert.ok(isAppError(arrived, 'data_corrupt'));
    assert.deepEqual([arrived.message, arrived.hint, arrived.detail], ['x is damaged', 'do', 'more']);
    assert.match(String(arrived.cause), /inner/);
  });

  it('say which are the machine’s and which are bugs', () => {
    const failed = (code: string) =>
      fromWireError(toWireError(Object.assign(new Error('write'), { code }))).code;
    assert.equal(failed('ENOSPC'), 'disk_full');
    assert.equal(failed('EIO'), 'io');
    assert.equal(failed('ERR_INVALID_ARG_TYPE'), 'internal');
    assert.equal(fromWireError(toWireError('text')).code, 'internal');
    assert.equal(
      fromWireError({ ...toWireError(new AppError('io', 'x')), code: 'unheard_of' }).code,
      'internal',
    );
  });
});

describe('the limiter', () => {
  const reading = (atMs: number, anyWaitingMs: number, ownWaitingMs: number) => ({
    atMs,
    anyWaitingMs,
    ownWaitingMs,
  });
  const idle = reading(0, 0, 0);

  it('lets us run while nobody waits, or only we', () => {
    assert.equal(restPermille(idle, reading(100, 0, 0)), 0);
    assert.equal(restPermille(idle, reading(100, 90, 95)), 0);
    assert.equal(restPermille(idle, reading(100, 90, 500)), 0);
    assert.equal(restPermille(idle, reading(0, 50, 0)), 0);
  });

  it('makes way for others, but never more than three quarters of the time', () => {
    assert.ok(restPermille(idle, reading(100, 15, 0)) > 0);
    assert.ok(restPermille(idle, reading(100, 15, 0)) < restPermille(idle, reading(100, 25, 0)));
    assert.equal(restPermille(idle, reading(100, 30, 0)), 1000);
    assert.equal(restPermille(idle, reading(100, 45, 0)), 2000);
    assert.equal(restPermille(idle, reading(100, 100, 0)), 3000);
    assert.equal(restPermille(reading(5, 100, 7), reading(105, 190, 7)), 3000);
  });

  it('reads the kernel where it tells', { skip: process.platform !== 'linux' }, () => {
    const now = readPressure({ atMs: 1 });
    if (now !== null) assert.ok(now.anyWaitingMs >= 0 && now.ownWaitingMs >= 0);
  });

  it('rests when the cell says so', () => {
    const cell = createRestCell();
    const restedMs = (workedMs: number) => {
      const begunMs = performance.now();
      rest(cell, { workedMs });
      return performance.now() - begunMs;
    };
    assert.ok(restedMs(60_000) < 30_000);
    Atomics.store(cell, 0, 500);
    assert.ok(restedMs(20) >= 9);
  });
});

describe('work on many things', () => {
  it('goes on at most so many at a time, and on all of them', async () => {
    let underWay = 0;
    let most = 0;
    const done: number[] = [];
    await forEachConcurrently([1, 2, 3, 4, 5, 6, 7], { concurrency: 3 }, async (item) => {
      underWay++;
      most = Math.max(most, underWay);
      await Promise.resolve();
      done.push(item);
      underWay--;
    });
    assert.deepEqual([done.toSorted((left, right) => left - right), most], [[1, 2, 3, 4, 5, 6, 7], 3]);
  });

  it('ends with the first failure, once nothing is under way any more', async () => {
    const begun: number[] = [];
    const finished: number[] = [];
    const slow = Promise.withResolvers<void>();
    const work = forEachConcurrently([1, 2, 3, 4], { concurrency: 2 }, async (item) => {
      begun.push(item);
      if (item === 1) throw new Error('first');
      await slow.promise;
      finished.push(item);
    });
    slow.resolve();
    await assert.rejects(work, /first/);
    assert.deepEqual([begun, finished], [[1, 2], [2]]);
  });
});
