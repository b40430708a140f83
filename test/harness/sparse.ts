import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Instance } from '../../src/instance/index.ts';
import { withTenant } from './instance-store.ts';

/** Files of a relation are so long before the next one begins. */
const GIB = 2 ** 30;

/** Makes a table of so many gibibytes of pages that were never written to, which take no room on disk. */
export async function growSparsely(instance: Instance, { gibibytes }: { gibibytes: number }): Promise<void> {
  const path = await withTenant(instance, { user: 'root', database: 'defaultdb' }, async (client) => {
    await client.query('CREATE TABLE vast (id int)');
    await client.query('INSERT INTO vast VALUES (1)');
    await client.query('CHECKPOINT');
    const { rows } = await client.query<{ path: string }>(`SELECT pg_relation_filepath('vast') AS path`);
    return join(instance.dataDirectory, String(rows[0]?.path));
  });
  for (let segment = 0; segment < gibibytes; segment++) {
    await using file = await open(segment === 0 ? path : `${path}.${segment}`, 'a', 0o600);
    await file.truncate(GIB);
  }
}
