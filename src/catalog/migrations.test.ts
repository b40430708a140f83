import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NEVER, TestStore, withTenant } from '../../test/harness/instance-store.ts';
import type { Timestamp } from '../base/index.ts';
import { AUTHORITY_ROLES, migrate, SYSTEM_PRIVILEGE_ROLES } from './migrations.ts';

const NOW = 1_700_000_000_000_000n as Timestamp;

test('a role that a tenant made under a name of ours is put aside, not taken for ours', async () => {
  await using store = await TestStore.open();
  const instance = await store.serve(3);
  const taken = [SYSTEM_PRIVILEGE_ROLES.VIEWJOB, ...Object.values(AUTHORITY_ROLES)];
  const root = { user: 'root', database: 'defaultdb' };
  await withTenant(instance, root, async (client) => {
    await client.query('CREATE ROLE squatter LOGIN');
    for (const role of taken) await client.query(`CREATE ROLE ${role} ADMIN squatter`);
  });
  for (let round = 0; round < 2; round += 1) {
    await instance.withSystemClient((client) => migrate(client, { set: 'virtual_cluster', now: NOW }), {
      signal: NEVER,
    });
  }
  const held = await instance.withSystemClient(
    (client) =>
      client.query(
        `select r.rolname as role, m.rolname as member from pg_catalog.pg_auth_members a
          join pg_catalog.pg_roles r on r.oid = a.roleid join pg_catalog.pg_roles m on m.oid = a.member
          where m.rolname = 'squatter' order by 1`,
      ),
    { signal: NEVER },
  );
  assert.equal(held.length, taken.length);
  for (const { role } of held) assert.match(role ?? '', /^atoll_[a-z]+_\d+$/);
  await withTenant(instance, { ...root, user: 'squatter' }, async (client) => {
    for (const role of taken) await assert.rejects(client.query(`SET ROLE ${role}`), { code: '42501' }, role);
  });
});
