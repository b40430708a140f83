/** What SHOW BACKUP SCHEMAS and WITH privileges say of a backup of a whole virtual cluster. */
import { describeImage } from '../../jobs/index.ts';
import type { BackupObject, BackupSummary, CollectionLocation } from '../../timeline/index.ts';
import type { ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';

/**
 * The same backups with definitions, owners and privileges of all that they list, as of the end of each. What was made or renamed between
 * the base that a backup was published from and its end is listed by the name it had then, and has no definition.
 * @throws CorruptError and what recovery may fail with; `cancelled` when the client does not wait
 */
export async function describeLayers(
  core: Core,
  { collection, layers }: { collection: CollectionLocation; layers: readonly BackupSummary[] },
  { session, signal }: ExecuteContext,
): Promise<readonly BackupSummary[]> {
  const described: BackupSummary[] = [];
  for (const layer of layers) {
    if (layer.selection !== null) {
      described.push(layer);
      continue;
    }
    const release = await core.describing.acquire({ signal });
    try {
      const found =
        core.described.get(layer) ??
        (await describeImage({
          ...core.options,
          key: core.options.cluster.key,
          virtualClusterId: session.virtualClusterId,
          collection,
          subdirectory: layer.subdirectory,
          databases: layer.objects.flatMap(({ kind, name }) => (kind === 'database' ? [name] : [])),
          signal,
        }));
      core.described.put(layer, found);
      described.push({ ...layer, objects: withDefinitions(layer.objects, found) });
    } finally {
      release();
    }
  }
  return described;
}

function withDefinitions(
  objects: readonly BackupObject[],
  found: readonly BackupObject[],
): readonly BackupObject[] {
  const byName = new Map(found.map((object) => [nameOf(object), object]));
  return objects.map((object) => {
    const { definition, owner, privileges, regions } = byName.get(nameOf(object)) ?? {};
    return { ...object, definition, owner, privileges, regions: regions ?? object.regions };
  });
}

function nameOf({ kind, database, schema, name }: BackupObject): string {
  return JSON.stringify([kind, database, schema, name]);
}
