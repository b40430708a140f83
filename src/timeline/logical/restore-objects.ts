/** Makes chosen objects of a backup, or of another instance, in a database. Runs in a bulk worker. */
import { availableParallelism } from 'node:os';
import { InputError, required } from '../../base/index.ts';
import {
  type CopyDescription,
  type CopyHelper,
  type CopyRows,
  type CopySelection,
  CopySession,
  CopySource,
  CopyTarget,
  narrow,
} from '../../logical-copy/index.ts';
import type { CaptureTools } from '../capture/capture.ts';
import { openCollection } from '../collection/open.ts';
import { openManifest } from '../collection/completed.ts';
import { checkManifest } from '../format/check-manifest.ts';
import { readManifest } from '../format/manifest-file.ts';
import { backupRows } from './backup-rows.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { CopyOrigin, RestoreObjectsRequest, RestoreObjectsResult } from './contract.ts';

/**
 * All of it, or nothing.
 * @throws InputError `table_not_found`, `table_exists`, `object_exists`, `object_missing`; CorruptError; AppError `copy_failed`, ...
 */
export async function runRestoreObjects(
  request: RestoreObjectsRequest,
  tools: CaptureTools,
): Promise<RestoreObjectsResult> {
  await using held = new AsyncDisposableStack();
  const { copy, rows, another } = await openOrigin(request, { tools, held });
  if (request.schemaOnly && request.verifyTableData) await readAll(copy, rows);
  const { target, schemaOnly, skip } = request;
  await using made = await CopyTarget.open(target, tools);
  // A database that nobody can enter yet is made by several at once; tables among those of others all at once, so by one.
  const isOwn = copy.isWholeDatabase && target.owner === null;
  const helpers: CopyHelper[] = [];
  while (isOwn && helpers.length + 1 < Math.min(lanesMax(), copy.tables.length)) {
    const session = held.use(await CopySession.open(target, tools));
    helpers.push({ session, rows: await another(held) });
  }
  const restored = await made.restore(copy, {
    rows,
    helpers,
    options: { schemaOnly, skip, owner: target.owner, onProgress: tools.onProgress, signal: tools.signal },
  });
  faultPoint('objects.committed');
  return restored;
}

/** Most sessions that make a database: what they ask of the machine, others have to wait for. */
const LANES_MAX = 4;

function lanesMax(): number {
  return Math.min(LANES_MAX, availableParallelism());
}

interface Opened {
  readonly copy: CopyDescription;
  readonly rows: CopyRows;
  /** Rows that may be read while the others are. */
  readonly another: (held: AsyncDisposableStack) => Promise<CopyRows>;
}

async function openOrigin(
  request: RestoreObjectsRequest,
  { tools, held }: { tools: CaptureTools; held: AsyncDisposableStack },
): Promise<Opened> {
  const { origin } = request;
  const selection = selectionOf(request);
  if (origin.kind === 'backup') return openBackup(origin, { selection, tools });
  const source = held.use(await CopySource.open(origin, tools));
  return {
    copy: await source.describe(selection),
    rows: source,
    another: async (stack) => stack.use(await source.another()),
  };
}

function selectionOf({ patterns }: RestoreObjectsRequest): CopySelection {
  if (patterns === null) return { kind: 'database' };
  return {
    kind: 'tables',
    patterns: patterns.map(({ schema, name }) => ({ schema: schema ?? undefined, name: name ?? undefined })),
  };
}

async function openBackup(
  origin: Extract<CopyOrigin, { kind: 'backup' }>,
  { selection, tools }: { selection: CopySelection; tools: CaptureTools },
): Promise<Opened> {
  const { key, database } = origin;
  const { signal } = tools;
  const store = openCollection(origin.collection, tools);
  const { chunks, name } = await openManifest(store, { ...origin, signal });
  const manifest = await readManifest(chunks, { key, name });
  checkManifest(manifest, name);
  const number = manifest.copies?.findIndex((copy) => copy.database.name === database) ?? -1;
  if (number < 0) {
    throw new InputError(
      'database_not_found',
      `the backup ${origin.subdirectory} holds nothing of database "${database}"`,
    );
  }
  const whole = required(manifest.copies?.[number], 'copy of a database');
  const rows = backupRows({ manifest, copy: number, store, key, signal });
  return { copy: narrow(whole, selection), rows, another: () => Promise.resolve(rows) };
}

/** What is read is checked. */
async function readAll(copy: CopyDescription, rows: CopyRows): Promise<void> {
  for (const table of copy.tables) for await (const file of rows.rowsOf(table)) await drain(file);
  for (const oid of copy.largeObjects) await drain(rows.largeObject(oid));
}

async function drain(pieces: AsyncIterable<Uint8Array>): Promise<void> {
  const iterator = pieces[Symbol.asyncIterator]();
  while ((await iterator.next()).done !== true);
}
