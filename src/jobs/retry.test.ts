import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { AppError, type Timestamp } from '../base/index.ts';
import { type RetryPolicy, failureOf, retryDelayUs } from './retry.ts';

const POLICY: RetryPolicy = {
  initialDelayUs: 30_000_000n,
  maxDelayUs: 86_400_000_000n,
  attemptsMax: 3,
  onExhausted: 'fail',
};
const NOW = 1000n as Timestamp;
const transient = new AppError('blob_unavailable', 'storage is away');

describe('retries of jobs', () => {
  it('wait twice as long each time, up to the maximum', () => {
    assert.equal(retryDelayUs(POLICY, 1), 30_000_000n);
    assert.equal(retryDelayUs(POLICY, 2), 60_000_000n);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100_000 }), (attempt) => {
        const delay = retryDelayUs(POLICY, attempt);
        assert.ok(delay >= POLICY.initialDelayUs && delay <= POLICY.maxDelayUs);
        assert.ok(retryDelayUs(POLICY, attempt + 1) >= delay);
      }),
    );
  });

  it('happen for transient errors only, and end', () => {
    assert.deepEqual(failureOf(transient, { policy: POLICY, attempt: 1, now: NOW }), {
      then: 'retry',
      error: 'storage is away',
      retryAt: 30_001_000n,
    });
    assert.deepEqual(failureOf(transient, { policy: POLICY, attempt: 3, now: NOW }), {
      then: 'fail',
      error: 'storage is away',
    });
    const corrupt = new AppError('data_corrupt', 'checksum mismatch');
    assert.equal(failureOf(corrupt, { policy: POLICY, attempt: 1, now: NOW }).then, 'fail');
    assert.deepEqual(failureOf(new TypeError('oops'), { policy: POLICY, attempt: 1, now: NOW }), {
      then: 'fail',
      error: 'internal error: oops',
    });
  });

  it('leave a job that can be resumed paused where its kind says so', () => {
    const policy: RetryPolicy = { ...POLICY, onExhausted: 'pause' };
    assert.equal(failureOf(transient, { policy, attempt: 3, now: NOW }).then, 'pause');
    const full = new AppError('disk_full', 'no space left');
    assert.equal(failureOf(full, { policy, attempt: 1, now: NOW }).then, 'pause');
    assert.equal(failureOf(full, { policy: POLICY, attempt: 1, now: NOW }).then, 'fail');
  });
});
