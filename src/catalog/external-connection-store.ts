/** External connections: names that a virtual cluster has given to storage locations and servers. Their URIs hold secrets. */
import { type Timestamp, formatTimestamp } from '../base/index.ts';
import { type Row, type SqlClient, inTransaction, textOf } from './database.ts';
import { noteOwner } from './ownership.ts';

export const CONNECTION_TYPES = ['STORAGE', 'KMS', 'FOREIGNDATA'] as const;
export type ConnectionType = (typeof CONNECTION_TYPES)[number];

export interface ExternalConnection {
  readonly name: string;
  readonly type: ConnectionType;
  /** As it was written, secrets included. */
  readonly uri: string;
  /** Who made it, and may do everything with it. */
  readonly owner: string;
}

/** What may be done with a connection besides owning it; kept in `external_connection_privileges`. */
export type ConnectionPrivilege = 'USAGE' | 'DROP' | 'UPDATE';

const COLUMNS = 'connection_name, connection_type, uri, owner_name';

/** Ordered by name. */
export async function readConnections(client: SqlClient): Promise<readonly ExternalConnection[]> {
  const rows = await client.query(
    `select ${COLUMNS} from public.external_connections order by connection_name`,
  );
  return rows.map(connectionOf);
}

export async function readConnection(
  client: SqlClient,
  name: string,
): Promise<ExternalConnection | undefined> {
  const rows = await client.query(
    `select ${COLUMNS} from public.external_connections where connection_name = $1`,
    [name],
  );
  return rows[0] === undefined ? undefined : connectionOf(rows[0]);
}

/** False when there is one of that name, which stays as it is. */
export async function insertConnection(
  client: SqlClient,
  connection: ExternalConnection & { readonly now: Timestamp },
): Promise<boolean> {
  const { name, type, uri, owner, now } = connection;
  return inTransaction(client, async () => {
    const rows = await client.query(
      `insert into public.external_connections values ($1, $2, $3, $4, $5::timestamptz, $5::timestamptz)
        on conflict (connection_name) do nothing returning connection_name`,
      [name, type, uri, owner, formatTimestamp(now)],
    );
    await noteOwner(client, { of: 'connections', owner });
    return rows.length > 0;
  });
}

/** False when there is none of that name. */
export async function updateConnection(
  client: SqlClient,
  change: {
    readonly name: string;
    readonly type: ConnectionType;
    readonly uri: string;
    readonly now: Timestamp;
  },
): Promise<boolean> {
  const rows = await client.query(
    `update public.external_connections set connection_type = $2, uri = $3, updated = $4::timestamptz
      where connection_name = $1 returning connection_name`,
    [change.name, change.type, change.uri, formatTimestamp(change.now)],
  );
  return rows.length > 0;
}

/** With its privileges. False when there is none of that name. */
export async function deleteConnection(client: SqlClient, name: string): Promise<boolean> {
  return inTransaction(client, async () => {
    const [deleted] = await client.query(
      'delete from public.external_connections where connection_name = $1 returning owner_name',
      [name],
    );
    if (deleted === undefined) return false;
    await noteOwner(client, { of: 'connections', owner: textOf(deleted, 'owner_name') });
    return true;
  });
}

/** Names of the connections on which the user was granted one of these privileges, directly, through a role, or as everybody. */
export async function grantedConnections(
  client: SqlClient,
  options: { readonly user: string; readonly anyOf: readonly ConnectionPrivilege[] },
): Promise<ReadonlySet<string>> {
  const rows = await client.query(
    `select distinct p.connection_name from public.external_connection_privileges p, pg_catalog.pg_roles u
      where u.rolname = $1 and p.privilege = any (pg_catalog.string_to_array($2, ','))
        and (p.grantee = 0 or exists (select from pg_catalog.pg_roles g
          where g.oid = p.grantee and pg_catalog.pg_has_role(u.oid, g.oid, 'USAGE')))`,
    [options.user, options.anyOf.join(',')],
  );
  return new Set(rows.map((row) => textOf(row, 'connection_name')));
}

function connectionOf(row: Row): ExternalConnection {
  return {
    name: textOf(row, 'connection_name'),
    type: textOf(row, 'connection_type') as ConnectionType,
    uri: textOf(row, 'uri'),
    owner: textOf(row, 'owner_name'),
  };
}
