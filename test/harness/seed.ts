/**
 * What random tests begin from, of this process: given by ATOLL_TEST_SEED, so that a run can be had again, or another with each run.
 * `npm test` loads this file before each test file, for the properties of fast-check.
 */
import fc from 'fast-check';

const given = process.env['ATOLL_TEST_SEED'];

export const SEED = given === undefined ? Math.trunc(performance.timeOrigin) % 1_000_000 : Number(given);

if (!Number.isSafeInteger(SEED)) throw new Error(`ATOLL_TEST_SEED is no number: ${given}`);
if (given !== undefined) fc.configureGlobal({ seed: SEED });
