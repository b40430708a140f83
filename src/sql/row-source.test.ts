import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../base/index.ts';
import type { Statement } from './ast.ts';
import { printStatement } from './printer.ts';
import { findRowSources, highestPlaceholder } from './row-source.ts';
import { statementArbitrary } from './testing.ts';

function found(text: string): readonly (readonly [string, string])[] {
  return findRowSources(text).map(({ node, begin, end }) => [node.kind, text.slice(begin, end)]);
}

function isShow(statement: Statement): boolean {
  return statement.kind.startsWith('show_');
}

describe('findRowSources', () => {
  const cases: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
    ['SELECT * FROM [SHOW JOBS]', [['show_jobs', '[SHOW JOBS]']]],
    ['WITH x AS (SHOW JOBS) SELECT job_id FROM x', [['show_jobs', '(SHOW JOBS)']]],
    ['WITH x AS MATERIALIZED ( show schedules ) TABLE x', [['show_schedules', '( show schedules )']]],
    ['WITH x AS (SHOW work_mem) SELECT (show jobs)', []],
    ['SELECT * FROM [ show jobs /* x */ ] AS j', [['show_jobs', '[ show jobs /* x */ ]']]],
    [
      'SELECT replicated_time FROM [SHOW VIRTUAL CLUSTER main WITH REPLICATION STATUS]',
      [['show_virtual_clusters', '[SHOW VIRTUAL CLUSTER main WITH REPLICATION STATUS]']],
    ],
    [
      "SELECT * FROM a, [SHOW BACKUPS IN 'x]'] JOIN [SHOW JOBS] USING (b)",
      [
        ['show_backups', "[SHOW BACKUPS IN 'x]']"],
        ['show_jobs', '[SHOW JOBS]'],
      ],
    ],
    ['SELECT * FROM ([SHOW JOBS] CROSS JOIN b)', [['show_jobs', '[SHOW JOBS]']]],
    ['SELECT \'[SHOW JOBS]\', "[SHOW JOBS]", $$ FROM [SHOW JOBS] $$ -- FROM [SHOW JOBS]', []],
    ['SELECT a[show jobs], (a)[show jobs], a[1][show jobs], ARRAY[show jobs], $1[show jobs]', []],
    ['SELECT * FROM [SELECT 1]', []],
    ['SELECT * FROM [SHOW TABLES]', []],
    ['SELECT * FROM [BACKUP INTO 1]', []],
    ['SELECT * FROM [DROP VIRTUAL CLUSTER a]', []],
    ['[SHOW JOBS]', []],
    ['SELECT * FROM [TABLE system.jobs]', [['show_system_table', '[TABLE system.jobs]']]],
    ['WITH x AS (TABLE t) SELECT 1', []],
    ['TABLE system.jobs ORDER BY 1', []],
    ['SELECT * FROM [SHOW JOBS][SHOW JOBS]', [['show_jobs', '[SHOW JOBS]']]],
    ['SELECT * FROM [SHOW', []],
    [
      "SELECT * FROM [SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER a] AS OF SYSTEM TIME '-1s' WHERE true",
      [
        [
          'show_fingerprints',
          "[SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER a] AS OF SYSTEM TIME '-1s'",
        ],
      ],
    ],
    [
      'SELECT * FROM [SHOW EXPERIMENTAL_FINGERPRINTS FROM TENANT a] AS of',
      [['show_fingerprints', '[SHOW EXPERIMENTAL_FINGERPRINTS FROM TENANT a]']],
    ],
    ["SELECT * FROM [SHOW JOBS] AS OF SYSTEM TIME '-1s'", [['show_jobs', '[SHOW JOBS]']]],
  ];
  for (const [text, expected] of cases) {
    it(`looks through ${text}`, () => assert.deepEqual(found(text), expected));
  }

  const named: readonly (readonly [string, readonly string[]])[] = [
    ['SELECT id FROM system.jobs', ['system.jobs AS jobs']],
    ['select * from SYSTEM.JOBS j WHERE j.id = 1', ['SYSTEM.JOBS']],
    [
      'SELECT * FROM system.jobs AS "J", /* x */ system . users, system.users WHERE 1 = 1',
      ['system.jobs', 'system.users AS users'],
    ],
    [
      'SELECT * FROM a JOIN system.jobs USING (id), LATERAL (SELECT 1 FROM system.users u) x LEFT JOIN system.settings ON true, system.privileges',
      [
        'system.jobs AS jobs',
        'system.users',
        'system.settings AS settings',
        'system.privileges AS privileges',
      ],
    ],
    ['SELECT (SELECT max(id) FROM system.jobs), 1', ['system.jobs AS jobs']],
    ['SELECT * FROM (system.jobs CROSS JOIN system.users)', ['system.jobs AS jobs', 'system.users AS users']],
    [
      'WITH x AS (SELECT 1 FROM system.jobs) INSERT INTO t SELECT 1 FROM x, system.users',
      ['system.jobs AS jobs', 'system.users AS users'],
    ],
    ['UPDATE t SET a = 1 FROM system.jobs WHERE true RETURNING system.jobs', ['system.jobs AS jobs']],
    ['DELETE FROM t USING system.jobs j', ['system.jobs']],
    [
      'SELECT 1 FROM system.jobs UNION SELECT 2 FROM system.users',
      ['system.jobs AS jobs', 'system.users AS users'],
    ],
    // Columns of something called system, comparisons, functions, other tables, and what is written to.
    ['SELECT id, system.jobs FROM system', []],
    ['SELECT extract(year FROM system.jobs), trim(both from system.users) FROM system', []],
    ['SELECT 1 IS DISTINCT FROM system.jobs FROM system', []],
    ['SELECT * FROM system.jobs(), system.jobs.x, system.others, "system".jobs, System.jobs', []],
    ['SELECT * FROM a ORDER BY b, system.jobs', []],
    ["SELECT 'FROM system.jobs', $$ FROM system.jobs $$ -- FROM system.jobs", []],
    ['DELETE FROM system.jobs', []],
    ['INSERT INTO system.jobs VALUES (1)', []],
    ['UPDATE system.jobs SET a = 1', []],
    ['SELECT * FROM [SHOW JOBS SELECT id FROM system.jobs]', ['[SHOW JOBS SELECT id FROM system.jobs]']],
  ];
  for (const [text, expected] of named) {
    it(`finds the tables of ours in ${text}`, () => {
      assert.deepEqual(
        findRowSources(text).map(
          ({ begin, end, alias }) => text.slice(begin, end) + (alias === undefined ? '' : ` AS ${alias}`),
        ),
        expected,
      );
    });
  }

  it('reports a malformed source of ours where it stands', () => {
    for (const [text, position] of [
      ['SELECT * FROM [SHOW JOBS', 25],
      ['SELECT * FROM [SHOW JOBS; x]', 25],
      ['SELECT 1 FROM [SHOW BACKUPS]', 28],
      ['SELECT 1 FROM [SHOW JOB x]', 25],
    ] as const) {
      assert.throws(
        () => findRowSources(text),
        (error) => isAppError(error, 'syntax') && error.position === position && error.hint !== undefined,
      );
    }
  });

  it('takes the moment of a fingerprint from within the bracket or from behind it', () => {
    const show = 'SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER a';
    const moment = 'AS OF SYSTEM TIME 1704816945291575000.0000000000';
    const asOf = { kind: 'number', text: '1704816945291575000.0000000000' };
    for (const text of [`[${show} ${moment}]`, `[${show}] ${moment}`]) {
      const [source] = findRowSources(`SELECT fingerprint FROM ${text}`);
      assert.deepEqual(source?.node, { kind: 'show_fingerprints', name: 'a', asOf });
      assert.equal(source?.text, `${show} ${moment}`);
    }
    assert.throws(
      () => findRowSources(`SELECT 1 FROM [${show}] AS OF SYSTEM TIME (1)`),
      (error) => isAppError(error, 'syntax'),
    );
  });

  it('finds every SHOW of ours, and where it stands', () => {
    fc.assert(
      fc.property(statementArbitrary.filter(isShow), statementArbitrary.filter(isShow), (first, second) => {
        const texts = [first, second].map((statement) => `[${printStatement(statement)}]`);
        const text = `SELECT 'é🙂' FROM ${texts.join(', ')} x`;
        const sources = findRowSources(text);
        assert.deepEqual(
          sources.map(({ node }) => node),
          [first, second],
        );
        assert.deepEqual(
          sources.map(({ begin, end }) => text.slice(begin, end)),
          texts,
        );
      }),
    );
  });
});

describe('highestPlaceholder', () => {
  for (const [text, expected] of [
    ['SELECT 1', 0],
    ['SELECT $2, $10, $3', 10],
    ['SELECT \'$7\', "$8", $$ $9 $$ -- $10', 0],
    ['SELECT a$5, $1', 1],
  ] as const) {
    it(`is ${expected} in ${text}`, () => assert.equal(highestPlaceholder(text), expected));
  }
});
