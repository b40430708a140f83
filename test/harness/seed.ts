/**
 * What tests begin from; `npm test` loads this file before each test file. Random ones from ATOLL_TEST_SEED, so that a run can be had again, or
 * from another number with each run; stores from a template of virtual clusters that they share.
 */
import { join } from 'node:path';
import fc from 'fast-check';

process.env['ATOLL_TEST_TEMPLATES'] ??= join(
  import.meta.dirname,
  '../../node_modules/.cache/atoll-test-templates',
);

const given = process.env['ATOLL_TEST_SEED'];

export const SEED = given === undefined ? Math.trunc(performance.timeOrigin) % 1_000_000 : Number(given);

if (!Number.isSafeInteger(SEED)) throw new Error(`ATOLL_TEST_SEED is no number: ${given}`);
if (given !== undefined) fc.configureGlobal({ seed: SEED });
