import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { ERRORS_REFERENCE_FILE, errorsReference } from '../../scripts/generate-errors-reference.ts';
import { AppError, CorruptError, ERRORS, errnoOf, isAppError, isDiskFull, toError } from './errors.ts';

describe('errors', () => {
  test('every row has a well-formed SQLSTATE, status and exit code', () => {
    for (const [code, row] of Object.entries(ERRORS)) {
      assert.match(code, /^[a-z][a-z_]*$/);
      assert.match(row.sqlstate, /^[0-9A-Z]{5}$/, code);
      assert.ok(row.http >= 400 && row.http < 600, code);
      assert.ok(row.exit > 0 && row.exit < 256, code);
    }
  });

  test('are told apart by code, and keep cause, hint and position', () => {
    const cause = new Error('below');
    const error = new AppError('syntax', 'at or near "x": syntax error', {
      cause,
      hint: 'try y',
      position: 7,
    });
    assert.equal(error.sqlstate, '42601');
    assert.deepEqual([error.cause, error.hint, error.position], [cause, 'try y', 7]);
    assert.ok(isAppError(error, 'internal', 'syntax'));
    assert.ok(!isAppError(error, 'internal'));
    assert.ok(!isAppError(cause));
    assert.ok(isAppError(new CorruptError('checksum mismatch in x'), 'data_corrupt'));
  });

  test('of a full disk are recognised, however deep', () => {
    const coded = (code: string) => Object.assign(new Error('x'), { code });
    for (const error of [coded('ENOSPC'), coded('EDQUOT'), coded('53100'), new AppError('disk_full', 'x')]) {
      assert.ok(isDiskFull(error));
      assert.ok(isDiskFull(new AppError('io', 'y', { cause: new Error('z', { cause: error }) })));
    }
    for (const other of [coded('ENOENT'), new AppError('io', 'no space left on device'), 'ENOSPC', null]) {
      assert.ok(!isDiskFull(other));
    }
    const endless = new Error('x');
    endless.cause = endless;
    assert.ok(!isDiskFull(endless));
  });

  test('of the system are read by name, and anything thrown becomes an Error', () => {
    assert.equal(errnoOf(Object.assign(new Error('x'), { code: 'ENOENT' })), 'ENOENT');
    assert.equal(errnoOf('ENOENT'), undefined);
    assert.equal(toError('thrown text').message, 'thrown text');
  });

  test('docs/reference/errors.md is up to date', () => {
    const hint = 'run bin/node scripts/generate-errors-reference.ts --write';
    assert.equal(readFileSync(ERRORS_REFERENCE_FILE, 'utf8'), errorsReference(), hint);
  });
});
