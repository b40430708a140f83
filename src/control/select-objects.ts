/** What BACKUP DATABASE and BACKUP TABLE mean: databases by name, tables by schema and name, decided before the job begins. */
import { InputError } from '../base/index.ts';
import type { BackupTargets } from '../sql/index.ts';
import type { LogicalSelection } from '../timeline/index.ts';
import type { Asker } from './privileges.ts';
import { requireDatabases, resolveTables } from './privilege-targets.ts';

/** Atoll's own, and those that databases are made of: of no tenant. */
const NOT_TENANTS: readonly string[] = ['system', 'template0', 'template1'];

/** Null for the whole virtual cluster. @throws InputError `database_not_found`, `parameter_invalid`, `feature_not_supported` */
export async function selectObjects(
  asker: Asker,
  { targets, currentDatabase }: { targets: BackupTargets; currentDatabase: string },
): Promise<LogicalSelection | null> {
  switch (targets.kind) {
    case 'virtual_cluster':
      return null;
    case 'databases': {
      const names = [...new Set(targets.names)];
      await requireDatabases(asker, names);
      names.forEach(requireTenants);
      return { kind: 'databases', names };
    }
    case 'tables': {
      const { patterns } = targets;
      const { database, tables } = await resolveTables(asker, { current: currentDatabase, patterns });
      await requireDatabases(asker, [database]);
      requireTenants(database);
      return {
        kind: 'tables',
        database,
        patterns: tables.map(({ schema, name }) => ({
          schema: schema ?? (name === undefined ? null : 'public'),
          name: name ?? null,
        })),
      };
    }
  }
}

function requireTenants(database: string): void {
  if (!NOT_TENANTS.includes(database)) return;
  throw new InputError('parameter_invalid', `database "${database}" belongs to the virtual cluster itself`, {
    hint: 'it is part of a backup of the whole virtual cluster: BACKUP INTO ...',
  });
}
