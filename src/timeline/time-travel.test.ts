import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type pg from 'pg';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { findDamage } from '../../test/harness/oracle.ts';
import { TimelineRig } from '../../test/harness/timeline-rig.ts';
import {
  checkPatternCopy,
  copiesOfPattern,
  Dice,
  digestDatabase,
  digestEveryWay,
  fillPattern,
  findLosses,
  readCounter,
  SEQUENCE_LOGGED_AHEAD,
  Workload,
} from '../../test/harness/workload.ts';
import { SEED } from '../../test/harness/seed.ts';
import { isAppError, type Lsn } from '../base/index.ts';
import type { Instance } from '../instance/index.ts';
import type { CaptureBaseResult } from './index.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
/** More points and longer work when somebody asks for it. */
const POINTS = Number(process.env['ATOLL_TEST_POINTS'] ?? 3);
const STEPS = Number(process.env['ATOLL_TEST_STEPS'] ?? 120);

interface Seen {
  readonly lsn: Lsn;
  readonly digest: readonly string[];
  readonly counter: number;
}

async function runStep(client: pg.Client, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await client.query(statement);
}

/** What there is now, and where a later record will begin. */
async function see(rig: TimelineRig, client: pg.Client, source = rig.source): Promise<Seen> {
  return {
    digest: await digestDatabase(client),
    counter: await readCounter(client),
    lsn: await rig.position(source),
  };
}

/** Compares with every kind of plan, and looks for what queries may hide. */
async function assertHolds(rig: TimelineRig, instance: Instance, seen: Seen): Promise<void> {
  const [chosen, sequential, indexed] = await withTenant(instance, ROOT, digestEveryWay);
  assert.deepEqual(chosen, seen.digest, `seed ${SEED}: with default plans`);
  assert.deepEqual(sequential, seen.digest, `seed ${SEED}: with sequential scans`);
  assert.deepEqual(indexed, seen.digest, `seed ${SEED}: with indexes`);
  const counter = await withTenant(instance, ROOT, readCounter);
  assert.ok(seen.counter <= counter && counter <= seen.counter + SEQUENCE_LOGGED_AHEAD, `seed ${SEED}`);
  const { virtualClusterId } = instance.identity;
  assert.deepEqual(await withTenant(instance, ROOT, findLosses), [], `seed ${SEED}`);
  const copies = copiesOfPattern(seen.digest);
  for (const database of copies) {
    const wrong = await withTenant(instance, { ...ROOT, database }, checkPatternCopy);
    assert.deepEqual(wrong, [], `seed ${SEED}: database ${database}`);
  }
  for (const database of ['defaultdb', ...copies]) {
    const store = rig.rig.store.directory;
    const damage = await findDamage({ store, virtualClusterId, database });
    assert.deepEqual(damage, [], `seed ${SEED}: database ${database}`);
  }
  await rig.verifyChecksums(instance);
}

describe(`any moment of a timeline, work of seed ${SEED}`, () => {
  let rig: TimelineRig;
  const moments: Seen[] = [];
  let beforeBase: Lsn;

  before(async () => {
    rig = await TimelineRig.open();
    const workload = new Workload({ seed: SEED });
    const dice = new Dice(SEED + 1);
    await withTenant(rig.source, ROOT, async (client) => {
      await runStep(client, workload.begin());
      await withTenant(rig.source, { ...ROOT, database: 'pattern' }, fillPattern);
      beforeBase = await rig.position();
      let capture: Promise<CaptureBaseResult> | undefined = rig.captureBase();
      let first: CaptureBaseResult | undefined;
      for (let step = 0; step < STEPS; step++) {
        await runStep(client, workload.next());
        if (step === Math.trunc(STEPS / 4)) {
          first = await capture;
          capture = undefined;
        }
        // A second base on top of the first, captured while the work goes on.
        if (step === Math.trunc(STEPS / 2)) {
          capture = rig.captureBase({ onto: first?.base.subdirectory ?? null });
        }
        if (step > STEPS / 4 && dice.roll() < 0.2) {
          moments.push(await see(rig, client));
        }
      }
      const second = await capture;
      assert.equal(second?.base.baseSubdirectory, first?.base.subdirectory);
    });
  });

  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  it('comes back exactly as it was, by every kind of plan, without damage', async () => {
    await rig.receive();
    const dice = new Dice(SEED + 2);
    assert.ok(moments.length > 0);
    for (let count = 0; count < POINTS; count++) {
      const seen = dice.pick(moments);
      const { target, result } = await rig.materialize(rig.point(seen.lsn));
      assert.ok(result.base.stopLsn <= seen.lsn);
      const { instance } = await rig.serve(target, result, { parent: rig.point(seen.lsn) });
      await assertHolds(rig, instance, seen);
      await rig.rig.store.host.remove({ virtualClusterId: target.virtualClusterId, signal: NEVER });
    }
  });

  it('is refused when it lies before the first base is consistent', async () => {
    await assert.rejects(
      rig.materialize(rig.point(beforeBase)),
      (error) => isAppError(error, 'time_outside_window') && /SHOW TIMELINE/.test(error.hint ?? ''),
    );
  });

  it('is the end of the log when nothing follows it', async () => {
    const seen = await withTenant(rig.source, ROOT, async (client) => {
      await client.query('CREATE TABLE last_word AS SELECT 1 AS one');
      return see(rig, client);
    });
    await rig.receive(rig.source, { endLsn: seen.lsn });
    const { target, result } = await rig.materialize(rig.point(seen.lsn));
    assert.ok(result.recovery.logEndLsn !== null && result.recovery.logEndLsn <= seen.lsn);
    const { instance, proved } = await rig.serve(target, result, { parent: rig.point(seen.lsn) });
    assert.ok(proved.forkLsn >= result.recovery.logEndLsn);
    await assertHolds(rig, instance, seen);
  });

  it('is refused when the log does not reach it', async () => {
    const beyond = ((await rig.position()) + 100_000_000n) as Lsn;
    await assert.rejects(rig.materialize(rig.point(beyond)), (error) => isAppError(error, 'data_corrupt'));
  });

  it('of a branch comes back from a base of its parent, and is never taken for a sibling', async () => {
    const fork = await withTenant(rig.source, ROOT, (client) => see(rig, client));
    await withTenant(rig.source, ROOT, (client) => client.query('CREATE TABLE in_the_parent ()'));
    await rig.receive();
    const branches: { instance: Instance; seen: Seen; name: string }[] = [];
    for (const name of ['one_way', 'other_way']) {
      const { instance, proved } = await rig.travel(rig.point(fork.lsn));
      assert.deepEqual(await withTenant(instance, ROOT, digestDatabase), fork.digest);
      await rig.follow(instance, proved);
      assert.equal(proved.timelineId, 2);
      const seen = await withTenant(instance, ROOT, async (client) => {
        await client.query(`CREATE TABLE ${name} AS SELECT generate_series(1, 1000) AS id`);
        return see(rig, client, instance);
      });
      branches.push({ name, instance, seen });
      await rig.receive(instance);
    }
    for (const { instance: branch, seen, name } of branches) {
      const again = await rig.travel(rig.point(seen.lsn, branch));
      await assertHolds(rig, again.instance, seen);
      assert.ok(seen.digest.some((line) => line.includes(`rows of ${name}: 1000`)));
      assert.equal(again.proved.timelineId, 3);
    }
  });
});
