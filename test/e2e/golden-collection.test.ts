/**
 * Collections that released versions wrote, kept as they were: every later version must restore them. The one of 26.2 holds a full backup
 * and an incremental one, both published with revision history; 500 rows were made, 100 deleted, then the full backup was
 * taken, then row 7 changed, then a table was made.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { BareEngine } from '../harness/bare-engine.ts';
import { ATOLL } from '../harness/daemon.ts';

const GOLDEN = join(import.meta.dirname, '../golden/collection-26.2');
const run = promisify(execFile);

/** Moments in UTC, and what was there. */
const MOMENTS = [
  { what: 'the end of the full backup', asOf: '1795271482444545000', note: 'md5', later: false },
  { what: 'a moment of the revision history', asOf: '1795271484948932000', note: 'changed', later: false },
  { what: 'the end of the newest', asOf: undefined, note: 'changed', later: true },
];

describe('a collection of release 26.2', { skip: process.arch !== 'x64' && 'it is of x64' }, () => {
  let engine: BareEngine;

  before(async () => {
    engine = await BareEngine.open();
  });
  after(async () => {
    await engine[Symbol.asyncDispose]();
  });

  for (const { what, asOf, note, later } of MOMENTS) {
    test(`is restored to ${what}`, async () => {
      const to = join(engine.directory, 'golden');
      await run(ATOLL, [
        'restore',
        join(GOLDEN, 'collection'),
        `--cluster-key-file=${join(GOLDEN, 'cluster-key')}`,
        `--owner=${execFileSync('id', ['-un'], { encoding: 'utf8' }).trim()}`,
        `--to=${to}`,
        ...(asOf === undefined ? [] : [`--as-of=${asOf}`]),
      ]);
      if (process.getuid?.() === 0) execFileSync('chown', ['-R', 'nobody', to]);
      await engine.start({ dataDirectory: to });
      const [row] = await engine.use(
        'defaultdb',
        async (client) =>
          (
            await client.query<{ rows: string; sound: string; seven: string; later: boolean }>(
              `SELECT count(*) AS rows, count(*) FILTER (WHERE note = md5(id::text)) AS sound,
                      max(note) FILTER (WHERE id = 7) AS seven, to_regclass('later') IS NOT NULL AS later FROM golden`,
            )
          ).rows,
      );
      assert.deepEqual(row, {
        rows: '400',
        sound: note === 'md5' ? '400' : '399',
        seven: note === 'md5' ? '8f14e45fceea167a5a36dedd4bea2543' : 'changed',
        later,
      });
      await engine.stop('fast');
      await rm(to, { recursive: true });
    });
  }
});
