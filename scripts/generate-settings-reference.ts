/** Writes docs/reference/settings.md from the registry of cluster settings. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { settingsReference } from '../src/catalog/index.ts';

const directory = join(import.meta.dirname, '../docs/reference');
mkdirSync(directory, { recursive: true });
writeFileSync(join(directory, 'settings.md'), settingsReference());
