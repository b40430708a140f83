/** SHOW GRANTS [ON ...] [FOR ...]: Postgres's privileges and ours in one list. */
import { InputError } from '../../base/index.ts';
import type { PrivilegeObject, RoleReference, Statement } from '../../sql/index.ts';
import { requireConnection } from '../connections/connection-access.ts';
import type { Cell, Column, ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { CARRIED, CARRIER_COLUMN, IS_TENANTS_SCHEMA, RELATION_KINDS } from './object-carriers.ts';
import type { Asker } from './privileges.ts';
import { ensurePrivilegeStore } from './privilege-store.ts';
import { mayConnect, requireDatabases, resolveTables, type TableTarget } from './privilege-targets.ts';
import { requireRoles, roleNames } from './role-lookup.ts';
import { type UseCase, askerOf, columnsOf, rowsResult } from '../use-case.ts';

type ShowGrants = Extract<Statement, { kind: 'show_grants' }>;
type Row = Readonly<Record<string, string | null>>;

const WHO = { grantee: 'text', privilege_type: 'text', is_grantable: 'bool' } as const;
const COLUMNS = {
  databases: columnsOf({ database_name: 'text', ...WHO }),
  tables: columnsOf({ database_name: 'text', schema_name: 'text', table_name: 'text', ...WHO }),
  external_connections: columnsOf({ connection_name: 'text', ...WHO }),
  all: columnsOf({
    database_name: 'text',
    schema_name: 'text',
    object_name: 'text',
    object_type: 'text',
    ...WHO,
  }),
};

export const showGrants: UseCase<ShowGrants> = {
  columns: ({ object }) => columnsOfObject(object),
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const { object, grantees } = statement;
    const asker = askerOf(core, context);
    await requireRoles(asker, grantees);
    const columns = columnsOfObject(object);
    const rows = await readRows(core, object, context);
    const shown = rows.filter(isOf(grantees, context.session.user));
    return rowsResult(
      columns,
      shown.map((row) => columns.map(({ name }): Cell => row[name] ?? null)),
    );
  },
};

function columnsOfObject(object: PrivilegeObject | undefined): readonly Column[] {
  switch (object?.kind) {
    case undefined:
      return COLUMNS.all;
    case 'databases':
      return COLUMNS.databases;
    case 'external_connections':
      return COLUMNS.external_connections;
    case 'tables':
    case 'tables_in_schemas':
      return COLUMNS.tables;
  }
}

function isOf(grantees: readonly RoleReference[], user: string): (row: Row) => boolean {
  const names = roleNames(grantees, user);
  return names === undefined ? () => true : ({ grantee }) => names.includes(grantee ?? '');
}

async function readRows(
  core: Core,
  object: PrivilegeObject | undefined,
  context: ExecuteContext,
): Promise<readonly Row[]> {
  const asker = askerOf(core, context);
  const current = context.session.database;
  switch (object?.kind) {
    case undefined:
      return [
        ...(await databaseRows(asker, current)),
        ...(await tableRows(asker, { database: current, table: { schema: undefined, name: undefined } })),
      ];
    case 'databases': {
      await requireDatabases(asker, object.names);
      const rows: Row[] = [];
      for (const name of object.names) rows.push(...(await databaseRows(asker, name)));
      return rows;
    }
    case 'tables': {
      const { database, tables } = await resolveTables(asker, { current, patterns: object.patterns });
      await requireDatabases(asker, [database]);
      return rowsOfTables(asker, { database, tables });
    }
    case 'tables_in_schemas':
      return rowsOfTables(asker, {
        database: current,
        tables: object.names.map((schema) => ({ schema, name: undefined })),
      });
    case 'external_connections': {
      const rows: Row[] = [];
      for (const name of object.names) rows.push(...(await connectionRows(asker, name)));
      return rows;
    }
  }
}

async function rowsOfTables(
  asker: Asker,
  options: { database: string; tables: readonly TableTarget[] },
): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const table of options.tables) {
    rows.push(...(await tableRows(asker, { database: options.database, table })));
  }
  return rows;
}

/** The name of a grantee `g`, whose OID is 0 for everybody. */
const GRANTEE = "case g.grantee when 0 then 'public' else r.rolname end as grantee";
const JOIN_ROLE =
  'left join pg_catalog.pg_roles r on r.oid = g.grantee where (g.grantee = 0 or r.oid is not null)';

async function databaseRows(asker: Asker, database: string): Promise<readonly Row[]> {
  await ensurePrivilegeStore(asker, database);
  return asker.instance.withReaderClient({ database, signal: asker.signal }, (client) =>
    client.query(
      `select pg_catalog.current_database()::text as database_name, null as schema_name,
          pg_catalog.current_database()::text as object_name, 'database' as object_type, ${GRANTEE}, g.privilege as privilege_type,
          case when g.is_grantable then 't' else 'f' end as is_grantable
        from pg_catalog.pg_database d cross join lateral (
          select x.grantee, x.privilege_type as privilege, x.is_grantable
            from pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) x
          union select p.grantee, p.privilege, p.is_grantable from pg_atoll.database_privileges p where p.database = d.oid
        ) g ${JOIN_ROLE} and d.datname = pg_catalog.current_database() order by grantee, privilege_type, is_grantable`,
    ),
  );
}

async function tableRows(
  asker: Asker,
  options: { database: string; table: TableTarget },
): Promise<readonly Row[]> {
  const { database, table } = options;
  if (!(await mayConnect(asker, database))) {
    throw new InputError('insufficient_privilege', `permission denied for database ${database}`, {
      hint: `GRANT CONNECT ON DATABASE ${database} lets a role see what is in it`,
    });
  }
  return asker.instance.withReaderClient({ database, signal: asker.signal }, (client) =>
    client.query(
      `select pg_catalog.current_database()::text as database_name, n.nspname as schema_name, c.relname as table_name,
          c.relname as object_name, case c.relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end as object_type,
          ${GRANTEE}, g.privilege as privilege_type, case when g.is_grantable then 't' else 'f' end as is_grantable
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        cross join lateral (
          select x.grantee, x.privilege_type as privilege, x.is_grantable from pg_catalog.aclexplode(coalesce(c.relacl,
              pg_catalog.acldefault(case c.relkind when 'S' then 's'::"char" else 'r'::"char" end, c.relowner))) x
          union select w.grantee, 'BACKUP', w.is_grantable from ${CARRIED} w
          union select c.relowner, 'BACKUP', true
          union select x.grantee, pg_catalog.format('%s (%I)', x.privilege_type, a.attname), x.is_grantable
            from pg_catalog.pg_attribute a, lateral pg_catalog.aclexplode(a.attacl) x
            where a.attrelid = c.oid and a.attnum <> ${CARRIER_COLUMN}
        ) g ${JOIN_ROLE} and c.relkind in ${RELATION_KINDS} and ${IS_TENANTS_SCHEMA}
          and ($1::text is null or n.nspname = $1) and ($2::text is null or c.relname = $2)
        order by schema_name, table_name, grantee, privilege_type, is_grantable`,
      [table.schema ?? (table.name === undefined ? null : 'public'), table.name ?? null],
    ),
  );
}

async function connectionRows(asker: Asker, name: string): Promise<readonly Row[]> {
  const { owner } = await requireConnection(asker, name);
  const granted = await asker.instance.withSystemClient(
    (client) =>
      client.query(
        `select g.connection_name, ${GRANTEE}, g.privilege as privilege_type,
            case when g.is_grantable then 't' else 'f' end as is_grantable
          from public.external_connection_privileges g ${JOIN_ROLE} and g.connection_name = $1
          order by grantee, privilege_type`,
        [name],
      ),
    asker,
  );
  return [{ connection_name: name, grantee: owner, privilege_type: 'ALL', is_grantable: 't' }, ...granted];
}
