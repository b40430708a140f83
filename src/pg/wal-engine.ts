/**
 * What differs between the logs of the engines' major versions, and what they share. Named after the sources of
 * PostgreSQL: access/xlog_internal.h, access/xlogrecord.h, access/rmgrlist.h, access/xact.h.
 */
import { assert } from '../base/index.ts';

interface WalDialect {
  /** `XLOG_PAGE_MAGIC` in access/xlog_internal.h. */
  readonly pageMagic: number;
  /** `sizeof(xl_xact_stats_item)` in access/xact.h: since 18 objects of statistics have 64-bit numbers. */
  readonly statisticsItemBytes: number;
}

const WAL_DIALECTS: ReadonlyMap<number, WalDialect> = new Map([
  [17, { pageMagic: 0xd116, statisticsItemBytes: 12 }],
  [18, { pageMagic: 0xd118, statisticsItemBytes: 16 }],
]);

/** Facts about the log of an engine of this major version: 17 or 18. */
export function walDialectOf(engineMajor: number): WalDialect {
  const dialect = WAL_DIALECTS.get(engineMajor);
  assert(dialect !== undefined, `the log of PostgreSQL ${engineMajor} is unknown`);
  return dialect;
}

/** `access/rmgrlist.h`: who wrote a record. Extensions have 128 to 255. */
export const RMGR = {
  xlog: 0,
  transaction: 1,
  storage: 2,
  clog: 3,
  database: 4,
  tablespace: 5,
  multixact: 6,
  relationMap: 7,
  standby: 8,
  heap2: 9,
  heap: 10,
  btree: 11,
  hash: 12,
  gin: 13,
  gist: 14,
  sequence: 15,
  spgist: 16,
  brin: 17,
  commitTimestamp: 18,
  replicationOrigin: 19,
  generic: 20,
  logicalMessage: 21,
} as const;

const RMGR_BUILTIN_MAX = RMGR.logicalMessage;
const RMGR_CUSTOM_MIN = 128;

/** True for the number of a resource manager that may write records. */
export function isRmgr(rmid: number): boolean {
  return rmid <= RMGR_BUILTIN_MAX || rmid >= RMGR_CUSTOM_MIN;
}

/** Fork numbers in the log (`common/relpath.h`). */
export const FORK = { main: 0, fsm: 1, vm: 2, init: 3 } as const;
/** `MAX_FORKNUM`. */
export const FORK_MAX = FORK.init;

/** Oids of the two tablespaces there are (`catalog/pg_tablespace.dat`). */
export const DEFAULT_TABLESPACE_OID = 1663;
export const GLOBAL_TABLESPACE_OID = 1664;

/** Kinds of the records of `RMGR.xlog`, the upper half of their `info` (`catalog/pg_control.h`). */
export const XLOG_INFO = {
  checkpointShutdown: 0x00,
  checkpointOnline: 0x10,
  noop: 0x20,
  nextOid: 0x30,
  switch: 0x40,
  backupEnd: 0x50,
  parameterChange: 0x60,
  restorePoint: 0x70,
  fullPageWritesChange: 0x80,
  endOfRecovery: 0x90,
  fullPageImageForHint: 0xa0,
  fullPageImage: 0xb0,
  overwriteContrecord: 0xd0,
  checkpointRedo: 0xe0,
} as const;

/** The bits of `info` that say what kind of record it is; the rest belongs to the reader of records. */
export const INFO_KIND_MASK = 0xf0;
