/**
 * How a collection passes to a virtual cluster that was restored from it. Owners are known by id, and what replaces a lost virtual cluster has
 * another id: without this its backups, and the schedules that came back with it, would have to go elsewhere.
 */
import { type IncarnationId, isAppError } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { CollectionHeir } from '../contract.ts';
import { readEncryptionInfo } from './encryption.ts';
import { readManifestHead } from '../format/manifest-file.ts';
import { type CollectionOwner, isSameOwner, newestOwner, putOwner } from './owner.ts';
import { completed, openManifest } from './completed.ts';

/** How many full backups are looked at, the newest first. */
const BACKUPS_READ_MAX = 1000;

interface Inheritance {
  readonly heir: CollectionHeir;
  readonly key: ClusterKey;
  readonly signal: AbortSignal;
}

/**
 * Writes the record of the next owner when the one before is gone from this physical cluster and the heir descends from a full backup of the
 * collection. Gives whose place was taken; null when it is the heir's already, nobody's, or rightly another's: the claim that follows tells.
 * Of two heirs at once one wins, and from then on it is the owner who is not gone.
 */
export async function inheritCollection(
  store: BlobStore,
  { heir, key, signal }: Inheritance,
): Promise<CollectionOwner | null> {
  const { clusterId, virtualClusterId, virtualClusterName } = heir;
  const owner: CollectionOwner = { clusterId, virtualClusterId, virtualClusterName };
  const present = await newestOwner(store, { signal });
  if (present === null || isSameOwner(present.owner, owner)) return null;
  if (present.owner.clusterId !== clusterId || !heir.isGone(present.owner.virtualClusterId)) return null;
  if (!(await holdsOneOf(store, { lives: heir.lives, key, signal }))) return null;
  return (await putOwner(store, { owner, ordinal: present.ordinal + 1, signal })) ? present.owner : null;
}

/** What is encrypted tells its life beside it. A backup that cannot be trusted proves nothing, and says nothing against the others. */
async function holdsOneOf(
  store: BlobStore,
  { lives, key, signal }: { lives: ReadonlySet<IncarnationId> } & Omit<Inheritance, 'heir'>,
): Promise<boolean> {
  let read = 0;
  for await (const subdirectory of completed(store, { order: 'descending', signal })) {
    if (read++ === BACKUPS_READ_MAX) return false;
    try {
      const found = await readEncryptionInfo(store, { folder: subdirectory, key, signal });
      if (found !== null) {
        if (lives.has(found.info.incarnation)) return true;
        continue;
      }
      const { chunks, name } = await openManifest(store, { subdirectory, signal });
      const { header } = await readManifestHead(chunks, { key, name });
      if (lives.has(header.incarnation)) return true;
    } catch (error) {
      if (!isAppError(error, 'data_corrupt', 'backup_untrusted', 'format_unsupported')) throw error;
    }
  }
  return false;
}
