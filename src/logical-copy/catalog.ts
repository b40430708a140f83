/** What the system catalogs say of objects and of what they depend on, as of the session's snapshot. */
import type { ObjectName } from './contract.ts';
import { column, type CopySession, numberColumn, type SqlRow } from './session.ts';

/** OIDs of system catalogs. */
export const CATALOG = {
  type: 1247,
  routine: 1255,
  relation: 1259,
  rule: 2618,
  trigger: 2620,
  attributeDefault: 2604,
  constraint: 2606,
  namespace: 2615,
  policy: 3256,
  statistics: 3381,
  extension: 3079,
  role: 1260,
} as const;

/** Objects below were made by initdb. */
const FIRST_NORMAL_OID = 16384;

/** An object: `class:oid`. */
export type ObjectKey = `${number}:${number}`;

export function keyOf(classOid: number, oid: number): ObjectKey {
  return `${classOid}:${oid}`;
}

export interface Dependency {
  readonly from: ObjectKey;
  readonly to: ObjectKey;
  /** As in pg_depend: `n` normal, `a` automatic, `i` internal, `P`/`S` partition, `e` extension. */
  readonly kind: string;
}

/** All dependencies among objects that initdb did not make. */
export async function readDependencies(session: CopySession): Promise<readonly Dependency[]> {
  const rows = await session.query(
    `select classid, objid, refclassid, refobjid, min(deptype::text) as kind from pg_depend
      where refobjid >= ${FIRST_NORMAL_OID} and objid >= ${FIRST_NORMAL_OID} group by 1, 2, 3, 4`,
  );
  return rows.map((row) => ({
    from: keyOf(numberColumn(row, 'classid'), numberColumn(row, 'objid')),
    to: keyOf(numberColumn(row, 'refclassid'), numberColumn(row, 'refobjid')),
    kind: column(row, 'kind'),
  }));
}

/** Where the parts of relations belong. */
export interface Homes {
  /** The relation that an object is part of: of an index, a constraint, a default, a trigger, a rule, a policy, statistics. */
  readonly all: ReadonlyMap<ObjectKey, ObjectKey>;
  /** Of those that CREATE TABLE or CREATE VIEW may say itself: defaults, checks, the query of a view. */
  readonly inline: ReadonlyMap<ObjectKey, ObjectKey>;
}

export async function readHomes(session: CopySession): Promise<Homes> {
  const rows = await session.query(
    `select ${CATALOG.relation} as class, indexrelid as oid, indrelid as home, false as inline from pg_index
      union all select ${CATALOG.constraint}, oid, conrelid, contype in ('c', 'n') from pg_constraint where conrelid <> 0
      union all select ${CATALOG.attributeDefault}, oid, adrelid, true from pg_attrdef
      union all select ${CATALOG.trigger}, oid, tgrelid, false from pg_trigger
      union all select ${CATALOG.rule}, oid, ev_class, true from pg_rewrite
      union all select ${CATALOG.policy}, oid, polrelid, false from pg_policy
      union all select ${CATALOG.statistics}, oid, stxrelid, false from pg_statistic_ext`,
  );
  const pairOf = (row: SqlRow) =>
    [
      keyOf(numberColumn(row, 'class'), numberColumn(row, 'oid')),
      keyOf(CATALOG.relation, numberColumn(row, 'home')),
    ] as const;
  return {
    all: new Map(rows.map(pairOf)),
    inline: new Map(rows.filter((row) => row['inline'] === 't').map(pairOf)),
  };
}

/** What keys and exclusions say of how their columns are compared: of that only their indexes know. By constraint. */
export async function readComparisons(session: CopySession): Promise<readonly Dependency[]> {
  const rows = await session.query(
    `select k.oid, d.refclassid, d.refobjid from pg_constraint k
        join pg_depend d on d.classid = ${CATALOG.relation} and d.objid = k.conindid
      where k.contype in ('p', 'u', 'x') and d.refobjid >= ${FIRST_NORMAL_OID}
        and d.refclassid in ('pg_opclass'::regclass, 'pg_collation'::regclass, ${CATALOG.routine})`,
  );
  return rows.map((row) => ({
    from: keyOf(CATALOG.constraint, numberColumn(row, 'oid')),
    to: keyOf(numberColumn(row, 'refclassid'), numberColumn(row, 'refobjid')),
    kind: 'n',
  }));
}

/** Whom policies are for: these must be there when the policies are made. */
export async function readPolicyRoles(session: CopySession): Promise<readonly Dependency[]> {
  const rows = await session.query(
    'select p.oid, r.oid as role from pg_policy p join pg_roles r on r.oid = any (p.polroles)',
  );
  return rows.map((row) => ({
    from: keyOf(CATALOG.policy, numberColumn(row, 'oid')),
    to: keyOf(CATALOG.role, numberColumn(row, 'role')),
    kind: 'n',
  }));
}

/** What an object is part of and made with: an array's element type, a row type's relation, a multirange's range. */
export async function readWholes(session: CopySession): Promise<ReadonlyMap<ObjectKey, ObjectKey>> {
  const rows = await session.query(
    `select ${CATALOG.type} as class, t.oid as oid, case
        when t.typrelid <> 0 and c.relkind <> 'c' then ${CATALOG.relation} else ${CATALOG.type} end as whole_class,
      case when t.typrelid <> 0 then c.oid when t.typtype = 'm' then r.rngtypid else t.typelem end as whole
      from pg_type t left join pg_class c on c.oid = t.typrelid left join pg_range r on r.rngmultitypid = t.oid
      where t.oid >= ${FIRST_NORMAL_OID} and (t.typrelid <> 0 and c.relkind <> 'c' or t.typtype = 'm'
        or t.typelem <> 0 and t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc)
      union all select ${CATALOG.relation}, c.oid, ${CATALOG.type}, c.reltype from pg_class c where c.relkind = 'c'`,
  );
  return new Map(
    rows.map((row) => [
      keyOf(numberColumn(row, 'class'), numberColumn(row, 'oid')),
      keyOf(numberColumn(row, 'whole_class'), numberColumn(row, 'whole')),
    ]),
  );
}

/** Names of objects; those that are gone are left out. */
export async function readNames(
  session: CopySession,
  keys: readonly ObjectKey[],
): Promise<ReadonlyMap<ObjectKey, ObjectName>> {
  const [classes, oids] = [0, 1].map((part) => `{${keys.map((key) => key.split(':')[part]).join(',')}}`);
  const rows = await session.query(
    `select k.class, k.oid, i.type, i.schema, i.name, i.identity,
        case when k.class = ${CATALOG.routine} then pg_get_function_result(k.oid) end as returns
      from unnest($1::oid[], $2::oid[]) k(class, oid), pg_identify_object(k.class, k.oid, 0) i where i.identity is not null`,
    [classes ?? '{}', oids ?? '{}'],
  );
  return new Map(
    rows.map((row) => [keyOf(numberColumn(row, 'class'), numberColumn(row, 'oid')), nameOf(row)]),
  );
}

/** The name as it is, without the quotes that `pg_identify_object` adds. */
function nameOf(row: SqlRow): ObjectName {
  const unquoted = (text: string | null | undefined) =>
    text === null || text === undefined || !text.startsWith('"')
      ? (text ?? null)
      : text.slice(1, -1).replaceAll('""', '"');
  return {
    type: column(row, 'type'),
    schema: unquoted(row['schema']),
    name: unquoted(row['name']),
    identity: column(row, 'identity'),
    returns: row['returns'] ?? null,
  };
}
