import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createFormatter, FORMATS, TableFormatter, type FormatName, type ResultCell } from './index.ts';
import { MEASURED_ROWS_MAX } from './table.ts';
import { displayWidth } from './width.ts';

const COLUMNS = [
  { name: 'id', typeId: 20 },
  { name: 'name', typeId: 25 },
  { name: 'ok', typeId: 16 },
  { name: 'doc', typeId: 3802 },
];
const ROWS: ResultCell[][] = [
  ['1', 'carl', 't', '{"a": 1}'],
  ['-20', 'two\nlines, "q"', 'f', null],
  [null, '', null, '[]'],
  ['9007199254740993', '日本\tx', 't', null],
];

function print(name: FormatName, rows: readonly ResultCell[][] = ROWS, columns = COLUMNS): string {
  const formatter = createFormatter(name);
  return (
    formatter.begin(columns) +
    rows.map((row) => formatter.row(row)).join('') +
    formatter.end({ tag: `SELECT ${rows.length}` })
  );
}

const GOLDEN: Record<FormatName, string> = {
  table: `        id        |    name    |  ok  |   doc
------------------+------------+------+----------
                1 | carl       | t    | {"a": 1}
              -20 | two       +| f    | NULL
                  | lines, "q" |      |
             NULL |            | NULL | []
 9007199254740993 | 日本\\tx    | t    | NULL
(4 rows)
`,
  records: `-[ RECORD 1 ]
id   | 1
name | carl
ok   | t
doc  | {"a": 1}
-[ RECORD 2 ]
id   | -20
name | two
     + lines, "q"
ok   | f
doc  | NULL
-[ RECORD 3 ]
id   | NULL
name |
ok   | NULL
doc  | []
-[ RECORD 4 ]
id   | 9007199254740993
name | 日本\\tx
ok   | t
doc  | NULL
`,
  csv: `id,name,ok,doc
1,carl,t,"{""a"": 1}"
-20,"two
lines, ""q""",f,
,"",,[]
9007199254740993,日本\tx,t,
`,
  tsv: `id\tname\tok\tdoc
1\tcarl\tt\t{"a": 1}
-20\ttwo\\nlines, "q"\tf\t\\N
\\N\t\t\\N\t[]
9007199254740993\t日本\\tx\tt\t\\N
`,
  json: `[
{"id":1,"name":"carl","ok":true,"doc":{"a": 1}},
{"id":-20,"name":"two\\nlines, \\"q\\"","ok":false,"doc":null},
{"id":null,"name":"","ok":null,"doc":[]},
{"id":9007199254740993,"name":"日本\\tx","ok":true,"doc":null}
]
`,
  raw: `# 4 columns
# row 1
## 1
1
## 4
carl
## 1
t
## 8
{"a": 1}
# row 2
## 3
-20
## 14
two
lines, "q"
## 1
f
## NULL
# row 3
## NULL
## 0

## NULL
## 2
[]
# row 4
## 16
9007199254740993
## 8
日本\tx
## 1
t
## NULL
# 4 rows
`,
};

for (const name of FORMATS) {
  test(`format ${name} prints as it always did`, () => {
    assert.equal(print(name), GOLDEN[name]);
  });
}

test('results without rows and statements without results', () => {
  assert.equal(print('table', []), ' id | name | ok | doc\n----+------+----+-----\n(0 rows)\n');
  assert.equal(print('json', []), '[]\n');
  assert.equal(print('csv', []), 'id,name,ok,doc\n');
  assert.equal(print('records', []), '(0 rows)\n');
  assert.equal(print('raw', []), '# 4 columns\n# 0 rows\n');
  for (const name of FORMATS) {
    const text = createFormatter(name).end({ tag: 'CREATE TABLE' });
    assert.equal(text, name === 'table' || name === 'records' ? 'CREATE TABLE\n' : '');
  }
});

test('no value can break a format that programs read', () => {
  const cell = fc.option(
    fc.string({ unit: 'binary', maxLength: 12 }).filter((text) => !text.includes('\0')),
    {
      nil: null,
    },
  );
  const columns = ['a', 'a', 'b "c"'].map((name) => ({ name, typeId: 25 }));
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell, cell), { maxLength: 8 }), (rows) => {
      const parsed: unknown = JSON.parse(print('json', rows, columns));
      assert.deepEqual(
        parsed,
        rows.map(([a, again, b]) => ({ a, a_2: again, 'b "c"': b })),
      );
      const tsv = print('tsv', rows, columns).split('\n').slice(1, -1);
      assert.deepEqual(tsv.map(readTsvLine), rows);
      for (const line of print('table', rows, columns).split('\n')) {
        // oxlint-disable-next-line no-control-regex
        assert.doesNotMatch(line, /[\u0000-\u001f\u007f]/);
      }
    }),
    { numRuns: 50 },
  );
});

function readTsvLine(line: string): ResultCell[] {
  const escapes: Record<string, string> = { t: '\t', n: '\n', r: '\r', '\\': '\\' };
  return line
    .split('\t')
    .map((cell) =>
      cell === '\\N' ? null : cell.replace(/\\(.)/g, (_, letter: string) => escapes[letter] ?? ''),
    );
}

test('a long table is printed in bounded memory, later rows as they come', () => {
  const formatter = new TableFormatter({ nullText: '', hasFooter: true });
  formatter.begin([{ name: 'n', typeId: 20 }]);
  for (let row = 1; row < MEASURED_ROWS_MAX; row += 1) assert.equal(formatter.row([String(row)]), '');
  assert.match(formatter.row(['1000']), /^ {2}n\n-+\n {4}1\n/);
  assert.equal(formatter.row(['100000']), ' 100000\n');
  assert.equal(formatter.end({ tag: 'SELECT 1001' }), '(1001 rows)\n');
});

test('widths count what terminals draw', () => {
  const cases: [string, number][] = [
    ['abc', 3],
    ['é', 1],
    ['e\u0301', 1],
    ['日本', 4],
    ['한글', 4],
    ['👍🏽', 2],
    ['👨‍👩‍👧', 2],
    ['❤️', 2],
    ['a\u200bb', 2],
    ['', 0],
  ];
  for (const [text, width] of cases) assert.equal(displayWidth(text), width, JSON.stringify(text));
});
