import { after, before, describe, it } from 'node:test';
import { assertLedger, Ledger } from '../harness/ledger.ts';
import { SEED } from '../harness/seed.ts';
import { assertSame, Site } from '../harness/sites.ts';
import { waitFor } from '../harness/wait.ts';
import { Dice } from '../harness/workload.ts';

/** Fifty and more by night. */
const ROUNDS = Number(process.env['ATOLL_TEST_ROUNDS'] ?? 3);
const dice = new Dice(SEED);

const START = 'ALTER VIRTUAL CLUSTER main START SERVICE SHARED';
const STOP = 'ALTER VIRTUAL CLUSTER main STOP SERVICE';
const COMPLETE = 'ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST';

const KINDS = ['planned', 'primary alive', 'primary killed'] as const;
const CUTS = ['nobody', 'the old primary', 'the new primary'] as const;

interface Round {
  readonly kind: (typeof KINDS)[number];
  /** Whose daemon is killed while it fails over. */
  readonly killed: (typeof CUTS)[number];
  /** So many more are waited for before. */
  readonly commits: number;
}

/** The first ones are of every kind once; all others are chosen by chance. */
const rounds = Array.from({ length: ROUNDS }, (_, round): Round => {
  return { kind: KINDS[round] ?? dice.pick(KINDS), killed: dice.pick(CUTS), commits: dice.below(100) };
});

describe(`failovers and failbacks by chance (${ROUNDS} rounds, seed ${SEED})`, () => {
  let primary: Site;
  let standby: Site;
  let hasFailed = false;

  const begun = (ledger: Ledger, more: number) => {
    const goal = ledger.commits + more;
    return waitFor('some commits', () => ledger.commits >= goal);
  };

  before(async () => {
    primary = await Site.start();
    standby = await Site.start({ flags: ['--virtualized-empty'] });
    await primary.whenProtected();
    await standby.system(`CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${primary.uri()}'`);
    await standby.whenIn('replicating');
  });

  after(async () => {
    await standby?.[Symbol.asyncDispose]();
    await primary?.[Symbol.asyncDispose]();
  });

  /** What the new primary must hold at least, and may hold at most. */
  const failOver = async (ledger: Ledger, { kind, killed, commits }: Round) => {
    await begun(ledger, 20 + commits);
    const before = ledger.acknowledged();
    await standby.whenCaughtUp(primary);
    if (kind === 'primary killed') await primary.daemon.kill();
    // It may be killed under it, when it has asked or before.
    const asking = standby.system(kind === 'planned' ? `${COMPLETE} WITH DRAIN` : COMPLETE).catch(() => []);
    const victim = { nobody: undefined, 'the old primary': primary, 'the new primary': standby }[killed];
    if (victim === primary && kind === 'primary killed') await asking;
    else if (victim !== undefined) {
      await victim.daemon.kill();
      await victim.daemon.startAgain();
    }
    await asking;
    if (victim !== undefined) await askAgain(kind);
    await standby.whenIn('ready');
    return { floor: kind === 'planned' ? null : before };
  };

  /** Where the statement was cut off before it was recorded, it has to be said again. */
  const askAgain = async (kind: Round['kind']) => {
    await waitFor('the failover to be asked for', async () => {
      const { status } = await standby.status();
      if (status !== 'replicating') return true;
      await standby.system(kind === 'planned' ? `${COMPLETE} WITH DRAIN` : COMPLETE);
      return false;
    });
  };

  const failBack = async (kind: Round['kind']) => {
    if (kind === 'primary killed') await primary.daemon.startAgain();
    if (kind !== 'planned') await waitFor('the old primary to stop', () => primary.system(STOP));
    await primary.whenIn('ready');
    await primary.system(`ALTER VIRTUAL CLUSTER main START REPLICATION OF main ON '${standby.uri()}'`);
    [primary, standby] = [standby, primary];
    await standby.whenIn('replicating');
    await primary.whenProtected();
  };

  for (const [number, round] of rounds.entries()) {
    const { kind, killed } = round;
    void it(`${number + 1}: ${kind}, ${killed} is killed meanwhile`, async (t) => {
      if (hasFailed) return t.skip('an earlier round failed');
      hasFailed = true;
      {
        await using ledger = await Ledger.start({ connect: () => primary.connect(), writers: 3 });
        const { floor } = await failOver(ledger, round);
        // Of a planned one nobody writes any more; else the old primary may, and that is lost.
        const ceiling = ledger.acknowledged();
        await standby.system(START);
        const client = await standby.connect();
        await assertLedger(client, { floor: floor ?? ceiling, ceiling });
        await client.end();
        await ledger.stop();
      }
      await failBack(kind);
      hasFailed = false;
    });
  }

  void it('leaves the same at both sides', async (t) => {
    if (hasFailed) return t.skip('an earlier round failed');
    await assertSame(standby, { as: primary });
  });
});
