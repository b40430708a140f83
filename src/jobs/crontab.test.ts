import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError, parseTimestamp, timestampFromMs, timestampToMs } from '../base/index.ts';
import { parseCrontab, shortestIntervalUs } from './crontab.ts';

const MINUTE_US = 60_000_000n;

function timesAfter(text: string, from: string, count: number): readonly string[] {
  const crontab = parseCrontab(text);
  const times: string[] = [];
  let at = parseTimestamp(from);
  while (times.length < count) {
    const next = crontab.next(at);
    assert.ok(next !== null);
    times.push(new Date(timestampToMs(next)).toISOString().slice(0, 16));
    at = next;
  }
  return times;
}

describe('parseCrontab', () => {
  const CASES: readonly (readonly [string, string, readonly string[]])[] = [
    [
      '@hourly',
      '2026-03-29 00:59:59.999999+00',
      ['2026-03-29T01:00', '2026-03-29T02:00', '2026-03-29T03:00'],
    ],
    ['@daily', '2026-02-27 00:00:00+00', ['2026-02-28T00:00', '2026-03-01T00:00']],
    ['@Midnight', '2024-02-28 00:00:00+00', ['2024-02-29T00:00', '2024-03-01T00:00']],
    ['@weekly', '2026-11-21 10:00:00+00', ['2026-11-22T00:00', '2026-11-29T00:00']],
    ['@monthly', '2026-11-21 10:00:00+00', ['2026-12-01T00:00', '2027-01-01T00:00']],
    ['@yearly', '2026-11-21 10:00:00+00', ['2027-01-01T00:00', '2028-01-01T00:00']],
    ['@annually', '2026-11-21 10:00:00+00', ['2027-01-01T00:00']],
    [' 30 2 * * mon-FRI ', '2026-11-20 03:00:00+00', ['2026-11-23T02:30', '2026-11-24T02:30']],
    ['0 0 29 2 *', '2026-01-01 00:00:00+00', ['2028-02-29T00:00', '2032-02-29T00:00']],
    [
      '*/20 23 31 12 *',
      '2026-11-20 03:00:00+00',
      ['2026-12-31T23:00', '2026-12-31T23:20', '2026-12-31T23:40'],
    ],
    // Both days given: either will do.
    ['0 0 13 * 5', '2026-11-09 00:00:00+00', ['2026-11-13T00:00', '2026-11-20T00:00', '2026-11-27T00:00']],
    ['0 0 * * 7', '2026-11-21 10:00:00+00', ['2026-11-22T00:00']],
  ];
  for (const [text, from, expected] of CASES) {
    it(`${text} after ${from}`, () => {
      assert.deepEqual(timesAfter(text, from, expected.length), expected);
    });
  }

  const REFUSED = [
    '',
    '@',
    '@every 5m',
    '@reboot',
    '* * * *',
    '* * * * * *',
    '60 * * * *',
    '0 24 * * *',
    '0 0 0 * *',
    '0 0 32 * *',
    '0 0 * 13 *',
    '0 0 * * 8',
    '0 0 30 2 *',
    '0 0 31 4 *',
    'x * * * *',
    '0 0 L * *',
    '0 0 * * 5#2',
    '0 0 ? * *',
    '5-1 * * * *',
    '*/0 * * * *',
    '2026-01-01T00:00:00',
    `${'1,'.repeat(200)}1 * * * *`,
  ];
  for (const text of REFUSED) {
    it(`refuses ${JSON.stringify(text.slice(0, 30))}`, () => {
      assert.throws(
        () => parseCrontab(text),
        (error) => isAppError(error, 'parameter_invalid') && error.hint !== undefined,
      );
    });
  }

  it('gives a later whole minute that it matches, in every zone the machine may be set to', () => {
    const zone = process.env['TZ'];
    const field = (least: number, most: number) =>
      fc.oneof(fc.constant('*'), fc.integer({ min: least, max: most }).map(String));
    const crontabs = fc.tuple(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6));
    const times = fc.integer({ min: Date.UTC(2020, 0, 1), max: Date.UTC(2040, 0, 1) });
    try {
      for (const name of ['UTC', 'America/New_York', 'Australia/Lord_Howe']) {
        process.env['TZ'] = name;
        fc.assert(
          fc.property(crontabs, times, (fields, ms) => {
            const from = timestampFromMs(ms);
            const next = parseCrontab(fields.join(' ')).next(from);
            assert.ok(next !== null && next > from && next % MINUTE_US === 0n);
            const date = new Date(timestampToMs(next));
            const [minute, hour, day, month, weekday] = fields;
            const isIn = (wanted: string, value: number) => wanted === '*' || Number(wanted) === value;
            assert.ok(isIn(minute, date.getUTCMinutes()) && isIn(hour, date.getUTCHours()));
            assert.ok(isIn(month, date.getUTCMonth() + 1));
            const isDay = isIn(day, date.getUTCDate());
            const isWeekday = isIn(weekday, date.getUTCDay());
            assert.ok(day === '*' || weekday === '*' ? isDay && isWeekday : isDay || isWeekday);
          }),
          { numRuns: 300 },
        );
      }
    } finally {
      if (zone === undefined) delete process.env['TZ'];
      else process.env['TZ'] = zone;
    }
  });
});

describe('shortestIntervalUs', () => {
  const MINUTES: readonly (readonly [string, number])[] = [
    ['*/5 * * * *', 5],
    ['@hourly', 60],
    ['0 */6 * * *', 360],
    ['0 1,2 * * *', 60],
    ['@daily', 1440],
    ['@weekly', 10_080],
    ['@monthly', 28 * 1440],
  ];
  for (const [text, minutes] of MINUTES) {
    it(`${text}: ${minutes} minutes`, () => {
      assert.equal(shortestIntervalUs(parseCrontab(text)), BigInt(minutes) * MINUTE_US);
    });
  }
});
