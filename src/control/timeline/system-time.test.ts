import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatTimestamp, isAppError, parseTimestamp, type Timestamp } from '../../base/index.ts';
import type { Value } from '../../sql/index.ts';
import { systemTime } from './system-time.ts';

const NOW = parseTimestamp('2024-01-09 16:15:45.291575+00');
const string = (value: string): Value => ({ kind: 'string', value });

function timeOf(value: Value): string {
  const found = systemTime(value, { now: NOW });
  return found.kind === 'time' ? formatTimestamp(found.time) : 'position';
}

describe('AS OF SYSTEM TIME', () => {
  it('reads every form that the reference lists', () => {
    const forms: readonly (readonly [string, string])[] = [
      ['-10s', '2024-01-09 16:15:35.291575+00'],
      ['-1h', '2024-01-09 15:15:45.291575+00'],
      ['-1h30m', '2024-01-09 14:45:45.291575+00'],
      ['-1.5 hours', '2024-01-09 14:45:45.291575+00'],
      ['-2 days 1 min', '2024-01-07 16:14:45.291575+00'],
      ['-00:05:00.5', '2024-01-09 16:10:44.791575+00'],
      ['0s', '2024-01-09 16:15:45.291575+00'],
      ['2024-01-09 16:15:45.291575+00', '2024-01-09 16:15:45.291575+00'],
      ['2024-01-09T16:15:45Z', '2024-01-09 16:15:45+00'],
      ['2024-01-09 16:15', '2024-01-09 16:15:00+00'],
      ['2024-01-09', '2024-01-09 00:00:00+00'],
      ['2024-01-09 17:00:00+01', '2024-01-09 16:00:00+00'],
      ['2024-01-09 10:00:00.1-05:30', '2024-01-09 15:30:00.1+00'],
      ['1704816945291575000', '2024-01-09 16:15:45.291575+00'],
      ['1704816945291575000.0000000000', '2024-01-09 16:15:45.291575+00'],
    ];
    for (const [text, expected] of forms) assert.equal(timeOf(string(text)), expected, text);
    assert.equal(
      timeOf({ kind: 'number', text: '1704816945291574999.0000000003' }),
      '2024-01-09 16:15:45.291574+00',
    );
  });

  it('reads a position of the log', () => {
    const incarnation = '0f0e0d0c-0b0a-4908-8706-050403020100';
    assert.deepEqual(systemTime(string(`${incarnation}@16/B374D848`), { now: NOW }), {
      kind: 'lsn',
      incarnation,
      lsn: 0x16_b374_d848n,
    });
  });

  it('refuses the future', () => {
    for (const text of ['10s', '+5h', '2024-01-09 16:15:45.291576+00', '2030-01-01', '1804816945291575000']) {
      assert.throws(
        () => systemTime(string(text), { now: NOW }),
        (error) => isAppError(error, 'parameter_invalid') && /in the future/.test(error.message),
        text,
      );
    }
  });

  it('refuses what is no time', () => {
    const malformed = [
      '',
      'now',
      '-10',
      '-10 parsecs',
      '2024-02-30',
      '2024-13-01',
      '2024-01-09 25:00:00',
      '5',
      '-',
      '16/B374D848',
    ];
    for (const text of malformed) {
      assert.throws(
        () => systemTime(string(text), { now: NOW }),
        (error) => isAppError(error, 'timestamp_malformed') && error.hint !== undefined,
        text,
      );
    }
    for (const text of ['16/B374D848', '0/1', 'nonsense@0/1']) {
      assert.throws(() => systemTime(string(text), { now: NOW }), { hint: /incarnation@0\/16B3748/ });
    }
    assert.throws(() => systemTime(string('01/02/2024'), { now: NOW }), { hint: /^write an interval/ });
    assert.throws(
      () => systemTime({ kind: 'null' }, { now: NOW }),
      (error) => isAppError(error, 'parameter_invalid'),
    );
  });

  it('reads what we print, and never fails otherwise than by refusing', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: NOW }), (us) => {
        const time = us as Timestamp;
        assert.deepEqual(systemTime(string(formatTimestamp(time)), { now: NOW }), { kind: 'time', time });
      }),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          systemTime(string(text), { now: NOW });
        } catch (error) {
          assert.ok(isAppError(error, 'timestamp_malformed', 'parameter_invalid', 'incarnation_malformed'));
        }
      }),
    );
  });
});
