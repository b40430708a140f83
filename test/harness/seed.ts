/**
 * What tests begin from; `npm test` loads this file before each test file. Random ones from ATOLL_TEST_SEED, so that a run can be had again, or
 * from another number with each run; stores from a template of virtual clusters that they share.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import fc from 'fast-check';

// Half of what it takes to begin a test file is to compile what it imports.
enableCompileCache(join(import.meta.dirname, '../../node_modules/.cache/atoll'));

if (process.env['ATOLL_TEST_TEMPLATES'] === undefined) {
  const folder = join(import.meta.dirname, '../../node_modules/.cache/atoll-test-templates');
  process.env['ATOLL_TEST_TEMPLATES'] = folder;
  try {
    mkdirSync(folder, { recursive: true });
    // Some daemons run as another user, who keeps one of his own there.
    chmodSync(folder, 0o1777);
  } catch {
    // It is another's, or cannot be written to: who may not share makes his own.
  }
}

// Tests saturate the machine, and wait for bulk work, which would stand back behind them.
process.env['ATOLL_TEST_EQUAL_SESSIONS'] ??= 'yes';

const given = process.env['ATOLL_TEST_SEED'];

export const SEED = given === undefined ? Math.trunc(performance.timeOrigin) % 1_000_000 : Number(given);

if (!Number.isSafeInteger(SEED)) throw new Error(`ATOLL_TEST_SEED is no number: ${given}`);
if (given !== undefined) fc.configureGlobal({ seed: SEED });
