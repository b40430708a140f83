/** How PostgreSQL names the files of relations, relative to the data directory. */

/** Pages in one segment file of a relation (`RELSEG_SIZE`): 1 GiB. */
export const RELATION_SEGMENT_PAGES = 131072;

export type RelationFork = 'main' | 'fsm' | 'vm' | 'init';

export interface RelationFile {
  /** 0 for relations shared by all databases. */
  readonly databaseOid: number;
  /** Number of the file, which changes when a relation is rewritten; not the relation's oid. */
  readonly filenode: number;
  readonly fork: RelationFork;
  readonly segmentNo: number;
}

/** Reads `base/16384/16400_vm.1` or `global/1262`; null for what is no relation's file. */
export function parseRelationPath(path: string): RelationFile | null {
  const match =
    /^(?:global|base\/([1-9]\d{0,9}))\/([1-9]\d{0,9})(?:_(fsm|vm|init))?(?:\.([1-9]\d{0,9}))?$/.exec(path);
  if (match === null) return null;
  const [, database = '0', filenode, fork = 'main', segment = '0'] = match;
  return {
    databaseOid: Number(database),
    filenode: Number(filenode),
    fork: fork as RelationFork, // The expression admits no other.
    segmentNo: Number(segment),
  };
}

/** Block number, in its fork, of the first page of a segment file. */
export function firstBlockOf(file: RelationFile): number {
  return file.segmentNo * RELATION_SEGMENT_PAGES;
}

/** True for the name of a temporary relation's file, `t3_16400`: nobody reads it after a restart. */
export function isTemporaryRelationName(name: string): boolean {
  return /^t\d+_\d+(?:_(?:fsm|vm|init))?(?:\.\d+)?$/.test(name);
}
