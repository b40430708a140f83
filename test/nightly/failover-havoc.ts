import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Havoc } from '../harness/havoc.ts';
import { type Acknowledged, assertLedger, Ledger } from '../harness/ledger.ts';
import { findDamage } from '../harness/oracle.ts';
import { damagedPages } from '../harness/page-checksums.ts';
import { SEED } from '../harness/seed.ts';
import { assertSame, Site } from '../harness/sites.ts';
import { TcpProxy } from '../harness/tcp-proxy.ts';
import { waitFor } from '../harness/wait.ts';
import { Dice } from '../harness/workload.ts';

/** Of half a minute each: not for every day. */
const ROUNDS = Number(process.env['ATOLL_TEST_ROUNDS'] ?? 50);
const dice = new Dice(SEED);
const fate = new Dice(SEED + 1);

const START = 'ALTER VIRTUAL CLUSTER main START SERVICE SHARED';
const STOP = 'ALTER VIRTUAL CLUSTER main STOP SERVICE';
const COMPLETE = 'ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO';
/** What may be changed while the failover waits for its time. */
const ASKS = {
  planned: `${COMPLETE} LATEST WITH DRAIN`,
  latest: `${COMPLETE} LATEST`,
  'primary gone': `${COMPLETE} LATEST`,
  'moment to come': `${COMPLETE} SYSTEM TIME '+3s'`,
} as const;
type Kind = keyof typeof ASKS;
const KINDS = Object.keys(ASKS) as Kind[]; // Its own keys.

interface Round {
  readonly kind: Kind;
  /** So many more are waited for before. */
  readonly commits: number;
  /** The new primary has a base to go back to before the next round; else a failback of it copies everything. */
  readonly isProtected: boolean;
}

const rounds = Array.from({ length: ROUNDS }, (): Round => {
  return { kind: dice.pick(KINDS), commits: 20 + dice.below(200), isProtected: dice.below(4) > 0 };
});

/** Neither a lost connection nor a refusal: a bug. */
const isBug = (error: unknown) =>
  error instanceof Error && 'code' in error && String(error.code).startsWith('XX');

describe(`failovers and failbacks amid havoc (${ROUNDS} rounds, seed ${SEED})`, () => {
  let primary: Site;
  let standby: Site;
  let hasFailed = false;
  /** Each leads to one site. */
  const networks = new Map<Site, TcpProxy>();
  const bugs: string[] = [];
  /** What the primary must hold since the last round. */
  let atLeast: Acknowledged = new Map();

  const havocAmong = (sites: Readonly<Record<string, Site>>) =>
    new Havoc({ sites, networks: [...networks.values()], dice: fate });
  const uriOf = (site: Site) => site.uri(networks.get(site)?.port);

  /** Does the next thing that leads there, again and again, until it is done. */
  const achieve = (what: string, attempt: () => Promise<boolean>) =>
    waitFor(what, async () => {
      try {
        return await attempt();
      } catch (error) {
        if (isBug(error)) bugs.push(`${what}: ${String(error)}`);
        throw error;
      }
    });

  before(async () => {
    primary = await Site.start();
    standby = await Site.start({ flags: ['--virtualized-empty'] });
    for (const site of [primary, standby]) {
      networks.set(site, await TcpProxy.start(() => site.daemon.port));
    }
    await primary.whenProtected();
    await standby.system(`CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${uriOf(primary)}'`);
    await standby.whenIn('replicating');
  });

  after(async () => {
    for (const network of networks.values()) await network[Symbol.asyncDispose]();
    await standby?.[Symbol.asyncDispose]();
    await primary?.[Symbol.asyncDispose]();
  });

  const failOver = (kind: Kind) =>
    achieve(`the failover (${kind})`, async () => {
      const { status } = await standby.status();
      if (status === 'ready') return true;
      const isUnderWay = /pending|failing over/.test(String(status));
      if (!isUnderWay) await standby.system(ASKS[kind]);
      return false;
    });

  const whenServing = () =>
    achieve('the new primary to serve', async () => {
      if ((await standby.serviceMode()) !== 'shared') await standby.system(START);
      await standby.main('SELECT 1');
      return true;
    });

  const failBack = () =>
    achieve('the failback', async () => {
      const { status } = await primary.status();
      if (status === 'replicating') return true;
      if (status === 'replication error')
        await primary.system('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
      if (status !== 'ready') return false;
      if ((await primary.serviceMode()) === 'shared') await primary.system(STOP);
      await primary.system(`ALTER VIRTUAL CLUSTER main START REPLICATION OF main ON '${uriOf(standby)}'`);
      return false;
    });

  /** All that was committed at the old primary by the failover time, and nothing else; sound, also where queries would not notice. */
  const assertExact = async (ledger: Ledger, kind: Kind) => {
    const { failover_time: time, id } = await standby.status();
    const failoverMs = Number(BigInt(String(time).split('.')[0] ?? '') / 1000n) / 1000;
    const { acknowledged, begun } = ledger.at(failoverMs);
    const client = await standby.connect();
    try {
      const floor = kind === 'planned' ? ledger.acknowledged() : acknowledged;
      await assertLedger(client, { floor, ceiling: begun });
      const { rows } = await client.query<{ writer: number; last: number }>(
        'SELECT writer, max(seq) AS last FROM ledger GROUP BY writer',
      );
      atLeast = new Map(rows.map(({ writer, last }) => [writer, last]));
    } finally {
      await client.end();
    }
    const where = { store: standby.daemon.store, virtualClusterId: Number(id), database: 'defaultdb' };
    assert.deepEqual(await findDamage(where), []);
  };

  for (const [number, { kind, commits, isProtected }] of rounds.entries()) {
    void it(`${number + 1}: ${kind}`, async (t) => {
      if (hasFailed) return t.skip('an earlier round failed');
      hasFailed = true;
      {
        await using ledger = await Ledger.start({ connect: () => primary.connect(), writers: 3, atLeast });
        const goal = ledger.commits + commits;
        {
          await using before = havocAmong({ primary, standby });
          await waitFor('some commits', () => ledger.commits >= goal);
          await waitFor('some havoc', () => before.told.length > 2);
          t.diagnostic(`before: ${before.told.join(', ')}`);
          if (kind !== 'primary gone') await failOver(kind);
        }
        if (kind === 'primary gone') {
          await primary.daemon.kill();
          await using during = havocAmong({ standby });
          await failOver(kind);
          t.diagnostic(`without a primary: ${during.told.join(', ')}`);
        }
        await whenServing();
        await assertExact(ledger, kind);
        await ledger.stop();
        assert.deepEqual(ledger.losses, []);
      }
      if (primary.daemon.hasEnded) await primary.daemon.startAgain();
      {
        await using havoc = havocAmong({ 'old primary': primary, 'new primary': standby });
        await failBack();
        t.diagnostic(`failback: ${havoc.told.join(', ')}`);
      }
      [primary, standby] = [standby, primary];
      await standby.whenCaughtUp(primary);
      if (isProtected) await primary.whenProtected();
      assert.deepEqual(bugs, []);
      hasFailed = false;
    });
  }

  void it('leaves the same at both sides, and no page damaged', async (t) => {
    if (hasFailed) return t.skip('an earlier round failed');
    await assertSame(standby, { as: primary });
    for (const { daemon } of [standby, primary]) {
      await daemon.stop();
      const folders = (await readdir(join(daemon.store, 'vc'), { recursive: true }))
        .filter((name) => name.endsWith('/global/pg_control'))
        .map((name) => join(daemon.store, 'vc', name, '../..'));
      assert.ok(folders.length >= 2, 'system and main');
      for (const folder of folders) assert.deepEqual(await damagedPages(folder), [], folder);
    }
  });
});
