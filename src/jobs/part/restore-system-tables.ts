/** RESTORE system.users ... WITH into_db: rows of tables of ours, as they were in the backup, in plain tables of the same names. */
import { InputError } from '../../base/index.ts';
import { inTransaction, type SqlClient } from '../../catalog/index.ts';

/** Of a row: name and type of each column. */
type Columns = Readonly<Record<string, string>>;

const IS_SHOWN = `rolname !~ '^pg_' AND rolname !~ '^atoll_' AND NOT rolsuper`;

/** Columns as queries that name these tables get them; passwords stay where they are. */
const TABLES = {
  users: {
    columns: { username: 'text', hashedPassword: 'text', isRole: 'bool', user_id: 'int8' },
    rows: `SELECT rolname AS username, CASE WHEN rolpassword IS NOT NULL THEN 'redacted' END AS "hashedPassword",
        NOT rolcanlogin AS "isRole", oid::int8 AS user_id FROM pg_catalog.pg_authid WHERE ${IS_SHOWN} ORDER BY rolname`,
  },
  role_members: {
    columns: { role: 'text', member: 'text', isAdmin: 'bool', role_id: 'int8', member_id: 'int8' },
    rows: `WITH shown AS (SELECT oid, rolname FROM pg_catalog.pg_authid WHERE ${IS_SHOWN})
      SELECT r.rolname AS role, m.rolname AS member, pg_catalog.bool_or(a.admin_option) AS "isAdmin", r.oid::int8 AS role_id, m.oid::int8 AS member_id
        FROM pg_catalog.pg_auth_members a JOIN shown r ON r.oid = a.roleid JOIN shown m ON m.oid = a.member
        WHERE a.inherit_option GROUP BY 1, 2, 4, 5 ORDER BY 1, 2`,
  },
} as const satisfies Readonly<Record<string, { columns: Columns; rows: string }>>;

export type RestorableSystemTable = keyof typeof TABLES;

/** Those that RESTORE knows. */
export const RESTORABLE_SYSTEM_TABLES = Object.keys(TABLES) as readonly RestorableSystemTable[];

export function isRestorableSystemTable(name: string): name is RestorableSystemTable {
  return Object.hasOwn(TABLES, name);
}

/**
 * Makes all of the tables, or none, in schema public; an attempt that follows one that has made them makes nothing. Gives the number of rows.
 * @throws InputError `table_exists`
 */
export async function restoreSystemTables(
  names: readonly RestorableSystemTable[],
  options: { readonly from: SqlClient; readonly to: SqlClient; readonly mark: string },
): Promise<number> {
  const { from, to, mark } = options;
  let count = 0;
  await inTransaction(to, async () => {
    for (const name of names) {
      const { columns, rows } = TABLES[name];
      const [found] = await from.query(
        `SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(t)), '[]')::text AS rows, count(*)::text AS count FROM (${rows}) t`,
      );
      count += Number(found?.['count'] ?? 0);
      if (await isMade(to, { name, mark })) continue;
      const definitions = Object.entries(columns).map(([column, type]) => `"${column}" ${type}`);
      await to.query(`CREATE TABLE public.${name} (${definitions.join(', ')})`);
      await to.query(
        `INSERT INTO public.${name} SELECT * FROM pg_catalog.jsonb_to_recordset($1::jsonb) AS r(${definitions.join(', ')})`,
        [found?.['rows'] ?? '[]'],
      );
      await to.query(`COMMENT ON TABLE public.${name} IS '${mark}'`);
    }
  });
  return count;
}

/** @throws InputError `table_exists` when somebody else has made one */
async function isMade(to: SqlClient, { name, mark }: { name: string; mark: string }): Promise<boolean> {
  const [present] = await to.query(
    `SELECT pg_catalog.obj_description(c.oid, 'pg_class') AS said FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relname = $1`,
    [name],
  );
  if (present === undefined) return false;
  if (present['said'] === mark) return true;
  throw new InputError('table_exists', `relation "public.${name}" already exists`, {
    hint: 'drop or rename it, or restore into another database: WITH into_db = ...',
  });
}
