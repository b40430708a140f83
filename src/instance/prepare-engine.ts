/**
 * Makes an engine ready in `<store>/engine/`: complete (npm drops symbolic links), reachable by unprivileged users (a
 * checkout may lie under a private home), with no extension or library beyond those we allow.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import {
  chmod,
  copyFile,
  link,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { z } from 'zod';
import { errnoOf, type Rng } from '../base/index.ts';
import {
  forEachConcurrently,
  listTree,
  type Owner,
  renameDurably,
  syncTree,
  type TreeEntry,
} from './durable-files.ts';
import {
  type BundledEngine,
  ENGINE_MAJOR,
  type Engine,
  type EngineSource,
  engineVersion,
  findBundledEngine,
  findOwnEngine,
  shareDirectoryOf,
} from './engine.ts';
import {
  EXTENSIONS,
  isWantedExtensionFile,
  isWantedLibrary,
  libraryOfControlFile,
} from './engine-contents.ts';
import { type RecordFormat, readRecord, writeRecord } from './sealed-record.ts';
import { randomSuffix } from './store-layout.ts';

/** Rises whenever what is made of a source changes beyond the list of extensions. */
const RECIPE = 1;
const STAMP_FILE = 'engine.json';
const PREPARING_PREFIX = '.preparing-';

const stampSchema = z.strictObject({ version: z.string() });
const STAMP_FORMAT: RecordFormat<z.infer<typeof stampSchema>> = {
  format: 'atoll-engine',
  version: 1,
  body: stampSchema,
};

interface PrepareOptions {
  readonly source: EngineSource;
  /** `<store>/engine` */
  readonly engines: string;
  /** An unprivileged user who must be able to run the engine; null when the daemon is not root. */
  readonly user: Owner | null;
  readonly rng: Rng;
  readonly signal: AbortSignal;
}

/** Finds what an earlier start made of the same source, or makes it. @throws AppError `engine_invalid` */
export async function prepareEngine(options: PrepareOptions): Promise<Engine> {
  for (const name of await readdir(options.engines)) {
    if (name.startsWith(PREPARING_PREFIX)) await rm(join(options.engines, name), { recursive: true });
  }
  return options.source.kind === 'bundled'
    ? prepareBundled(await findBundledEngine(), options)
    : prepareOwn(options.source.path, options);
}

/** Deletes what was made of other engines. Nothing may be running that was started from them. */
export async function removeOtherEngines(options: { engines: string; engine: Engine }): Promise<void> {
  for (const name of await readdir(options.engines)) {
    const path = join(options.engines, name);
    if (path !== options.engine.directory) await rm(path, { recursive: true });
  }
}

async function prepareBundled(bundled: BundledEngine, options: PrepareOptions): Promise<Engine> {
  const fingerprint = await fingerprintOf(join(bundled.directory, 'bin', 'postgres'));
  const directory = join(options.engines, `${bundled.packageVersion}-${fingerprint}`);
  const engineIn = (root: string) => ({
    postgres: join(root, 'bin', 'postgres'),
    initdb: join(root, 'bin', 'initdb'),
    extensionControlPath: null,
  });
  const version = await stampedVersion(directory, options, async (temporary) => {
    await linkWantedFiles(bundled.directory, temporary);
    await addMissingLinks(bundled.directory, temporary);
    return engineVersion({ ...options, postgres: engineIn(temporary).postgres });
  });
  return { directory, version, major: ENGINE_MAJOR, ...engineIn(directory) };
}

/** A distribution's programs stay where they are; only the extensions we allow are shown to them. */
async function prepareOwn(path: string, options: PrepareOptions): Promise<Engine> {
  const programs = await findOwnEngine(path);
  const directory = join(options.engines, `own-${await fingerprintOf(programs.postgres)}`);
  const version = await stampedVersion(directory, options, async (temporary) => {
    const version = await engineVersion({ ...options, postgres: programs.postgres });
    const share = await shareDirectoryOf({ ...options, initdb: programs.initdb });
    const extensions = await readdir(join(share, 'extension'));
    await mkdir(join(temporary, 'share', 'extension'), { recursive: true });
    await forEachConcurrently(extensions.filter(isWantedExtensionFile), async (name) => {
      await linkOrCopy(join(share, 'extension', name), join(temporary, 'share', 'extension', name));
    });
    return version;
  });
  return {
    directory,
    version,
    major: ENGINE_MAJOR,
    ...programs,
    extensionControlPath: join(directory, 'share'),
  };
}

/** Changes with the engine's build and with our list, so that neither is ever mixed into an older tree in use. */
async function fingerprintOf(postgres: string): Promise<string> {
  const { size, mtimeMs } = await stat(postgres);
  const facts = JSON.stringify([RECIPE, EXTENSIONS, postgres, size, mtimeMs]);
  return createHash('sha256').update(facts).digest('hex').slice(0, 8);
}

/** The version of the tree in `directory`, which `make` fills under another name if it is not there. */
async function stampedVersion(
  directory: string,
  options: PrepareOptions,
  make: (temporary: string) => Promise<string>,
): Promise<string> {
  try {
    return (await readRecord(STAMP_FORMAT, join(directory, STAMP_FILE))).version;
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
  const suffix = randomSuffix(options.rng);
  const temporary = join(options.engines, `${PREPARING_PREFIX}${suffix}`);
  await mkdir(temporary);
  const version = await make(temporary);
  await writeRecord(STAMP_FORMAT, { path: join(temporary, STAMP_FILE), body: { version }, mode: 0o644 });
  await openToAll(temporary);
  await syncTree(temporary);
  await renameDurably({ from: temporary, to: directory });
  return version;
}

async function linkWantedFiles(from: string, to: string): Promise<void> {
  const entries = await listTree(from);
  const wanted = await wantedFilter(from);
  for (const { path, kind } of entries) {
    if (kind === 'directory' && wanted({ path, kind })) await mkdir(join(to, path), { recursive: true });
  }
  await forEachConcurrently(
    entries.filter((entry) => entry.kind !== 'directory' && wanted(entry)),
    async ({ path, kind }) => {
      if (kind === 'symlink') await symlink(await readlink(join(from, path)), join(to, path));
      else await linkOrCopy(join(from, path), join(to, path));
    },
  );
}

async function wantedFilter(from: string): Promise<(entry: TreeEntry) => boolean> {
  const controlFiles = EXTENSIONS.map((name) => join(from, 'share/postgresql/extension', `${name}.control`));
  const libraries: string[] = [];
  for (const path of controlFiles) {
    const library = libraryOfControlFile(await readFile(path, 'utf8'));
    if (library !== undefined) libraries.push(library);
  }
  return ({ path, kind }) => {
    if (/^lib\/(?:pkgconfig|postgresql\/pgxs)(?:\/|$)/.test(path)) return false;
    if (kind === 'directory') return true;
    const name = basename(path);
    switch (dirname(path)) {
      case 'bin':
        return name === 'postgres' || name === 'initdb';
      case 'lib':
        return !name.endsWith('.a');
      case 'lib/postgresql':
        return isWantedLibrary(name, libraries);
      case 'share/postgresql/extension':
        return isWantedExtensionFile(name);
      default:
        return path.startsWith('share/');
    }
  };
}

/** npm packages carry no symbolic links; this one lists those it lost, and its install script may not have run. */
async function addMissingLinks(from: string, to: string): Promise<void> {
  const links = z
    .array(z.object({ source: z.string(), target: z.string() }))
    .parse(JSON.parse(await readFile(join(from, 'pg-symlinks.json'), 'utf8')));
  for (const { source, target } of links) {
    const [sourcePath, targetPath] = [source, target].map((path) => join(to, relative('native', path)));
    if (sourcePath === undefined || targetPath === undefined) continue;
    await symlink(relative(dirname(targetPath), sourcePath), targetPath).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
  }
}

/** A second name for the same file where everybody may read it and nobody else may write it, else a copy. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  const { mode, uid } = await stat(from);
  const isTrusted = uid === 0 || uid === process.getuid?.();
  const isReachable = (mode & 0o044) === 0o044 && (mode & 0o022) === 0;
  if (isTrusted && isReachable) {
    try {
      await link(from, to);
      return;
    } catch (error) {
      if (!['EXDEV', 'EPERM', 'EACCES', 'EMLINK', 'ENOTSUP'].includes(errnoOf(error) ?? '')) throw error;
    }
  }
  await copyFile(from, to, constants.COPYFILE_FICLONE);
  await chmod(to, (mode & 0o100) === 0 ? 0o644 : 0o755);
}

/** Folders were made under whatever umask the daemon was started with. */
async function openToAll(root: string): Promise<void> {
  for (const { path, kind } of await listTree(root)) {
    if (kind === 'directory') await chmod(join(root, path), 0o755);
  }
}
