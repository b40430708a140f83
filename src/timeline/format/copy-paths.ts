/** Names of the files in a logical backup. They are of no folder: nothing is ever written under these names. */
import type { ManifestCopy } from './manifest.ts';

/** Rows of a table that lie in its pages from `from` on, up to where the next file begins. */
export function rowsPath(options: { copy: number; entry: number; from: number }): string {
  const { copy, entry, from } = options;
  return `copy/${copy}/rows/${entry}/${from}`;
}

export function largeObjectPath(options: { copy: number; oid: number }): string {
  return `copy/${options.copy}/large-object/${options.oid}`;
}

/** All files of a copy. */
export function copyPaths(copy: ManifestCopy, number: number): string[] {
  const rows = copy.tables.flatMap(({ entry, ranges }) =>
    ranges.map(([from]) => rowsPath({ copy: number, entry, from })),
  );
  return [...rows, ...copy.largeObjects.map((oid) => largeObjectPath({ copy: number, oid }))];
}
