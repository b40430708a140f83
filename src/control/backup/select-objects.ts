/** What BACKUP DATABASE and BACKUP TABLE mean: databases by name, tables by schema and name, decided before the job begins. */
import type { BackupTargets } from '../../sql/index.ts';
import type { LogicalSelection } from '../../timeline/index.ts';
import type { Asker } from '../privileges/privileges.ts';
import { requireSchemas, requireTables } from './present-tables.ts';
import { requireDatabases, resolveTables } from '../privileges/privilege-targets.ts';
import { requireTenantsDatabase } from '../privileges/tenants-database.ts';

/**
 * Null for the whole virtual cluster. What is asked for of the past may be there no more: then the job looks for it, in the past.
 * @throws InputError `database_not_found`, `table_not_found`, `parameter_invalid`, `feature_not_supported`
 */
export async function selectObjects(
  asker: Asker,
  options: {
    readonly targets: BackupTargets;
    readonly currentDatabase: string;
    readonly isOfPresent: boolean;
  },
): Promise<LogicalSelection | null> {
  const { targets, currentDatabase, isOfPresent } = options;
  switch (targets.kind) {
    case 'virtual_cluster':
      return null;
    case 'databases': {
      const names = [...new Set(targets.names)];
      if (isOfPresent) await requireDatabases(asker, names);
      names.forEach(requireTenants);
      return { kind: 'databases', names };
    }
    case 'tables': {
      const { database, tables } = await resolveTables(asker, {
        current: currentDatabase,
        patterns: targets.patterns,
      });
      if (isOfPresent) await requireDatabases(asker, [database]);
      requireTenants(database);
      const patterns = tables.map(({ schema, name }) => ({
        schema: schema ?? (name === undefined ? null : 'public'),
        name: name ?? null,
      }));
      const named = patterns.flatMap(({ schema, name }) =>
        schema === null || name === null ? [] : [{ schema, name }],
      );
      const schemas = tables.flatMap(({ schema, name }) =>
        schema === undefined || name !== undefined ? [] : [schema],
      );
      if (isOfPresent) {
        await requireSchemas(asker, { database, schemas });
        await requireTables(asker, { database, tables: named });
      }
      return { kind: 'tables', database, patterns };
    }
  }
}

function requireTenants(database: string): void {
  requireTenantsDatabase(database, {
    hint: 'it is part of a backup of the whole virtual cluster: BACKUP INTO ...',
  });
}
