/**
 * Roles of logical copies: each made for one copy, no superuser, and taken away after it. Whatever a copy runs of a tenant's, it runs as
 * such a role.
 */
import { required } from '../base/index.ts';
import type { CopyMark, CopyRoles, InternalClient } from './contract.ts';

/** What a maker says of itself, in the transaction that makes everything; three numbers follow. */
const MARK = 'atoll copied';
const IS_TENANTS_SCHEMA = "nspname <> 'information_schema' AND nspname !~ '^pg_'";

interface Sessions {
  readonly system: <T>(use: (client: InternalClient) => Promise<T>, signal: AbortSignal) => Promise<T>;
  /** The bootstrap superuser, for definitions of ours alone. */
  readonly definer: <T>(
    options: { database: string; signal: AbortSignal },
    use: (client: InternalClient) => Promise<T>,
  ) => Promise<T>;
}

export function copyRoles({ system, definer }: Sessions): CopyRoles {
  return {
    makeReader: ({ role, databases, signal }) =>
      system(async (client) => {
        const name = quoted(role);
        await client.query(`CREATE ROLE ${name} LOGIN BYPASSRLS`);
        await client.query(`GRANT pg_read_all_data, pg_use_reserved_connections TO ${name}`);
        // Reading all data does not include large objects.
        await client.query(`ALTER ROLE ${name} SET lo_compat_privileges = on`);
        for (const database of databases) {
          await client.query(`GRANT CONNECT ON DATABASE ${quoted(database)} TO ${name}`);
        }
      }, signal),
    async makeMaker({ role, onBehalfOf, database, signal }) {
      const name = quoted(role);
      await system(async (client) => {
        await client.query(`CREATE ROLE ${name} LOGIN`);
        await client.query(`GRANT pg_use_reserved_connections TO ${name}`);
        await client.query(`GRANT ${quoted(onBehalfOf)} TO ${name} WITH INHERIT TRUE, SET TRUE`);
        await client.query(`GRANT CONNECT, TEMPORARY ON DATABASE ${quoted(database)} TO ${name}`);
        await client.query(`GRANT CREATE ON DATABASE ${quoted(database)} TO ${name} WITH GRANT OPTION`);
      }, signal);
      await definer({ database, signal }, async (client) => {
        const schemas = await client.query(
          `SELECT nspname FROM pg_catalog.pg_namespace WHERE ${IS_TENANTS_SCHEMA}`,
        );
        for (const { nspname } of schemas) {
          const schema = quoted(required(nspname, 'name of a schema'));
          await client.query(`GRANT USAGE, CREATE ON SCHEMA ${schema} TO ${name} WITH GRANT OPTION`);
        }
      });
    },
    mark: ({ role, signal }) => system((client) => readMark(client, role), signal),
    giveAll: ({ role, database, owner, signal }) =>
      definer({ database, signal }, async (client) => {
        await client.query(`REASSIGN OWNED BY ${quoted(role)} TO ${quoted(owner)}`);
      }),
    async remove({ role, signal }) {
      const databases = await system((client) => databasesOf(client, role), signal);
      if (databases === null) return;
      for (const database of ['system', ...databases]) {
        await definer({ database, signal }, async (client) => {
          await client.query(`DROP OWNED BY ${quoted(role)}`);
        });
      }
      await system(async (client) => {
        await client.query(`DROP ROLE ${quoted(role)}`);
      }, signal);
    },
  };
}

async function readMark(client: InternalClient, role: string): Promise<CopyMark | null> {
  const [row] = await client.query(
    `SELECT pg_catalog.array_to_string(s.setconfig, ' ') AS said FROM pg_catalog.pg_roles r
      LEFT JOIN pg_catalog.pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase = 0 WHERE r.rolname = $1`,
    [role],
  );
  if (row === undefined) return null;
  const match = new RegExp(`application_name=${MARK} (\\d+) (\\d+) (\\d+)`).exec(row['said'] ?? '');
  if (match === null) return { isDone: false };
  const [, rows = '0', indexEntries = '0', bytes = '0'] = match;
  return { isDone: true, rows: BigInt(rows), indexEntries: BigInt(indexEntries), bytes: BigInt(bytes) };
}

/** Databases in which anything refers to the role; null when there is no such role. */
async function databasesOf(client: InternalClient, role: string): Promise<readonly string[] | null> {
  const rows = await client.query(
    `SELECT DISTINCT d.datname FROM pg_catalog.pg_roles r
      LEFT JOIN pg_catalog.pg_shdepend s ON s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = r.oid
      LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid AND d.datname <> 'system' WHERE r.rolname = $1`,
    [role],
  );
  if (rows.length === 0) return null;
  return rows.flatMap(({ datname }) => (datname === null || datname === undefined ? [] : [datname]));
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
