/** The manifest of a backup that was published from a timeline store. */
import { required } from '../../base/index.ts';
import type { Manifest, ManifestHeader, ManifestPack, ManifestWal } from '../format/manifest.ts';
import { type FrameSources, type FrameTable, NO_SOURCE } from '../format/manifest-tables.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';
import { objectsOf } from '../part/restrict-image.ts';
import type { PublishRequest } from '../store-contract.ts';
import type { CopiedFrame, CopiedPack } from './copied-pack.ts';
import { placeOf, type PublishPlan, type SourceName, sourceOf } from './plan-publish.ts';

interface Parts {
  readonly plan: PublishPlan;
  readonly older: Manifest | null;
  /** Packs of this backup, those of earlier attempts first. */
  readonly packs: readonly CopiedPack[];
  readonly wal: readonly ManifestWal[];
  readonly historyWal: readonly ManifestWal[];
  readonly end: Pick<ManifestHeader, 'walEndLsn' | 'logEndLsn'>;
}

/** Names, sizes and counts are those of the image's capture: the nearest to the moment that is known without replaying. */
export function describePublished(request: PublishRequest, parts: Parts): Manifest {
  const { point, part } = request;
  const { plan, older, packs, wal, historyWal, end } = parts;
  const { image, history } = plan;
  const frames = new FrameList(older);
  const rowOf = rowsOfFrames(frames, parts);
  const stored = [...packs, ...wal, ...historyWal].reduce((sum, { bytes }) => sum + BigInt(bytes), 0n);
  return {
    header: {
      ...withoutLogEnd(image.header),
      ...end,
      release: request.release,
      jobId: request.jobId,
      attempt: request.attempt,
      subdirectory: request.subdirectory,
      baseSubdirectory: request.onto,
      clusterId: request.clusterId,
      virtualClusterId: request.store.virtualClusterId,
      virtualClusterName: request.virtualClusterName,
      targetLsn: point.lsn,
      startTime: older?.header.endTime ?? null,
      endTime: point.time,
      totals: { ...image.header.totals, storedBytes: stored },
    },
    objects: part === undefined ? image.objects : objectsOf(part, image),
    databases: image.databases,
    packs: frames.packs,
    wal: [...plan.keptWal, ...wal],
    files: image.files,
    runs: {
      ...image.runs,
      frames: image.runs.frames.map((frame) => required(rowOf[frame], 'row of a frame')),
    },
    frames: frames.table(),
    sources: frames.sources(),
    ...(history === null
      ? {}
      : { history: { beginTime: history.beginTime, beginLsn: history.beginLsn, wal: [...historyWal] } }),
  };
}

function withoutLogEnd({ logEndLsn: _other, ...header }: ManifestHeader): ManifestHeader {
  return header;
}

/** Puts the frames of the image into the list, those that were copied first; gives their new rows. */
function rowsOfFrames(frames: FrameList, { plan, packs }: Parts): Uint32Array {
  const { image, copied, reused } = plan;
  const places = new Map<SourceName, { pack: CopiedPack; frame: CopiedFrame }>();
  for (const pack of packs) for (const frame of pack.frames) places.set(frame.source, { pack, frame });
  const rowOf = new Uint32Array(image.frames.packs.length);
  for (const row of copied) {
    const source = placeOf(image, row);
    const { pack, frame } = required(places.get(source), `frame copied from ${source}`);
    rowOf[row] = frames.add(pack, { ...frame, source });
  }
  for (const [row, olderRow] of reused) rowOf[row] = frames.addOlder(olderRow);
  return rowOf;
}

class FrameList {
  readonly #older: Manifest | null;
  readonly packs: ManifestPack[] = [];
  readonly #packRows = new Map<string, number>();
  readonly #fields: number[] = [];
  readonly #tags: Uint8Array[] = [];
  readonly #sources: (SourceName | null)[] = [];

  constructor(older: Manifest | null) {
    this.#older = older;
  }

  add(
    { path, id, bytes }: ManifestPack,
    frame: Omit<CopiedFrame, 'source'> & { readonly source: SourceName | null },
  ): number {
    const { offset, length, crc, tag, source } = frame;
    this.#fields.push(this.#packRow({ path, id, bytes }), offset, length, crc);
    this.#tags.push(tag);
    return this.#sources.push(source) - 1;
  }

  addOlder(row: number): number {
    const older = required(this.#older, 'older backup');
    const { frames } = older;
    return this.add(required(older.packs[frames.packs[row] ?? 0], 'pack of a frame'), {
      offset: frames.offsets[row] ?? 0,
      length: frames.lengths[row] ?? 0,
      crc: frames.crcs[row] ?? 0,
      tag: frames.tags.subarray(row * FRAME_TAG_BYTES, (row + 1) * FRAME_TAG_BYTES),
      source: sourceOf(older, row),
    });
  }

  table(): FrameTable {
    const column = (field: number) =>
      Uint32Array.from(this.#sources, (_, row) => this.#fields[row * FIELDS + field] ?? 0);
    return {
      packs: column(0),
      offsets: column(1),
      lengths: column(2),
      crcs: column(3),
      tags: Uint8Array.from(Buffer.concat(this.#tags)),
    };
  }

  sources(): FrameSources {
    const rowOfId = new Map<string, number>();
    const packs = new Uint32Array(this.#sources.length).fill(NO_SOURCE);
    const offsets = new Uint32Array(this.#sources.length);
    for (const [row, source] of this.#sources.entries()) {
      if (source === null) continue;
      const [id = '', offset] = source.split('/');
      const known = rowOfId.get(id) ?? rowOfId.size;
      rowOfId.set(id, known);
      packs[row] = known;
      offsets[row] = Number(offset);
    }
    return { packIds: [...rowOfId.keys()], packs, offsets };
  }

  #packRow(pack: ManifestPack): number {
    const known = this.#packRows.get(pack.path);
    if (known !== undefined) return known;
    const row = this.packs.push(pack) - 1;
    this.#packRows.set(pack.path, row);
    return row;
  }
}

/** Of a frame: pack, offset, length, checksum. */
const FIELDS = 4;
