import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { COMMANDS } from './commands.ts';
import { cliReference } from './reference.ts';

test('docs/reference/cli.md is up to date', async () => {
  const path = join(import.meta.dirname, '../../docs/reference/cli.md');
  assert.equal(readFileSync(path, 'utf8'), await cliReference(), 'run scripts/generate-cli-reference.ts');
});

test('a command is listed under the name it has', async () => {
  for (const entry of COMMANDS) assert.equal((await entry.load()).name, entry.name);
});
