/** Writes the rows of copies, range by range; what an older backup or attempt has unchanged is named again. */
import { assert, required } from '../../base/index.ts';
import { type CopyDescription, type CopySource, pageRanges } from '../../logical-copy/index.ts';
import { largeObjectPath, rowsPath } from '../format/copy-paths.ts';
import type { ManifestCopy } from '../format/manifest.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { OpenedMoment } from './moment.ts';
import type { Keeper } from './older-copies.ts';
import type { StreamWriter } from './stream-writer.ts';

export interface CopiesToWrite {
  readonly described: readonly CopyDescription[];
  /** One for each description. */
  readonly sources: readonly CopySource[];
  readonly isSettled: OpenedMoment['isSettled'];
  readonly writer: StreamWriter;
  /** Asked in this order what need not be read. */
  readonly keepersOf: (description: CopyDescription) => readonly Keeper[];
  /** @param share of all bytes, 0 to 1 */
  readonly onTable: (share: number) => void;
  /** Told of what is complete, all copies so far, after each range. */
  readonly onRange: (copies: readonly ManifestCopy[]) => Promise<void>;
}

export async function writeCopies(options: CopiesToWrite): Promise<readonly ManifestCopy[]> {
  const { described, sources, isSettled } = options;
  const total = described.flatMap(({ tables }) => tables).reduce((sum, { bytes }) => sum + bytes + 1, 0);
  const copies = described.map((description, number) =>
    beginCopy(description, { source: required(sources[number], 'source of a copy'), isSettled }),
  );
  let done = 0;
  for (const [number, description] of described.entries()) {
    const source = required(sources[number], 'source of a copy');
    const copy = required(copies[number], 'copy that was begun');
    const keepers = options.keepersOf(description);
    for (const [index, table] of description.tables.entries()) {
      const { ranges } = required(copy.tables[index], 'table of a copy');
      for (const range of pageRanges(table)) {
        const path = rowsPath({ copy: number, entry: table.entry, from: range.from });
        ranges.push(await writeRange(path, { ...options, source, table, range, keepers }));
        await options.onRange(copies);
      }
      done += table.bytes + 1;
      options.onTable(done / total);
    }
    for (const oid of description.largeObjects) {
      const path = largeObjectPath({ copy: number, oid });
      await options.writer.add(path, withoutReturn(source.largeObject(oid)));
      copy.largeObjects.push(oid);
    }
  }
  return copies;
}

/** First page and number of rows. */
async function writeRange(
  path: string,
  options: CopiesToWrite & {
    readonly source: CopySource;
    readonly table: CopyDescription['tables'][number];
    readonly range: ReturnType<typeof pageRanges>[number];
    readonly keepers: readonly Keeper[];
  },
): Promise<[number, number]> {
  const { source, table, range, keepers, writer } = options;
  for (const keeper of keepers) {
    const same = keeper(table, range);
    if (same === undefined) continue;
    writer.reuse(path, same.frames);
    return [range.from, same.rows];
  }
  const rows = await writer.add(path, source.copyOut(table, range));
  assert(rows <= BigInt(Number.MAX_SAFE_INTEGER), 'a range has a number of rows');
  faultPoint('objects.after_range');
  return [range.from, Number(rows)];
}

/** Its definitions; no rows yet. */
function beginCopy(
  description: CopyDescription,
  { source, isSettled }: { source: CopySource; isSettled: OpenedMoment['isSettled'] },
): ManifestCopy {
  return {
    database: { ...description.database, settings: [...description.database.settings] },
    isWholeDatabase: description.isWholeDatabase,
    entries: description.entries.map((entry) => ({
      ...entry,
      needs: [...entry.needs],
      external: entry.external.map((object) => ({ ...object })),
    })),
    tables: description.tables.map((table) => ({
      ...table,
      columns: [...table.columns],
      isSettled: isSettled(table, source),
      ranges: [],
    })),
    sequences: description.sequences.map((sequence) => ({ ...sequence })),
    populated: [...description.populated],
    largeObjects: [],
    ...(description.excluded === undefined ? {} : { excluded: [...description.excluded] }),
  };
}

async function* withoutReturn(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, null> {
  yield* content;
  return null;
}
