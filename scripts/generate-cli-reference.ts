/** Writes docs/reference/cli.md from the declarations of the commands. A test fails when the page is out of date. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cliReference } from '../src/cli/reference.ts';

writeFileSync(join(import.meta.dirname, '../docs/reference/cli.md'), await cliReference());
