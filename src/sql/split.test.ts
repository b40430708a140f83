import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { readToken } from './lexer.ts';
import { printStatement } from './printer.ts';
import { splitStatements } from './split.ts';
import { soupArbitrary, statementArbitrary } from './testing.ts';

function pieces(text: string): readonly string[] {
  return splitStatements(text).map(({ node }) => node);
}

const ATOMIC =
  'CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT (CASE a WHEN 1 THEN 2 END); END';

describe('splitStatements', () => {
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ['', []],
    [' ; ;\n-- x', []],
    ['a', ['a']],
    ['a;b ; c;', ['a', 'b', 'c']],
    ["a';';b", ["a';'", 'b']],
    ['a"x;";b', ['a"x;"', 'b']],
    ["E'\\';';b", ["E'\\';'", 'b']],
    ['$x$;$x$;b', ['$x$;$x$', 'b']],
    ['a /* ; */;b -- ;\n;c', ['a', 'b', 'c']],
    ['/*+ hint */ a; /* c */', ['/*+ hint */ a']],
    ['CREATE RULE r AS ON INSERT TO t DO (a; b); c', ['CREATE RULE r AS ON INSERT TO t DO (a; b)', 'c']],
    ['a) ; b', ['a)', 'b']],
    ["a; 'b;", ['a', "'b;"]],
    [`${ATOMIC}; x`, [ATOMIC, 'x']],
    [
      'create procedure p(a int) begin atomic a; end; x',
      ['create procedure p(a int) begin atomic a; end', 'x'],
    ],
    [
      'CREATE FUNCTION f() BEGIN ATOMIC SELECT a AS end, t.case; b; END; x',
      ['CREATE FUNCTION f() BEGIN ATOMIC SELECT a AS end, t.case; b; END', 'x'],
    ],
    ['BEGIN; a; END; b', ['BEGIN', 'a', 'END', 'b']],
    [
      'CREATE FUNCTION begin() RETURNS int RETURN 1; x',
      ['CREATE FUNCTION begin() RETURNS int RETURN 1', 'x'],
    ],
    ['SELECT begin atomic; x', ['SELECT begin atomic', 'x']],
  ];
  for (const [text, expected] of cases) {
    it(`splits ${JSON.stringify(text)}`, () => assert.deepEqual(pieces(text), expected));
  }

  it('says where the pieces stood', () => {
    assert.deepEqual(splitStatements(' a ;\n/*x*/ b\n;'), [
      { node: 'a', begin: 1, end: 2 },
      { node: '/*x*/ b', begin: 5, end: 12 },
    ]);
  });

  it('gives back statements that were joined', () => {
    fc.assert(
      fc.property(fc.array(statementArbitrary), (statements) => {
        const texts = statements.map((statement) => printStatement(statement));
        assert.deepEqual(pieces(texts.join(';')), texts);
      }),
    );
  });

  it('loses no token of any text', () => {
    fc.assert(
      fc.property(soupArbitrary, (text) => {
        const located = splitStatements(text);
        let at = 0;
        for (const { node, begin, end } of located) {
          assert.equal(text.slice(begin, end), node);
          assertOnlySeparators(text.slice(at, begin));
          at = end;
        }
        assertOnlySeparators(text.slice(at));
      }),
      { numRuns: 2000 },
    );
  });
});

function assertOnlySeparators(text: string): void {
  for (let token = readToken(text, 0); ; token = readToken(text, token.end)) {
    if (token.kind === 'end') {
      assert.equal(token.unterminated, undefined);
      return;
    }
    assert.equal(text.slice(token.begin, token.end), ';');
  }
}
