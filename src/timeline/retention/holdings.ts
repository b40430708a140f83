/** Looks at what lies in a timeline store. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  errnoOf,
  type IncarnationId,
  type Lsn,
  type Rng,
  type Timestamp,
  timestampFromMs,
} from '../../base/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { walSegmentStart } from '../../pg/index.ts';
import { MANIFEST_NAME } from '../collection/layout.ts';
import type { IncarnationRecord, TimelineStoreLocation } from '../store-contract.ts';
import type { BaseIndex } from '../store/base-index.ts';
import { openBases } from '../store/bases.ts';
import { basesDirectory, walDirectory } from '../store/layout.ts';
import { listIncarnations, listWalFolder } from '../store/wal-folder.ts';
import { readRecord } from '../vault/incarnation-file.ts';
import { readPins } from './pins.ts';
import type { HeldLog, HeldObject, Holdings } from './plan.ts';

/** @throws CorruptError and others when something cannot be read: then nothing may be removed */
export async function readHoldings(
  store: TimelineStoreLocation,
  options: {
    readonly index: BaseIndex;
    readonly rng: Rng;
    readonly key: ClusterKey;
    readonly signal: AbortSignal;
  },
): Promise<Holdings> {
  const records: IncarnationRecord[] = [];
  const logs: HeldLog[] = [];
  for (const incarnation of await listIncarnations(store)) {
    const directory = walDirectory(store, incarnation);
    const record = await readRecord(directory);
    if (record !== null) records.push(record);
    logs.push(await readLog(directory, incarnation));
  }
  const bases = await options.index.list(store, options);
  return {
    bases: bases.map(({ base, objects }) => ({ ...base, objects })),
    objects: await readObjects(store, options),
    logs,
    incarnations: records,
    pins: await readPins(store),
  };
}

async function readLog(directory: string, incarnation: IncarnationId): Promise<HeldLog> {
  const folder = await listWalFolder(directory);
  const { segmentBytes } = folder;
  const segments: HeldLog['segments'][number][] = [];
  let writtenAt = (await statusOf(directory))?.writtenAt ?? (0n as Timestamp);
  for (const { name, timelineId, segmentNo, isClosed } of folder.segments) {
    const status = await statusOf(join(directory, name));
    if (status === null) continue;
    const beginLsn = walSegmentStart({ segmentNo, segmentBytes });
    const endLsn = (beginLsn + BigInt(segmentBytes)) as Lsn;
    segments.push({ name, timelineId, beginLsn, endLsn, isClosed, bytes: status.bytes });
    if (status.writtenAt > writtenAt) writtenAt = status.writtenAt;
  }
  const timeIndexes: HeldLog['timeIndexes'][number][] = [];
  for (const { name, beginLsn } of folder.timeIndexes) {
    const status = await statusOf(join(directory, name));
    if (status !== null) timeIndexes.push({ name, beginLsn, bytes: status.bytes });
  }
  return { incarnation, segments, timeIndexes, writtenAt };
}

async function readObjects(
  store: TimelineStoreLocation,
  { rng, signal }: { rng: Rng; signal: AbortSignal },
): Promise<readonly HeldObject[]> {
  const objects: HeldObject[] = [];
  for await (const entry of openBases(store, { rng }).list('', { deep: true, signal })) {
    if (entry.kind !== 'blob') continue;
    const { key: path } = entry;
    if (!/^\d{4}\//.test(path) || path.endsWith(`/${MANIFEST_NAME}`)) continue;
    const status = await statusOf(join(basesDirectory(store), path));
    if (status !== null) objects.push({ path, ...status });
  }
  return objects;
}

/** Null when it went meanwhile. */
async function statusOf(path: string): Promise<{ bytes: number; writtenAt: Timestamp } | null> {
  try {
    const { size, mtimeMs } = await stat(path);
    return { bytes: size, writtenAt: timestampFromMs(mtimeMs) };
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}
