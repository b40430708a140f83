/** Whether a virtual cluster holds anything that its users have made: what RESTORE must not replace. */
import { InputError } from '../../base/index.ts';
import type { InternalClient, Instance } from '../../instance/index.ts';

/** Databases that every virtual cluster is born with. */
const BORN_WITH = ['defaultdb', 'postgres', 'system', 'template0', 'template1'];
/** How many objects the refusal names. */
const NAMED_MAX = 10;

const OTHER_DATABASES = `select datname::text as name from pg_catalog.pg_database
  where datname <> all (pg_catalog.string_to_array($1, ',')) order by 1`;

/** Relations, types, functions and schemas outside the schemas Postgres and Atoll bring. */
const USER_OBJECTS = `with own as (
    select oid, nspname from pg_catalog.pg_namespace
    where nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'pg_atoll') and nspname !~ '^pg_(temp|toast_temp)_')
  select 'schema ' || nspname as name from own where nspname <> 'public'
  union all
  select nspname || '.' || relname from pg_catalog.pg_class c join own on own.oid = c.relnamespace
    where relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'c')
  union all
  select nspname || '.' || typname from pg_catalog.pg_type t join own on own.oid = t.typnamespace
    where typtype in ('d', 'e', 'r')
  union all
  select nspname || '.' || proname from pg_catalog.pg_proc p join own on own.oid = p.pronamespace
  union all
  select 'large object ' || oid from pg_catalog.pg_largeobject_metadata
  order by 1`;

/** @throws InputError `object_state` naming some of what is there */
export async function requireEmpty(instance: Instance, wait: { signal: AbortSignal }): Promise<void> {
  const found = await findUserObjects(instance, wait);
  if (found.length === 0) return;
  const named = found.slice(0, NAMED_MAX).join(', ');
  throw new InputError(
    'object_state',
    `full cluster restore can only be run on a cluster with no tables or databases but found ${found.length} descriptors: ${named}${found.length > NAMED_MAX ? ', ...' : ''}`,
    { hint: 'create a new virtual cluster and restore into that' },
  );
}

/** Names of databases and objects, in no particular form; for people. */
export async function findUserObjects(
  instance: Instance,
  wait: { signal: AbortSignal },
): Promise<readonly string[]> {
  const databases = await instance.withSystemClient(
    (client) => client.query(OTHER_DATABASES, [BORN_WITH.join(',')]),
    wait,
  );
  const found = databases.map((row) => `database ${row['name']}`);
  for (const database of await presentDefaults(instance, wait)) {
    const rows = await instance.withReaderClient({ database, ...wait }, (client: InternalClient) =>
      client.query(USER_OBJECTS),
    );
    found.push(...rows.map((row) => `${database}.${row['name']}`));
  }
  return found;
}

/** `defaultdb` and `postgres`, unless their owner has dropped or renamed them. */
async function presentDefaults(
  instance: Instance,
  wait: { signal: AbortSignal },
): Promise<readonly string[]> {
  const rows = await instance.withSystemClient(
    (client) =>
      client.query(
        `select datname::text as name from pg_catalog.pg_database where datname in ('defaultdb', 'postgres') order by 1`,
      ),
    wait,
  );
  return rows.flatMap((row) => row['name'] ?? []);
}
