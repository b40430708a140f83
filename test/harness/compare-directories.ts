import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  firstBlockOf,
  FORK,
  PAGE_BYTES,
  parseRelationPath,
  type RelationFile,
  type RelationLocator,
} from '../../src/pg/index.ts';
import { type ChangedSet, relationInDirectory } from '../../src/timeline/changed-set/changed-set.ts';

export interface DifferingBlock {
  readonly path: string;
  readonly relation: RelationLocator;
  readonly fork: number;
  readonly blockNo: number;
}

const ZEROES = Buffer.alloc(PAGE_BYTES);

/**
 * Pages of main and init forks that are not the same in two copies of a data directory. Left out is what nobody logs: main
 * forks of unlogged relations, and pages of zeroes that one copy has and the other lacks.
 */
export function differingBlocks(one: string, other: string): DifferingBlock[] {
  const paths = new Set([...relationPaths(one), ...relationPaths(other)]);
  const blocks: DifferingBlock[] = [];
  for (const path of paths) {
    const file = parseRelationPath(path);
    if (file === null || (file.fork !== 'main' && file.fork !== 'init')) continue;
    if (file.fork === 'main' && isUnlogged(file, paths)) continue;
    const [a, b] = [readOrEmpty(join(one, path)), readOrEmpty(join(other, path))];
    if (a.equals(b)) continue;
    const relation = relationInDirectory(file);
    const fork = file.fork === 'main' ? FORK.main : FORK.init;
    for (let at = 0; at < Math.max(a.length, b.length); at += PAGE_BYTES) {
      if (isSamePage(a.subarray(at, at + PAGE_BYTES), b.subarray(at, at + PAGE_BYTES))) continue;
      blocks.push({ path, relation, fork, blockNo: firstBlockOf(file) + at / PAGE_BYTES });
    }
  }
  return blocks;
}

/** Those that the changed set does not know of; there must be none. */
export function unknownTo(set: ChangedSet, blocks: readonly DifferingBlock[]): DifferingBlock[] {
  return blocks.filter(({ relation, fork, blockNo }) => !set.changes(relation, fork)?.isChanged(blockNo));
}

function relationPaths(directory: string): string[] {
  return ['base', 'global'].flatMap((folder) =>
    readdirSync(join(directory, folder), { recursive: true, encoding: 'utf8' })
      .map((name) => `${folder}/${name}`)
      .filter((path) => parseRelationPath(path) !== null && statSync(join(directory, path)).isFile()),
  );
}

function isUnlogged(file: RelationFile, paths: ReadonlySet<string>): boolean {
  return paths.has(`base/${file.databaseOid}/${file.filenode}_init`);
}

function readOrEmpty(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0);
  }
}

function isSamePage(a: Buffer, b: Buffer): boolean {
  if (a.length === 0) return b.equals(ZEROES);
  if (b.length === 0) return a.equals(ZEROES);
  return a.equals(b);
}
