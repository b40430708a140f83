/**
 * Compiled code is kept beside the packages, or where the daemon keeps its own: a process starts in half the time. A worker in a cell reads what
 * is kept there, and cannot write it: what it wrote would run in others, and in the daemon.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { getCompileCacheDir } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const BESIDE_PACKAGES = fileURLToPath(new URL('../../../node_modules/.cache/atoll', import.meta.url));
const SCRIPT = fileURLToPath(new URL('./load-code.ts', import.meta.url));
const PACKAGE = fileURLToPath(new URL('../../../package.json', import.meta.url));

/** Where the folder cannot be written, nothing is kept. */
export function compileCacheDirectory(): string {
  return process.env['NODE_COMPILE_CACHE'] ?? getCompileCacheDir() ?? BESIDE_PACKAGES;
}

/** Has what workers run compiled and kept, by a process of its own that does nothing else, unless that was done. Nothing depends on it. */
export function keepCompiledCode(): void {
  const directory = compileCacheDirectory();
  const done = join(directory, `workers-${installationDigest()}`);
  if (existsSync(done)) return;
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', SCRIPT, done], {
    cwd: '/',
    // It lowers the priority of its session, which must not be ours.
    detached: true,
    env: { NODE_COMPILE_CACHE: directory },
    stdio: 'ignore',
  });
  child.on('error', () => undefined); // Workers start in twice the time, as they do where nothing can be kept.
  child.unref();
}

/** Another after each upgrade, of us and of the runtime. */
function installationDigest(): string {
  const { mtimeMs } = statSync(PACKAGE);
  const what = [process.version, process.getuid?.(), SCRIPT, mtimeMs].join(' ');
  return createHash('sha256').update(what).digest('hex').slice(0, 16);
}
