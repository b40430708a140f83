/** What changes a changed set: records of the log, and Postgres's own summaries of it. The two must agree. */
import { AppError, formatLsn } from '../../base/index.ts';
import {
  decodeStorageEvent,
  decodeTransactionEnd,
  decodeXlogEvent,
  FORK,
  FORK_MAX,
  PAGE_BYTES,
  PAGE_HEADER_BYTES,
  type RelationLocator,
  type StorageEvent,
  type WalRecord,
  type WalSummaryVisitor,
} from '../../pg/index.ts';
import type { ChangedSetBuilder } from './changed-set.ts';

/** Two bits for each page of the heap. */
const HEAP_BLOCKS_PER_MAP_PAGE = (PAGE_BYTES - PAGE_HEADER_BYTES) * 4;

/**
 * Adds what one record changed, by the rules of Postgres's own summarizer (`postmaster/walsummarizer.c`).
 * @throws AppError `changes_unknown` when the engine did not log all changes from there on (`wal_level` was `minimal`)
 */
export function addRecord(set: ChangedSetBuilder, record: WalRecord): void {
  demandFullLog(record);
  const storage = decodeStorageEvent(record);
  if (storage !== null) addStorageEvent(set, storage);
  for (const relation of decodeTransactionEnd(record)?.droppedRelations ?? []) addDropped(set, relation);
  for (const block of record.blocks) {
    if (block.fork !== FORK.fsm) set.markBlock(block, block.fork, block.blockNo);
  }
}

/** The set into which a summary is read. Read it aside and merge it when the summary has proved whole. */
export function summaryVisitor(set: ChangedSetBuilder): WalSummaryVisitor {
  let current: { relation: RelationLocator; fork: number } | null = null;
  return {
    fork(relation, fork, limitBlock) {
      current = { relation, fork };
      if (relation.filenode === 0) set.markWholeDatabase(relation);
      else if (limitBlock !== null) set.lowerLimit(relation, fork, limitBlock);
    },
    block(blockNo) {
      if (current !== null) set.markBlock(current.relation, current.fork, blockNo);
    },
  };
}

function addStorageEvent(set: ChangedSetBuilder, event: StorageEvent): void {
  switch (event.kind) {
    case 'fork_created':
      if (event.fork !== FORK.fsm) set.lowerLimit(event.relation, event.fork, 0);
      return;
    case 'relation_truncated':
      for (const fork of event.forks) {
        const blocks = fork === FORK.vm ? visibilityMapBlocks(event.blocks) : event.blocks;
        if (fork !== FORK.fsm) set.lowerLimit(event.relation, fork, blocks);
      }
      return;
    case 'database_created':
      set.markWholeDatabase(event);
      return;
    case 'database_dropped':
      for (const tablespaceOid of event.tablespaceOids) {
        set.markWholeDatabase({ tablespaceOid, databaseOid: event.databaseOid });
      }
      return;
    case 'tablespace_created':
    case 'tablespace_dropped':
      return;
  }
}

/** `visibilitymap_truncation_length`. */
function visibilityMapBlocks(heapBlocks: number): number {
  return Math.ceil(heapBlocks / HEAP_BLOCKS_PER_MAP_PAGE);
}

function addDropped(set: ChangedSetBuilder, relation: RelationLocator): void {
  for (let fork = 0; fork <= FORK_MAX; fork++) {
    if (fork !== FORK.fsm) set.lowerLimit(relation, fork, 0);
  }
}

function demandFullLog(record: WalRecord): void {
  const event = decodeXlogEvent(record);
  if (event === null || !('walLevel' in event) || event.walLevel !== 'minimal') return;
  throw new AppError(
    'changes_unknown',
    `the engine did not log everything from ${formatLsn(record.lsn)} on: wal_level was minimal`,
    { hint: 'a full base does not need to know what changed' },
  );
}
