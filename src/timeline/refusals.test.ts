import assert from 'node:assert/strict';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BareEngine } from '../../test/harness/bare-engine.ts';
import { BackupRig } from '../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { filesBelow } from '../../test/harness/oracle.ts';
import { type ErrorCode, isAppError, type VirtualClusterId } from '../base/index.ts';

let rig: BackupRig;

before(async () => {
  rig = await BackupRig.open();
});

after(async () => {
  await rig?.[Symbol.asyncDispose]();
});

async function assertRefused(run: Promise<unknown>, { code, message }: { code: ErrorCode; message: RegExp }) {
  await assert.rejects(run, (error) => {
    assert.ok(isAppError(error, code), String(error));
    assert.match(error.message, message);
    return true;
  });
}

describe('a backup is refused', () => {
  it('into a collection of another virtual cluster', async () => {
    const collection = rig.newCollection('shared');
    await rig.backup({ collection });
    const other = { virtualClusterId: 4 as VirtualClusterId, virtualClusterName: 'other' };
    await assertRefused(rig.backup({ collection, source: other }), {
      code: 'object_state',
      message: /holds backups of virtual cluster "main", not of "other"/,
    });
    const elsewhere = rig.newCollection('theirs');
    await rig.backup({ collection: elsewhere, source: other });
  });

  it('of an instance that is not the one on record', async () => {
    await assertRefused(rig.backup({ source: { systemIdentifier: 1n } }), {
      code: 'object_state',
      message: /"main" cannot be backed up: its instance is not the one on record/,
    });
    await assertRefused(rig.backup({ source: { engineMajor: 17 } }), {
      code: 'object_state',
      message: /not the one on record/,
    });
  });

  it('of an instance whose pages have no checksums: what only hints changed would not be in its log', async () => {
    await using bare = await BareEngine.open({ initFlags: ['--no-data-checksums'] });
    await bare.start();
    const systemIdentifier = await bare.use('postgres', async (client) => {
      const { rows } = await client.query<{ id: string }>(
        'SELECT system_identifier::text AS id FROM pg_control_system()',
      );
      return BigInt(rows[0]?.id ?? '');
    });
    const { dataDirectory, directory: socketDirectory, superuser: user } = bare;
    const login = { user, database: 'postgres' };
    await assertRefused(rig.backup({ source: { systemIdentifier, dataDirectory, socketDirectory, login } }), {
      code: 'object_state',
      message: /"main" cannot be backed up: it has no data checksums/,
    });
  });

  it('of an instance that does not run', async () => {
    await assertRefused(rig.backup({ source: { socketDirectory: join(rig.store.directory, 'nowhere') } }), {
      code: 'connection_failure',
      message: /session in database "system" was lost/,
    });
  });

  it('when a symbolic link leads out of the collection', async () => {
    const collection = rig.newCollection('linked');
    await rig.backup({ collection });
    await symlink('/tmp', join(collection.directory, '2999'));
    assert.equal((await rig.reader.list(collection, { signal: NEVER })).length, 1);
    await assertRefused(rig.backup({ collection, subdirectory: '2999/01/01-000000.00' }), {
      code: 'name_invalid',
      message: /symbolic link/,
    });
  });

  it('with tablespaces', async () => {
    const asSuperuser = (sql: string) =>
      rig.source.withSystemClient((client) => client.query(sql), { signal: NEVER });
    await rig.source.withSystemClient(
      async (client) => {
        await client.query('SET allow_in_place_tablespaces = on');
        await client.query(`CREATE TABLESPACE elsewhere LOCATION ''`);
      },
      { signal: NEVER },
    );
    await assertRefused(rig.backup(), { code: 'object_state', message: /tablespaces/ });
    await asSuperuser('DROP TABLESPACE elsewhere');
    await rig.backup();
  });
});

describe('a backup is taken', () => {
  it('of databases that nobody may enter, whose names alone are listed', async () => {
    const root = { user: 'root', database: 'postgres' };
    const closings = {
      revoked: 'REVOKE ALL ON DATABASE revoked FROM PUBLIC',
      crowded: 'ALTER DATABASE crowded CONNECTION LIMIT 0',
      shut: 'ALTER DATABASE shut ALLOW_CONNECTIONS false',
    };
    const names = [...Object.keys(closings), 'open', 'own_template'];
    for (const database of names) {
      await withTenant(rig.source, root, (client) => client.query(`CREATE DATABASE ${database}`));
      await withTenant(rig.source, { ...root, database }, (client) =>
        client.query('CREATE TABLE seven AS SELECT generate_series(1, 7) AS a'),
      );
    }
    for (const closing of Object.values(closings)) {
      await withTenant(rig.source, root, (client) => client.query(closing));
    }
    await withTenant(rig.source, root, (client) =>
      client.query('ALTER DATABASE own_template IS_TEMPLATE true'),
    );
    const { objects } = await rig.backup();
    for (const name of Object.keys(closings)) {
      const listed = objects.filter((object) => object.name === name || object.database === name);
      assert.deepEqual(
        listed.map(({ kind, rows }) => [kind, rows]),
        [['database', null]],
        name,
      );
    }
    for (const name of ['open', 'own_template']) {
      const counted = objects.filter((object) => object.name === name || object.database === name);
      assert.deepEqual(
        counted.map(({ kind, rows }) => [kind, rows]),
        [
          ['database', 7n],
          ['schema', null],
          ['table', 7n],
        ],
        name,
      );
    }
  });

  it('of a database whose settings would end or mislead every session', async () => {
    const root = { user: 'root', database: 'postgres' };
    await withTenant(rig.source, root, async (client) => {
      await client.query('CREATE DATABASE misled');
      await client.query('CREATE ROLE nobody_at_all');
    });
    await withTenant(rig.source, { ...root, database: 'misled' }, async (client) => {
      await client.query('CREATE TABLE nine AS SELECT generate_series(1, 9) AS a');
      await client.query("ALTER DATABASE misled SET local_preload_libraries = 'no_such_library'");
      await client.query('ALTER DATABASE misled SET role = nobody_at_all');
      await client.query('ALTER DATABASE misled SET standard_conforming_strings = off');
      await client.query("ALTER DATABASE misled SET search_path = 'nowhere'");
    });
    const { objects } = await rig.backup();
    const nine = objects.find(({ name }) => name === 'nine');
    assert.deepEqual([nine?.database, nine?.rows], ['misled', 9n]);
    await rig.source.withReaderClient({ database: 'misled', signal: NEVER }, async (client) => {
      const [row] = await client.query(
        `SELECT current_user, current_setting('local_preload_libraries') AS libraries, current_setting('role') AS role`,
      );
      assert.deepEqual(row, { current_user: 'atoll_reader', libraries: '', role: 'none' });
    });
  });

  it('in packs no larger than asked for', async () => {
    await withTenant(rig.source, { user: 'root', database: 'defaultdb' }, (client) =>
      client.query(`CREATE TABLE noise AS
        SELECT n, (SELECT string_agg(md5(m * 7919 + n || 'x'), '') FROM generate_series(1, 60) m) AS t
          FROM generate_series(1, 16000) n`),
    );
    const collection = rig.newCollection('small-packs');
    const packBytesMax = 5 * 1024 * 1024;
    const { subdirectory, storedBytes } = await rig.backup({ collection, packBytesMax });
    const packs = (await filesBelow(collection.directory)).filter((file) => file.endsWith('.pack'));
    assert.ok(packs.length >= Number(storedBytes) / packBytesMax - 1 && packs.length > 2, packs.join());
    const target = await rig.beginTarget();
    const result = await rig.materialize(target, { collection, subdirectory });
    const restored = await rig.serve(target, result);
    const digest = (instance: typeof restored) =>
      withTenant(instance, { user: 'root', database: 'defaultdb' }, async (client) => {
        const { rows } = await client.query<{ h: string }>(
          'SELECT sum(hashtextextended(t, n)::numeric)::text AS h FROM noise',
        );
        return rows[0]?.h;
      });
    assert.equal(await digest(restored), await digest(rig.source));
  });

  it('again when the answer to the first was lost', async () => {
    const [collection, subdirectory] = [rig.newCollection('twice'), rig.newSubdirectory()];
    const first = await rig.backup({ collection, subdirectory, jobId: '7' });
    assert.deepEqual(await rig.backup({ collection, subdirectory, jobId: '7', attempt: 2 }), first);
  });
});
