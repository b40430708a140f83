import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { InputError } from '../base/index.ts';
import {
  type SettingType,
  decodeSettingValue,
  parseSettingInput,
  printByteSize,
  printDuration,
  printInterval,
  printSettingValue,
} from './setting-value.ts';

const BYTES: SettingType = { kind: 'byte_size', min: 0n, max: 1n << 60n };
const DURATION: SettingType = { kind: 'duration', minUs: 0n, maxUs: 1n << 60n };
const INT: SettingType = { kind: 'int', min: -(1n << 40n), max: 1n << 40n };
const FLOAT: SettingType = { kind: 'float', min: -1e300, max: 1e300 };
const BOOL: SettingType = { kind: 'bool' };
const STRING: SettingType = { kind: 'string', lengthMax: 1000 };

const text = (value: string) => ({ text: value, form: 'string' as const });
const number = (value: string) => ({ text: value, form: 'number' as const });

describe('cluster setting values', () => {
  it('print and read back the same, whatever the value', () => {
    const cases = fc.oneof(
      fc.record({ type: fc.constant(BYTES), value: fc.bigInt({ min: 0n, max: 1n << 60n }) }),
      fc.record({ type: fc.constant(DURATION), value: fc.bigInt({ min: 0n, max: 1n << 60n }) }),
      fc.record({ type: fc.constant(INT), value: fc.bigInt({ min: -(1n << 40n), max: 1n << 40n }) }),
      fc.record({
        type: fc.constant(FLOAT),
        value: fc.double({ min: -1e300, max: 1e300, noNaN: true }).filter((value) => !Object.is(value, -0)),
      }),
      fc.record({ type: fc.constant(BOOL), value: fc.boolean() }),
      fc.record({
        type: fc.constant(STRING),
        value: fc.string({ unit: 'binary' }).filter((value) => !value.includes('\0')),
      }),
    );
    fc.assert(
      fc.property(cases, ({ type, value }) => {
        const printed = printSettingValue(type, value);
        assert.equal(decodeSettingValue(type, printed), value);
        assert.equal(parseSettingInput(type, text(printed)), printed);
      }),
      { numRuns: 2000 },
    );
  });

  it('never fail with anything but a refusal, whatever is written', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(BYTES, DURATION, INT, FLOAT, BOOL, STRING),
        fc.string({ unit: 'grapheme' }),
        (type, written) => {
          try {
            const stored = parseSettingInput(type, text(written));
            decodeSettingValue(type, stored);
          } catch (error) {
            assert.ok(error instanceof InputError);
            assert.equal(error.code, 'parameter_invalid');
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('refuse a size that is neither none nor enough, and read one that was stored before', () => {
    const type: SettingType = { ...BYTES, minUnlessZero: 1n << 26n };
    assert.equal(parseSettingInput(type, text('0')), '0 B');
    assert.equal(parseSettingInput(type, text('64MiB')), '64 MiB');
    for (const little of ['1kB', '1', '67108863']) {
      assert.throws(() => parseSettingInput(type, text(little)), {
        code: 'parameter_invalid',
        message: /neither 0 nor within 64 MiB to 1024 PiB/,
      });
    }
    assert.equal(decodeSettingValue(type, '1000 B'), 1000n);
  });

  it('read the forms people write', () => {
    const accepted: readonly [SettingType, string, string][] = [
      [BYTES, '128MiB', '128 MiB'],
      [BYTES, '128 mib', '128 MiB'],
      [BYTES, '1.5GiB', '1536 MiB'],
      [BYTES, '134217728', '128 MiB'],
      [BYTES, '10MB', '10000000 B'],
      [BYTES, '0', '0 B'],
      [DURATION, '5m', '5m0s'],
      [DURATION, '4h', '4h0m0s'],
      [DURATION, '336h', '336h0m0s'],
      [DURATION, '1 day', '24h0m0s'],
      [DURATION, '00:05:00', '5m0s'],
      [DURATION, '1.5s', '1.5s'],
      [DURATION, '200ms', '200ms'],
      [DURATION, '90 seconds', '1m30s'],
      [BOOL, 'ON', 'true'],
      [BOOL, 'f', 'false'],
    ];
    for (const [type, written, stored] of accepted)
      assert.equal(parseSettingInput(type, text(written)), stored);
    assert.equal(parseSettingInput(INT, number('42')), '42');
    assert.equal(parseSettingInput(BYTES, number('1024')), '1 KiB');
  });

  it('refuse the rest and say what would do', () => {
    const refused: readonly [SettingType, string][] = [
      [BOOL, 'perhaps'],
      [INT, '1.5'],
      [INT, 'eleven'],
      [FLOAT, 'NaN'],
      [BYTES, '12 apples'],
      [BYTES, '-1'],
      [DURATION, '5 fortnights'],
      [DURATION, '-5m'],
      [DURATION, '42'],
      [{ kind: 'enum', values: ['fastest', 'none'] }, 'best'],
    ];
    for (const [type, written] of refused) {
      assert.throws(() => parseSettingInput(type, text(written)), {
        code: 'parameter_invalid',
      });
    }
    assert.throws(() => parseSettingInput(STRING, number('5')), { hint: 'write a string in single quotes' });
  });

  it('print sizes, durations and intervals in their documented forms', () => {
    assert.equal(printByteSize(1n << 40n), '1 TiB');
    assert.equal(printByteSize(1500n), '1500 B');
    assert.equal(printDuration(3_000_000n), '3s');
    assert.equal(printDuration(7n), '7µs');
    assert.equal(printDuration(61_500_000n), '1m1.5s');
    assert.equal(printInterval(300_000_000n), '00:05:00');
    assert.equal(printInterval(1_209_600_000_000n), '336:00:00');
    assert.equal(printInterval(200_000n), '00:00:00.2');
  });
});
