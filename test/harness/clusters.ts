/** Virtual clusters of a real daemon, made and compared as an operator would. */
import assert from 'node:assert/strict';
import type { TestDaemon } from './daemon.ts';
import { countWithDefaultPlans, digestTables } from './oracle.ts';

/** Serving, with every capability. */
export async function createCluster(daemon: TestDaemon, name: string): Promise<void> {
  await daemon.query(
    [
      `CREATE VIRTUAL CLUSTER ${name}`,
      `ALTER VIRTUAL CLUSTER ${name} GRANT ALL CAPABILITIES`,
      `ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`,
    ],
    { cluster: 'system' },
  );
}

/** At once and for good. */
export async function dropCluster(daemon: TestDaemon, name: string): Promise<void> {
  await daemon.query(
    [`ALTER VIRTUAL CLUSTER ${name} STOP SERVICE`, `DROP VIRTUAL CLUSTER ${name} IMMEDIATE`],
    { cluster: 'system' },
  );
}

/** Digest of all that matters in the two databases people use. */
export async function digestCluster(daemon: TestDaemon, cluster: string) {
  const client = await daemon.connect({ cluster });
  const tables = await digestTables(client);
  const counts = await countWithDefaultPlans(client);
  await client.end();
  for (const { table, rows } of tables) assert.equal(counts.get(table), rows, `${table}: plans disagree`);
  return tables;
}
