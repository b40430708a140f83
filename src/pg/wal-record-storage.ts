/**
 * Records that make and remove files: of relations (`catalog/storage_xlog.h`), of databases (`commands/dbcommands_xlog.h`), of
 * tablespaces (`commands/tablespace.h`).
 */
import { FORK, FORK_MAX, INFO_KIND_MASK, RMGR } from './wal-engine.ts';
import { MainDataReader } from './wal-record-data.ts';
import type { RelationLocator, WalRecord } from './wal-record.ts';
import { CorruptError, formatLsn } from '../base/index.ts';

const STORAGE_INFO = { create: 0x10, truncate: 0x20 } as const;
const TRUNCATES = { main: 1, vm: 2, fsm: 4 } as const;
const DATABASE_INFO = { createFileCopy: 0x00, createLogged: 0x10, drop: 0x20 } as const;
const TABLESPACE_INFO = { create: 0x00, drop: 0x10 } as const;

export type StorageEvent =
  | { readonly kind: 'fork_created'; readonly relation: RelationLocator; readonly fork: number }
  | {
      readonly kind: 'relation_truncated';
      readonly relation: RelationLocator;
      /** Pages that the main fork keeps. */
      readonly blocks: number;
      readonly forks: readonly number[];
    }
  | {
      readonly kind: 'database_created';
      readonly databaseOid: number;
      readonly tablespaceOid: number;
      /** Its files were copied without a word of their content; null when every page was logged. */
      readonly copiedFrom: { readonly databaseOid: number; readonly tablespaceOid: number } | null;
    }
  | {
      readonly kind: 'database_dropped';
      readonly databaseOid: number;
      readonly tablespaceOids: readonly number[];
    }
  | { readonly kind: 'tablespace_created'; readonly tablespaceOid: number; readonly path: string }
  | { readonly kind: 'tablespace_dropped'; readonly tablespaceOid: number };

/** Null for a record of any other kind. @throws CorruptError when it is shorter than it should be */
export function decodeStorageEvent(record: WalRecord): StorageEvent | null {
  switch (record.rmid) {
    case RMGR.storage:
      return decodeRelation(record);
    case RMGR.database:
      return decodeDatabase(record);
    case RMGR.tablespace:
      return decodeTablespace(record);
    default:
      return null;
  }
}

function decodeRelation(record: WalRecord): StorageEvent | null {
  const reader = new MainDataReader(record);
  switch (record.info & INFO_KIND_MASK) {
    case STORAGE_INFO.create: {
      const relation = reader.locator();
      const fork = reader.uint32();
      if (fork > FORK_MAX)
        throw new CorruptError(`the log record at ${formatLsn(record.lsn)} makes a fork ${fork}`);
      return { kind: 'fork_created', relation, fork };
    }
    case STORAGE_INFO.truncate: {
      const blocks = reader.uint32();
      const relation = reader.locator();
      const flags = reader.uint32();
      const forks: number[] = [];
      if ((flags & TRUNCATES.main) !== 0) forks.push(FORK.main);
      if ((flags & TRUNCATES.fsm) !== 0) forks.push(FORK.fsm);
      if ((flags & TRUNCATES.vm) !== 0) forks.push(FORK.vm);
      return { kind: 'relation_truncated', relation, blocks, forks };
    }
    default:
      return null;
  }
}

function decodeDatabase(record: WalRecord): StorageEvent | null {
  const reader = new MainDataReader(record);
  const databaseOid = reader.uint32();
  switch (record.info & INFO_KIND_MASK) {
    case DATABASE_INFO.createFileCopy: {
      const tablespaceOid = reader.uint32();
      const copiedFrom = { databaseOid: reader.uint32(), tablespaceOid: reader.uint32() };
      return { kind: 'database_created', databaseOid, tablespaceOid, copiedFrom };
    }
    case DATABASE_INFO.createLogged:
      return { kind: 'database_created', databaseOid, tablespaceOid: reader.uint32(), copiedFrom: null };
    case DATABASE_INFO.drop: {
      const tablespaceOids = reader.list(4, () => reader.uint32());
      return { kind: 'database_dropped', databaseOid, tablespaceOids };
    }
    default:
      return null;
  }
}

function decodeTablespace(record: WalRecord): StorageEvent | null {
  const reader = new MainDataReader(record);
  const tablespaceOid = reader.uint32();
  switch (record.info & INFO_KIND_MASK) {
    case TABLESPACE_INFO.create:
      return { kind: 'tablespace_created', tablespaceOid, path: reader.text() };
    case TABLESPACE_INFO.drop:
      return { kind: 'tablespace_dropped', tablespaceOid };
    default:
      return null;
  }
}
