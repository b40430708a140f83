import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Timestamp } from '../../base/index.ts';
import { restorableTimes } from './restorable-times.ts';

const time = (seconds: number) => BigInt(seconds * 1_000_000) as Timestamp;
const layer = (endTime: number, revisionStart: number | null = null) => ({
  endTime: time(endTime),
  revisionStart: revisionStart === null ? null : time(revisionStart),
});
const told = (layers: readonly ReturnType<typeof layer>[], near: number) =>
  restorableTimes(layers, { near: time(near) })
    .replaceAll('1970-01-01 00:', '')
    .replaceAll('+00', '');

describe('the times that a chain can be restored to', () => {
  const how = ': SHOW BACKUP ... WITH revision_start_time shows all';

  it('are ends of backups, and all that lies in their history', () => {
    assert.equal(told([layer(10)], 5), `it can be restored to 00:10${how}`);
    assert.equal(
      told([layer(10), layer(30, 20), layer(40)], 5),
      `it can be restored to 00:10; any time from 00:20 to 00:30; 00:40${how}`,
    );
  });

  it('are told as one where histories meet or overlap', () => {
    assert.equal(
      told([layer(30, 20), layer(40, 30), layer(50, 35), layer(51)], 5),
      `it can be restored to any time from 00:20 to 00:50; 00:51${how}`,
    );
    assert.equal(
      told([layer(22), layer(40, 20)], 5),
      `it can be restored to any time from 00:20 to 00:40${how}`,
    );
  });

  it('are the nearest when there are many', () => {
    const layers = Array.from({ length: 9 }, (_, index) => layer(10 + index));
    assert.equal(
      told(layers, 60),
      `it can be restored to 00:14; 00:15; 00:16; 00:17; 00:18; and 4 more${how}`,
    );
    assert.match(told(layers, 1), /^it can be restored to 00:10; .*00:14; and 4 more/);
  });
});
