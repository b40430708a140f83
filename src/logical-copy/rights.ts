/** Who may do what with the objects of a database, as statements. */
import { type CopySession, column } from './session.ts';

export interface Rights {
  readonly owner: string;
  /** `GRANT ... ON ... TO ...; ...`, without what owners hold anyway, and what we hold for the time of a copy. */
  readonly privileges: string;
}

/** Roles that are made for one copy, and taken away after it: no tenant grants them anything. */
const OURS = '^atoll_(copy|check|reader)_[0-9a-f_]+$';

export async function readRights(session: CopySession): Promise<ReadonlyMap<string, Rights>> {
  const rows = await session.query(
    `select o.kind || ' ' || o.identity as key, pg_get_userbyid(o.owner) as owner, coalesce((
        select string_agg(format('GRANT %s ON %s %s TO %s;', x.privileges, upper(o.said), o.identity, x.grantee), ' ' order by x.grantee)
          from (select string_agg(a.privilege_type, ', ' order by a.privilege_type) as privileges,
              case a.grantee when 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee
            from aclexplode(o.acl) a where a.grantee <> o.owner and (a.grantee = 0 or pg_get_userbyid(a.grantee) !~ $1)
            group by a.grantee) x), '') as privileges
      from (select 'relation' as kind, case c.relkind when 'S' then 'sequence' else 'table' end as said,
            (pg_identify_object('pg_class'::regclass, c.oid, 0)).identity, c.relowner as owner, c.relacl as acl
          from pg_class c where c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
        union all select 'schema', 'schema', (pg_identify_object('pg_namespace'::regclass, n.oid, 0)).identity, n.nspowner, n.nspacl
          from pg_namespace n where n.nspname not like 'pg\\_%'
        union all select 'type', 'type', (pg_identify_object('pg_type'::regclass, t.oid, 0)).identity, t.typowner, t.typacl
          from pg_type t where t.oid >= 16384 and t.typtype in ('e', 'c', 'd', 'r')
        union all select 'database', 'database', d.datname, d.datdba, d.datacl
          from pg_database d where d.datname = current_database()) o`,
    [OURS],
  );
  return new Map(
    rows.map((row) => [
      column(row, 'key'),
      { owner: column(row, 'owner'), privileges: column(row, 'privileges') },
    ]),
  );
}
