/** Settings that one virtual cluster keeps of its own, in its `system` database. */
import type { Timestamp } from '../base/index.ts';
import { formatTimestamp } from '../base/index.ts';
import { type SqlClient, textOf } from './database.ts';

/** All values that were set, in stored form. */
export async function readSettings(client: SqlClient): Promise<ReadonlyMap<string, string>> {
  const rows = await client.query('select name, value from public.settings');
  return new Map(rows.map((row) => [textOf(row, 'name'), textOf(row, 'value')]));
}

export async function writeSetting(
  client: SqlClient,
  setting: { name: string; value: string; now: Timestamp },
): Promise<void> {
  await client.query(
    `insert into public.settings values ($1, $2, $3::timestamptz)
      on conflict (name) do update set value = excluded.value, modified = excluded.modified`,
    [setting.name, setting.value, formatTimestamp(setting.now)],
  );
}

export async function deleteSetting(client: SqlClient, name: string): Promise<void> {
  await client.query('delete from public.settings where name = $1', [name]);
}
