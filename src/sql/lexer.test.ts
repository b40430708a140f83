import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { readToken, skipBlanks, type Token } from './lexer.ts';
import { nameOf, stringOf } from './literals.ts';
import { soupArbitrary } from './testing.ts';

function tokensOf(text: string): readonly Token[] {
  const tokens: Token[] = [];
  for (let token = readToken(text, 0); ; token = readToken(text, token.end)) {
    tokens.push(token);
    if (token.kind === 'end') return tokens;
  }
}

/** `kind:source` of every token but the end. */
function shown(text: string): readonly string[] {
  return tokensOf(text)
    .filter(({ kind }) => kind !== 'end')
    .map(({ kind, begin, end }) => `${kind}:${text.slice(begin, end)}`);
}

describe('readToken', () => {
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ['SELECT é_1$x', ['identifier:SELECT', 'identifier:é_1$x']],
    ['"a""b" U&"\\0061"', ['quoted_identifier:"a""b"', 'quoted_identifier:U&"\\0061"']],
    ["'a''b'c", ["string:'a''b'", 'identifier:c']],
    ["'a\\'", ["string:'a\\'"]],
    ["E'a\\'b' e'\\\\'", ["string:E'a\\'b'", "string:e'\\\\'"]],
    ["B'01' x'ff' n'x'", ["bit_string:B'01'", "bit_string:x'ff'", 'identifier:n', "string:'x'"]],
    ["xe'a'", ['identifier:xe', "string:'a'"]],
    ["'a' -- c\n 'b' 'c'", ["string:'a' -- c\n 'b'", "string:'c'"]],
    ["'a' /* c\n */ 'b'", ["string:'a'", "string:'b'"]],
    ["U&'!0061' uescape '!' x", ["string:U&'!0061' uescape '!'", 'identifier:x']],
    ["U&'a' uescapes '!'", ["string:U&'a'", 'identifier:uescapes', "string:'!'"]],
    ['$$a$b$$', ['string:$$a$b$$']],
    ['$a$ $b$ $a$$', ['string:$a$ $b$ $a$', 'symbol:$']],
    ['$a$ $b$a$', ['string:$a$ $b$a$']],
    ['$1 $22a $a a$b$c', ['placeholder:$1', 'junk:$22a', 'symbol:$', 'identifier:a', 'identifier:a$b$c']],
    [
      '1 1.5 .5 5. 1e5 1E-5 1_000',
      ['1', '1.5', '.5', '5.', '1e5', '1E-5', '1_000'].map((n) => `number:${n}`),
    ],
    ['0xFf 0o17 0b01', ['number:0xFf', 'number:0o17', 'number:0b01']],
    ['1..2', ['number:1', 'symbol:..', 'number:2']],
    ['1a 0x 1e 1__0', ['junk:1a', 'junk:0x', 'junk:1e', 'junk:1__0']],
    ['=-5', ['symbol:=', 'symbol:-', 'number:5']],
    ['@-5 a<-b', ['symbol:@-', 'number:5', 'identifier:a', 'symbol:<', 'symbol:-', 'identifier:b']],
    ['+/*c*/-', ['symbol:+', 'symbol:-']],
    ['=--c\n>', ['symbol:=', 'symbol:>']],
    ['a::b :=c', ['identifier:a', 'symbol:::', 'identifier:b', 'symbol::=', 'identifier:c']],
    [
      'a.*,b[1]',
      [
        'identifier:a',
        'symbol:.',
        'symbol:*',
        'symbol:,',
        'identifier:b',
        'symbol:[',
        'number:1',
        'symbol:]',
      ],
    ],
    ['/* a /* b */ c */ x /*/ */ y', ['identifier:x', 'identifier:y']],
    ['a--b\rc', ['identifier:a', 'identifier:c']],
    ['{\\}\u0001', ['symbol:{', 'symbol:\\', 'symbol:}', 'symbol:\u0001']],
  ];
  for (const [text, expected] of cases) {
    it(`reads ${JSON.stringify(text)}`, () => assert.deepEqual(shown(text), expected));
  }

  const unterminated: readonly (readonly [string, Token['unterminated'], number])[] = [
    ["x 'a''", 'string', 2],
    ["E'a\\'", 'string', 0],
    ["'a'\n'b", 'string', 0],
    ["U&'a' UESCAPE '!", 'string', 14],
    ['$a$ $b$ a$', 'string', 0],
    ['x "a""', 'quoted_identifier', 2],
    ['x /* /* */', 'comment', 2],
    ['+/* x', 'comment', 1],
  ];
  for (const [text, what, begin] of unterminated) {
    it(`flags what ${JSON.stringify(text)} leaves open`, () => {
      assert.deepEqual(tokensOf(text).at(-1), { kind: 'end', begin, end: text.length, unterminated: what });
    });
  }

  it('covers any text without gaps other than blanks and comments', () => {
    fc.assert(
      fc.property(soupArbitrary, (text) => {
        let at = 0;
        for (const token of tokensOf(text)) {
          assert.equal(token.begin, skipBlanks(text, at));
          assert.ok(token.end > token.begin || token.kind === 'end');
          at = token.end;
          nameOf(text, token);
          stringOf(text, token);
        }
        assert.equal(at, text.length);
      }),
      { numRuns: 3000 },
    );
  });
});
