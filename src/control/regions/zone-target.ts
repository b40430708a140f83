/** What a zone is of: found by name, for who may change it or see it. */
import { InputError } from '../../base/index.ts';
import { DEFAULT_ZONE, type ZoneKey } from '../../catalog/index.ts';
import { printZoneTarget, type TablePattern, type ZoneTarget } from '../../sql/index.ts';
import { ADMIN_ROLE, type Asker } from '../privileges/privileges.ts';
import { mayConnect, resolveTables } from '../privileges/privilege-targets.ts';
import { notAvailable } from '../values.ts';

export interface FoundTarget {
  readonly key: ZoneKey;
  /** What it lies in, the nearest first, down to range default. */
  readonly parents: readonly { readonly key: ZoneKey; readonly name: string }[];
  /** As statements name it. */
  readonly name: string;
  /** Of `admin`, or of the role that owns it. Range `default` belongs to nobody. */
  readonly isOwn: boolean;
}

const RANGE_DEFAULT = { key: DEFAULT_ZONE, name: 'RANGE default' } as const;

/** Databases that belong to no tenant. */
const NOT_TENANTS: readonly string[] = ['system', 'template0', 'template1'];

/**
 * Whoever may connect to a database may know what is in it.
 * @throws InputError `feature_not_supported`, `database_not_found`, `table_not_found`, `insufficient_privilege`
 */
export async function findTarget(
  asker: Asker,
  { target, current }: { readonly target: ZoneTarget; readonly current: string },
): Promise<FoundTarget> {
  switch (target.kind) {
    case 'range':
      if (target.name !== 'default') {
        throw notAvailable(`a zone of range "${target.name}"`, 'configure that of RANGE default');
      }
      return { ...RANGE_DEFAULT, parents: [], isOwn: false };
    case 'database':
      return findDatabase(asker, target.name);
    case 'table':
      return findTable(asker, { table: target.table, current });
  }
}

/** @throws InputError `database_not_found`, `insufficient_privilege` */
export async function requireDatabaseOwner(asker: Asker, database: string): Promise<void> {
  const { isOwn } = await findDatabase(asker, database);
  if (!isOwn) throw notOwner(`database ${database}`);
}

/** @throws InputError `insufficient_privilege` */
export function notOwner(what: string): InputError {
  return new InputError('insufficient_privilege', `must be owner of ${what} or have the admin role`);
}

async function findDatabase(asker: Asker, database: string): Promise<FoundTarget> {
  const [row] = await asker.instance.withSystemClient(
    (client) =>
      client.query(
        `select d.oid, (exists (select from pg_catalog.pg_roles u, pg_catalog.pg_roles a where u.rolname = $2 and a.rolname = $3
            and (pg_catalog.pg_has_role(u.oid, d.datdba, 'MEMBER') or pg_catalog.pg_has_role(u.oid, a.oid, 'MEMBER'))))::text as own
          from pg_catalog.pg_database d where d.datname = $1 and d.datconnlimit <> -2`,
        [database, asker.user, ADMIN_ROLE],
      ),
    asker,
  );
  if (row === undefined || NOT_TENANTS.includes(database)) {
    throw new InputError('database_not_found', `database "${database}" does not exist`);
  }
  const isOwn = row['own'] === 'true';
  if (!isOwn && !(await mayConnect(asker, database))) throw notOwner(`database ${database}`);
  const name = printZoneTarget({ kind: 'database', name: database });
  const key = { databaseOid: row['oid'] ?? '0', relationOid: '0' };
  return { key, parents: [RANGE_DEFAULT], name, isOwn };
}

/** A table, partitioned or not, or a materialized view: what has rows of its own. */
async function findTable(
  asker: Asker,
  { table, current }: { readonly table: TablePattern; readonly current: string },
): Promise<FoundTarget> {
  const { database, tables } = await resolveTables(asker, { current, patterns: [table] });
  const parent = await findDatabase(asker, database);
  const { schema = 'public', name = '' } = tables[0] ?? {};
  const [row] = await asker.instance.withReaderClient({ database, signal: asker.signal }, (client) =>
    client.query(
      `select c.oid, coalesce((select pg_catalog.pg_has_role(u.oid, c.relowner, 'MEMBER') from pg_catalog.pg_roles u
          where u.rolname = $3), false)::text as own
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't'`,
      [schema, name, asker.user],
    ),
  );
  if (row === undefined) {
    throw new InputError('table_not_found', `relation "${schema}.${name}" does not exist`);
  }
  return {
    key: { databaseOid: parent.key.databaseOid, relationOid: row['oid'] ?? '0' },
    parents: [{ key: parent.key, name: parent.name }, ...parent.parents],
    name: printZoneTarget({ kind: 'table', table: { qualifiers: [database, schema], name } }),
    isOwn: parent.isOwn || row['own'] === 'true',
  };
}
