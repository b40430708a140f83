/** The schema `pg_atoll` of each database: databases are born with it, but one may come from elsewhere. */
import type { Asker } from './privileges.ts';

/** Sees to it that the database can keep privileges of ours. */
export async function ensurePrivilegeStore(asker: Asker, database: string): Promise<void> {
  const { instance, signal } = asker;
  const [row] = await instance.withReaderClient({ database, signal }, (client) =>
    client.query("select pg_catalog.to_regnamespace('pg_atoll') is not null as is_there"),
  );
  if (row?.['is_there'] !== 't') await instance.installPrivilegeStore({ database, signal });
}
