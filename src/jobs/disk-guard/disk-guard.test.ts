import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryLogger, NEVER } from '../../../test/harness/instance-store.ts';
import { ManualClock } from '../../../test/harness/manual-clock.ts';
import { AppError, type VirtualClusterId } from '../../base/index.ts';
import { DiskGuard } from './disk-guard.ts';
import { GROWTH_BYTES_MIN, PRESSURE_LEVELS, greatestGrower, isAtLeast, pressureOf } from './pressure.ts';

const MIB = 1024n * 1024n;
const MIN = 800n * MIB;
const id = (number: number) => number as VirtualClusterId;

describe('want of room', () => {
  it('has levels, each beginning where the one before ends', () => {
    const level = (freeBytes: bigint) => pressureOf({ freeBytes, freeBytesMin: MIN });
    for (const [index, bytes] of [3n * MIN, 2n * MIN, MIN, MIN / 2n, MIN / 8n].entries()) {
      assert.equal(level(bytes), PRESSURE_LEVELS[index]);
      assert.equal(level(bytes - 1n), PRESSURE_LEVELS[index + 1]);
    }
    assert.equal(pressureOf({ freeBytes: 0n, freeBytesMin: 0n }), 'none');
    assert.ok(isAtLeast('ballast', 'slots') && !isAtLeast('window', 'captures'));
  });

  it('is whose that has grown most, and nobody who has hardly grown', () => {
    const sizes = (entries: readonly (readonly [number, bigint, bigint])[]) =>
      new Map(entries.map(([key, before, now]) => [key, { before, now }]));
    assert.equal(greatestGrower(sizes([])), undefined);
    assert.equal(greatestGrower(sizes([[1, 5n, 4n + GROWTH_BYTES_MIN]])), undefined);
    assert.equal(
      greatestGrower(
        sizes([
          [1, 5n, 5n + GROWTH_BYTES_MIN],
          [2, 900n * MIB, 900n * MIB],
        ]),
      ),
      1,
    );
    assert.equal(
      greatestGrower(
        sizes([
          [1, 0n, 5n * MIB],
          [2, 0n, 6n * MIB],
          [3, 9n * MIB, 0n],
        ]),
      ),
      2,
    );
  });
});

function rig(sizes: Map<VirtualClusterId, bigint | undefined>) {
  const state = { freeBytes: 10n * MIN, ballast: 0n, readOnly: new Set<VirtualClusterId>() };
  const failing = new Set<VirtualClusterId>();
  const logger = new MemoryLogger();
  const guard = new DiskGuard({
    clock: new ManualClock(),
    logger,
    room: () => Promise.resolve({ freeBytes: state.freeBytes, freeBytesMin: MIN }),
    guarded: () =>
      [...sizes.keys()].map((virtualClusterId) => ({
        virtualClusterId,
        name: `vc${virtualClusterId}`,
        isReadOnly: state.readOnly.has(virtualClusterId),
      })),
    usedBytes: (key) => Promise.resolve(sizes.get(key)),
    giveUpSlots: () => Promise.resolve([]),
    setReadOnly: (key, { isReadOnly }) => {
      if (failing.has(key)) return Promise.reject(new AppError('instance_failed', 'it does not start'));
      if (isReadOnly) state.readOnly.add(key);
      else state.readOnly.delete(key);
      return Promise.resolve();
    },
    ballast: {
      bytes: () => Promise.resolve(state.ballast),
      make: (bytes) => {
        state.ballast = bytes;
        return Promise.resolve();
      },
      remove: () => {
        state.ballast = 0n;
        return Promise.resolve();
      },
    },
    ballastBytes: () => 64n * MIB,
  });
  const rounds = async (count: number) => {
    for (let round = 0; round < count; round++) await guard.round({ signal: NEVER });
  };
  return { state, failing, logger, rounds };
}

describe('the guard of the disk', () => {
  it('stops one at a time, and only who grows, until there is room', async () => {
    const sizes = new Map<VirtualClusterId, bigint | undefined>([
      [id(3), 100n * MIB],
      [id(4), 900n * MIB],
      [id(5), undefined],
    ]);
    const { state, rounds } = rig(sizes);
    await rounds(2);
    state.freeBytes = MIN / 2n - 1n;
    await rounds(20);
    assert.deepEqual([...state.readOnly], [], 'it was somebody else');
    sizes.set(id(3), 110n * MIB);
    sizes.set(id(4), 905n * MIB);
    await rounds(20);
    assert.deepEqual([...state.readOnly], [id(3)], 'measured anew for the next one');
    sizes.set(id(4), 907n * MIB);
    await rounds(20);
    assert.deepEqual([...state.readOnly], [id(3), id(4)]);
    state.freeBytes = MIN - 1n;
    await rounds(20);
    assert.equal(state.readOnly.size, 2, 'not before there is more');
    state.freeBytes = MIN;
    await rounds(1);
    assert.equal(state.readOnly.size, 0);
  });

  it('goes on with the others when one cannot be changed, and tries it again', async () => {
    const sizes = new Map<VirtualClusterId, bigint | undefined>([
      [id(3), MIB],
      [id(4), MIB],
    ]);
    const { state, failing, logger, rounds } = rig(sizes);
    state.readOnly.add(id(3)).add(id(4));
    failing.add(id(3));
    await rounds(1);
    assert.deepEqual([...state.readOnly], [id(3)]);
    assert.ok(logger.entries.some(({ message }) => /could not be kept from filling/.test(message)));
    failing.clear();
    await rounds(1);
    assert.equal(state.readOnly.size, 0);
  });

  it('keeps ballast while there is plenty, and gives it back in the end', async () => {
    const { state, rounds } = rig(new Map());
    state.freeBytes = 2n * MIN + 63n * MIB;
    await rounds(1);
    assert.equal(state.ballast, 0n, 'it would bring about what it is for');
    state.freeBytes = 2n * MIN + 64n * MIB;
    await rounds(1);
    assert.equal(state.ballast, 64n * MIB);
    state.freeBytes = MIN / 8n;
    await rounds(1);
    assert.equal(state.ballast, 64n * MIB);
    state.freeBytes = MIN / 8n - 1n;
    await rounds(1);
    assert.equal(state.ballast, 0n);
  });
});
