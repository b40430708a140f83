import { assert, type Rng, type Timestamp, timestampFromMs } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import { formatBackupSubdirectory } from '../collection/layout.ts';
import { openCollection } from '../collection/open.ts';
import type { FolderLocation } from '../contract.ts';
import type {
  BaseSummary,
  IncarnationRecord,
  TimelinePoint,
  TimelineStoreLocation,
} from '../store-contract.ts';
import { basesDirectory } from './layout.ts';
import { isOnTheWay, stretchesTo } from './lineage.ts';

const HUNDREDTH_US = 10_000n;

/** Bases lie in a folder as backups do in a collection. */
export function basesCollection(location: TimelineStoreLocation): FolderLocation {
  return {
    displayUri: `the timeline of virtual cluster ${location.virtualClusterId}`,
    directory: basesDirectory(location),
  };
}

/** The objects of the bases. */
export function openBases(location: TimelineStoreLocation, { rng }: { readonly rng: Rng }): BlobStore {
  return openCollection(basesCollection(location), { rng });
}

/** Bases from which replay leads to the point, in the order they were given in. */
export function basesLeadingTo(
  point: Pick<TimelinePoint, 'incarnation' | 'timelineId' | 'lsn'>,
  { bases, incarnations }: { bases: readonly BaseSummary[]; incarnations: readonly IncarnationRecord[] },
): readonly BaseSummary[] {
  const stretches = stretchesTo(point, incarnations);
  return bases.filter((base) => isOnTheWay(base, stretches));
}

/** A folder for a new base, named after now, but later than the newest one's also when the clock was set back. */
export function baseSubdirectoryAfter(options: {
  readonly now: Timestamp;
  readonly newest: string | null;
}): string {
  const { now, newest } = options;
  if (newest === null || formatBackupSubdirectory(now) > newest) return formatBackupSubdirectory(now);
  return formatBackupSubdirectory((timeOfSubdirectory(newest) + HUNDREDTH_US) as Timestamp);
}

function timeOfSubdirectory(subdirectory: string): Timestamp {
  const match = /^(\d{4})\/(\d\d)\/(\d\d)-(\d\d)(\d\d)(\d\d)\.(\d\d)$/.exec(subdirectory);
  const [, year, month, day, hour, minute, second, hundredths] = match ?? [];
  const ms = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}.${hundredths}0Z`);
  assert(!Number.isNaN(ms), 'folders of bases are named after times');
  return timestampFromMs(ms);
}
