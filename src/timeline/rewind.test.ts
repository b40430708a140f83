import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
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
  Workload,
} from '../../test/harness/workload.ts';
import { SEED } from '../../test/harness/seed.ts';
import { isAppError, type IncarnationId, type Lsn, required } from '../base/index.ts';
import type { Instance } from '../instance/index.ts';
import type { TimelinePoint } from './index.ts';
import { FAULT_POINT_VARIABLE, type FaultPoint, REWIND_FAULT_POINTS } from './worker/fault-point.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
const STEPS = Number(process.env['ATOLL_TEST_STEPS'] ?? 120);

const IS_EVERY_POINT = process.env['ATOLL_TEST_POINTS'] !== undefined;
/**
 * Where a rewind is killed, attempt after attempt, before one is left alone. For want of time they are all killed on one way there, in an order
 * that is another with each seed; with time, each has a way of its own, too.
 */
const KILLED_AT: readonly (readonly FaultPoint[])[] = [
  shuffled(REWIND_FAULT_POINTS, new Dice(SEED + 6)),
  ...(IS_EVERY_POINT ? REWIND_FAULT_POINTS.map((point) => [point]) : []),
];
/** Where the way to elsewhere ends. */
const BACK_FROM = IS_EVERY_POINT
  ? REWIND_FAULT_POINTS
  : (['rewind.after_first_task', 'rewind.after_sync'] as const);

interface Seen {
  readonly digest: readonly string[];
  readonly lsn: Lsn;
}

describe(`a rewind in place, work of seed ${SEED}`, () => {
  let rig: TimelineRig;
  let emptyFork: string;
  const moments: Seen[] = [];
  let next = 100;

  const newIncarnation = () => `00000000-0000-4000-9000-${String(next++).padStart(12, '0')}` as IncarnationId;

  async function directoryApart(instance: Instance, incarnation: IncarnationId): Promise<string> {
    const { virtualClusterId } = instance.identity;
    const apart = await rig.rig.store.host.beginRewind({ virtualClusterId, incarnation });
    return required(apart ?? undefined, 'directory').dataDirectory;
  }

  async function work(client: pg.Client, { workload, steps }: { workload: Workload; steps: number }) {
    const dice = new Dice(SEED + 1);
    for (let step = 0; step < steps; step++) {
      for (const statement of workload.next()) await client.query(statement);
      if (dice.roll() < 0.2)
        moments.push({ digest: await digestDatabase(client), lsn: await rig.position() });
    }
  }

  const present = () => required(rig.rig.store.host.get(rig.source.identity.virtualClusterId), 'instance');

  function pointOfFirstLife(lsn: Lsn): TimelinePoint {
    const { incarnation } = required(rig.incarnations[0], 'first incarnation');
    return { ...rig.point(lsn), incarnation, timelineId: 1 };
  }

  /** Stops it, with all of its log received: the point where its life ends. */
  async function end(instance: Instance): Promise<TimelinePoint> {
    await instance.stop({ mode: 'orderly', signal: NEVER });
    await rig.receive(instance);
    const lastRecord = await rig.rig.store.host.lastRecordLsn(instance.identity.virtualClusterId);
    return rig.point((lastRecord + 1n) as Lsn, instance);
  }

  async function assertHolds(instance: Instance, seen: Seen): Promise<void> {
    for (const digest of await withTenant(instance, ROOT, digestEveryWay)) {
      assert.deepEqual(digest, seen.digest, `seed ${SEED}`);
    }
    assert.deepEqual(await withTenant(instance, ROOT, findLosses), [], `seed ${SEED}`);
    for (const database of copiesOfPattern(seen.digest)) {
      const wrong = await withTenant(instance, { ...ROOT, database }, checkPatternCopy);
      assert.deepEqual(wrong, [], `seed ${SEED}: database ${database}`);
    }
    const { virtualClusterId } = instance.identity;
    const store = rig.rig.store.directory;
    assert.deepEqual(
      await findDamage({ store, virtualClusterId, database: 'defaultdb' }),
      [],
      `seed ${SEED}`,
    );
    await rig.verifyChecksums(instance);
  }

  before(async () => {
    rig = await TimelineRig.open();
    const workload = new Workload({ seed: SEED });
    await withTenant(rig.source, ROOT, async (client) => {
      for (const statement of workload.begin()) await client.query(statement);
      // Rows that are gone are in its pages and its index until the last moment is over: until then its map has bits for none of them.
      await client.query(
        'CREATE TABLE seen WITH (autovacuum_enabled = off) AS SELECT generate_series(1, 20000) AS id',
      );
      await client.query('CREATE INDEX seen_id ON seen (id)');
      await client.query('VACUUM ANALYZE seen');
      await client.query('DELETE FROM seen WHERE id % 10 = 0');
      await withTenant(rig.source, { ...ROOT, database: 'pattern' }, fillPattern);
      await client.query(
        'CREATE TABLE still AS SELECT n, repeat(md5(n::text), 20) AS filler FROM generate_series(1, 20000) n',
      );
      await work(client, { workload, steps: STEPS / 4 });
      // Of the base, and dropped on every way from it.
      await client.query('CREATE UNLOGGED TABLE fleeting (id int)');
      emptyFork = `${await pathOf(client, 'fleeting')}_init`;
      await client.query('CHECKPOINT');
      moments.length = 0;
      await rig.captureBase();
      await client.query('DROP TABLE fleeting');
      await work(client, { workload, steps: STEPS });
      await client.query('VACUUM seen');
    });
  });

  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  it('brings back any moment since a base, again and again, and leaves what did not change', async () => {
    const dice = new Dice(SEED + 2);
    for (let turn = 0; turn < 2; turn++) {
      const instance = present();
      const seen = dice.pick(moments);
      // Always of the first life: the second turn leaves a sibling for it.
      const point = pointOfFirstLife(seen.lsn);
      const current = await end(instance);
      const incarnation = newIncarnation();
      const result = await rig.rewind(instance, { point, current, incarnation });
      assert.ok(
        result.keptBytes > result.base.bytes / 3n,
        `kept ${result.keptBytes} of ${result.base.bytes}`,
      );
      const { instance: rewound, proved } = await rig.serveRewound(instance, result, {
        parent: point,
        incarnation,
      });
      // First: a checkpoint may remove the log that nobody follows.
      await rig.follow(rewound, proved);
      await assertHolds(rewound, seen);
      await withTenant(rewound, ROOT, (client) =>
        client.query(
          `CREATE TABLE of_turn_${turn} AS SELECT generate_series(1, 5000) AS id; UPDATE still SET filler = 'x' WHERE n % 7 = 0`,
        ),
      );
    }
  });

  it('is what it should be when it was killed at every step and made again', async () => {
    const seen = new Dice(SEED + 3).pick(moments);
    for (const faults of KILLED_AT) {
      const instance = present();
      const point = pointOfFirstLife(seen.lsn);
      const current = await end(instance);
      const incarnation = newIncarnation();
      for (const fault of faults)
        await killedAt(fault, () => rig.rewind(instance, { point, current, incarnation }));
      await beginFile(join(await directoryApart(instance, incarnation), emptyFork));
      const result = await rig.rewind(instance, { point, current, incarnation });
      const { instance: rewound, proved } = await rig.serveRewound(instance, result, {
        parent: point,
        incarnation,
      });
      // First: a checkpoint may remove the log that nobody follows.
      await rig.follow(rewound, proved);
      await assertHolds(rewound, seen);
    }
  });

  it('takes a directory back to where it was from any step of a way to elsewhere, by the base of that way', async () => {
    const seen = new Dice(SEED + 5).pick(moments);
    // A base in between leads to the present, too, and must not be the one.
    const captured = await rig.captureBase({ of: present() });
    for (const fault of BACK_FROM) {
      const instance = present();
      const digest = await withTenant(instance, ROOT, digestDatabase);
      const point = pointOfFirstLife(seen.lsn);
      const current = await end(instance);
      const base = await rig.sharedBase({ point, current });
      assert.notEqual(base, captured.base.subdirectory);
      const incarnation = newIncarnation();
      await killedAt(fault, () => rig.rewind(instance, { point, current, incarnation }));
      const result = await rig.rewind(instance, { point: current, current, incarnation, base });
      const { instance: back, proved } = await rig.serveRewound(instance, result, {
        parent: current,
        incarnation,
      });
      await rig.follow(back, proved);
      await assertHolds(back, { digest, lsn: current.lsn });
    }
  });

  it('is found out when a relation is left out of what is put back', async () => {
    const instance = present();
    const seen = new Dice(SEED + 4).pick(moments);
    const path = await withTenant(instance, ROOT, async (client) => {
      await client.query(`UPDATE still SET filler = 'left out' WHERE n % 3 = 0`);
      // Whoever reads rows notes on them that they are committed: then they are there whatever the log of transactions says.
      await client.query('SELECT count(filler) FROM still');
      await client.query('CHECKPOINT');
      return await pathOf(client, 'still');
    });
    const current = await end(instance);
    const leftOut = await readFile(join(instance.dataDirectory, path));
    const point = pointOfFirstLife(seen.lsn);
    const incarnation = newIncarnation();
    const apart = await directoryApart(instance, incarnation);
    const result = await rig.rewind(instance, { point, current, incarnation });
    await writeFile(join(apart, path), leftOut);
    const { instance: rewound } = await rig.serveRewound(instance, result, { parent: point, incarnation });
    await assert.rejects(assertHolds(rewound, seen), 'the oracle is blind');
  });
});

/** Has the worker of `run` killed at a fault point. */
async function killedAt(fault: FaultPoint, run: () => Promise<unknown>): Promise<void> {
  process.env[FAULT_POINT_VARIABLE] = fault;
  try {
    await assert.rejects(run(), (error) => isAppError(error, 'worker_lost'), `${fault}, seed ${SEED}`);
  } finally {
    delete process.env[FAULT_POINT_VARIABLE];
  }
}

function shuffled<T>(all: readonly T[], dice: Dice): readonly T[] {
  const left = [...all];
  return all.map(() => {
    const next = dice.pick(left);
    left.splice(left.indexOf(next), 1);
    return next;
  });
}

async function pathOf(client: pg.Client, table: string): Promise<string> {
  const { rows } = await client.query<{ path: string }>('SELECT pg_relation_filepath($1) AS path', [table]);
  return required(rows[0], 'path').path;
}

/** Leaves of a file what a worker leaves that was killed after it had made it and before it gave it to its owner. */
async function beginFile(path: string): Promise<void> {
  await rm(path, { force: true });
  await writeFile(path, '', { mode: 0o600 });
}
