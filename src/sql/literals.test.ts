import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { readToken } from './lexer.ts';
import { nameOf, stringOf } from './literals.ts';
import { quoteName, quoteString } from './quote.ts';

describe('stringOf', () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ["''", ''],
    ["'it''s'", "it's"],
    ["'a\\n'", 'a\\n'],
    ["'a'\n  'b' -- x\n\n'''c'", "ab'c"],
    ["E'\\b\\f\\n\\r\\t\\q\\\\\\''", "\b\f\n\r\tq\\'"],
    ["E'a\\''''", "a''"],
    ["E'\\101\\x41\\x4a\\8'", 'AAJ8'],
    ["E'\\x4'\n'1'", '\u00041'],
    ["E'\\xC3\\xA9\\303\\251'", 'éé'],
    ["E'\\xC3'", undefined],
    ["E'\\u00e9\\U0001F642\\uD83D\\uDE42'", 'é🙂🙂'],
    ["E'\\uD83D'", undefined],
    ["E'\\uD83D'\n'\\uDE42'", undefined],
    ["E'\\u12'", undefined],
    ["E'\\U00110000'", undefined],
    ["E'\\0'", undefined],
    ["U&'d\\0061t\\+01F642\\\\'", 'dat🙂\\'],
    ["U&'d!0061\\!!' UESCAPE '!'", 'da\\!'],
    ["U&'\\00'\n'61'", 'a'],
    ["U&'\\00zz'", undefined],
    ["U&'\\0000'", undefined],
    ["U&'a' UESCAPE '+'", undefined],
    ["U&'a' UESCAPE 'ab'", undefined],
    ['$$a\'b"$$', 'a\'b"'],
    ['$é$ $$ $é$', ' $$ '],
  ];
  for (const [text, expected] of cases) {
    it(`decodes ${JSON.stringify(text)}`, () => {
      const token = readToken(text, 0);
      assert.equal(token.end, text.length);
      assert.equal(stringOf(text, token), expected);
    });
  }

  it('reads back what quoteString writes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (value) => {
        const text = quoteString(value);
        assert.equal(stringOf(text, readToken(text, 0)), value.includes('\0') ? undefined : value);
      }),
    );
  });
});

describe('nameOf', () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['MainÉ', 'mainÉ'],
    // The sign for kelvin is no capital k: a keyword holds ASCII letters only.
    ['bac\u212Aup', 'bac\u212Aup'],
    ['"Main""x"', 'Main"x'],
    ['""', undefined],
    ['U&"\\0061\\+000062"', 'ab'],
    ['U&"!0061" UESCAPE \'!\'', 'a'],
    ['U&"\\006"', undefined],
  ];
  for (const [text, expected] of cases) {
    it(`decodes ${JSON.stringify(text)}`, () => assert.equal(nameOf(text, readToken(text, 0)), expected));
  }

  it('reads back what quoteName writes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), (name) => {
        const text = quoteName(name);
        assert.equal(nameOf(text, readToken(text, 0)), name.includes('\0') ? undefined : name);
      }),
    );
  });
});
