/** Schemas of real software, as their packages install them. */
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);

/** What creates the schema of pg-boss, in schema `pgboss`. */
function pgBoss(): string {
  const boss = require('pg-boss') as { getConstructionPlans(schema: string): string };
  return boss.getConstructionPlans('pgboss');
}

/** All migrations of graphile-worker, one after the other, in schema `graphile_worker`. */
async function graphileWorker(): Promise<string> {
  const folder = join(dirname(require.resolve('graphile-worker/package.json')), 'sql');
  const names = (await readdir(folder))
    .filter((name) => name.endsWith('.sql'))
    .toSorted((a, b) => (a < b ? -1 : 1));
  const migrations = await Promise.all(names.map((name) => readFile(join(folder, name), 'utf8')));
  return ['create schema graphile_worker', ...migrations]
    .join(';\n')
    .replaceAll(':GRAPHILE_WORKER_SCHEMA', 'graphile_worker');
}

/** The monitoring database of Icinga, some sixty tables, as Debian's package brings it. */
export const ICINGA_SCHEMA_PATH = '/usr/share/icinga2-ido-pgsql/schema/pgsql.sql';

export const PUBLIC_SCHEMAS = {
  'pg-boss': async () => pgBoss(),
  'graphile-worker': graphileWorker,
  icinga: () => readFile(ICINGA_SCHEMA_PATH, 'utf8'),
} as const;
