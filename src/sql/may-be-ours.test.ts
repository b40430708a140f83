import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../base/index.ts';
import { mayBeOurs, mayBeOursBytes } from './may-be-ours.ts';
import { parseStatement } from './parser.ts';
import { printStatement } from './printer.ts';
import { findRowSources } from './row-source.ts';
import { splitStatements } from './split.ts';
import { rewritten, soupArbitrary, statementArbitrary } from './testing.ts';

/** What the parser has to say, which is what decides: an error of ours is a statement of ours too. */
function isOurs(text: string): boolean {
  try {
    return (
      findRowSources(text).length > 0 ||
      splitStatements(text).some(({ node }) => parseStatement(node) !== undefined)
    );
  } catch (error) {
    if (isAppError(error)) return true;
    throw error;
  }
}

const written = statementArbitrary.chain((statement) => rewritten(printStatement(statement)));

describe('mayBeOurs', () => {
  for (const text of [
    '',
    'SELECT 1',
    'SELECT abalance FROM pgbench_accounts WHERE aid = 1;',
    'UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 2;\0',
    'BEGIN; COMMIT; SET search_path = x; SHOW search_path; RESET ALL; DISCARD ALL',
    'CREATE INDEX backup ON a (b); ALTER INDEX a RENAME TO b; DROP TABLE a',
    'SELECT a[1], a[show_jobs] FROM b',
    'WITH x AS (SELECT 1) SELECT (1), show FROM x',
    '/* BACKUP */ -- BACKUP\n SELECT 1',
    'backups',
    'SHOW jobsx',
    'SHOW é',
    'SET',
    'show',
    '.jobs; system .jobs',
    `SELECT ${'a.b, '.repeat(1000)}`,
    `INSERT INTO t VALUES ${"(1, 'a'), ".repeat(1000)}`,
    `SELECT ${'a[1], '.repeat(1000)}`,
  ]) {
    it(`is no for ${JSON.stringify(text.slice(0, 60))}`, () => assert.equal(mayBeOurs(text), false));
  }

  for (const text of [
    'BACKUP',
    'sHoW/**/JoBs',
    '\t\r\n\f\v -- x\n /* /* */ */ show jobs',
    'SELECT 1; SHOW JOBS',
    'WITH x AS (SHOW JOBS) SELECT job_id FROM x',
    '/* a */ with x as MATERIALIZED (/* b */ show jobs) SELECT job_id FROM x',
    'SELECT * FROM [ SHOW JOBS ]',
    'SET CLUSTER SETTING a = 1',
    // The parser decides by their parameters.
    'CREATE TABLE a (b int)',
    'ALTER TABLE a ADD b int',
    'SELECT id FROM system.jobs',
    'SELECT id FROM SYSTEM.JOBS',
    'select 1.5, a.b from system.jobs',
    `SELECT ${"1.5, 'a', ".repeat(1000)} FROM SYSTEM.jobs`,
    // No strings are known here: this one is for the parser to decline.
    "SELECT '; SHOW JOBS'",
    "SELECT ';--' ; SHOW JOBS",
    "SELECT ';/*' ; SHOW JOBS",
    `${' '.repeat(2000)}SHOW JOBS`,
    `SELECT ${"'a', ".repeat(1000)}; SHOW JOBS`,
    `SELECT ${"'a', ".repeat(1000)} FROM [SHOW JOBS]`,
  ]) {
    it(`is yes for ${JSON.stringify(text.slice(-60))}`, () => assert.equal(mayBeOurs(text), true));
  }

  it('is yes for every statement of ours, alone, behind others and as a row source', () => {
    fc.assert(
      fc.property(written, soupArbitrary, (text, before) => {
        assert.ok(mayBeOurs(text));
        assert.ok(mayBeOurs(`${before};${text};`));
        assert.ok(mayBeOurs(`SELECT 1 FROM [${text}]`));
      }),
      { numRuns: 1000 },
    );
  });

  it('is yes for whatever the parser takes for ours', () => {
    fc.assert(
      fc.property(soupArbitrary, (text) => {
        fc.pre(isOurs(text));
        assert.ok(mayBeOurs(text));
      }),
      { numRuns: 1000, maxSkipsPerRun: 1000 },
    );
  });

  it('looks at nothing outside its range', () => {
    const named = Buffer.from('system.jobs');
    assert.deepEqual(
      [0, 1].map((begin) => mayBeOursBytes(named, begin, named.length)),
      [true, false],
    );
    assert.equal(mayBeOursBytes(named, 0, 6), false);
    const bytes = Buffer.from('SHOW JOBS;SELECT 1;SHOW JOBS');
    assert.equal(mayBeOursBytes(bytes, 10, 19), false);
    assert.equal(mayBeOursBytes(bytes, 10, bytes.length), true);
    assert.equal(mayBeOursBytes(bytes, 19, 26), false);
    assert.equal(mayBeOursBytes(bytes.subarray(19), 0, 9), true);
  });
});
