import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Histogram } from './histogram.ts';

test('every observation is counted once, at the first bound that it does not exceed', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 0, max: 1000 }), { minLength: 1, maxLength: 12 }),
      fc.array(fc.integer({ min: 0, max: 1200 })),
      (unordered, values) => {
        const bounds = unordered.toSorted((a, b) => a - b);
        const histogram = new Histogram(bounds);
        for (const value of values) histogram.observe(value);
        const { counts, sum } = histogram.figures;
        assert.equal(counts.length, bounds.length + 1);
        assert.equal(
          sum,
          values.reduce((all, value) => all + value, 0),
        );
        for (const [at, bound] of bounds.entries()) {
          const below = counts.slice(0, at + 1).reduce((all, count) => all + count, 0);
          assert.equal(below, values.filter((value) => value <= bound).length);
        }
        assert.equal(
          counts.reduce((all, count) => all + count, 0),
          values.length,
        );
      },
    ),
  );
});
