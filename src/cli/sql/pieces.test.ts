import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import pg from 'pg';
import { AppError, isAppError } from '../../base/index.ts';
import { formatError, formatNotice } from './error-text.ts';
import { HISTORY_ENTRIES_MAX, historyEntries, HistoryFile } from './history.ts';
import { copyData, streamLines } from './line-source.ts';
import { readSecret } from './password.ts';
import { parsePattern } from './pattern.ts';
import { scramVerifier } from './scram.ts';

function serverError(fields: Partial<pg.DatabaseError>): pg.DatabaseError {
  return Object.assign(new pg.DatabaseError('column "nam" does not exist', 0, 'error'), {
    severity: 'ERROR',
    code: '42703',
    ...fields,
  });
}

test('an error shows its place, code, detail and hint', () => {
  const statement = 'SELECT id,\n  nam\nFROM accounts';
  const error = serverError({ position: '14', hint: 'Perhaps "name".', detail: 'There is none.' });
  assert.equal(
    formatError(error, statement),
    `ERROR: column "nam" does not exist
LINE 2:   nam
          ^
SQLSTATE: 42703
DETAIL: There is none.
HINT: Perhaps "name".
`,
  );
  assert.equal(
    formatError(new AppError('object_not_found', 'no such file', { hint: 'look elsewhere' })),
    'ERROR: no such file\nSQLSTATE: 42704\nHINT: look elsewhere\n',
  );
  assert.equal(formatNotice({ severity: 'NOTICE', message: 'hello' }), 'NOTICE: hello\n');
});

test('the caret stands under the character, in long lines and after wide ones', () => {
  const position = (statement: string, at: number) => {
    const [, line = '', caret = ''] = formatError(serverError({ position: String(at) }), statement).split(
      '\n',
    );
    return Array.from(line)[caret.length - 1];
  };
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('a', '日', '😀', ' '), { maxLength: 300 }),
      fc.nat(299),
      (before, cut) => {
        const text = [...before.slice(0, cut), 'X', ...before.slice(cut)];
        assert.equal(position(text.join(''), Math.min(cut, before.length) + 1), 'X');
      },
    ),
  );
  assert.equal(position('select\n\n  X', 11), 'X');
});

test('history keeps statements on one line where it can, and no secrets', () => {
  const entries = (text: string, hasFixedBreaks = false) => historyEntries({ text, hasFixedBreaks });
  assert.deepEqual(entries('select 1,\n   2;'), ['select 1, 2;']);
  assert.deepEqual(entries("select '\n';", true), ["select '", "';"]);
  for (const secret of [
    "ALTER ROLE root PASSWORD 'x'",
    "backup into 's3://b?AWS_SECRET_ACCESS_KEY=x'",
    "BACKUP INTO 'x' WITH encryption_passphrase = 'x'",
    '\\password root',
  ]) {
    assert.deepEqual(entries(secret), [], secret);
  }
});

test('the history file is private, bounded, and no reason to fail', () => {
  const directory = mkdtempSync(join(tmpdir(), 'atoll-history-'));
  try {
    const path = join(directory, 'history');
    const file = new HistoryFile(path);
    assert.deepEqual(file.load(), []);
    file.append(['one', 'two']);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(file.load(), ['one', 'two']);
    writeFileSync(path, Array.from({ length: 3 * HISTORY_ENTRIES_MAX }, (_, index) => `${index}\n`).join(''));
    assert.equal(file.load().length, HISTORY_ENTRIES_MAX);
    assert.equal(readFileSync(path, 'utf8').split('\n').length, HISTORY_ENTRIES_MAX + 1);
    const nowhere = new HistoryFile(join(directory, 'no', 'where'));
    nowhere.append(['x']);
    assert.deepEqual(nowhere.load(), []);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('lines come out as they went in, wherever the chunks break', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: fc.constantFrom('a', '\n', 'ü', '\r') }), { maxLength: 10 }),
      fc.integer({ min: 1, max: 5 }),
      async (parts, size) => {
        const bytes = Buffer.from(parts.join(''));
        const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
          bytes.subarray(index * size, (index + 1) * size),
        );
        await using lines = streamLines(Readable.from(chunks, { objectMode: true }));
        const found: string[] = [];
        for (let input = await lines.next(''); input.kind === 'line'; input = await lines.next('')) {
          found.push(input.text);
        }
        const expected = bytes.toString().split('\n');
        if (expected.at(-1) === '') expected.pop();
        assert.deepEqual(found, expected);
      },
    ),
  );
});

test('copy data ends at its mark, byte for byte', async () => {
  const source = streamLines(
    Readable.from([Buffer.from([0x31, 0x09, 0xff, 0x0a]), Buffer.from('2\n\\.\nafter\n')]),
  );
  const chunks: Uint8Array[] = [];
  for await (const chunk of copyData(source, '')) chunks.push(chunk);
  assert.deepEqual(Buffer.concat(chunks), Buffer.from([0x31, 0x09, 0xff, 0x0a, 0x32, 0x0a]));
  assert.equal((await source.next('')).kind, 'line');
});

test('a secret is read with the usual keys', async () => {
  const read = async (...chunks: string[]) =>
    readSecret(Readable.from(chunks.map((chunk) => Buffer.from(chunk))));
  assert.equal(await read('pa', 'ss\r'), 'pass');
  assert.equal(await read('pasx\u007fs\r'), 'pass');
  assert.equal(await read('wrong\u0015p\n'), 'p');
  assert.equal(await read('ü\u007fä\r'), 'ä');
  await assert.rejects(read('pa\u0003'), (error) => isAppError(error, 'cancelled'));
  await assert.rejects(read('\u0004'), (error) => isAppError(error, 'cancelled'));
});

test('a verifier is the one Postgres would store', () => {
  // Made by PostgreSQL 18 for the password "pencil".
  const salt = Buffer.from('3gbFEFaAJxKAX+5ntjTz/w==', 'base64');
  assert.equal(
    scramVerifier('pencil', salt),
    'SCRAM-SHA-256$4096:3gbFEFaAJxKAX+5ntjTz/w==$kvHv3pHHWFG+AI0leioo8HhSkFBIaPLkk5avhizhuCM=:eenbDMRnevQrQTm718YjzUrt+/2ENueywj60wGgKB24=',
  );
});

test('patterns fold, quote and match as in the shell of Postgres', () => {
  assert.deepEqual(parsePattern('Orders'), { schema: undefined, name: 'orders' });
  assert.deepEqual(parsePattern('app.ord*_?'), { schema: 'app', name: 'ord%\\__' });
  assert.deepEqual(parsePattern('"We""ird.Name*"'), { schema: undefined, name: 'We"ird.Name*' });
  assert.deepEqual(parsePattern('100%'), { schema: undefined, name: '100\\%' });
});
