/** One daemon per store. */
import { readFileSync, writeFileSync } from 'node:fs';
import { AppError, errnoOf, type FileLock, tryFileLock } from '../base/index.ts';
import type { StoreLayout } from './store-layout.ts';

export type StoreLock = FileLock;

/** @throws AppError `store_in_use`, `store_invalid` */
export function lockStore(layout: StoreLayout): StoreLock {
  const lock = tryLock(layout);
  if (lock === null) throw inUse(layout);
  // Read by a human or by `inUse` only, so neither synced nor replaced atomically.
  writeFileSync(layout.lockHolder, `${process.pid}\n`, { mode: 0o600 });
  return lock;
}

function tryLock(layout: StoreLayout): FileLock | null {
  try {
    return tryFileLock(layout.lock);
  } catch (error) {
    throw unlockable(layout, error);
  }
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
