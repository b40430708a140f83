import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';
import { assertLedger, Ledger } from '../harness/ledger.ts';
import { Site } from '../harness/sites.ts';
import { inSteps } from '../harness/steps.ts';
import { TcpProxy } from '../harness/tcp-proxy.ts';
import { waitFor } from '../harness/wait.ts';

const DRAIN = 'ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST WITH DRAIN';
const START = 'ALTER VIRTUAL CLUSTER main START SERVICE SHARED';

/** With it an image is larger than any log that is asked for in vain: rows that are too short to be compressed. */
const FILLER = `CREATE TABLE filler AS SELECT i, repeat('x', 1900) AS what FROM generate_series(1, 16000) i`;
const SEGMENT_BYTES = 16 * 1024 * 1024;
/** Of statements and their answers. */
const TALK_BYTES_MAX = 1024 * 1024;

/** Where the daemons of the old and of the new primary are cut off, in one planned failover each. */
const CUTS = [
  { old: 'drain.recorded', new: 'failover.drain_asked' },
  { old: 'drain.stopped', new: 'failover.cut' },
  { old: 'drain.drained', new: 'failover.promoted' },
] as const;

describe('a planned failover', () => {
  let primary: Site;
  let standby: Site;
  /** Between the standby and its primary. */
  let network: TcpProxy;
  /** Between the two when they have changed places for the first time. */
  let watched: TcpProxy | undefined;

  const step = inSteps();

  const load = () => Ledger.start({ connect: () => primary.connect(), writers: 3 });
  const begun = async (ledger: Ledger) => {
    const { commits } = ledger;
    await waitFor('some commits', () => ledger.commits > commits + 50);
  };
  /** The standby holds all that anybody was told is committed, and nothing else. */
  const assertNothingLost = async (ledger: Ledger) => {
    const acknowledged = ledger.acknowledged();
    const client = await standby.connect();
    await assertLedger(client, { floor: acknowledged, ceiling: acknowledged });
    await client.end();
  };
  /** What was the primary follows what was its standby. */
  const turnAround = async (port?: number) => {
    await primary.system(`ALTER VIRTUAL CLUSTER main START REPLICATION OF main ON '${standby.uri(port)}'`);
    await primary.whenIn('replicating');
    [primary, standby] = [standby, primary];
    await primary.whenProtected();
    await standby.whenCaughtUp(primary);
  };

  before(async () => {
    primary = await Site.start();
    standby = await Site.start({ flags: ['--virtualized-empty'] });
    network = await TcpProxy.start(() => primary.daemon.port);
    await primary.main('CREATE TABLE diary (what text)', FILLER);
    await primary.whenProtected();
    await standby.system(
      `CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${primary.uri(network.port)}'`,
    );
    await standby.whenIn('replicating');
  });

  after(async () => {
    await standby?.[Symbol.asyncDispose]();
    await primary?.[Symbol.asyncDispose]();
    await network?.[Symbol.asyncDispose]();
    await watched?.[Symbol.asyncDispose]();
  });

  step('is refused, and changes nothing, without a primary that answers or a stream that runs', async () => {
    network.mode = 'refuse';
    const refusal = await standby.refusal(DRAIN);
    assert.equal(refusal.code, '08006', refusal.message);
    assert.match(refusal.hint ?? '', /nothing was changed/);
    network.mode = 'pass';
    assert.equal((await standby.status())['status'], 'replicating');
    await primary.main(`INSERT INTO diary VALUES ('still serves')`);
    await standby.system('ALTER VIRTUAL CLUSTER main PAUSE REPLICATION');
    assert.equal((await standby.refusal(DRAIN)).code, '55000');
    await standby.system('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
    assert.equal((await standby.refusal('ALTER VIRTUAL CLUSTER main PAUSE REPLICATION, x')).code, '42601');
  });

  step(
    'can be given up at the standby, and undone by force at the primary, as long as it is not done',
    async () => {
      await standby.whenCaughtUp(primary);
      await standby.asNode('SELECT pg_wal_replay_pause()');
      await primary.main(`INSERT INTO diary VALUES ('not replayed')`);
      const givenUp = standby.refusal(DRAIN);
      await waitFor('the primary to be out of service', async () => (await primary.serviceMode()) === 'none');
      await assert.rejects(primary.main('SELECT 1'), { code: '08004' });
      assert.equal((await standby.status())['status'], 'replication pending failover');
      assert.equal((await primary.refusal(START)).code, '55000');
      await standby.system('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
      assert.equal((await givenUp).code, '55000');
      await primary.whenServing();
      await primary.main(`INSERT INTO diary VALUES ('serves again')`);
      const forced = standby.refusal(DRAIN);
      await waitFor('the primary to be out of service', async () => (await primary.serviceMode()) === 'none');
      await primary.system(`${START} WITH FORCE`);
      const refusal = await forced;
      assert.equal(refusal.code, '55000');
      assert.match(refusal.message, /force/);
      await primary.main(`INSERT INTO diary VALUES ('serves by force')`);
      await standby.asNode('SELECT pg_wal_replay_resume()');
      await standby.whenCaughtUp(primary);
      assert.equal((await standby.status())['status'], 'replicating');
    },
  );

  step('loses nothing that anybody was told is committed, under load', async () => {
    await using ledger = await load();
    await begun(ledger);
    const [row] = await standby.system(DRAIN);
    assert.match(String(row?.['failover_time']), /^\d{19}\.0{10}$/);
    await standby.whenIn('ready');
    await standby.system(START);
    await assertNothingLost(ledger);
    const { commits } = ledger;
    await assert.rejects(primary.main('SELECT 1'), { code: '08004' });
    assert.equal(await primary.serviceMode(), 'none');
    const refusal = await primary.refusal(START);
    assert.equal(refusal.code, '55000');
    assert.match(refusal.hint ?? '', /WITH FORCE/);
    assert.equal(ledger.commits, commits);
    await ledger.stop();
  });

  step('leaves nothing to go back before: the old primary follows from its end', async () => {
    const { daemon } = standby;
    watched = await TcpProxy.start(() => daemon.port);
    await turnAround(watched.port);
    assert.deepEqual(await standby.system('SHOW SALVAGE FOR VIRTUAL CLUSTER main'), []);
    // Nothing but log has moved, which is asked for from the beginning of a segment on, for the old timeline and for the new one.
    const [sizes] = await primary.asNode(
      `SELECT (pg_current_wal_insert_lsn() - restart_lsn)::text AS log FROM pg_replication_slots WHERE slot_name = 'atoll_fork'`,
    );
    const moved = watched.receivedBytes;
    const log = Number(sizes?.['log']);
    assert.ok(
      moved < log + 2 * SEGMENT_BYTES + TALK_BYTES_MAX,
      `${moved} bytes have moved for ${log} of log`,
    );
    // What only made it large.
    await primary.main('DROP TABLE filler');
    const rows = await standby.asNode('SELECT pg_is_in_recovery() AS follows');
    assert.deepEqual(rows, [{ follows: true }]);
  });

  step('has the same fingerprint at both sides, as long as they hold the same', async () => {
    await primary.main(
      'CREATE VIEW diaries AS SELECT * FROM diary',
      `SELECT lo_from_bytea(0, 'a large object')`,
      `INSERT INTO diary VALUES ('a name in a different order')`,
    );
    await standby.whenCaughtUp(primary);
    const { replicated_time: at } = await standby.status();
    const moment = (at as Date).toISOString();
    const compared = `SELECT * FROM [SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER main] AS OF SYSTEM TIME '${moment}'`;
    const [[theirs], [ours]] = await Promise.all([primary.system(compared), standby.system(compared)]);
    assert.deepEqual(Object.keys(ours ?? {}), ['tenant_name', 'end_ts', 'fingerprint']);
    assert.equal(ours?.['end_ts'], `${BigInt((at as Date).getTime()) * 1_000_000n}.0000000000`);
    assert.match(String(ours?.['fingerprint']), /^-?\d{1,19}$/);
    assert.deepEqual(ours, theirs);
    // One row, changed in place: neither counts nor definitions tell.
    await primary.main(`UPDATE diary SET what = 'a name in a different orden' WHERE what LIKE 'a name%'`);
    await standby.whenCaughtUp(primary);
    const [later] = await standby.system('SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER main');
    assert.notEqual(later?.['fingerprint'], ours?.['fingerprint']);
    const same = `SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER main AS OF SYSTEM TIME '${String(later?.['end_ts'])}'`;
    assert.deepEqual((await primary.system(same))[0], later);
    assert.equal((await standby.status())['status'], 'replicating');
  });

  for (const [round, cut] of CUTS.entries()) {
    step(`loses nothing though both daemons are killed: ${cut.old}, ${cut.new}`, async () => {
      await primary.restartToDieAt(cut.old);
      await primary.whenServing();
      await standby.restartToDieAt(cut.new);
      await standby.whenIn('replicating');
      await standby.whenCaughtUp(primary);
      await using ledger = await load();
      await begun(ledger);
      // Its daemon is killed under it.
      const asking = standby.system(DRAIN).catch(() => undefined);
      // The order in which they die is that of the cuts: the standby asks first, and fails over last.
      const sites = cut.new === 'failover.drain_asked' ? [standby, primary] : [primary, standby];
      for (const site of sites) await site.afterDeath();
      await asking;
      await standby.whenIn('ready');
      await standby.system(START);
      await assertNothingLost(ledger);
      await assert.rejects(primary.main('SELECT 1'), { code: '08004' });
      await ledger.stop();
      if (round < CUTS.length - 1) await turnAround();
    });
  }

  step('is undone by force, beside the new primary', async () => {
    await primary.system(`${START} WITH FORCE`);
    await primary.main(`INSERT INTO diary VALUES ('beside the other')`);
    assert.equal(await primary.serviceMode(), 'shared');
  });
});
