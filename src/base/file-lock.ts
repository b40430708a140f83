/**
 * A lock that one process holds: a POSIX lock that SQLite keeps on a file of its own. The kernel gives it back when the process ends,
 * however it ends. Nothing else of this process may ever open that file: closing it would drop the lock.
 */
import { DatabaseSync } from 'node:sqlite';

/** `SQLITE_BUSY`, the primary code in the low byte. */
const SQLITE_BUSY = 5;

export interface FileLock {
  /** Gives it back. Harmless when called twice. */
  release(): void;
}

/** Null when another process holds it. @throws Error when the file cannot be used at all */
export function tryFileLock(path: string): FileLock | null {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path);
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    if (isBusy(error)) return null;
    throw error;
  }
  const held = database;
  return {
    release: () => {
      if (held.isOpen) held.close();
    },
  };
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === SQLITE_BUSY;
}
