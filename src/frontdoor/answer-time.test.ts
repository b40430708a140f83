import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { ManualClock } from '../../test/harness/manual-clock.ts';
import { isAppError, type VirtualClusterId } from '../base/index.ts';
import { LastAnswers, withinAnswerTime } from './answer-time.ts';

const ID = 3 as VirtualClusterId;

test('who waits gives up when nobody was answered for the time, and not while others are', async () => {
  const clock = new ManualClock();
  const lastAnswers = new LastAnswers({ clock });
  const { signal } = new AbortController();
  let isOver = false;
  const waiting = withinAnswerTime(
    (limited) =>
      new Promise<never>((_, reject) => {
        limited.addEventListener('abort', () => reject(new Error('given up')), { once: true });
      }),
    { virtualClusterId: ID, virtualClusterName: 'main', lastAnswers, clock, timeoutMs: 100, signal },
  ).finally(() => {
    isOver = true;
  });
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await turn();
  };
  const outcome = assert.rejects(waiting, (error) => isAppError(error, 'instance_unresponsive'));
  for (let answered = 0; answered < 3; answered += 1) {
    await pass(60);
    lastAnswers.note(ID);
    await pass(60);
    assert.equal(isOver, false);
  }
  await pass(200);
  await outcome;
});
