import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { NEVER } from '../../../test/harness/instance-store.ts';
import { VaultRig } from '../../../test/harness/vault-rig.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import { isAppError, type Lsn, type VirtualClusterId } from '../../base/index.ts';

/** Makes about this many MiB of log, in many commits. */
async function write(rig: VaultRig, mebibytes = 1): Promise<void> {
  await rig.query('CREATE TABLE IF NOT EXISTS t (n serial, filler text)');
  for (let part = 0; part < 4; part++) {
    await rig.query(
      `INSERT INTO t (filler) SELECT repeat(md5(n::text), 8) FROM generate_series(1, $1::int) n`,
      [mebibytes * 700],
    );
  }
}

describe('a vault', () => {
  let rig: VaultRig;
  before(async () => {
    rig = await VaultRig.open();
    await rig.follow();
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  it('holds what the instance has flushed, byte for byte, whole segments compressed', async () => {
    await write(rig, 20);
    const lsn = await rig.flushedLsn();
    await rig.host.whenDurable(3 as VirtualClusterId, lsn, { signal: NEVER });
    assert.ok(rig.status.durableLsn >= lsn);
    assert.equal(rig.status.state.kind, 'receiving');
    assert.ok((await rig.compareWithInstance({ throughLsn: lsn })) > 0n);
    const names = await waitFor('full segments to be closed', () => {
      const found = readdirSync(rig.folder);
      return found.filter((name) => name.endsWith('.partial')).length === 1 && found;
    });
    assert.ok(names.some((name) => name.endsWith('.wal')));
    await waitFor(
      'less to be stored than received',
      () => rig.status.storedBytes < rig.status.receivedBytes / 2n,
    );
  });

  it('knows the time while nobody commits, without a byte of log', async () => {
    await waitFor('time to advance while no log was written', async () => {
      const [clock] = await rig.query(
        'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8::text AS us',
      );
      const at = BigInt(String(clock?.['us']));
      await rig.catchUp();
      const { durableLsn } = rig.status;
      await waitFor('time to advance', () => (rig.status.restorableThrough ?? 0n) > at);
      // Of its own accord Postgres writes a record once in fifteen seconds after there was something to write.
      return rig.status.durableLsn === durableLsn;
    });
  });

  it('goes on after its process was killed', async () => {
    const { receivedBytes } = rig.status;
    const writing = write(rig, 20);
    const { pid } = rig;
    process.kill(pid, 'SIGKILL');
    await writing;
    await waitFor('another process', () => rig.pid !== pid && rig.status.state.kind === 'receiving');
    const lsn = await rig.catchUp();
    await rig.compareWithInstance({ throughLsn: lsn });
    assert.ok(rig.status.receivedBytes > receivedBytes);
    assert.ok(rig.store.logger.has("the vault's process ended (SIGKILL)"));
  });

  it('goes on after the instance was killed', async () => {
    const { state } = rig.instance;
    assert.ok(state.kind === 'running');
    const writing = write(rig, 20).catch(() => undefined);
    process.kill(state.pid, 'SIGKILL');
    await writing;
    await waitFor('the instance', () => rig.instance.state.kind === 'running' && rig.flushedLsn());
    await write(rig, 1);
    const lsn = await rig.catchUp();
    await rig.compareWithInstance({ throughLsn: lsn });
    assert.equal(rig.status.state.kind, 'receiving');
  });

  it('lets the instance stop, and has everything when it has stopped', async () => {
    await rig.instance.stop({ mode: 'orderly', signal: NEVER });
    await rig.host.unfollow(3 as VirtualClusterId);
    assert.equal(rig.host.status(3 as VirtualClusterId), undefined);
    await assert.rejects(rig.host.whenDurable(3 as VirtualClusterId, 1n as Lsn, { signal: NEVER }), (error) =>
      isAppError(error, 'cannot_connect_now'),
    );
    await rig.instance.start({ signal: NEVER });
    await rig.follow();
    await write(rig, 1);
    await rig.compareWithInstance({ throughLsn: await rig.catchUp() });
  });
});
