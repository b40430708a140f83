/** Compares what a base was materialized to with the data directory it was captured from, block by block. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lsn } from '../../src/base/index.ts';
import { PAGE_BYTES, parseRelationPath } from '../../src/pg/index.ts';
import { listDataFiles } from '../../src/timeline/data-directory/list-files.ts';

/**
 * Blocks of relations that differ though the log says nothing of a change since the base began: each is a loss. The instance has written
 * everything to its files (CHECKPOINT).
 */
export function unexplainedBlocks(options: {
  readonly dataDirectory: string;
  readonly materialized: string;
  readonly startLsn: Lsn;
}): readonly string[] {
  const { dataDirectory, materialized, startLsn } = options;
  const held = new Map(listDataFiles(materialized).map((file) => [file.path, file]));
  const findings: string[] = [];
  for (const { path, kind } of listDataFiles(dataDirectory)) {
    if (kind !== 'pages' || isFreeSpace(path)) continue;
    const now = readFileSync(join(dataDirectory, path));
    const then = held.has(path) ? readFileSync(join(materialized, path)) : Buffer.alloc(0);
    for (let at = 0; at + PAGE_BYTES <= now.length; at += PAGE_BYTES) {
      const page = now.subarray(at, at + PAGE_BYTES);
      if (page.equals(then.subarray(at, at + PAGE_BYTES)) || lsnOf(page) >= startLsn) continue;
      findings.push(`${path} block ${at / PAGE_BYTES}`);
    }
  }
  return findings;
}

/** Only a hint, and changed without a word in the log. */
function isFreeSpace(path: string): boolean {
  return parseRelationPath(path)?.fork === 'fsm';
}

function lsnOf(page: Buffer): bigint {
  return (BigInt(page.readUInt32LE(0)) << 32n) | BigInt(page.readUInt32LE(4));
}
