import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isLogDue, LOG_BYTES, LOOK_MS } from './pace.ts';
import { PIECE_RAW_BYTES_MAX } from './piece.ts';

const MISSING_MS_MAX = 10_000;
/** Sending a piece, slow storage included. */
const SENDING_MS_MAX = 4500;

/** Log that is not in the collection, oldest first. */
type Waiting = { readonly atMs: number; readonly bytes: number }[];

const bytesOf = (waiting: Waiting) => waiting.reduce((sum, { bytes }) => sum + bytes, 0);

describe('the pace of continuous backup', () => {
  it('leaves no more than the last 10 s missing while the storage keeps up', () => {
    const looks = fc.array(
      fc.record({
        written: fc.constantFrom(0, 1, 900_000),
        sendingMs: fc.constantFrom(1, SENDING_MS_MAX),
      }),
      { minLength: 50, maxLength: 400 },
    );
    fc.assert(
      fc.property(looks, (rounds) => {
        let waiting: Waiting = [];
        let sending: { readonly endMs: number; readonly rest: Waiting } | null = null;
        let sentAtMs = Number.NEGATIVE_INFINITY;
        for (const [round, { written, sendingMs }] of rounds.entries()) {
          const nowMs = round * LOOK_MS;
          if (written > 0) waiting.push({ atMs: nowMs, bytes: written });
          if (sending !== null && sending.endMs <= nowMs) {
            waiting = waiting.slice(waiting.length - sending.rest.length);
            sending = null;
          }
          if (sending !== null) sending.rest.push(...waiting.slice(-1).filter(({ atMs }) => atMs === nowMs));
          else if (isLogDue({ sinceMs: nowMs - sentAtMs, waitingBytes: BigInt(bytesOf(waiting)) })) {
            sentAtMs = nowMs;
            sending = { endMs: nowMs + sendingMs, rest: [] };
          }
          const oldestMs = nowMs - (waiting[0]?.atMs ?? nowMs);
          assert.ok(oldestMs <= MISSING_MS_MAX, `${bytesOf(waiting)} bytes of up to ${oldestMs} ms`);
        }
      }),
    );
  });

  it('sends at once what is much, soon what is little, and asks often while nothing is known', () => {
    for (const [sinceMs, waitingBytes, isDue] of [
      [0, LOG_BYTES, true],
      [0, LOG_BYTES - 1n, false],
      [4999, 1n, false],
      [5000, 1n, true],
      [999, null, false],
      [1000, null, true],
    ] as const) {
      assert.equal(isLogDue({ sinceMs, waitingBytes }), isDue, `${sinceMs} ${waitingBytes}`);
    }
    assert.ok(LOG_BYTES < BigInt(PIECE_RAW_BYTES_MAX), 'one piece takes what waits');
  });
});
