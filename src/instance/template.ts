/**
 * The data directory all virtual clusters begin as copies of: `<store>/template/<major>/`, made once by `initdb` and
 * a few single-user sessions, and never served from.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { errnoOf, isAppError, type Logger, type Rng } from '../base/index.ts';
import { removeForeignConfiguration, removeStatistics, trimWal } from './data-directory.ts';
import {
  copyTreeDurably,
  makeDirectory,
  type Owner,
  ownTree,
  renameDurably,
  syncTree,
} from './durable-files.ts';
import type { Engine } from './engine.ts';
import { runProgram } from './run-program.ts';
import { type RecordFormat, readRecord, writeRecord } from './sealed-record.ts';
import { randomSuffix } from './store-layout.ts';
import {
  clusterStatements,
  databaseCreation,
  databaseStatements,
  singleUserScript,
  systemStatements,
} from './template-sql.ts';
import { ownerOf } from './users.ts';

/** Rises with every change of what is made here and not seen in the statements or flags. */
const RECIPE = 2;
const STAMP_FILE = 'template.json';
const DATA_NAME = 'data';
const BUILDING_PREFIX = '.building-';

/** Names a folder in which the stores of tests share their templates: making one takes longer than many a test. Nothing but tests sets it. */
export const SHARED_TEMPLATES_VARIABLE = 'ATOLL_TEST_TEMPLATES';

/** macOS has no locale C.UTF-8; there the libc half is plain C. */
export const LIBC_LOCALE = process.platform === 'darwin' ? 'C' : 'C.UTF-8';

const INITDB_FLAGS = [
  '--username=atoll',
  '--data-checksums',
  '--locale-provider=builtin',
  '--builtin-locale=C.UTF-8',
  `--locale=${LIBC_LOCALE}`,
  '--encoding=UTF8',
  '--auth=reject',
  '--no-instructions',
  // Synced whole when it is complete.
  '--no-sync',
];

const stampSchema = z.strictObject({ recipe: z.string() });
const STAMP_FORMAT: RecordFormat<z.infer<typeof stampSchema>> = {
  format: 'atoll-template',
  version: 1,
  body: stampSchema,
};

export interface TemplateOptions {
  /** `<store>/template` */
  readonly templates: string;
  readonly engine: Engine;
  /** Who runs `initdb`; null when the daemon is not root. */
  readonly user: Owner | null;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/** Path of the template's data directory, which is made or made anew when there is none of today's recipe. */
export async function prepareTemplate(options: TemplateOptions): Promise<string> {
  const { templates, engine } = options;
  for (const name of await readdir(templates)) {
    if (name.startsWith(BUILDING_PREFIX)) await rm(join(templates, name), { recursive: true });
  }
  const published = join(templates, String(engine.major));
  const recipe = recipeOf(engine);
  if ((await readRecipe(published)) !== recipe) await publish({ ...options, published, recipe });
  return join(published, DATA_NAME);
}

function recipeOf(engine: Engine): string {
  const parts = [
    RECIPE,
    engine.version,
    INITDB_FLAGS,
    clusterStatements(),
    databaseStatements(),
    databaseCreation(),
    systemStatements(),
  ];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

async function readRecipe(published: string): Promise<string | undefined> {
  try {
    return (await readRecord(STAMP_FORMAT, join(published, STAMP_FILE))).recipe;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || isAppError(error, 'data_corrupt', 'format_unsupported'))
      return undefined;
    throw error;
  }
}

async function publish(options: TemplateOptions & { published: string; recipe: string }): Promise<void> {
  const { templates, published, recipe, user, logger, signal } = options;
  const building = join(templates, `${BUILDING_PREFIX}${randomSuffix(options.rng)}`);
  await makeDirectory({ path: building, mode: 0o700, owner: user });
  const dataDirectory = join(building, DATA_NAME);
  const shared = sharedFolder(options);
  if (shared !== null && (await isShared(shared, recipe))) {
    await copyTreeDurably({ from: join(shared, DATA_NAME), to: dataDirectory, owner: null, signal });
  } else {
    logger.info('making the template of new virtual clusters');
    await build({ ...options, dataDirectory });
  }
  if (user !== null) await ownTree({ root: building, owner: ownerOf(0) });
  await writeRecord(STAMP_FORMAT, { path: join(building, STAMP_FILE), body: { recipe }, mode: 0o600 });
  await syncTree(building);
  // A crash between the two costs another build, never a mixture.
  await rm(published, { recursive: true, force: true });
  await renameDurably({ from: building, to: published });
  if (shared !== null) await share({ ...options, shared });
}

/** Of the recipe and of this user, who alone can read it; null outside tests. */
function sharedFolder({ engine, recipe }: { engine: Engine; recipe: string }): string | null {
  const folder = process.env[SHARED_TEMPLATES_VARIABLE] ?? '';
  return folder === '' ? null : join(folder, `${process.getuid?.() ?? 0}-${engine.major}-${recipe}`);
}

/** What cannot be read is not shared. */
async function isShared(shared: string, recipe: string): Promise<boolean> {
  return (await readRecipe(shared).catch(() => undefined)) === recipe;
}

/** Whole at once: many test processes begin together, and the first one's stays. */
async function share(
  options: Pick<TemplateOptions, 'rng' | 'signal'> & { published: string; shared: string; recipe: string },
): Promise<void> {
  const { published, shared, recipe, rng, signal } = options;
  if (await isShared(shared, recipe)) return;
  const own = `${shared}.${randomSuffix(rng)}`;
  try {
    await mkdir(dirname(shared), { recursive: true });
    await copyTreeDurably({ from: published, to: own, owner: null, signal });
    await rename(own, shared);
  } catch {
    // Another was first, or this user may not: then each makes its own.
    await rm(own, { recursive: true, force: true }).catch(() => undefined);
  }
}

async function build(options: TemplateOptions & { dataDirectory: string }): Promise<void> {
  const { engine, dataDirectory, user, signal } = options;
  await runProgram({
    program: engine.initdb,
    parameters: [...INITDB_FLAGS, `--pgdata=${dataDirectory}`],
    user,
    signal,
  });
  const runSql = (database: string, statements: readonly string[]) =>
    runProgram({
      program: engine.postgres,
      parameters: singleUserParameters({ engine, dataDirectory, database }),
      input: singleUserScript(statements),
      user,
      signal,
    });
  await runSql('template1', clusterStatements());
  for (const database of ['template0', 'template1', 'postgres']) await runSql(database, databaseStatements());
  await runSql('template1', databaseCreation());
  await runSql('system', systemStatements());
  await removeForeignConfiguration(dataDirectory);
  await removeStatistics(dataDirectory);
  await trimWal(dataDirectory);
}

function singleUserParameters(options: {
  engine: Engine;
  dataDirectory: string;
  database: string;
}): string[] {
  const { extensionControlPath } = options.engine;
  return [
    '--single',
    // The catalog of initial privileges is written to (-O), and statements end in an empty line (-j).
    '-O',
    '-j',
    `-D${options.dataDirectory}`,
    '-cexit_on_error=true',
    '-csearch_path=pg_catalog',
    '-clog_checkpoints=off',
    '-clog_min_messages=error',
    ...(extensionControlPath === null ? [] : [`-cextension_control_path=${extensionControlPath}`]),
    options.database,
  ];
}
