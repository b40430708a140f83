import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NEVER, TestStore, withTenant } from '../../test/harness/instance-store.ts';
import { systemClock } from '../daemon/index.ts';
import { summariseLog } from './summarise-log.ts';

const LOGIN = { user: 'root', database: 'defaultdb' };
const clock = systemClock();

test('summaries of the log are brought up to now', async () => {
  await using store = await TestStore.open();
  const instance = await store.serve(3, 'main');
  await withTenant(instance, LOGIN, (client) =>
    client.query('CREATE TABLE written AS SELECT generate_series(1, 1000) AS n'),
  );
  const { rows } = await withTenant(instance, LOGIN, (client) =>
    client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn'),
  );
  await summariseLog(instance, { clock, signal: NEVER });
  const [summarised] = await instance.withSystemClient(
    (client) =>
      client.query('select (max(end_lsn) >= $1::pg_lsn)::text as is_all from pg_available_wal_summaries()', [
        rows[0]?.lsn ?? '',
      ]),
    { signal: NEVER },
  );
  assert.deepEqual(summarised, { is_all: 'true' });
  await assert.rejects(summariseLog(instance, { clock, signal: AbortSignal.abort() }), { code: 'cancelled' });
});
