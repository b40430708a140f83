import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { SQL_REFERENCE_PATH, sqlReference } from '../../scripts/generate-sql-reference.ts';
import { helpFor, statementHelp } from './help.ts';
import { OPTIONS } from './options.ts';

function names(topic: string): readonly string[] {
  return helpFor(topic).map(({ name }) => name);
}

describe('statementHelp', () => {
  it('is written in one manner', () => {
    for (const { name, synopsis, summary } of Object.values(statementHelp)) {
      assert.match(summary, /^[a-z][^\n]*[^.\s]$/, name);
      for (const line of synopsis) assert.ok(line.length <= 120, line);
    }
  });

  it('is what the reference page says', () => {
    // When this fails: bin/node scripts/generate-sql-reference.ts
    assert.equal(readFileSync(SQL_REFERENCE_PATH, 'utf8'), sqlReference());
  });

  it('leaves no statement and no option out of the page', () => {
    const page = sqlReference();
    for (const { name } of Object.values(statementHelp)) assert.ok(page.includes(`### ${name}\n`), name);
    for (const { summary } of Object.values(OPTIONS)) assert.ok(page.includes(` ${summary} |`), summary);
  });
});

describe('helpFor', () => {
  it('finds statements by the words they begin with', () => {
    assert.deepEqual(names('backup'), ['BACKUP']);
    assert.deepEqual(names(' drop  virtual;'), ['DROP VIRTUAL CLUSTER']);
    assert.deepEqual(names('show backup'), ['SHOW BACKUP']);
    assert.deepEqual(names('show job'), ['SHOW JOB']);
    assert.deepEqual(names('drop schedule'), ['PAUSE | RESUME | DROP SCHEDULE']);
    assert.deepEqual(names('cancel'), ['PAUSE | RESUME | CANCEL JOB']);
    assert.deepEqual(names('resume job'), ['PAUSE | RESUME | CANCEL JOB']);
    assert.deepEqual(names('select'), []);
    assert.equal(names('').length, Object.keys(statementHelp).length);
    assert.ok(names('show').length > 5);
  });
});
