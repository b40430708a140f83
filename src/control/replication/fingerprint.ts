/**
 * One number for everything that a virtual cluster holds: the same wherever the same is held, whatever its name, its place on the disk, or the order
 * of its rows. What it covers is listed in docs/operations/replication.md.
 */
import { createHash } from 'node:crypto';
import type { InternalClient, ScratchCopy } from '../../instance/index.ts';

/** A part of the whole, by a name that is found at both sides, and a digest of its content. */
type Part = readonly [name: string, digest: string];

const ROLES = `select rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit,
    rolpassword, rolvaliduntil::text, (select pg_catalog.string_agg(s.setconfig::text, ',' order by d.datname)
      from pg_catalog.pg_db_role_setting s left join pg_catalog.pg_database d on d.oid = s.setdatabase where s.setrole = a.oid) as settings,
    (select pg_catalog.string_agg(pg_catalog.concat_ws('/', g.rolname, m.admin_option, m.inherit_option, m.set_option), ',' order by g.rolname)
      from pg_catalog.pg_auth_members m join pg_catalog.pg_roles g on g.oid = m.roleid where m.member = a.oid) as memberships
  from pg_catalog.pg_authid a where rolname !~ '^atoll_(check|reader)_' `;

/** Each gives a name and a text; together they say what the objects of a database are. System objects are Postgres's own. */
const DEFINITIONS: Readonly<Record<string, string>> = {
  schema: `select n.nspname, pg_catalog.concat_ws('|', pg_catalog.pg_get_userbyid(n.nspowner), n.nspacl)
    from pg_catalog.pg_namespace n where n.nspname !~ '^pg_(toast|temp)'`,
  relation: `select c.oid::pg_catalog.regclass::text, pg_catalog.concat_ws('|', c.relkind, c.relpersistence, pg_catalog.pg_get_userbyid(c.relowner), c.relacl,
      c.reloptions, c.relrowsecurity, c.relforcerowsecurity, pg_catalog.pg_get_partkeydef(c.oid),
      case when c.relispartition then pg_catalog.pg_get_expr(c.relpartbound, c.oid) end,
      (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
          a.attgenerated, a.attacl, pg_catalog.pg_get_expr(d.adbin, d.adrelid)), ',' order by a.attnum)
        from pg_catalog.pg_attribute a left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped))
    from pg_catalog.pg_class c where c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'c')`,
  view: `select c.oid::pg_catalog.regclass::text, pg_catalog.pg_get_viewdef(c.oid) from pg_catalog.pg_class c
    where c.oid >= 16384 and c.relkind in ('v', 'm')`,
  index: `select i.indexrelid::pg_catalog.regclass::text, pg_catalog.concat_ws('|', pg_catalog.pg_get_indexdef(i.indexrelid), i.indisvalid)
    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indrelid where i.indexrelid >= 16384 and c.relkind <> 't'`,
  constraint: `select pg_catalog.concat_ws('.', n.nspname, c.conrelid::pg_catalog.regclass, c.contypid::pg_catalog.regtype, c.conname),
      pg_catalog.pg_get_constraintdef(c.oid)
    from pg_catalog.pg_constraint c join pg_catalog.pg_namespace n on n.oid = c.connamespace where c.oid >= 16384`,
  trigger: `select pg_catalog.concat_ws('.', t.tgrelid::pg_catalog.regclass, t.tgname),
      pg_catalog.concat_ws('|', t.tgenabled, pg_catalog.pg_get_triggerdef(t.oid))
    from pg_catalog.pg_trigger t where t.oid >= 16384 and not t.tgisinternal`,
  routine: `select p.oid::pg_catalog.regprocedure::text, pg_catalog.concat_ws('|', pg_catalog.pg_get_userbyid(p.proowner), p.proacl, l.lanname, p.prokind,
      p.prosecdef, p.provolatile, p.proconfig, p.probin, p.prosrc, p.prosqlbody)
    from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang where p.oid >= 16384`,
  policy: `select pg_catalog.concat_ws('.', p.polrelid::pg_catalog.regclass, p.polname), pg_catalog.concat_ws('|', p.polcmd, p.polpermissive, p.polroles,
      pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
    from pg_catalog.pg_policy p`,
  type: `select t.oid::pg_catalog.regtype::text, pg_catalog.concat_ws('|', t.typtype, t.typacl, t.typdefault, t.typnotnull,
      pg_catalog.format_type(t.typbasetype, t.typtypmod),
      (select pg_catalog.string_agg(e.enumlabel, ',' order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid))
    from pg_catalog.pg_type t where t.oid >= 16384 and t.typtype in ('b', 'd', 'e', 'r', 'm')`,
  extension: 'select extname::text, extversion from pg_catalog.pg_extension',
};

/** Tables and materialized views, with all of their partitions; a text in which they can be named. */
const RELATIONS = `select c.oid::pg_catalog.regclass::text as name, c.relkind::text as kind from pg_catalog.pg_class c
  where c.oid >= 16384 and c.relkind in ('r', 'm', 'S') and c.relpersistence = 'p' and (c.relkind <> 'm' or c.relispopulated)
  order by 1`;

const LARGE_OBJECTS = `select pg_catalog.count(*)::text as count,
    pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws('/', loid, pageno, pg_catalog.encode(data, 'hex')), 0)::numeric)::text as sum
  from pg_catalog.pg_largeobject`;

/** Templates hold nothing of anybody's. */
const TEMPLATES: ReadonlySet<string> = new Set(['template0', 'template1']);

/** 64 bits of SHA-256, signed. Reads every row once, in Postgres; whoever it is read as may read all of them and change nothing. */
export async function fingerprintOf(copy: ScratchCopy, { signal }: { signal: AbortSignal }): Promise<bigint> {
  const parts: Part[] = await textsOf(copy.system, { kind: 'role', sql: ROLES });
  for (const database of copy.databases) {
    if (TEMPLATES.has(database)) continue;
    await copy.rollBackPrepared(database);
    const found = await copy.withReader(database, (client) => partsOf(client, { signal }));
    parts.push(...found.map(([name, digest]): Part => [`${database}\0${name}`, digest]));
  }
  const whole = createHash('sha256');
  const inOrder = parts.map(([name, digest]) => `${name}\0${digest}\n`).toSorted();
  for (const line of inOrder) whole.update(line);
  return whole.digest().readBigInt64BE();
}

async function partsOf(client: InternalClient, { signal }: { signal: AbortSignal }): Promise<Part[]> {
  const parts: Part[] = [['database', '']];
  for (const [kind, sql] of Object.entries(DEFINITIONS))
    parts.push(...(await textsOf(client, { kind, sql })));
  for (const { name = '', kind } of await client.query(RELATIONS)) {
    signal.throwIfAborted();
    parts.push([`rows of ${name}`, kind === 'S' ? await sequence(client, name) : await rows(client, name)]);
  }
  const [objects] = await client.query(LARGE_OBJECTS);
  parts.push(['large objects', `${objects?.['count']}/${objects?.['sum']}`]);
  return parts;
}

async function textsOf(
  client: InternalClient,
  { kind, sql }: { kind: string; sql: string },
): Promise<Part[]> {
  const found = await client.query(sql);
  return found.map((row) => {
    const [name, ...values] = Object.values(row);
    return [`${kind} ${name}`, JSON.stringify(values)];
  });
}

/** A sum does not tell in which order rows lie; a row that is there twice counts twice. `name` is quoted. */
async function rows(client: InternalClient, name: string | null): Promise<string> {
  const [row] = await client.query(
    `select pg_catalog.count(*)::text as count, pg_catalog.sum(pg_catalog.hashtextextended(t::text, 0)::numeric)::text as sum from only ${name} t`,
  );
  return `${row?.['count']}/${row?.['sum']}`;
}

async function sequence(client: InternalClient, name: string | null): Promise<string> {
  const [row] = await client.query(`select last_value::text || '/' || is_called as state from ${name}`);
  return row?.['state'] ?? '';
}
