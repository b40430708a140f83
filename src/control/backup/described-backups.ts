/** Definitions that were found out for SHOW BACKUP lately. A backup never changes, and finding them out takes seconds. */
import type { BackupObject, BackupSummary } from '../../timeline/index.ts';

/** Characters of what is remembered at the most, of all backups, and of one of them. */
const ALL_MAX = 8_000_000;
const ONE_MAX = 2_000_000;

type Described = Pick<
  BackupSummary,
  'clusterId' | 'virtualClusterId' | 'incarnation' | 'subdirectory' | 'targetLsn' | 'endTime'
>;

/** Who asks has read the backup's manifest, and so may know what it says: here nobody is asked for a key again. */
export class DescribedBackups {
  /** Used last, last. */
  readonly #remembered = new Map<
    string,
    { readonly objects: readonly BackupObject[]; readonly size: number }
  >();
  #size = 0;

  get(backup: Described): readonly BackupObject[] | undefined {
    const key = keyOf(backup);
    const found = this.#remembered.get(key);
    if (found === undefined) return undefined;
    this.#remembered.delete(key);
    this.#remembered.set(key, found);
    return found.objects;
  }

  /** Forgets what was not asked for the longest when there is too much. */
  put(backup: Described, objects: readonly BackupObject[]): void {
    const key = keyOf(backup);
    const size = objects.reduce((sum, object) => sum + sizeOf(object), 0);
    if (size > ONE_MAX || this.#remembered.has(key)) return;
    this.#remembered.set(key, { objects, size });
    this.#size += size;
    for (const [oldest, { size: freed }] of this.#remembered) {
      if (this.#size <= ALL_MAX) break;
      this.#remembered.delete(oldest);
      this.#size -= freed;
    }
  }
}

/** A life of the data passes each position once, so this names one state of it. */
function keyOf(backup: Described): string {
  const { clusterId, virtualClusterId, incarnation, subdirectory, targetLsn, endTime } = backup;
  return [clusterId, virtualClusterId, incarnation, subdirectory, targetLsn, endTime].join('/');
}

/** About: what is long is counted. */
function sizeOf({ name, definition = '', privileges = '' }: BackupObject): number {
  return 200 + name.length + definition.length + privileges.length;
}
