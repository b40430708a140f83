import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StatementSplitter, type Pending } from './splitter.ts';

const TOKENS = [
  "'a;b'",
  '"c;d"',
  '$t$;$t$',
  '/* ; */',
  '(',
  ')',
  ';',
  'select',
  'begin',
  'case',
  'end',
  "e'\\';'",
  '1',
  'create function f()',
  '$1',
  'a$b',
  '-',
];

/** Pushes a text line by line; gives the statements and what is pending after each line. */
function split(text: string): { statements: string[]; pending: Pending[]; rest: string | undefined } {
  const splitter = new StatementSplitter();
  const statements: string[] = [];
  const pending: Pending[] = [];
  for (const line of text.split('\n')) {
    statements.push(...splitter.push(`${line}\n`).map((statement) => statement.text));
    pending.push(splitter.pending);
  }
  return { statements, pending, rest: splitter.finish()?.text };
}

test('statements end at semicolons that are not part of something else', () => {
  const whole = [
    "select ';';",
    "select E'it\\'s;', 'c:\\';",
    'select ";" from "a;b";',
    'select $$;$$, $x$ ; $$ ; $x$;',
    'select a$b$c from t;',
    'select 1 /* ; /* ; */ ; */ + 1;',
    'select 1 -- ; no\n+ 1;',
    "select 'two\nlines;';",
    'create rule r as on insert to t do also (insert into u values (1); insert into v values (2););',
    'create function f() returns int begin atomic select case when true then 1 end; select 2; end;',
    'create or replace procedure p() language sql begin atomic insert into t values (1); end;',
    "select E'\\\\';",
    "select name'';",
  ];
  for (const text of whole)
    assert.deepEqual(split(text), { ...split(text), statements: [text], rest: undefined });
  assert.deepEqual(split('select 1; select 2;\n;; begin; end;').statements, [
    'select 1;',
    'select 2;',
    'begin;',
    'end;',
  ]);
});

test('what is unfinished decides the prompt', () => {
  const cases: [string, Pending][] = [
    ['', 'nothing'],
    ['-- only a comment', 'nothing'],
    ['/* open', 'comment'],
    ['select', 'statement'],
    ["select '", 'single_quote'],
    ["select e'\\'", 'single_quote'],
    ['select "', 'double_quote'],
    ['select $x$ $$', 'dollar_quote'],
    ['select (1,', 'parenthesis'],
    ['create function f() begin atomic select 1;', 'statement'],
    ['select 1;', 'nothing'],
  ];
  for (const [text, expected] of cases) assert.deepEqual(split(text).pending, [expected], text);
});

test('the rest without a semicolon is given at the end, comments alone are not', () => {
  assert.equal(split('select 1\n-- tail').rest, 'select 1\n-- tail');
  assert.equal(split('select 1; -- tail').rest, undefined);
  assert.equal(split('  \n').rest, undefined);
});

test('comments before a statement stay with it', () => {
  assert.deepEqual(split('/* why */ select 1;').statements, ['/* why */ select 1;']);
});

test('line breaks inside quotes are not to be joined', () => {
  const fixed = (text: string) => new StatementSplitter().push(text)[0]?.hasFixedBreaks;
  assert.equal(fixed('select\n1;'), false);
  assert.equal(fixed("select '\n';"), true);
  assert.equal(fixed('select $$\n$$;'), true);
  assert.equal(fixed('select 1 -- one\n;'), true);
});

test('where lines break never changes the statements', () => {
  const token = fc.constantFrom(...TOKENS);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(token, fc.constantFrom(' ', '\n', ' \n\n ')), { maxLength: 40 }),
      (tokens) => {
        const spaced = tokens.map(([text]) => `${text} `).join('');
        const broken = tokens.map(([text, space]) => `${text}${space}`).join('');
        const normal = ({ statements, rest }: ReturnType<typeof split>) =>
          [...statements, rest ?? ''].map((text) =>
            text.replaceAll('/* ; */', '').replace(/\s+/g, ' ').trim(),
          );
        assert.deepEqual(normal(split(broken)), normal(split(spaced)));
      },
    ),
  );
});
