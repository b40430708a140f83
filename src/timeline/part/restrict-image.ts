/** An image with only what a part needs in it: what a backup of databases or tables with revision history keeps. No I/O. */
import { required } from '../../base/index.ts';
import type {
  Manifest,
  ManifestDatabase,
  ManifestObject,
  ManifestRelation,
  ManifestSelection,
} from '../format/manifest.ts';
import type { FileTable, FrameTable, RunTable } from '../format/manifest-tables.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';
import type { BackupObject } from '../contract.ts';
import type { PublishedPart } from '../store-contract.ts';
import { selectFiles } from './select-files.ts';

/** `FirstNormalObjectId`: relations below come with every database. */
const FIRST_NORMAL_OID = 16_384;
/** Kinds of relations that indexes belong to. */
const INDEXES: readonly string[] = ['i', 'I'];
/** Tables, views and sequences: what SHOW BACKUP lists. */
const LISTED: readonly string[] = ['r', 'p', 'm', 'v', 'f', 'S'];

/** Names of others, their sizes and files are left out. */
export function restrictImage(image: Manifest, published: PublishedPart): Manifest {
  const { selection, files: part } = published;
  const kept = selectFiles(image, part);
  const rows = Array.from(image.files.paths.keys()).filter(kept.isKept);
  const { files, runs, frameRows } = cutFiles(image, rows);
  const keptOf = new Map(kept.databases.map((each) => [each.databaseOid, new Set(each.kept)]));
  const isNamed = (database: ManifestDatabase) =>
    part.databases.some(({ name }) => name === database.name) ||
    part.added.some(({ databaseOid }) => databaseOid === database.oid);
  const databases = image.databases.filter(isNamed).map((database) => ({
    ...database,
    relations: database.relations.filter(([oid, filenode, , , , , schema, name]) => {
      const isFileKept = filenode !== 0 && keptOf.get(database.oid)?.has(filenode) === true;
      return isFileKept || (oid >= FIRST_NORMAL_OID && isSelected(selection, { database, schema, name }));
    }),
  }));
  const { sources, ...rest } = image;
  const { header } = image;
  return {
    ...rest,
    header: {
      ...header,
      selection,
      totals: { ...header.totals, ...countRows(databases, selection), bytes: kept.bytes },
    },
    databases,
    files,
    runs,
    ...cutFrames(image, frameRows),
    ...(sources === undefined
      ? {}
      : {
          sources: {
            packIds: sources.packIds,
            packs: Uint32Array.from(frameRows, (row) => sources.packs[row] ?? 0),
            offsets: Uint32Array.from(frameRows, (row) => sources.offsets[row] ?? 0),
          },
        }),
  };
}

/** What there is at the moment, with the numbers of rows that the image knows by these names. */
export function objectsOf({ objects }: PublishedPart, image: Manifest): readonly ManifestObject[] {
  const keyOf = ({ database, schema, name }: BackupObject) => JSON.stringify([database, schema, name]);
  const tables = image.objects.filter(({ kind }) => kind === 'table');
  const counted = new Map(tables.map((table) => [keyOf(table), table.rows]));
  return objects.map((object) =>
    object.kind === 'table' ? { ...object, rows: counted.get(keyOf(object)) ?? null } : object,
  );
}

function isSelected(
  selection: ManifestSelection,
  { database, schema, name }: { database: { readonly name: string }; schema: string; name: string },
): boolean {
  if (selection.kind === 'databases') return selection.names.includes(database.name);
  return (
    selection.database === database.name &&
    selection.patterns.some(
      (pattern) =>
        (pattern.schema === null || pattern.schema === schema) &&
        (pattern.name === null || pattern.name === name),
    )
  );
}

function countRows(
  databases: readonly ManifestDatabase[],
  selection: ManifestSelection,
): { rows: bigint; indexEntries: bigint } {
  const counts = { rows: 0n, indexEntries: 0n };
  for (const database of databases) {
    const tables = new Set(selectedTables(database, selection).map(([oid]) => oid));
    for (const relation of database.relations) {
      const [oid, , , owner, kind, , , , , count] = relation;
      if (tables.has(oid) && kind !== 'S') counts.rows += BigInt(count);
      if (tables.has(owner) && INDEXES.includes(kind)) counts.indexEntries += BigInt(count);
    }
  }
  return counts;
}

function selectedTables(
  database: ManifestDatabase,
  selection: ManifestSelection,
): readonly ManifestRelation[] {
  return database.relations.filter(
    ([oid, , , , kind, , schema, name]) =>
      oid >= FIRST_NORMAL_OID && LISTED.includes(kind) && isSelected(selection, { database, schema, name }),
  );
}

/** The rows of files that are kept, their runs, and the frames that these lie in, in their order. */
function cutFiles(
  { files, runs, frames }: Manifest,
  rows: readonly number[],
): { files: FileTable; runs: RunTable; frameRows: Uint32Array } {
  const runRows = rows.flatMap((row) => {
    const first = files.firstRuns[row] ?? 0;
    return Array.from({ length: files.runCounts[row] ?? 0 }, (_, index) => first + index);
  });
  const isUsed = new Uint8Array(frames.packs.length);
  for (const run of runRows) isUsed[runs.frames[run] ?? 0] = 1;
  const frameRows = Uint32Array.from(frames.packs.keys().filter((row) => isUsed[row] === 1));
  const newFrame = new Map(Array.from(frameRows, (row, index) => [row, index]));
  let firstRun = 0;
  const firstRuns = Uint32Array.from(rows, (row) => {
    const first = firstRun;
    firstRun += files.runCounts[row] ?? 0;
    return first;
  });
  return {
    frameRows,
    files: {
      paths: rows.map((row) => required(files.paths[row], 'path of a file')),
      lengths: BigUint64Array.from(rows, (row) => files.lengths[row] ?? 0n),
      kinds: Uint8Array.from(rows, (row) => files.kinds[row] ?? 0),
      modes: Uint16Array.from(rows, (row) => files.modes[row] ?? 0),
      firstRuns,
      runCounts: Uint32Array.from(rows, (row) => files.runCounts[row] ?? 0),
    },
    runs: {
      starts: Uint32Array.from(runRows, (run) => runs.starts[run] ?? 0),
      counts: Uint32Array.from(runRows, (run) => runs.counts[run] ?? 0),
      frames: Uint32Array.from(runRows, (run) => newFrame.get(runs.frames[run] ?? 0) ?? 0),
      indexes: Uint16Array.from(runRows, (run) => runs.indexes[run] ?? 0),
    },
  };
}

function cutFrames({ frames, packs }: Manifest, rows: Uint32Array): Pick<Manifest, 'frames' | 'packs'> {
  const used = [...new Set(Array.from(rows, (row) => frames.packs[row] ?? 0))].sort((a, b) => a - b);
  const newPack = new Map(used.map((row, index) => [row, index]));
  const column = (from: Uint32Array) => Uint32Array.from(rows, (row) => from[row] ?? 0);
  const table: FrameTable = {
    packs: Uint32Array.from(rows, (row) => newPack.get(frames.packs[row] ?? 0) ?? 0),
    offsets: column(frames.offsets),
    lengths: column(frames.lengths),
    crcs: column(frames.crcs),
    tags: Buffer.concat(
      Array.from(rows, (row) => frames.tags.subarray(row * FRAME_TAG_BYTES, (row + 1) * FRAME_TAG_BYTES)),
    ),
  };
  return { frames: table, packs: used.map((row) => required(packs[row], 'pack of a frame')) };
}

/** Whether `older` has every file that `image` has: what is wanted of neither is made by the log. */
export function holdsAllOf(older: Manifest, image: Manifest): boolean {
  const had = new Set(older.files.paths);
  return image.files.paths.every((path) => had.has(path));
}
