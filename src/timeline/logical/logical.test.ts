import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, it } from 'node:test';
import { BackupRig } from '../../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../../test/harness/instance-store.ts';
import { filesBelow } from '../../../test/harness/oracle.ts';
import { SEED } from '../../../test/harness/seed.ts';
import { isAppError } from '../../base/index.ts';
import { systemClock } from '../../daemon/index.ts';
import { clusterKeyOf } from '../../keys/index.ts';
import { FINGERPRINT_OF_ROWS } from '../../logical-copy/testing-everything.ts';
import { SKIP_NOTHING } from '../../logical-copy/index.ts';
import { type CollectionLocation, createLogicalWorker, type FolderLocation } from '../index.ts';
import { Confinement } from '../worker/confinement.ts';
import { FAULT_POINT_VARIABLE } from '../worker/fault-point.ts';
import type { LogicalSelection } from './contract.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
const READER = 'atoll_copy_reader';
const OPTIONS = { onProgress: () => undefined, signal: NEVER };
const TABLES: LogicalSelection = {
  kind: 'tables',
  database: 'defaultdb',
  patterns: [{ schema: 'public', name: null }],
};
const FAULT_POINTS = [
  'backup.after_claim',
  'backup.after_lock',
  'objects.after_range',
  'verify.before',
  'publish.before_manifest',
  'publish.after_manifest',
  'publish.after_latest',
];
const PUBLISHED = ['publish.after_manifest', 'publish.after_latest'];

let rig: BackupRig;
let worker: ReturnType<typeof createLogicalWorker>;
let nextJob = 1;
let nextDatabase = 1;

before(async () => {
  rig = await BackupRig.open();
  const { logger } = rig.store;
  const confinement = new Confinement({ logger });
  worker = createLogicalWorker({ clock: systemClock(), logger, isLimited: false, confinement });
  await sql([
    'CREATE TABLE wide (id int PRIMARY KEY, note text)',
    `INSERT INTO wide SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 9000) n`,
    'CREATE TABLE small (id int)',
    'INSERT INTO small VALUES (1)',
  ]);
  await rig.source.copyRoles.makeReader({ role: READER, databases: ['defaultdb'], signal: NEVER });
});
after(async () => {
  await rig?.[Symbol.asyncDispose]();
});

async function sql(statements: readonly string[], database = 'defaultdb'): Promise<void> {
  await withTenant(rig.source, { ...ROOT, database }, async (client) => {
    for (const statement of statements) await client.query(statement);
  });
}

interface Variation {
  readonly collection: CollectionLocation;
  readonly subdirectory?: string;
  readonly onto?: string | null;
  readonly jobId?: string;
  readonly attempt?: number;
  readonly selection?: LogicalSelection;
  readonly packBytesMax?: number;
}

async function backup(variation: Variation) {
  const { identity, dataDirectory, socketDirectory } = rig.source;
  return worker.backupObjects(
    {
      source: { ...identity, dataDirectory, socketDirectory },
      subdirectory: rig.newSubdirectory(),
      onto: null,
      clusterId: rig.store.host.clusterId,
      key: rig.key,
      jobId: String(nextJob++),
      attempt: 1,
      packBytesMax: 16 * 1024 * 1024,
      release: '26.2',
      selection: TABLES,
      role: READER,
      ...variation,
    },
    OPTIONS,
  );
}

/** Restores all tables into a database of their own, of which `use` then asks. */
async function restored<T>(
  options: { collection: CollectionLocation; subdirectory: string; key?: typeof rig.key; from?: string },
  use: (database: string) => Promise<T>,
): Promise<T> {
  const { collection, subdirectory, key = rig.key, from = 'defaultdb' } = options;
  const database = `restored_${nextDatabase++}`;
  const role = `atoll_copy_${database}`;
  await sql([`CREATE DATABASE ${database}`]);
  await rig.source.copyRoles.makeMaker({ role, onBehalfOf: 'root', database, signal: NEVER });
  try {
    await worker.restoreObjects(
      {
        origin: { kind: 'backup', collection, subdirectory, key, database: from },
        patterns: null,
        target: {
          virtualClusterName: 'main',
          socketDirectory: rig.source.socketDirectory,
          database,
          role,
          owner: 'root',
        },
        schemaOnly: false,
        verifyTableData: false,
        skip: SKIP_NOTHING,
      },
      OPTIONS,
    );
    return await use(database);
  } finally {
    assert.deepEqual((await rig.source.copyRoles.mark({ role, signal: NEVER }))?.isDone !== undefined, true);
    await rig.source.copyRoles.remove({ role, signal: NEVER });
  }
}

async function digest(database = 'defaultdb'): Promise<unknown> {
  return withTenant(rig.source, { ...ROOT, database }, async (client) => {
    const { rows } = await client.query<object>(
      `SELECT (SELECT count(*)::int FROM wide) AS wide, (SELECT coalesce(sum(hashtextextended(w::text, 0)), 0)::text FROM wide w) AS content,
        (SELECT count(*)::int FROM small) AS small`,
    );
    return rows[0];
  });
}

describe('a backup of tables', () => {
  for (const point of FAULT_POINTS) {
    it(`cut off at ${point} is whole or is none, and its next attempt succeeds`, async () => {
      const collection = rig.newCollection(`cut-${point}`);
      const wanted = { collection, subdirectory: rig.newSubdirectory(), jobId: `job-${nextJob++}` };
      process.env[FAULT_POINT_VARIABLE] = point;
      try {
        await assert.rejects(backup(wanted), (error) => isAppError(error, 'worker_lost'));
      } finally {
        delete process.env[FAULT_POINT_VARIABLE];
      }
      const isPublished = PUBLISHED.includes(point);
      const { subdirectory } = wanted;
      assert.deepEqual(
        await rig.reader.list(collection, { signal: NEVER }),
        isPublished ? [subdirectory] : [],
      );
      const summary = await backup({ ...wanted, attempt: 2 });
      const found = { collection, subdirectory, key: rig.key, signal: NEVER };
      assert.deepEqual(await rig.reader.summary(found), summary);
      assert.equal(summary.rows, 9001n);
      assert.deepEqual(await rig.reader.missingFiles(found), []);
      const packs = (await filesBelow(collection.directory)).filter((name) => name.endsWith('.pack'));
      assert.ok(
        packs.length > 0 && packs.every((name) => name.includes(`/data/${isPublished ? 1 : 2}-`)),
        packs.join(),
      );
    });
  }

  it('goes on from its last checkpoint, and reads again what has changed since', async () => {
    const collection = rig.newCollection('resumed');
    await sql([
      'CREATE TABLE noise (id int PRIMARY KEY, note text STORAGE PLAIN) WITH (autovacuum_enabled = off)',
      `INSERT INTO noise SELECT n, (SELECT string_agg(md5(n::text || m), '') FROM generate_series(1, 30) m) FROM generate_series(1, 12000) n`,
      'VACUUM (FREEZE) noise',
    ]);
    const selection: LogicalSelection = {
      kind: 'tables',
      database: 'defaultdb',
      patterns: [{ schema: 'public', name: 'noise' }],
    };
    const wanted = {
      collection,
      selection,
      subdirectory: rig.newSubdirectory(),
      jobId: `job-${nextJob++}`,
      packBytesMax: 1,
    };
    process.env[FAULT_POINT_VARIABLE] = 'objects.after_checkpoint';
    try {
      for (const attempt of [1, 2]) {
        await assert.rejects(backup({ ...wanted, attempt }), (error) => isAppError(error, 'worker_lost'));
      }
    } finally {
      delete process.env[FAULT_POINT_VARIABLE];
    }
    // In a page that was read already.
    await sql(["UPDATE noise SET note = 'changed' WHERE id = 1", 'DELETE FROM noise WHERE id = 12000']);
    const summary = await backup({ ...wanted, attempt: 3 });
    const { subdirectory } = wanted;
    const found = { collection, subdirectory, key: rig.key, signal: NEVER };
    assert.deepEqual(await rig.reader.summary(found), summary);
    assert.deepEqual(await rig.reader.missingFiles(found), []);
    assert.equal(summary.rows, 11_999n);
    const files = await filesBelow(collection.directory);
    assert.deepEqual(
      files.filter((name) => name.includes('/progress/')),
      [],
    );
    const attempts = new Set(files.flatMap((name) => /\/data\/(\d+)-/.exec(name)?.[1] ?? []));
    assert.ok(attempts.has('2') && attempts.has('3'), `packs of attempts ${[...attempts].join()}`);
    const digestOf = (database: string) =>
      withTenant(rig.source, { ...ROOT, database }, async (client) => {
        const { rows } = await client.query<object>(
          'SELECT count(*)::int AS rows, sum(hashtextextended(n::text, 0))::text AS content FROM noise n',
        );
        return rows[0];
      });
    assert.deepEqual(await restored({ collection, subdirectory }, digestOf), await digestOf('defaultdb'));
    await sql(['DROP TABLE noise']);
  });

  it('that was changed anywhere is not restored, and leaves nothing', async () => {
    const collection = rig.newCollection('changed');
    const { subdirectory } = await backup({ collection });
    const names = (await filesBelow(collection.directory)).filter((name) =>
      /BACKUP_MANIFEST|\.pack$/.test(name),
    );
    assert.ok(names.length >= 2);
    for (const name of names) {
      const path = join(collection.directory, name);
      const bytes = await readFile(path);
      for (const share of [0.2, 0.8]) {
        const at = Math.trunc(bytes.length * share);
        const changed = Buffer.from(bytes);
        changed.writeUInt8(changed.readUInt8(at) ^ 0x10, at);
        await writeFile(path, changed);
        await assert.rejects(
          restored({ collection, subdirectory }, () => Promise.resolve()),
          (error) => isAppError(error, 'data_corrupt', 'backup_untrusted'),
          `${name} at ${at}`,
        );
        const left = await withTenant(
          rig.source,
          { ...ROOT, database: `restored_${nextDatabase - 1}` },
          (client) => client.query(`SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace`),
        );
        assert.equal(left.rowCount, 0);
      }
      await writeFile(path, bytes);
    }
    assert.deepEqual(await restored({ collection, subdirectory }, digest), await digest());
  });

  it('is no image of a virtual cluster', async () => {
    const collection = rig.newCollection('no-image');
    const { subdirectory } = await backup({ collection });
    const target = await rig.beginTarget();
    await assert.rejects(rig.materialize(target, { subdirectory, collection }), (error) =>
      isAppError(error, 'object_state'),
    );
  });

  it('on top of another has what was written before that one and committed after it', async () => {
    const collection = rig.newCollection('late');
    const selection: LogicalSelection = {
      kind: 'tables',
      database: 'defaultdb',
      patterns: [{ schema: 'late', name: 'quiet' }],
    };
    await sql([
      'CREATE SCHEMA late',
      'CREATE TABLE late.quiet (id int)',
      'INSERT INTO late.quiet VALUES (1)',
    ]);
    const writer = await openWriter();
    await writer.begin('INSERT INTO late.quiet VALUES (2)');
    // From here on nothing in the log names the page: what was looked at is marked so already, and summaries begin anew.
    await sql(['SELECT FROM late.quiet', 'CHECKPOINT']);
    const full = await backup({ collection, selection });
    await writer.end('COMMIT');
    await writer.close();
    const onto = full.subdirectory;
    const subdirectory = `incrementals/${onto}/${dayOf(rig.newSubdirectory())}`;
    const second = await backup({ collection, selection, onto, subdirectory });
    assert.deepEqual([full.rows, second.rows], [1n, 2n]);
    // Reading marks pages, which is a change the first time after a checkpoint.
    let last = second;
    for (let again = 0; again < 2; again += 1) {
      await sql(['CHECKPOINT']);
      const day = dayOf(rig.newSubdirectory());
      last = await backup({
        collection,
        selection,
        onto: last.subdirectory,
        subdirectory: `incrementals/${onto}/${day}`,
      });
    }
    assert.deepEqual([last.rows, last.storedBytes], [2n, 0n], 'nothing is read again when nothing changed');
  });

  it('on top of others is what the tables held, whatever happened meanwhile', async () => {
    const collection: FolderLocation = rig.newCollection('chain');
    const random = randomOf(String(SEED));
    const writer = await openWriter();
    let onto: string | null = null;
    for (let round = 0; round < 4; round += 1) {
      for (let change = 0; change < 4; change += 1) await sql([changeOf(random)]);
      // One transaction is always open, and has written before the backup; it ends, one way or the other, after it.
      await writer.begin(changeOf(random));
      const expected = await digest();
      const full: string = rig.newSubdirectory();
      const chain: { subdirectory?: string } =
        onto === null ? {} : { subdirectory: `incrementals/${firstOf(onto)}/${dayOf(full)}` };
      const summary = await backup({ collection, onto, ...chain });
      await writer.end(random(2) === 0 ? 'COMMIT' : 'ROLLBACK');
      onto = summary.subdirectory;
      const found = await restored({ collection, subdirectory: onto }, digest);
      assert.deepEqual(found, expected, `seed ${SEED}, round ${round}`);
    }
    await writer.close();
  });
});

/** As it was written then: every later release must restore it. */
describe('a backup of a database that release 26.2 wrote', () => {
  const golden = new URL('../../../test/golden/objects-26.2/', import.meta.url);
  const collection = { displayUri: 'golden', directory: fileURLToPath(new URL('collection', golden)) };

  it('is restored', async () => {
    const key = clusterKeyOf(await readFile(new URL('cluster-key', golden)));
    const told: unknown = JSON.parse(await readFile(new URL('rows.json', golden), 'utf8'));
    const { newest, rows } = told as { newest: string; rows: unknown };
    const found = await restored(
      { collection, subdirectory: newest, key, from: 'golden' },
      async (database) =>
        withTenant(
          rig.source,
          { ...ROOT, database },
          async (client) => (await client.query<object>(FINGERPRINT_OF_ROWS)).rows,
        ),
    );
    assert.deepEqual(found, rows);
  });
});

/** `2026/01/02-030405.06` of any path of a backup. */
function firstOf(subdirectory: string): string {
  return /\d{4}\/\d\d\/\d\d-\d{6}\.\d\d/.exec(subdirectory)?.[0] ?? subdirectory;
}

function dayOf(subdirectory: string): string {
  const [year, month, rest = ''] = subdirectory.split('/');
  const [day, time] = rest.split('-');
  return `${year}${month}${day}/${time}`;
}

/** Numbers below a bound, the same for the same seed. */
function randomOf(seed: string): (below: number) => number {
  let count = 0;
  return (below) => createHash('sha256').update(`${seed} ${count++}`).digest().readUInt32LE(0) % below;
}

function changeOf(random: (below: number) => number): string {
  const from = random(9000);
  const to = from + 1 + random(300);
  const changes = [
    `UPDATE wide SET note = 'changed ' || ${random(1000)} || note WHERE id BETWEEN ${from} AND ${to}`,
    `DELETE FROM wide WHERE id BETWEEN ${from} AND ${to}`,
    `INSERT INTO wide SELECT n, repeat('new', ${1 + random(300)}) FROM generate_series(${from}, ${to}) n ON CONFLICT DO NOTHING`,
    `INSERT INTO small SELECT generate_series(${from}, ${to})`,
    `DELETE FROM small WHERE id % 3 = ${random(3)}`,
    `SELECT FROM wide WHERE id = ${from} FOR UPDATE`,
  ];
  return changes[random(changes.length)] ?? '';
}

/** A session whose transaction is open when others look. */
async function openWriter() {
  const { promise, resolve } = Promise.withResolvers<void>();
  const ready = Promise.withResolvers<{ query(text: string): Promise<unknown> }>();
  const ended = withTenant(rig.source, ROOT, async (client) => {
    ready.resolve(client);
    await promise;
  });
  const client = await ready.promise;
  return {
    async begin(change: string) {
      await client.query('BEGIN');
      await client.query(change);
    },
    end: (how: string) => client.query(how),
    async close() {
      resolve();
      await ended;
    },
  };
}
