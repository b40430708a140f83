import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  formatLsn,
  formatTimestamp,
  type Lsn,
  lsnDistanceBytes,
  parseIncarnationId,
  parseLsn,
  parseTimestamp,
  parseVirtualClusterName,
  type Timestamp,
  timestampFromMs,
  timestampToMs,
} from './brands.ts';
import { InputError } from './errors.ts';

const MICROSECONDS_MAX = 253_402_300_799_999_999n; // The last microsecond of the year 9999.

describe('log positions', () => {
  test('print as Postgres prints them', () => {
    assert.equal(formatLsn(parseLsn('16/B374D848')), '16/B374D848');
    assert.equal(formatLsn(parseLsn('0/0')), '0/0');
    assert.equal(formatLsn(parseLsn('ffffffff/ffffffff')), 'FFFFFFFF/FFFFFFFF');
  });

  test('parse what was printed', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 64n - 1n), (position) => {
        assert.equal(parseLsn(formatLsn(position as Lsn)), position);
      }),
    );
  });

  test('refuse anything else', () => {
    for (const text of ['', '/', '1', '1/', '/1', '1/123456789', 'g/0', '0/0 ', '-1/0', '0/0\n']) {
      assert.throws(() => parseLsn(text), InputError, text);
    }
  });

  test('have a signed distance', () => {
    assert.equal(lsnDistanceBytes({ from: parseLsn('0/10'), to: parseLsn('1/0') }), 0xffff_fff0n);
    assert.equal(lsnDistanceBytes({ from: parseLsn('0/2'), to: parseLsn('0/1') }), -1n);
  });
});

describe('times', () => {
  test('print as Postgres prints them in UTC', () => {
    assert.equal(
      formatTimestamp(parseTimestamp('2024-04-18 10:07:45.000001+00')),
      '2024-04-18 10:07:45.000001+00',
    );
    assert.equal(formatTimestamp(parseTimestamp('2024-04-18T10:07:45.5Z')), '2024-04-18 10:07:45.5+00');
    assert.equal(formatTimestamp(-1n as Timestamp), '1969-12-31 23:59:59.999999+00');
  });

  test('parse what was printed', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, MICROSECONDS_MAX), (time) => {
        assert.equal(parseTimestamp(formatTimestamp(time as Timestamp)), time);
      }),
    );
  });

  test('convert to milliseconds and back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 8.64e15 / 10 }), (ms) => {
        assert.equal(timestampToMs(timestampFromMs(ms)), ms);
      }),
    );
  });

  test('refuse other zones and nonsense', () => {
    for (const text of [
      '',
      'now',
      '2024-04-18',
      '2024-04-18 10:07:45',
      '2024-04-18 10:07:45+02',
      '2024-13-01 00:00:00Z',
    ]) {
      assert.throws(() => parseTimestamp(text), InputError, text);
    }
  });
});

describe('names', () => {
  test('of virtual clusters are what a path, a label and an option can carry', () => {
    for (const name of ['main', 'a', '0', 'dest-system', 'main-readonly', 'a_b', 'x'.repeat(63)]) {
      assert.equal(parseVirtualClusterName(name), name);
    }
    for (const name of [
      '',
      '.',
      '..',
      '-a',
      'a-',
      'A',
      'a/b',
      'a b',
      "a'b",
      'ä',
      'a\0',
      'x'.repeat(64),
      '../a',
    ]) {
      assert.throws(() => parseVirtualClusterName(name), InputError, name);
    }
  });

  test('of incarnations are lower-case UUIDs', () => {
    const uuid = '0b0e7d2c-93f5-4a57-8bb3-9c38c6f0a111';
    assert.equal(parseIncarnationId(uuid), uuid);
    for (const text of ['', uuid.toUpperCase(), `${uuid}0`, '../../etc']) {
      assert.throws(() => parseIncarnationId(text), InputError, text);
    }
  });
});
