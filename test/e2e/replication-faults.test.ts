import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import { assertLedger, Ledger } from '../harness/ledger.ts';
import { Site } from '../harness/sites.ts';
import { inSteps } from '../harness/steps.ts';
import { TcpProxy } from '../harness/tcp-proxy.ts';
import { vaultPids } from '../harness/vault-rig.ts';
import { waitFor } from '../harness/wait.ts';

const START = 'ALTER VIRTUAL CLUSTER main START SERVICE SHARED';
const STOP = 'ALTER VIRTUAL CLUSTER main STOP SERVICE';
const DROP = 'DROP VIRTUAL CLUSTER main IMMEDIATE';
const LATEST = 'ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST';
const SYSTEM_ID = 1;
const MIB = 1024 * 1024;
const MID_SCAN_BYTES = 4 * MIB;
/** Some 10 MiB of log. */
const MANY_ROWS = 20_000;

/** Steps of a failback at which the daemon is killed, one after the other in one failback. */
const CUTS = [
  'failback.secured',
  'failback.rewound',
  'failback.fenced',
  'failback.committed',
  'failback.consistent',
] as const;

describe('faults of replication streams', () => {
  let primary: Site;
  let standby: Site;
  let network: TcpProxy;

  const step = inSteps();

  const jobOf = async (site: Site, type: string) =>
    (
      await site.system(
        `SELECT status, error FROM [SHOW JOBS] WHERE job_type = '${type}' ORDER BY job_id DESC LIMIT 1`,
      )
    )[0];
  const create = () =>
    standby.system(`CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${primary.uri(network.port)}'`);

  const whenOver = (moment: string) =>
    waitFor('the moment to pass', async () => {
      const [row] = await primary.main(`SELECT clock_timestamp() > '${moment}' AS is_over`);
      return row?.['is_over'] === true;
    });

  before(async () => {
    primary = await Site.start();
    standby = await Site.start({ flags: ['--virtualized-empty'] });
    network = await TcpProxy.start(() => primary.daemon.port);
    await primary.main('CREATE TABLE filler (n int, what text)');
    await primary.whenProtected();
    await create();
    await standby.whenIn('replicating');
  });

  after(async () => {
    await standby?.[Symbol.asyncDispose]();
    await primary?.[Symbol.asyncDispose]();
    await network?.[Symbol.asyncDispose]();
  });

  step('gives up a network that accepts and says nothing, and goes on when it speaks again', async () => {
    await standby.system(`SET CLUSTER SETTING physical_replication.consumer.retry_window = '2s'`);
    await standby.whenCaughtUp(primary);
    network.mode = 'silent';
    await primary.main(`INSERT INTO filler VALUES (1, 'not heard of yet')`);
    const planned = await standby.refusal(`${LATEST} WITH DRAIN`);
    assert.ok(['08006', '55000'].includes(planned.code), planned.message);
    await standby.whenIn('replication error');
    const job = await jobOf(standby, 'REPLICATION STREAM INGESTION');
    assert.equal(job?.['status'], 'failed');
    assert.match(String(job?.['error']), /could not be reached for too long/);
    // Nobody has to know of it there.
    assert.equal(await primary.serviceMode(), 'shared');
    network.mode = 'refuse';
    network.mode = 'pass';
    await standby.system('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
    await standby.whenCaughtUp(primary);
    await standby.system('RESET CLUSTER SETTING physical_replication.consumer.retry_window');
  });

  step('goes on following when a failover that was asked for could not be recorded', async () => {
    const system = await standby.connectAsNode(SYSTEM_ID);
    await system.query('BEGIN; LOCK TABLE public.replication_streams');
    const asked = standby.refusal(LATEST);
    await waitFor('the follower to be cut off', async () => {
      const [row] = await standby.asNode('SHOW primary_conninfo');
      return row?.['primary_conninfo'] === '';
    });
    const server = (await standby.daemon.postmasters()).get(SYSTEM_ID);
    assert.ok(server !== undefined);
    process.kill(server, 'SIGKILL');
    await asked;
    await system.end().catch(() => undefined);
    await standby.whenIn('replicating');
    await primary.main(`INSERT INTO filler VALUES (1, 'written when the failover had come to nothing')`);
    await standby.whenCaughtUp(primary);
  });

  step('spares the disk of a primary whose standby does not come', async () => {
    await standby.system('ALTER VIRTUAL CLUSTER main PAUSE REPLICATION');
    // Of the operator's 10 GB, so that it need not be filled.
    const settingsFile = join(primary.daemon.store, 'vc/3/conf/postgresql.conf');
    const settings = await readFile(settingsFile, 'utf8');
    // The expiration window says for how long log is kept, not this: half of it has gone by, and the slot counts as used.
    const rest = async () => {
      const [slot] = await primary.asNode(
        `SELECT inactive_since::text AS since FROM pg_replication_slots WHERE slot_name LIKE 'atoll_stream_%' AND NOT active`,
      );
      return slot?.['since'];
    };
    const since = await waitFor('nobody to follow', rest);
    await writeFile(settingsFile, `${settings}\nidle_replication_slot_timeout = '6s'\n`);
    await primary.asNode('SELECT pg_reload_conf()');
    await waitFor('the slot to be used', async () => ((await rest()) ?? since) !== since);
    const limits = `max_slot_wal_keep_size = '32MB'\nmin_wal_size = '32MB'\nmax_wal_size = '64MB'\n`;
    await writeFile(settingsFile, `${settings}\n${limits}`);
    await primary.asNode('SELECT pg_reload_conf()');
    const walBytes = async () => {
      const [row] = await primary.asNode('SELECT sum(size)::int8::text AS bytes FROM pg_ls_waldir()');
      return Number(row?.['bytes']);
    };
    const lostBytes = 192 * MIB;
    // A segment of log each: an end of it takes as much as what it could hold.
    for (let written = 0; written < lostBytes; written += 16 * MIB) {
      await primary.main(`INSERT INTO filler VALUES (2, 'while the standby is away')`);
      await primary.asNode('SELECT pg_switch_wal()');
    }
    await primary.asNode('CHECKPOINT');
    await waitFor('the producer to give up', async () => {
      const job = await jobOf(primary, 'REPLICATION STREAM PRODUCER');
      return job?.['status'] === 'failed' && /too far behind/.test(String(job['error']));
    });
    await waitFor('its slot to be gone', async () => {
      const slots = await primary.asNode(
        `SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'atoll_stream_%'`,
      );
      return slots.length === 0;
    });
    await primary.asNode('CHECKPOINT');
    await waitFor('the log to be removed', async () => (await walBytes()) < lostBytes / 2);
    await primary.main(`INSERT INTO filler VALUES (2, 'still serves')`);
    await writeFile(settingsFile, settings);
    await primary.asNode('SELECT pg_reload_conf()');
    // A vault that was slow has lost its place in the log, too: a failback across that would have to copy everything.
    await primary.whenRestorable();
    await standby.system('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
    await standby.whenIn('replication error');
    assert.match(
      String((await jobOf(standby, 'REPLICATION STREAM INGESTION'))?.['error']),
      /too far behind|is over/,
    );
    // As far as it came it can be failed over to; here it begins anew.
    await standby.system(DROP);
    await create();
    await standby.whenIn('replicating');
    await standby.whenProtected();
  });

  step('stops at a moment to come though it has replayed past it meanwhile', async () => {
    await standby.restartToDieAt('failover.awaited');
    await standby.whenIn('replicating');
    const follower = await standby.connectAsNode();
    await primary.main(`INSERT INTO filler VALUES (4, 'before the moment')`);
    await standby.whenCaughtUp(primary);
    const [row] = await primary.main(`SELECT (clock_timestamp() + '10s')::text AS moment`);
    const moment = String(row?.['moment']);
    const complete = `ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '${moment}'`;
    // It may be killed before it answers.
    await standby.system(complete).catch(() => undefined);
    await standby.daemon.ended();
    await whenOver(moment);
    await primary.main(`INSERT INTO filler VALUES (4, 'after the moment')`);
    await waitFor('the follower to replay past it', async () => {
      const sql = `SELECT pg_last_xact_replay_timestamp() > $1 AS is_past`;
      return (await follower.query<{ is_past: boolean }>(sql, [moment])).rows[0]?.is_past === true;
    });
    await follower.end();
    await standby.afterDeath();
    await standby.whenIn('ready');
    await standby.system(START);
    await standby.whenServing();
    const rows = await standby.main('SELECT what FROM filler WHERE n = 4');
    assert.deepEqual(rows, [{ what: 'before the moment' }]);
    await standby.system(STOP, DROP);
  });

  step('says so when the first image ends behind the moment that was asked for', async () => {
    network.silentAtBytes = network.receivedBytes + MID_SCAN_BYTES;
    await create();
    await waitFor('the scan to be under way', () => network.mode === 'silent');
    const [row] = await primary.main(`SELECT (clock_timestamp() + '2s')::text AS moment`);
    const moment = String(row?.['moment']);
    await standby.system(`ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '${moment}'`);
    await whenOver(moment);
    await primary.main(`INSERT INTO filler VALUES (5, 'in the log of the first image')`);
    network.mode = 'refuse';
    network.mode = 'pass';
    await standby.whenIn('replication error');
    const job = await jobOf(standby, 'REPLICATION STREAM INGESTION');
    assert.match(String(job?.['error']), /window|earliest|restorable/);
    await standby.system(LATEST);
    await standby.whenIn('ready');
    await standby.system(DROP);
    await create();
    await standby.whenIn('replicating');
    await standby.whenProtected();
  });

  step('keeps all that it has replayed when it takes over, though its vault is behind', async () => {
    await standby.whenProtected();
    const [vault] = vaultPids(standby.daemon.pid);
    assert.ok(vault !== undefined);
    process.kill(vault, 'SIGSTOP');
    await primary.main(
      `INSERT INTO filler SELECT 6, repeat(md5(n::text), 8) FROM generate_series(1, ${MANY_ROWS}) n`,
    );
    const [row] = await primary.main('SELECT clock_timestamp()::text AS at');
    await standby.whenCaughtUp(primary);
    process.kill(vault, 'SIGKILL');
    await standby.system(LATEST);
    await standby.whenIn('ready');
    await standby.system(
      `CREATE VIRTUAL CLUSTER proof FROM VIRTUAL CLUSTER main AS OF SYSTEM TIME '${String(row?.['at'])}'`,
      'ALTER VIRTUAL CLUSTER proof START SERVICE SHARED',
    );
    const inProof = { cluster: 'proof' };
    const rows = await standby.daemon.query('SELECT count(*)::int AS n FROM filler WHERE n = 6', inProof);
    assert.deepEqual(rows, [{ n: MANY_ROWS }]);
    await standby.system(
      'ALTER VIRTUAL CLUSTER proof STOP SERVICE',
      'DROP VIRTUAL CLUSTER proof IMMEDIATE',
      DROP,
    );
    await create();
    await standby.whenIn('replicating');
    await standby.whenProtected();
  });

  /** Its server crashes, and is stopped before its vault has received what was written last. */
  const stopWithoutVault = async (site: Site) => {
    const id = Number((await site.status())['id']);
    const server = async () => (await site.daemon.postmasters()).get(id);
    const [vault] = vaultPids(site.daemon.pid);
    assert.ok(vault !== undefined);
    process.kill(vault, 'SIGSTOP');
    await site.main(`INSERT INTO filler VALUES (7, 'received by no vault')`);
    const crashed = await server();
    assert.ok(crashed !== undefined);
    process.kill(crashed, 'SIGKILL');
    await waitFor('another server', async () => ![crashed, undefined].includes(await server()));
    await site.whenServing();
    const stopping = site.system(STOP);
    await waitFor('it to be stopped', async () => (await server()) === undefined);
    process.kill(vault, 'SIGKILL');
    await stopping;
  };

  step('fails back though it is killed at each step of that', async () => {
    await using ledger = await Ledger.start({ connect: () => primary.connect(), writers: 2 });
    await waitFor('some commits', () => ledger.commits > 50);
    await standby.whenCaughtUp(primary);
    await standby.system(LATEST);
    await standby.whenIn('ready');
    await standby.system(START);
    const { commits } = ledger;
    await waitFor('commits that will be lost', () => ledger.commits > commits + 50);
    await stopWithoutVault(primary);
    await ledger.stop();
    await standby.main(`INSERT INTO filler VALUES (3, 'written at the new primary')`);
    let isAsked = false;
    for (const cut of CUTS) {
      await primary.restartToDieAt(cut);
      if (!isAsked) {
        const sql = `ALTER VIRTUAL CLUSTER main START REPLICATION OF main ON '${standby.uri()}'`;
        // It may be killed before it answers, and admits nobody before it serves.
        await waitFor('the failback to be asked for', async () => {
          if (!primary.daemon.hasEnded) await primary.system(sql);
          return true;
        });
      }
      isAsked = true;
      await primary.daemon.ended();
    }
    await primary.afterDeath();
    await primary.whenIn('replicating');
    await primary.whenCaughtUp(standby);
    const sql = 'SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER main';
    const [ours] = await primary.system(sql);
    const [theirs] = await standby.system(`${sql} AS OF SYSTEM TIME '${String(ours?.['end_ts'])}'`);
    assert.deepEqual(theirs, ours);
    const client = await standby.connect();
    await assertLedger(client, { floor: new Map() });
    await client.end();
    assert.ok((await primary.system('SHOW SALVAGE FOR VIRTUAL CLUSTER main')).length === 1);
  });
});
