import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type ErrorCode, isAppError } from '../base/index.ts';
import { requireCompatible } from './compatible.ts';

const OWN = { clusterId: 'here', release: '26.9', engineMajor: 18 };
const THEIRS = { ...OWN, clusterId: 'there' };

describe('what can be followed', () => {
  it('is of this release or an older one, with the same engine', () => {
    for (const release of ['26.9', '26.2', '25.12']) requireCompatible({ ...THEIRS, release }, OWN);
  });

  const refused: readonly (readonly [Partial<typeof OWN>, ErrorCode, RegExp])[] = [
    [{ release: '26.10' }, 'object_state', /release 26\.10, newer than 26\.9/],
    [{ release: '27.1' }, 'object_state', /newer/],
    // What there is to do about it is said, not that it follows from that.
    [{ release: '27.1', engineMajor: 19 }, 'object_state', /newer/],
    [{ engineMajor: 17 }, 'feature_not_supported', /PostgreSQL 17 with PostgreSQL 18/],
    [{ clusterId: 'here' }, 'parameter_invalid', /this physical cluster itself/],
  ];
  for (const [change, code, message] of refused) {
    it(`is not ${JSON.stringify(change)}`, () => {
      assert.throws(
        () => requireCompatible({ ...THEIRS, ...change }, OWN),
        (error) => {
          assert.ok(isAppError(error, code), String(error));
          assert.match(error.message, message);
          assert.ok(error.hint !== undefined);
          return true;
        },
      );
    });
  }
});
