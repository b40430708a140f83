import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import pg from 'pg';
import { unexplainedBlocks } from '../../test/harness/base-image.ts';
import { BackupRig } from '../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { assertLedger, Ledger } from '../../test/harness/ledger.ts';
import { findDamage } from '../../test/harness/oracle.ts';
import { digestEveryWay, findLosses, Workload } from '../../test/harness/workload.ts';
import { SEED } from '../../test/harness/seed.ts';
import type { BaseSummary } from './store-contract.ts';

type Acknowledged = ReturnType<Ledger['acknowledged']>;

const ROOT = { user: 'root', database: 'defaultdb' };
const SEEDS = [1, 2, SEED];
const BASES = 5;
const STEPS_PER_BASE = 25;

async function run(client: pg.Client, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await client.query(statement);
}

describe('bases on top of each other', () => {
  for (const seed of SEEDS) {
    it(`hold what was there, whatever was done between them: seed ${seed}`, async () => {
      // It would clear bits of visibility maps between a capture and the comparison, without a word in the log.
      await using rig = await BackupRig.open({ autovacuum: 'off' });
      const workload = new Workload({ seed });
      await withTenant(rig.source, ROOT, (client) => run(client, workload.begin()));
      let onto: string | null = null;
      for (let turn = 0; turn < BASES; turn++) {
        for (let step = 0; step < STEPS_PER_BASE; step++) {
          const statements = workload.next();
          await withTenant(rig.source, ROOT, (client) => run(client, statements));
        }
        if (turn % 2 === 1) {
          // A crash between two bases: what was not written is replayed, and its hints are gone.
          await rig.source.stop({ mode: 'immediate', signal: NEVER });
          await rig.source.start({ signal: NEVER });
        }
        const expected = await withTenant(rig.source, ROOT, digestEveryWay);
        const result = await rig.captureBase(onto);
        assert.equal(result.fullReason, null);
        onto = result.base.subdirectory;
        await withTenant(rig.source, ROOT, (client) => client.query('CHECKPOINT'));
        const target = await rig.beginTarget();
        const materialized = await rig.materialize(target, { collection: rig.bases, subdirectory: onto });
        const { dataDirectory } = rig.source;
        const { startLsn } = result.base;
        assert.deepEqual(
          unexplainedBlocks({ dataDirectory, materialized: target.targetDirectory, startLsn }),
          [],
          `base ${turn}: blocks that the log does not explain`,
        );
        const restored = await rig.serve(target, materialized);
        assert.deepEqual(await withTenant(restored, ROOT, digestEveryWay), expected, `base ${turn}`);
        assert.deepEqual(await withTenant(restored, ROOT, findLosses), [], `base ${turn}: losses`);
        const { virtualClusterId } = target;
        assert.deepEqual(
          await findDamage({ store: rig.store.directory, virtualClusterId, database: ROOT.database }),
          [],
          `base ${turn}: damage`,
        );
        await restored.stop({ mode: 'immediate', signal: NEVER });
        await rig.store.host.remove({ virtualClusterId, signal: NEVER });
      }
    });
  }

  it('hold whole transactions and no damage when they are captured while everything changes', async () => {
    await using rig = await BackupRig.open();
    const connect = async () => {
      const client = new pg.Client({ host: rig.source.socketDirectory, ...ROOT });
      client.on('error', () => undefined);
      await client.connect();
      return client;
    };
    const workload = new Workload({ seed: 7 });
    await withTenant(rig.source, ROOT, (client) => run(client, workload.begin()));
    let { base: newest } = await rig.captureBase(null);
    const stop = new AbortController();
    await using ledger = await Ledger.start({ connect, writers: 3 });
    const working = withTenant(rig.source, ROOT, async (client) => {
      while (!stop.signal.aborted) await run(client, workload.next());
    });
    const restored: { base: BaseSummary; floor: Acknowledged; ceiling: Acknowledged }[] = [];
    try {
      for (let turn = 0; turn < 4; turn++) {
        const floor = ledger.acknowledged();
        const { base, fullReason } = await rig.captureBase(newest.subdirectory);
        assert.equal(fullReason, null);
        restored.push({ base, floor, ceiling: ledger.acknowledged() });
        newest = base;
      }
    } finally {
      stop.abort();
      await working;
    }
    await ledger.stop();
    for (const { base, floor, ceiling } of restored) {
      const target = await rig.beginTarget();
      const { subdirectory } = base;
      const materialized = await rig.materialize(target, { collection: rig.bases, subdirectory });
      const instance = await rig.serve(target, materialized);
      await withTenant(instance, ROOT, (client) => assertLedger(client, { floor, ceiling }));
      const { virtualClusterId } = target;
      const { database } = ROOT;
      assert.deepEqual(await withTenant(instance, ROOT, findLosses), []);
      assert.deepEqual(await findDamage({ store: rig.store.directory, virtualClusterId, database }), []);
      await withTenant(instance, ROOT, async (client) => {
        const [asChosen, ...others] = await digestEveryWay(client);
        for (const other of others) assert.deepEqual(other, asChosen);
      });
      await instance.stop({ mode: 'immediate', signal: NEVER });
    }
  });
});
