/**
 * One daemon per store. The lock is a POSIX lock that SQLite holds on `<store>/lock`: the kernel gives it back when the
 * process ends, however it ends. Nothing else may ever open that file in this process: closing it would drop the lock.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { AppError, errnoOf } from '../base/index.ts';
import type { StoreLayout } from './store-layout.ts';

/** `SQLITE_BUSY`, the primary code in the low byte. */
const SQLITE_BUSY = 5;

export interface StoreLock {
  /** Gives the store back. Harmless when called twice. */
  release(): void;
}

/** @throws AppError `store_in_use`, `store_invalid` */
export function lockStore(layout: StoreLayout): StoreLock {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(layout.lock);
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    throw isBusy(error) ? inUse(layout) : unlockable(layout, error);
  }
  // Read by a human or by `inUse` only, so neither synced nor replaced atomically.
  writeFileSync(layout.lockHolder, `${process.pid}\n`, { mode: 0o600 });
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

function inUse(layout: StoreLayout): AppError {
  const holder = holderOf(layout);
  const who = holder === undefined ? 'another process' : `process ${holder}`;
  return new AppError('store_in_use', `store ${layout.root} is in use by ${who}`, {
    hint: 'stop that process first, or name another folder with --store',
  });
}

function holderOf(layout: StoreLayout): string | undefined {
  try {
    return /^(\d+)\n$/.exec(readFileSync(layout.lockHolder, 'utf8'))?.[1];
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}

function unlockable(layout: StoreLayout, cause: unknown): AppError {
  return new AppError('store_invalid', `store ${layout.root} cannot be locked`, {
    cause,
    hint: 'the store needs a local file system, and must belong to the user atoll runs as',
  });
}
