/**
 * `sql.defaults.*`: what sessions of a virtual cluster begin with. Each is a parameter of Postgres's, set for all roles in all databases, which
 * only a superuser may: what a tenant sets for a role or a database, and what a client asks for, counts more. Sessions under way keep theirs.
 */
import type { VirtualClusterId } from '../../base/index.ts';
import { type KnownSettingName, type SqlClient, inTransaction, knownSetting } from '../../catalog/index.ts';
import type { Instance } from '../../instance/index.ts';
import type { Settings } from './settings.ts';
import { sqlText } from '../sql-text.ts';

const PARAMETERS = [
  ['sql.defaults.datestyle', 'datestyle'],
  ['sql.defaults.idle_in_session_timeout', 'idle_session_timeout'],
  ['sql.defaults.idle_in_transaction_session_timeout', 'idle_in_transaction_session_timeout'],
  ['sql.defaults.intervalstyle', 'intervalstyle'],
  ['sql.defaults.lock_timeout', 'lock_timeout'],
  ['sql.defaults.statement_timeout', 'statement_timeout'],
] as const satisfies readonly (readonly [KnownSettingName, string])[];

export function isSessionDefault(setting: string): boolean {
  return PARAMETERS.some(([name]) => name === setting);
}

/** Makes the instance agree with the settings; asked for any number of times. A server that only follows is left alone. */
export async function applySessionDefaults(
  settings: Settings,
  options: { virtualClusterId: VirtualClusterId; instance: Instance; signal: AbortSignal },
): Promise<void> {
  const { virtualClusterId, instance } = options;
  const wanted = PARAMETERS.map(([name, parameter]) => ({
    parameter,
    value: wantedValue(settings, virtualClusterId, name),
  }));
  await instance.withSystemClient(async (client) => {
    if (await isFollowing(client)) return;
    const now = await currentDefaults(client);
    const changes = wanted.filter(({ parameter, value }) => now.get(parameter) !== value);
    if (changes.length === 0) return;
    await inTransaction(client, async () => {
      for (const { parameter, value } of changes) {
        const change = value === undefined ? `reset ${parameter}` : `set ${parameter} = ${sqlText(value)}`;
        await client.query(`alter role all ${change}`);
      }
    });
  }, options);
}

/** Undefined where the setting has its default, which is that of the node's configuration. */
function wantedValue(
  settings: Settings,
  virtualClusterId: VirtualClusterId,
  name: KnownSettingName,
): string | undefined {
  const value = settings.text(virtualClusterId, name);
  const setting = knownSetting(name);
  if (setting.type.kind !== 'duration') return value === setting.defaultValue ? undefined : value;
  const milliseconds = BigInt(value) / 1000n;
  // Less than a millisecond is not none.
  if (milliseconds === 0n && BigInt(value) > 0n) return '1ms';
  return milliseconds === 0n ? undefined : `${milliseconds}ms`;
}

async function isFollowing(client: SqlClient): Promise<boolean> {
  return (await client.query('select where pg_catalog.pg_is_in_recovery()')).length > 0;
}

async function currentDefaults(client: SqlClient): Promise<ReadonlyMap<string, string>> {
  const rows = await client.query(
    `select pg_catalog.lower(pg_catalog.split_part(entry, '=', 1)) as parameter,
        pg_catalog.substr(entry, pg_catalog.strpos(entry, '=') + 1) as value
      from pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) entry where s.setdatabase = 0 and s.setrole = 0`,
  );
  return new Map(rows.map((row) => [row['parameter'] ?? '', row['value'] ?? '']));
}
