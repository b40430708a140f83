import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NEVER } from '../../../test/harness/instance-store.ts';
import { isAppError, type VirtualClusterId } from '../../base/index.ts';
import { CaptureTurns } from './capture-turns.ts';

const [one, other] = [3, 4] as VirtualClusterId[] as [VirtualClusterId, VirtualClusterId];

describe('turns to capture', () => {
  it('come one after the other for each timeline, also after a failure', async () => {
    const turns = new CaptureTurns();
    const seen: string[] = [];
    const gate = Promise.withResolvers<void>();
    const first = turns.run(
      one,
      async () => {
        await gate.promise;
        throw new Error('broken');
      },
      { signal: NEVER },
    );
    const later = ['second', 'third'].map((name) =>
      turns.run(one, async () => Promise.resolve(seen.push(name)), { signal: NEVER }),
    );
    await turns.run(other, async () => Promise.resolve(seen.push('other')), { signal: NEVER });
    assert.deepEqual([seen, turns.isTaken(one), turns.isTaken(other)], [['other'], true, false]);
    gate.resolve();
    await assert.rejects(first, /broken/);
    await Promise.all(later);
    assert.deepEqual([seen, turns.isTaken(one)], [['other', 'second', 'third'], false]);
  });

  it('are no longer waited for by who gives up', async () => {
    const turns = new CaptureTurns();
    const gate = Promise.withResolvers<void>();
    const first = turns.run(one, () => gate.promise, { signal: NEVER });
    const giving = new AbortController();
    const waiting = turns.run(one, () => assert.fail('its turn never came'), { signal: giving.signal });
    giving.abort();
    await assert.rejects(waiting, (error) => isAppError(error, 'cancelled'));
    gate.resolve();
    await first;
    assert.equal(turns.isTaken(one), false);
  });
});
