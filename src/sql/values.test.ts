import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../base/index.ts';
import type { Statement } from './ast.ts';
import { parseStatement } from './parser.ts';
import { printStatement } from './printer.ts';
import { highestPlaceholder } from './row-source.ts';
import { statementArbitrary } from './testing.ts';
import { bindPlaceholders, mapValues } from './values.ts';

function parsed(text: string): Statement {
  const statement = parseStatement(text)?.node;
  assert.ok(statement !== undefined);
  return statement;
}

describe('bindPlaceholders', () => {
  const cases: readonly (readonly [string, readonly (string | null)[], string])[] = [
    [
      "BACKUP INTO $1 AS OF SYSTEM TIME $2 WITH kms = ($3, 'b'), detached = $4",
      ['u', '-1s', 'a', 'TRUE'],
      "BACKUP INTO 'u' AS OF SYSTEM TIME '-1s' WITH OPTIONS (kms = ('a', 'b'), detached = true)",
    ],
    ['RESTORE FROM $1 IN $2', ['latest', 'u'], "RESTORE FROM LATEST IN 'u'"],
    ['SHOW BACKUP FROM $1 IN ($2, $3)', ['x', 'a', 'b'], "SHOW BACKUP FROM 'x' IN ('a', 'b')"],
    ['SHOW JOB $1', ['7'], "SHOW JOB '7'"],
    ['PAUSE JOB $1', [null], 'PAUSE JOB NULL'],
    ['SET CLUSTER SETTING a = $1', ["it's"], "SET CLUSTER SETTING a = 'it''s'"],
    [
      'ALTER VIRTUAL CLUSTER v GRANT CAPABILITY c = $1',
      ['true'],
      "ALTER VIRTUAL CLUSTER v GRANT CAPABILITY c = 'true'",
    ],
  ];
  for (const [text, parameters, expected] of cases) {
    it(`binds ${text}`, () => {
      assert.equal(printStatement(bindPlaceholders(parsed(text), parameters)), expected);
    });
  }

  it('reports a missing parameter and a flag that is none', () => {
    assert.throws(
      () => bindPlaceholders(parsed('SHOW JOB $2'), ['1']),
      (error) => isAppError(error, 'undefined_parameter') && error.message === 'there is no parameter $2',
    );
    assert.throws(
      () => bindPlaceholders(parsed("BACKUP INTO 'u' WITH detached = $1"), ['maybe']),
      (error) => isAppError(error, 'parameter_invalid'),
    );
  });

  it('leaves no placeholder behind, but those in queries, which are bound where they run', () => {
    const parameters = Array.from({ length: 65_535 }, () => 'true');
    fc.assert(
      fc.property(statementArbitrary, (statement) => {
        const bound = printStatement(bindPlaceholders(statement, parameters));
        assert.equal(highestPlaceholder(bound), highestPlaceholder(queryOf(statement)));
      }),
    );
  });
});

describe('mapValues', () => {
  it('gives back the same tree when nothing is changed', () => {
    fc.assert(
      fc.property(statementArbitrary, (statement) => {
        assert.deepEqual(
          mapValues(statement, (value) => value),
          statement,
        );
      }),
    );
  });
});

/** The query by which a statement selects jobs or schedules; empty for others. */
function queryOf(statement: Statement): string {
  const selection =
    statement.kind === 'control_schedules'
      ? statement.schedules
      : statement.kind === 'control_jobs' || statement.kind === 'show_jobs'
        ? statement.jobs
        : undefined;
  const inner = selection?.kind === 'of_schedules' ? selection.schedules : selection;
  return inner?.kind === 'query' ? inner.text : '';
}
