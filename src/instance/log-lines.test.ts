import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LogLines, namesDiskFull, readableTail } from './log-lines.ts';

const SAMPLE = `@1763683200.123 41 00000 LOG:  database system is ready to accept connections
@1763683201.001 77 22012 ERROR:  division by zero
@1763683201.001 77 22012 DETAIL:  it was zero
\tand stays so
@1763683201.002 78 00000 WARNING:  there is no
\ttransaction
/bin/postgres: error while loading shared libraries
@1763683201.003 41 XX000 PANIC:  could not write
`;

const EXPECTED = [
  { severity: 'info', source: 'postgres[41]', message: 'database system is ready to accept connections' },
  {
    severity: 'warning',
    source: 'postgres[77] (22012)',
    message: 'division by zero; detail: it was zero and stays so',
  },
  { severity: 'warning', source: 'postgres[78]', message: 'there is no transaction' },
  { severity: 'warning', source: '', message: '/bin/postgres: error while loading shared libraries' },
  { severity: 'error', source: 'postgres[41] (XX000)', message: 'could not write' },
];

test('joins what belongs together, however the bytes arrive', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(SAMPLE.length)), (cuts) => {
      const lines = new LogLines();
      const points = [0, ...cuts.toSorted((a, b) => a - b), SAMPLE.length];
      const entries = points.slice(1).flatMap((end, index) => lines.push(SAMPLE.slice(points[index], end)));
      assert.deepEqual([...entries, ...lines.flush()], EXPECTED);
    }),
  );
});

test('a tenant cannot forge an entry: its line breaks arrive behind a tab', () => {
  const lines = new LogLines();
  const forged = '@1763683201.001 77 P0001 LOG:  hello\n\t@1763683201.001 1 00000 PANIC:  all is lost\n';
  assert.deepEqual(
    [...lines.push(forged), ...lines.flush()].map((entry) => entry.severity),
    ['info'],
  );
});

test('cuts what is too long', () => {
  const lines = new LogLines();
  lines.push(`@1763683201.001 77 00000 LOG:  a\n${'\tx'.repeat(20_000)}\n`);
  for (let index = 0; index < 1000; index++) lines.push(`\t${'y'.repeat(100)}\n`);
  assert.ok((lines.flush()[0]?.message.length ?? 0) <= 8192);
});

test('a tail shows the last lines without their prefixes', () => {
  assert.equal(
    readableTail(SAMPLE, { linesMax: 2 }),
    '/bin/postgres: error while loading shared libraries\nPANIC:  could not write',
  );
});

test('a full disk is known by its SQLSTATE', () => {
  assert.ok(namesDiskFull(`x\n@1763683201.001 77 53100 PANIC:  could not write\n`));
  assert.ok(!namesDiskFull(SAMPLE.replaceAll('53100', '58030')));
  assert.ok(!namesDiskFull('@1763683201.001 77 00000 LOG:  53100 No space left on device'));
});
