/** SHOW BACKUP FILES and SHOW BACKUP RANGES: which objects a backup consists of, and what of the data they hold. */
import { parseLsn } from '../../base/index.ts';
import type { BackupPosition, BackupSummary, CollectionLocation } from '../../timeline/index.ts';
import type { Cell } from '../contract.ts';
import type { Core } from '../core.ts';
import { requireTimeline } from '../timeline/timeline-point.ts';
import { columnsOf } from '../use-case.ts';

export const FILES = columnsOf({
  path: 'text',
  backup_type: 'text',
  start_pretty: 'text',
  end_pretty: 'text',
  start_key: 'bytea',
  end_key: 'bytea',
  size_bytes: 'int8',
  rows: 'int8',
  locality: 'text',
  file_bytes: 'int8',
});

export const RANGES = columnsOf({
  start_pretty: 'text',
  end_pretty: 'text',
  start_key: 'bytea',
  end_key: 'bytea',
});

interface Shown {
  readonly collection: CollectionLocation;
  readonly layers: readonly BackupSummary[];
  readonly signal: AbortSignal;
}

/** An object that several tables share has no number of rows of its own, and a location that is read no locality. */
export async function fileRows(core: Core, shown: Shown): Promise<readonly (readonly Cell[])[]> {
  const rows: (readonly Cell[])[] = [];
  for (const layer of shown.layers) {
    const type = layer.baseSubdirectory === null ? 'full' : 'incremental';
    const { files } = await listFiles(core, layer, shown);
    for (const { path, begin, end, sizeBytes, fileBytes } of files) {
      rows.push([path, type, ...span(begin, end), String(sizeBytes), null, null, String(fileBytes)]);
    }
  }
  return rows;
}

/** Of the newest backup: it names all that the others of its chain hold for it. */
export async function rangeRows(core: Core, shown: Shown): Promise<readonly (readonly Cell[])[]> {
  const newest = shown.layers.at(-1);
  if (newest === undefined) return [];
  const { ranges } = await listFiles(core, newest, shown);
  return ranges.map(({ begin, end }) => span(begin, end));
}

function listFiles(core: Core, { subdirectory }: BackupSummary, { collection, signal }: Shown) {
  const { key } = core.options.cluster;
  return requireTimeline(core).verifier.listFiles({ collection, subdirectory, key }, { signal });
}

function span(begin: BackupPosition | null, end: BackupPosition | null): readonly Cell[] {
  return [pretty(begin), pretty(end), keyOf(begin), keyOf(end)];
}

/** `/base/5/16384/8192`: a byte of a file of the data directory; `/wal/0/3000000`: a position in the log. */
function pretty(position: BackupPosition | null): Cell {
  if (position === null) return null;
  return 'lsn' in position ? `/wal/${position.lsn}` : `/${position.path}/${position.offset}`;
}

/** The same so that keys sort as positions do: a path, a zero byte, eight bytes of offset or position, big-endian. */
function keyOf(position: BackupPosition | null): Cell {
  if (position === null) return null;
  const isLog = 'lsn' in position;
  const number = Buffer.alloc(9);
  number.writeBigUInt64BE(isLog ? parseLsn(position.lsn) : BigInt(position.offset), 1);
  return `\\x${Buffer.concat([Buffer.from(isLog ? 'wal' : position.path), number]).toString('hex')}`;
}
