/** May this user back up, or restore into, these databases and tables? The one place that decides it, for every statement. */
import { InputError } from '../../base/index.ts';
import type { BackupTargets, RestoreTargets } from '../../sql/index.ts';
import { CARRIED, IS_TENANTS_SCHEMA, RELATION_KINDS } from './object-carriers.ts';
import { type Asker, holdsPrivilege, requirePrivilege } from './privileges.ts';
import { ensurePrivilegeStore } from './privilege-store.ts';
import { mayConnect, requireDatabases, resolveTables, type TableTarget } from './privilege-targets.ts';

/**
 * Who may back up: holders of BACKUP on each target; or, as in the legacy model, those who can read all of it anyway. An admin may back up of
 * the past what is there no more; others would have to be asked for privileges that are gone with it.
 */
export async function requireBackupPrivilege(
  asker: Asker,
  options: { targets: BackupTargets; currentDatabase: string; isOfPast?: boolean },
): Promise<void> {
  const { targets, currentDatabase, isOfPast = false } = options;
  switch (targets.kind) {
    case 'virtual_cluster':
      return requirePrivilege(asker, {
        anyOf: ['BACKUP'],
        refusal:
          'only users with the admin role or the BACKUP system privilege are allowed to perform full cluster backups',
        hint: 'an admin can GRANT SYSTEM BACKUP',
      });
    case 'databases': {
      const isAdmin = await holdsPrivilege(asker, []);
      if (!isAdmin || !isOfPast) await requireDatabases(asker, targets.names);
      if (isAdmin) return;
      for (const database of targets.names) await requireDatabaseBackup(asker, database);
      return;
    }
    case 'tables': {
      const resolved = await resolveTables(asker, { current: currentDatabase, patterns: targets.patterns });
      const isAdmin = await holdsPrivilege(asker, []);
      if (!isAdmin || !isOfPast) await requireDatabases(asker, [resolved.database]);
      if (isAdmin) return;
      for (const table of resolved.tables) {
        await requireTableBackup(asker, { database: resolved.database, table });
      }
    }
  }
}

/** Who may restore: SYSTEM RESTORE for everything and for databases, RESTORE on the database that tables go into. */
export async function requireRestorePrivilege(
  asker: Asker,
  options: { targets: RestoreTargets; intoDatabase: string },
): Promise<void> {
  const { targets, intoDatabase } = options;
  switch (targets.kind) {
    case 'virtual_cluster':
      return requirePrivilege(asker, {
        anyOf: ['RESTORE'],
        refusal:
          'only users with the admin role or the RESTORE system privilege are allowed to perform a cluster restore',
        hint: 'an admin can GRANT SYSTEM RESTORE',
      });
    case 'system_users':
      return requirePrivilege(asker, {
        refusal: 'only users with the admin role are allowed to restore users',
      });
    case 'databases':
      if (await holdsPrivilege(asker, ['RESTORE'])) return;
      if (await mayCreateDatabases(asker)) return;
      throw refusal(asker, 'the RESTORE system privilege', 'an admin can GRANT SYSTEM RESTORE');
    case 'tables':
      return requireTableRestore(asker, intoDatabase);
  }
}

/** Of a database: granted to the user, a role of the user's, or everybody. Needs `me` and `d`. */
function grantedOnDatabase(privilege: 'BACKUP' | 'RESTORE'): string {
  return `exists (select from pg_atoll.database_privileges p where p.database = d.oid and p.privilege = '${privilege}'
    and (p.grantee = 0 or exists (select from pg_catalog.pg_roles g
      where g.oid = p.grantee and pg_catalog.pg_has_role(me.oid, g.oid, 'MEMBER'))))`;
}

const ME_HERE = `from pg_catalog.pg_roles me, pg_catalog.pg_database d
  where me.rolname = $1 and d.datname = pg_catalog.current_database()`;

/** Every schema that has something, everything in it, and every type, can be read by \`me\`; and there is something to read. */
const READS_ALL = `exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ${RELATION_KINDS} and ${IS_TENANTS_SCHEMA})
    and not exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ${RELATION_KINDS} and ${IS_TENANTS_SCHEMA} and not (
        pg_catalog.has_schema_privilege(me.oid, n.oid, 'USAGE') and pg_catalog.has_table_privilege(me.oid, c.oid, 'SELECT')))
    and not exists (select from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
      where ${IS_TENANTS_SCHEMA} and not pg_catalog.has_type_privilege(me.oid, t.oid, 'USAGE'))`;

async function requireDatabaseBackup(asker: Asker, database: string): Promise<void> {
  await ensurePrivilegeStore(asker, database);
  const [row] = await readIn(asker, {
    database,
    sql: `select (pg_catalog.pg_has_role(me.oid, d.datdba, 'MEMBER') or ${grantedOnDatabase('BACKUP')}
        or (pg_catalog.has_database_privilege(me.oid, d.oid, 'CONNECT') and ${READS_ALL}))::text as may ${ME_HERE}`,
    parameters: [asker.user],
  });
  if (row?.['may'] === 'true') return;
  throw refusal(
    asker,
    `BACKUP privilege on database ${database}`,
    `the owner of the database or an admin can GRANT BACKUP ON DATABASE ${database}`,
  );
}

/** `object`: a pattern without a name stands for all it matches, each of which is asked for. */
async function requireTableBackup(
  asker: Asker,
  options: { database: string; table: TableTarget },
): Promise<void> {
  const { database, table } = options;
  const rows = await readIn(asker, {
    database,
    sql: `select pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
        (pg_catalog.pg_has_role(me.oid, c.relowner, 'MEMBER')
          or exists (select from ${CARRIED} w where w.grantee = 0 or pg_catalog.pg_has_role(me.oid, w.grantee, 'MEMBER'))
          or (pg_catalog.has_schema_privilege(me.oid, n.oid, 'USAGE')
            and pg_catalog.has_table_privilege(me.oid, c.oid, 'SELECT')
            and not exists (select from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0
              and not a.attisdropped and not pg_catalog.has_type_privilege(me.oid, a.atttypid, 'USAGE'))))::text as may
      from pg_catalog.pg_roles me, pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where me.rolname = $1 and c.relkind in ${RELATION_KINDS} and ${IS_TENANTS_SCHEMA}
        and ($2::text is null or n.nspname = $2) and ($3::text is null or c.relname = $3)
      order by 1`,
    parameters: [
      asker.user,
      table.schema ?? (table.name === undefined ? null : 'public'),
      table.name ?? null,
    ],
  });
  const refused = rows.find(({ may }) => may !== 'true');
  if (refused === undefined && (rows.length > 0 || table.name === undefined)) return;
  if (!(await mayConnect(asker, database))) {
    throw refusal(
      asker,
      `BACKUP privilege on what is named of database ${database}`,
      'the owners of the tables can GRANT BACKUP ON TABLE',
    );
  }
  if (refused === undefined) {
    throw new InputError('table_not_found', `relation "${table.name}" does not exist`);
  }
  throw refusal(
    asker,
    `BACKUP privilege on relation ${refused['name']}`,
    `the owner of the table can GRANT BACKUP ON TABLE ${refused['name']}`,
  );
}

async function requireTableRestore(asker: Asker, database: string): Promise<void> {
  await requireDatabases(asker, [database]);
  if (await holdsPrivilege(asker, [])) return;
  await ensurePrivilegeStore(asker, database);
  const [row] = await readIn(asker, {
    database,
    sql: `select (pg_catalog.pg_has_role(me.oid, d.datdba, 'MEMBER') or ${grantedOnDatabase('RESTORE')}
        or pg_catalog.has_database_privilege(me.oid, d.oid, 'CREATE'))::text as may ${ME_HERE}`,
    parameters: [asker.user],
  });
  if (row?.['may'] === 'true') return;
  throw refusal(
    asker,
    `RESTORE privilege on database ${database}`,
    `the owner of the database or an admin can GRANT RESTORE ON DATABASE ${database}`,
  );
}

async function mayCreateDatabases(asker: Asker): Promise<boolean> {
  const rows = await asker.instance.withSystemClient(
    (client) =>
      client.query('select from pg_catalog.pg_roles where rolname = $1 and rolcreatedb', [asker.user]),
    asker,
  );
  return rows.length > 0;
}

async function readIn(
  asker: Asker,
  options: { database: string; sql: string; parameters: readonly (string | null)[] },
) {
  const { database, sql, parameters } = options;
  return asker.instance.withReaderClient({ database, signal: asker.signal }, (client) =>
    client.query(sql, parameters),
  );
}

function refusal(asker: Asker, missing: string, hint: string): InputError {
  return new InputError('insufficient_privilege', `user ${asker.user} does not have ${missing}`, { hint });
}
