/** Prints docs/reference/errors.md from the table of errors; with `--write` it updates the file. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ERRORS } from '../src/base/index.ts';

const RETRY = {
  never: 'no',
  backoff: 'yes, after a pause',
  other_copy: 'with another copy',
} as const;

export function errorsReference(): string {
  const rows = Object.entries(ERRORS).map(
    ([code, row]) =>
      `| \`${code}\` | \`${row.sqlstate}\` | ${row.http} | ${row.exit} | ${RETRY[row.retry]} |`,
  );
  return [
    '# Errors',
    '',
    'Every error has a code, an SQLSTATE for SQL clients, a status for HTTP and an exit code for the command line. The message',
    'names the object, the hint says what to do. Made from `src/base/errors.ts` by `scripts/generate-errors-reference.ts`.',
    '',
    '| Code | SQLSTATE | HTTP | Exit | Does trying again help? |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

export const ERRORS_REFERENCE_FILE = join(import.meta.dirname, '../docs/reference/errors.md');

if (process.argv[1] === import.meta.filename) {
  if (process.argv.includes('--write')) writeFileSync(ERRORS_REFERENCE_FILE, errorsReference());
  else process.stdout.write(errorsReference());
}
