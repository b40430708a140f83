/**
 * The roles that Atoll's own privileges hang on. Who may grant a role may rename and drop it too, so an administrator of a
 * virtual cluster can take them away, from everybody and from himself; they are put right before clients are let in.
 */
import {
  AUTHORITY_ROLES,
  OBSERVER_PRIVILEGES,
  SYSTEM_PRIVILEGE_ROLES,
  type SqlClient,
  inTransaction,
  textOf,
} from '../../catalog/index.ts';
import { ADMIN_ROLE } from './privileges.ts';

const MARKER_ROLES: readonly string[] = Object.values(SYSTEM_PRIVILEGE_ROLES);

/** One of our roles: what was recorded of it, and what is there now. */
interface Found {
  readonly name: string;
  readonly recordedOid: string | null;
  /** What the recorded role is called now; null when it is gone. */
  readonly calledNow: string | null;
  /** Who has the name now. */
  readonly holderOid: string | null;
}

/** Gives what was put right, a sentence each, for the log. Changes nothing where nothing is wrong. May run twice. */
export async function healRoles(client: SqlClient): Promise<readonly string[]> {
  // No migration: this only remembers what can be found out again, and is made wherever it is missing.
  await client.query('create table if not exists public.own_roles (name text primary key, oid oid not null)');
  return inTransaction(client, async () => {
    const changes: string[] = [];
    for (const found of await findRoles(client)) {
      const change = await healRole(client, found);
      if (change !== undefined) changes.push(change);
    }
    return [...changes, ...(await healMarkerGrants(client))];
  });
}

async function findRoles(client: SqlClient): Promise<readonly Found[]> {
  const rows = await client.query(
    `select wanted.name, recorded.oid::text as recorded_oid, known.rolname as called_now, holder.oid::text as holder_oid
       from pg_catalog.unnest(pg_catalog.string_to_array($1, ',')) as wanted(name)
       left join public.own_roles recorded using (name)
       left join pg_catalog.pg_roles known on known.oid = recorded.oid
       left join pg_catalog.pg_roles holder on holder.rolname = wanted.name`,
    [[ADMIN_ROLE, ...MARKER_ROLES].join(',')],
  );
  return rows.map((row) => ({
    name: textOf(row, 'name'),
    recordedOid: row['recorded_oid'] ?? null,
    calledNow: row['called_now'] ?? null,
    holderOid: row['holder_oid'] ?? null,
  }));
}

/** A role is known by its OID; the first time, by its name. */
async function healRole(client: SqlClient, found: Found): Promise<string | undefined> {
  const { name, recordedOid, calledNow, holderOid } = found;
  if (calledNow === name) return undefined;
  if (recordedOid === null && holderOid !== null) {
    await record(client, name);
    return undefined;
  }
  const aside = holderOid === null ? '' : `, and the role that had its name is now ${moved(found)}`;
  if (holderOid !== null) await rename(client, { from: name, to: moved(found) });
  if (calledNow !== null) {
    await rename(client, { from: calledNow, to: name });
    return `role ${name} had been renamed to ${calledNow} and has its name again${aside}`;
  }
  // Never `admin`: it has privileges in databases that no tenant enters, so nobody can drop it.
  await client.query(`create role ${name} nologin`);
  if (OBSERVER_PRIVILEGES.some((privilege) => SYSTEM_PRIVILEGE_ROLES[privilege] === name)) {
    await client.query(`grant ${name} to ${AUTHORITY_ROLES.observer}`);
  }
  await record(client, name);
  return recordedOid === null && aside === ''
    ? undefined
    : `role ${name} was missing and is made anew${aside}`;
}

function moved({ name, holderOid }: Found): string {
  return `${name}_${holderOid}`;
}

async function record(client: SqlClient, name: string): Promise<void> {
  await client.query(
    `insert into public.own_roles select rolname, oid from pg_catalog.pg_roles where rolname = $1
      on conflict (name) do update set oid = excluded.oid`,
    [name],
  );
}

async function rename(client: SqlClient, names: { from: string; to: string }): Promise<void> {
  const [row] = await client.query(
    'select pg_catalog.quote_ident($1) as "from", pg_catalog.quote_ident($2) as "to"',
    [names.from, names.to],
  );
  if (row !== undefined)
    await client.query(`alter role ${textOf(row, 'from')} rename to ${textOf(row, 'to')}`);
}

/** Admins pass system privileges on without holding what they stand for. */
async function healMarkerGrants(client: SqlClient): Promise<string[]> {
  const rows = await client.query(
    `select marker.rolname as name from pg_catalog.pg_roles marker
      where marker.rolname = any (pg_catalog.string_to_array($1, ','))
        and not exists (select from pg_catalog.pg_auth_members m join pg_catalog.pg_roles a on a.oid = m.member
                         where m.roleid = marker.oid and a.rolname = '${ADMIN_ROLE}' and m.admin_option)`,
    [MARKER_ROLES.join(',')],
  );
  const names = rows.map((row) => textOf(row, 'name'));
  for (const name of names) {
    await client.query(`grant ${name} to ${ADMIN_ROLE} with admin option, inherit false, set false`);
  }
  return names.map((name) => `members of ${ADMIN_ROLE} can grant ${name} again`);
}
