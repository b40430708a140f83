/** What makes the objects of databases that are only looked at. Runs in a bulk worker. */
import type { Clock, Rng } from '../../base/index.ts';
import { CopySource } from '../../logical-copy/index.ts';
import type { BackupObject } from '../contract.ts';
import type { DescribeDatabasesRequest } from './contract.ts';
import { describeObjects } from './describe-objects.ts';

/** One database after the other. @throws AppError `connection_failure`, `database_not_found`, `copy_failed` */
export async function describeDatabases(
  { socketDirectory, role, databases }: DescribeDatabasesRequest,
  tools: { readonly clock: Clock; readonly rng: Rng; readonly signal: AbortSignal },
): Promise<readonly BackupObject[]> {
  const objects: BackupObject[] = [];
  for (const name of databases) {
    await using source = await CopySource.open({ socketDirectory, database: name, role }, tools);
    // A dump takes half a second of CPU, and most virtual clusters have databases that nobody has made anything in.
    const { database, entries, excluded } = (await source.isBare())
      ? { database: await source.database(), entries: [], excluded: undefined }
      : await source.describe({ kind: 'database' });
    objects.push(...(await describeObjects(source, { database, entries, tables: [], excluded })));
  }
  return objects;
}
