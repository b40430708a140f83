import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { AppError, errnoOf, toError } from '../base/index.ts';

/**
 * Writes a small file that other programs watch for: they see it whole or not at all.
 * @throws AppError `io`, naming the flag that asked for it
 */
export function writeRunFile(options: { path: string; content: string; flag: string }): void {
  const temporary = `${options.path}.tmp`;
  try {
    const fd = openSync(temporary, 'w', 0o644);
    try {
      writeSync(fd, options.content);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, options.path);
  } catch (error) {
    refusedBy(options.path, options.flag)(error);
  }
}

/** Turns what the system says into an error that names the flag. */
export function refusedBy(path: string, flag: string): (error: unknown) => never {
  return (error) => {
    if (errnoOf(error) === undefined) throw error;
    throw new AppError('io', `cannot write ${path}: ${toError(error).message}`, {
      cause: error,
      hint: `choose another file with --${flag}`,
    });
  };
}

/** Removes the file that holds our process number; another's stays. */
export function removePidFile(path: string): void {
  try {
    if (readFileSync(path, 'utf8').trim() === String(process.pid)) rmSync(path);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error; // Gone or unreadable: nothing of ours is left behind.
  }
}
