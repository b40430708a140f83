/**
 * Postgres does not know that a role owns rows of ours. A role that does holds a privilege on an empty table, so that Postgres refuses to
 * drop it, and no later role of the same name inherits what was not meant for it.
 */
import { type SqlClient, textOf } from './database.ts';

/** The tables whose rows have owners, and the empty table that stands for each. */
const OWNED = {
  schedules: { rows: 'public.scheduled_jobs', marker: 'public.schedule_owners' },
  connections: { rows: 'public.external_connections', marker: 'public.connection_owners' },
} as const;

/** To be called in the transaction that adds or removes a row of `owner`. Harmless for a role that is gone. */
export async function noteOwner(
  client: SqlClient,
  options: { readonly of: keyof typeof OWNED; readonly owner: string },
): Promise<void> {
  const { rows, marker } = OWNED[options.of];
  const [row] = await client.query(
    `select pg_catalog.format(
        case when exists (select from ${rows} where owner_name = $1)
          then 'grant references on ${marker} to %I'
          else 'revoke references on ${marker} from %I' end, rolname) as sql
      from pg_catalog.pg_roles where rolname = $1`,
    [options.owner],
  );
  if (row !== undefined) await client.query(textOf(row, 'sql'));
}
