import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../base/index.ts';
import { readToken } from './lexer.ts';
import { nameOf, stringOf } from './literals.ts';
import { mayBeOurs, mayBeOursBytes } from './may-be-ours.ts';
import { parseStatement } from './parser.ts';
import { printStatement } from './printer.ts';
import { redactUri } from './redact.ts';
import { findRowSources, highestPlaceholder } from './row-source.ts';
import { splitStatements } from './split.ts';
import { soupArbitrary, statementArbitrary } from './testing.ts';

/** Everything that looks at a client's text. */
const LOOKS: Readonly<Record<string, (text: string) => unknown>> = {
  mayBeOurs,
  splitStatements,
  parseStatement,
  findRowSources,
  highestPlaceholder,
  redactUri,
  decodeAll,
};

/** Only errors of ours may come out. */
function lookAt(text: string): void {
  for (const look of Object.values(LOOKS)) lookOnce(look, text);
}

function lookOnce(look: (text: string) => unknown, text: string): void {
  try {
    look(text);
  } catch (error) {
    // Which tells its parameter, as Postgres does, and no place.
    if (isAppError(error, 'parameter_read_only')) return;
    assert.ok(isAppError(error, 'syntax', 'feature_not_supported'), String(error));
    assert.ok(error.position !== undefined && error.position <= text.length + 1);
  }
}

/** Best time of several, so that what else the machine does is left out. */
function bestMs(look: (text: string) => unknown, text: string): number {
  // Processor time: others on the machine do not lengthen it much.
  const times = Array.from({ length: 3 }, () => {
    const begin = process.cpuUsage();
    lookOnce(look, text);
    const { user, system } = process.cpuUsage(begin);
    return (user + system) / 1000;
  });
  return Math.min(...times);
}

const GROWTH = 32;

/** Text that is 32 times as long may take 32 times as long, and some more; not 1024 times. */
function assertLinear(options: {
  readonly head: string;
  readonly pattern: string;
  readonly length: number;
}): void {
  const { head, pattern, length } = options;
  const small = head + pattern.repeat(length / GROWTH / pattern.length);
  const large = head + pattern.repeat(length / pattern.length);
  for (const [name, look] of Object.entries(LOOKS)) {
    const isLinear = () => bestMs(look, large) < GROWTH * 8 * Math.max(bestMs(look, small), 0.02);
    // A busy machine can spoil one comparison, hardly three.
    assert.ok(isLinear() || isLinear() || isLinear(), `${name} on ${JSON.stringify(head + pattern)}...`);
  }
}

function decodeAll(text: string): void {
  for (let token = readToken(text, 0); token.kind !== 'end'; token = readToken(text, token.end)) {
    nameOf(text, token);
    stringOf(text, token);
  }
}

/** Openings that never close, and closings that never opened: what makes a careless scanner start over and over. */
const ENDLESS = [
  "'",
  "''",
  "'a'\n",
  "'a' ",
  '"',
  '"a"',
  '$',
  '$a',
  '$a$',
  '$$ $a$ ',
  '$1',
  "E'\\'",
  "E'\\",
  "U&'\\",
  "U&'a' ",
  "U&'a' UESCAPE ",
  'U&"a" UESCAPE \'!\' ',
  '--',
  '-- ',
  '--\n',
  '/*',
  '/* */',
  '*/',
  ';--',
  ';/*',
  ';show--',
  ';show/**/',
  ';show ',
  '[--',
  '[/*',
  '[show ',
  ',[show/**/',
  ',[show jobs',
  ',[show jobs]',
  '+-',
  '+',
  '@-',
  '=',
  '.',
  '..',
  '1',
  '1.',
  '1_',
  '0x',
  '1e+',
  'é',
  '(',
  ')',
  '[',
  ']',
  ';',
  ' ',
  '\r\n',
  'a',
  'a ',
  'a-',
  'case ',
  'begin atomic ',
  'create or replace ',
  '\0',
];

const HEADS = [
  'BACKUP INTO (',
  "BACKUP INTO 'a' WITH ",
  'CREATE VIRTUAL CLUSTER a',
  'SET CLUSTER SETTING a',
  'CREATE FUNCTION f() BEGIN ATOMIC ',
  'SELECT * FROM [SHOW BACKUPS IN (',
  's3://a?',
];

describe('any text', () => {
  it('gives an answer or an error of ours', () => {
    fc.assert(fc.property(soupArbitrary, lookAt), { numRuns: 5000 });
  });

  it('gives an answer or an error of ours when a statement is cut or overwritten', () => {
    const damaged = fc
      .tuple(statementArbitrary, fc.nat(), fc.nat({ max: 5 }), soupArbitrary)
      .map(([statement, at, length, soup]) => {
        const text = printStatement(statement);
        const begin = at % (text.length + 1);
        return text.slice(0, begin) + soup.slice(0, 8) + text.slice(begin + length);
      });
    fc.assert(fc.property(damaged, lookAt), { numRuns: 3000 });
  });

  it('gives an answer for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        assert.equal(typeof mayBeOursBytes(bytes, 0, bytes.length), 'boolean');
        lookAt(Buffer.from(bytes).toString('latin1'));
        lookAt(Buffer.from(bytes).toString('utf8'));
      }),
      { numRuns: 1000 },
    );
  });

  it('is read in linear time', () => {
    for (const pattern of ENDLESS) assertLinear({ head: '', pattern, length: 128_000 });
  });

  it('is read in linear time behind the beginning of a statement', () => {
    for (const head of HEADS) {
      for (const pattern of ENDLESS) assertLinear({ head, pattern, length: 16_000 });
    }
  });

  it('is read at 10 MB', () => {
    for (const pattern of ["INSERT INTO t VALUES ('a;b', $1, 1.5); -- c\n", '[;']) {
      lookAt(pattern.repeat(10_000_000 / pattern.length));
    }
  });
});
