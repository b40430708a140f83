import assert from 'node:assert/strict';
import { rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { NEVER } from '../../../test/harness/instance-store.ts';
import { VaultRig } from '../../../test/harness/vault-rig.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import type { Clock, IncarnationId, Timestamp } from '../../base/index.ts';
import { stretchesTo } from '../store/lineage.ts';
import { listWalFolder } from '../store/wal-folder.ts';
import { BackupSession } from './backup-session.ts';
import { changesAlong, readChanges } from './read-changes.ts';

/** Whoever waits fails. */
const IMPATIENT: Clock = {
  now: () => 0n as Timestamp,
  monotonicMs: () => 0,
  sleep: () => assert.fail('nobody makes what is waited for'),
};
const ANOTHER = '00000000-0000-4000-8000-000000000000' as IncarnationId;

test('what damaged or missing log of the vault has changed is not known, and no error', async () => {
  await using rig = await VaultRig.open();
  await rig.follow();
  await rig.query('CREATE TABLE t (n int)');
  const fromLsn = await rig.catchUp();
  for (let segment = 0; segment < 3; segment += 1) {
    await rig.query('INSERT INTO t VALUES (1)');
    await rig.instance.withSystemClient((client) => client.query('SELECT pg_catalog.pg_switch_wal()'), {
      signal: NEVER,
    });
  }
  await rig.query('INSERT INTO t VALUES (1)');
  const lsn = await rig.catchUp();
  const closed = await waitFor('segments to be closed', async () => {
    const { segments } = await listWalFolder(rig.folder);
    const names = segments.filter(({ isClosed }) => isClosed).map(({ name }) => name);
    return names.length >= 3 && names;
  });
  const { incarnation, virtualClusterId } = rig.instance.identity;
  await rig.host.unfollow(virtualClusterId);
  const incarnations = await rig.reader.incarnations(rig.location);
  const changes = () =>
    changesAlong({
      // Summaries in a directory are of its own life.
      source: { dataDirectory: rig.instance.dataDirectory, incarnation: ANOTHER },
      timeline: rig.location,
      incarnations,
      stretches: stretchesTo({ incarnation, timelineId: 1, lsn }, incarnations),
      fromLsn,
      segmentBytes: 16 * 1024 * 1024,
      hasOwnLog: false,
      signal: NEVER,
    });
  assert.equal((await changes()).kind, 'known');
  const [, middle = ''] = closed;
  await truncate(join(rig.folder, middle), 100);
  assert.equal((await changes()).kind, 'unknown');
  await rm(join(rig.folder, middle));
  assert.equal((await changes()).kind, 'unknown');
});

test('log of a server that summarises none, as a follower, is read without waiting for summaries', async () => {
  await using rig = await VaultRig.open();
  await rig.follow();
  await rig.query('CREATE TABLE t (n int)');
  const fromLsn = await rig.catchUp();
  await rig.query('INSERT INTO t VALUES (1)');
  const [place] = await rig.query(
    `SELECT oid::text AS database, pg_catalog.pg_relation_filenode('t')::text AS filenode FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()`,
  );
  const lsn = await rig.catchUp();
  const { identity, dataDirectory, socketDirectory, login } = rig.instance;
  const source = { ...identity, dataDirectory, socketDirectory, login };
  await using session = await BackupSession.open(source, { signal: NEVER });
  assert.equal(await session.summarises(), true, 'this one does');
  const none = { summarises: async () => false, summarisedTo: async () => null };
  const { incarnation } = identity;
  const incarnations = await rig.reader.incarnations(rig.location);
  const changes = await readChanges(none, {
    source,
    timeline: rig.location,
    incarnations,
    stretches: stretchesTo({ incarnation, timelineId: 1, lsn }, incarnations),
    fromLsn,
    segmentBytes: 16 * 1024 * 1024,
    clock: IMPATIENT,
    signal: NEVER,
  });
  assert.ok(changes.kind === 'known');
  const relation = { databaseOid: Number(place?.['database']), filenode: Number(place?.['filenode']) };
  assert.deepEqual([...changes.pages.changedBlocks(relation, { beginBlock: 0, endBlock: 10 })], [0]);
});
