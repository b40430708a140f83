/** An older backup of the same objects, of which a new one goes on using what did not change. */
import type { BlobStore } from '../../blob/index.ts';
import type { CopyDescription, CopyTable, PageRange } from '../../logical-copy/index.ts';
import type { CaptureTools } from '../capture/capture.ts';
import type { PageChanges } from '../capture/plan-incremental.ts';
import { openManifest } from '../collection/completed.ts';
import { checkManifest } from '../format/check-manifest.ts';
import { rowsPath } from '../format/copy-paths.ts';
import type { Manifest, ManifestCopy } from '../format/manifest.ts';
import { readManifest } from '../format/manifest-file.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';
import type { LogicalBackupRequest } from './contract.ts';
import type { StoredFrame } from './stream-writer.ts';

/** A range whose rows are as they were. */
export interface KeptRange {
  readonly frames: readonly StoredFrame[];
  readonly rows: number;
}

/** Undefined for a range that must be read. */
export type Keeper = (table: CopyTable, range: PageRange) => KeptRange | undefined;

export class OlderCopies {
  readonly #manifest: Manifest;
  readonly #rowOf: ReadonlyMap<string, number>;

  /** @throws CorruptError, AppError `backup_untrusted`, `backup_not_found` */
  static async open(
    subdirectory: string,
    options: { request: LogicalBackupRequest; store: BlobStore; tools: CaptureTools },
  ): Promise<OlderCopies> {
    const { request, store, tools } = options;
    const { chunks, name } = await openManifest(store, { subdirectory, signal: tools.signal });
    const manifest = await readManifest(chunks, { key: request.key, name });
    checkManifest(manifest, name);
    return new OlderCopies(manifest);
  }

  /** What an earlier attempt at the same backup has come to. */
  static of(manifest: Manifest): OlderCopies {
    return new OlderCopies(manifest);
  }

  private constructor(manifest: Manifest) {
    this.#manifest = manifest;
    this.#rowOf = new Map(manifest.files.paths.map((path, row) => [path, row]));
  }

  get header(): Manifest['header'] {
    return this.#manifest.header;
  }

  /** What of a database need not be read again. */
  keeper(description: CopyDescription, changes: PageChanges | null): Keeper | undefined {
    const copies = this.#manifest.copies ?? [];
    const number = copies.findIndex(({ database }) => database.name === description.database.name);
    const copy = copies[number];
    if (copy === undefined || changes === null || typesOf(copy) !== typesOf(description)) return undefined;
    const tables = new Map(copy.tables.map((table) => [table.oid, table]));
    return (table, range) => {
      const older = tables.get(table.oid);
      if (older === undefined || !isComparable(older, table)) return undefined;
      const had = older.ranges.find(([from]) => from === range.from);
      if (had === undefined || isChanged(table, { range, changes })) return undefined;
      const frames = this.#framesOf(rowsPath({ copy: number, entry: older.entry, from: range.from }));
      return frames === undefined ? undefined : { frames, rows: had[1] };
    };
  }

  #framesOf(path: string): readonly StoredFrame[] | undefined {
    const { files, runs, frames, packs } = this.#manifest;
    const row = this.#rowOf.get(path);
    if (row === undefined) return undefined;
    const first = files.firstRuns[row] ?? 0;
    return Array.from({ length: files.runCounts[row] ?? 0 }, (_, index): StoredFrame => {
      const frame = runs.frames[first + index] ?? 0;
      const pack = packs[frames.packs[frame] ?? 0];
      if (pack === undefined) throw new TypeError('a checked manifest has the packs of its frames');
      return {
        bytes: runs.counts[first + index] ?? 0,
        pack,
        offset: frames.offsets[frame] ?? 0,
        length: frames.lengths[frame] ?? 0,
        crc: frames.crcs[frame] ?? 0,
        tag: frames.tags.slice(frame * FRAME_TAG_BYTES, (frame + 1) * FRAME_TAG_BYTES),
      };
    });
  }
}

/**
 * Values of types are written by what the types say: a label of an enumeration that was renamed reads differently in pages that did not
 * change.
 */
function typesOf({ entries }: Pick<CopyDescription | ManifestCopy, 'entries'>): string {
  const types = entries.flatMap(({ object, fingerprint, type, sql }) =>
    fingerprint === null ? (type === 'EXTENSION' ? [sql] : []) : [`${object?.identity} ${fingerprint}`],
  );
  return types.toSorted().join('\n');
}

/** Text forms name other objects, which may be renamed; tables without log may change unseen. */
function isComparable(older: ManifestCopy['tables'][number], table: CopyTable): boolean {
  const isTold = older.isSettled && older.isLogged && table.isLogged;
  return isTold && older.shape === table.shape && older.format === 'binary' && table.format === 'binary';
}

function isChanged(
  { databaseOid, filenode, pages }: CopyTable,
  { range, changes }: { range: PageRange; changes: PageChanges },
): boolean {
  const endBlock = range.to ?? Math.max(pages, range.from + 1);
  const [first] = changes.changedBlocks({ databaseOid, filenode }, { beginBlock: range.from, endBlock });
  return first !== undefined;
}
