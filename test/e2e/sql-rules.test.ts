import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import type pg from 'pg';
import { nameOf, readToken, splitStatements, stringOf } from '../../src/sql/index.ts';
import { TestDaemon } from '../harness/daemon.ts';

/** What the lexer takes the whole text for: a string or a name, or undefined for neither. */
function ours(text: string): string | undefined {
  const token = readToken(text, 0);
  const rest = readToken(text, token.end);
  if (rest.kind !== 'end' || rest.unterminated !== undefined) return undefined;
  if (token.kind === 'string') return stringOf(text, token);
  const name = nameOf(text, token);
  return name === undefined ? undefined : cutName(name);
}

/** Postgres cuts names to 63 bytes, between characters. */
function cutName(name: string): string {
  let cut = '';
  for (const character of name) {
    if (Buffer.byteLength(cut + character) > 63) break;
    cut += character;
  }
  return cut;
}

/** What Postgres takes it for. */
async function theirs(client: pg.Client, text: string): Promise<string | undefined> {
  const isName = /^(?:u&)?"/i.test(text);
  try {
    const result = await client.query({
      text: isName ? `SELECT 1 AS ${text}\n` : `SELECT ${text}\n`,
      rowMode: 'array',
    });
    // What follows a string that has ended would be its alias.
    if (readToken(text, readToken(text, 0).end).kind !== 'end') return undefined;
    return isName ? result.fields[0]?.name : String(result.rows[0]?.[0]);
  } catch {
    return undefined;
  }
}

const OPENINGS = ["'", "E'", "U&'", '$$', '$a$', '"', 'U&"'] as const;
const CLOSINGS = ["'", "'", "'", '$$', '$a$', '"', '"'] as const;
const INSIDES = [
  "'",
  "''",
  "'\n'",
  "' \n-- x\n '",
  "'/* */'",
  '"',
  '""',
  '$',
  '$$',
  '$a$',
  'a',
  '1',
  ' ',
  '\n',
  '\r',
  'é',
  '!',
  '-- x\n',
  '\\',
  '\\\\',
  "\\'",
  '\\x41',
  '\\x4',
  '\\303',
  '\\251',
  '\\u0041',
  '\\uD83D',
  '\\uDE42',
  '\\U0001F642',
  '\\0',
  '\\n',
  '\\8',
  '\\q',
  '\\+000061',
  '\\0061',
  '!0061',
  "' UESCAPE '!",
  '" UESCAPE \'!',
  "'/*x*/uescape/*y*/'+",
];
const literal = fc
  .tuple(
    fc.nat({ max: OPENINGS.length - 1 }),
    fc.array(fc.constantFrom(...INSIDES), { maxLength: 6, size: 'max' }),
  )
  .map(([which, insides]) => `${OPENINGS[which]}${insides.join('')}${CLOSINGS[which]}`);

const STATEMENTS = [
  '',
  ' ',
  "SELECT 'a;b'",
  'SELECT 1 AS ";"',
  "SELECT $$;'$$",
  'SELECT $a$;$$;$a$',
  "SELECT E'\\';'",
  'SELECT (1)',
  'SELECT 1 -- ;\n',
  'SELECT /* ; /* ; */ */ 2',
  "SELECT 'x'\n';y'",
  'BEGIN',
  'END',
  'SELECT 1 AS begin, 2 AS atomic',
  'SELECT CASE WHEN true THEN 1 END',
  'CREATE OR REPLACE FUNCTION pg_temp.a(n int) RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN n = 1 THEN 2 END; END',
  'CREATE OR REPLACE FUNCTION pg_temp.b() RETURNS int BEGIN ATOMIC SELECT (CASE 1 WHEN 1 THEN 2 END) AS end; END',
  'CREATE OR REPLACE FUNCTION pg_temp.c() RETURNS int RETURN CASE WHEN true THEN 1 END',
  "CREATE OR REPLACE FUNCTION pg_temp.d() RETURNS int AS 'SELECT 1; SELECT 2' LANGUAGE sql",
  'CREATE OR REPLACE PROCEDURE pg_temp.e() BEGIN ATOMIC END',
  'CREATE TEMP TABLE IF NOT EXISTS t (a int)',
];

describe('the lexical rules', () => {
  let daemon: TestDaemon;
  let client: pg.Client;
  before(async () => {
    daemon = await TestDaemon.start();
    client = await daemon.connect();
  });
  after(async () => {
    await client.end();
    await daemon[Symbol.asyncDispose]();
  });

  test('strings and names mean what Postgres takes them for', async () => {
    const check = fc.asyncProperty(literal, async (text) => {
      assert.equal(ours(text), await theirs(client, text), text);
    });
    const longName = `"${"'/*x*/uescape/*y*/'+".repeat(3)}\\uDE42é"`;
    await fc.assert(check, { numRuns: 3000, examples: [[longName]] });
  });

  test('a text falls into the statements that Postgres finds in it', async () => {
    const check = fc.asyncProperty(
      fc.array(fc.constantFrom(...STATEMENTS), { minLength: 1, maxLength: 6, size: 'max' }),
      async (statements) => {
        const text = statements.join(' ;\n');
        const results: unknown = await client.query(text);
        const found = (Array.isArray(results) ? results : [results]).filter(
          ({ command }) => command !== null,
        );
        assert.equal(splitStatements(text).length, found.length, text);
      },
    );
    await fc.assert(check, { numRuns: 500 });
  });
});
