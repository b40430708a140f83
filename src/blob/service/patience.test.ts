import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { AppError, isAppError } from '../../base/index.ts';
import { attemptMsOf, withPatience } from './patience.ts';
import { testPatience } from './testing.ts';

const { signal } = new AbortController();
/** The timer alone, of which the event loop takes no notice, would not keep the process. */
const hang = async (options: { readonly signal: AbortSignal }): Promise<never> => {
  const alive = setInterval(() => undefined, 1000);
  try {
    await once(options.signal, 'abort');
    throw options.signal.reason;
  } finally {
    clearInterval(alive);
  }
};

describe('patience', () => {
  it('gives a request that hangs up, and makes it again', async () => {
    let attempts = 0;
    const patience = { ...testPatience, attemptMs: 5 };
    const answer = await withPatience(patience, { signal }, ({ attempt, ...options }) => {
      attempts = attempt;
      return attempt < 3 ? hang(options) : Promise.resolve('the answer');
    });
    assert.deepEqual([answer, attempts], ['the answer', 3]);
    const tired = { ...patience, operationMs: 20 };
    await assert.rejects(withPatience(tired, { signal }, hang), (error) =>
      isAppError(error, 'blob_unavailable'),
    );
  });

  it('lets content take the time that it needs over a slow line', () => {
    const patience = { attemptMs: 30_000 };
    assert.equal(attemptMsOf(patience, 0), 30_000);
    // Three parts of 8 MiB at a time, over a line of 2 Mbit/s.
    const partBytes = 8 * 1024 * 1024;
    assert.ok(attemptMsOf(patience, partBytes) > (3 * partBytes * 8) / 2_000);
  });

  it('does nothing again that cannot help, and nothing more when it is told to end', async () => {
    let attempts = 0;
    const refused = () => {
      attempts += 1;
      return Promise.reject(new AppError('storage_refused', 'no'));
    };
    await assert.rejects(withPatience(testPatience, { signal }, refused), (error) =>
      isAppError(error, 'storage_refused'),
    );
    assert.equal(attempts, 1);
    const ending = new AbortController();
    const ended = withPatience(testPatience, { signal: ending.signal }, hang);
    ending.abort();
    await assert.rejects(ended, (error) => isAppError(error, 'cancelled'));
  });
});
