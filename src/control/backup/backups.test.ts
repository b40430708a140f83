import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { RecordingLogger, TestControl } from '../../../test/harness/control.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import { systemClock } from '../../daemon/clock.ts';
import { systemRng } from '../../daemon/rng.ts';
import {
  type BulkWorker,
  type CollectionReader,
  createBulkWorker,
  createCollectionReader,
} from '../../timeline/index.ts';

const SYSTEM = { in: 'system' } as const;
const COLUMNS = ['job_id', 'status', 'fraction_completed', 'rows', 'index_entries', 'bytes'];

/** Holds up the next materialize until it is opened. */
class Gate {
  #opened: PromiseWithResolvers<void> | undefined;
  reached = Promise.withResolvers<void>();

  close(): void {
    this.#opened = Promise.withResolvers();
    this.reached = Promise.withResolvers();
  }

  open(): void {
    this.#opened?.resolve();
    this.#opened = undefined;
  }

  async pass(): Promise<void> {
    this.reached.resolve();
    await this.#opened?.promise;
  }
}

function realBackups(gate: Gate): { bulkWorker: BulkWorker; collectionReader: CollectionReader } {
  const worker = createBulkWorker({ clock: systemClock(), logger: new RecordingLogger() });
  return {
    bulkWorker: {
      backup: (request, options) => worker.backup(request, options),
      materialize: async (request, options) => {
        await gate.pass();
        return worker.materialize(request, options);
      },
    },
    collectionReader: createCollectionReader({ rng: systemRng() }),
  };
}

/** Makes a virtual cluster that may use the node's files, and starts it. */
async function make(test: TestControl, name: string): Promise<void> {
  await test.ask(`CREATE VIRTUAL CLUSTER ${name}`, SYSTEM);
  await test.ask(`ALTER VIRTUAL CLUSTER ${name} GRANT ALL CAPABILITIES`, SYSTEM);
  await test.ask(`ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`, SYSTEM);
}

describe('BACKUP and RESTORE of a virtual cluster', () => {
  const gate = new Gate();
  let test: TestControl;
  before(async () => {
    test = await TestControl.open({ virtualized: 'main', ...realBackups(gate) });
    await test.postgres(`
      CREATE ROLE app LOGIN; CREATE ROLE keeper LOGIN; CREATE ROLE plain LOGIN;
      CREATE TABLE t (a int PRIMARY KEY, b text);
      INSERT INTO t SELECT n, repeat('x', 50) FROM generate_series(1, 5000) n`);
    await test.postgres('GRANT atoll_backup, atoll_externalioimplicitaccess TO keeper');
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  it('go from one virtual cluster into another', async () => {
    const taken = await test.ask("BACKUP INTO 'nodelocal://1/main'");
    assert.deepEqual(taken.columns, COLUMNS);
    assert.deepEqual(taken.types, ['int8', 'text', 'float8', 'int8', 'int8', 'int8']);
    const [backup] = taken.rows;
    assert.deepEqual([backup?.['status'], backup?.['fraction_completed']], ['succeeded', '1']);
    assert.ok(Number(backup?.['rows']) >= 5000 && Number(backup?.['bytes']) > 1_000_000);

    const [path] = await test.rows("SHOW BACKUPS IN 'nodelocal://self/main'");
    assert.match(path?.['path'] ?? '', /^\/\d{4}\/\d\d\/\d\d-\d{6}\.\d\d$/);
    await test.ask("SET CLUSTER SETTING ui.display_timezone = 'Europe/Vienna'");

    await make(test, 'copy');
    const restored = await test.ask("RESTORE FROM LATEST IN 'nodelocal://1/main'", { in: 'copy' });
    assert.deepEqual(restored.columns, COLUMNS);
    assert.equal(restored.rows[0]?.['status'], 'succeeded');
    assert.deepEqual(await test.postgres('SELECT count(*)::text AS n FROM t', { in: 'copy' }), [
      { n: '5000' },
    ]);
    const timezone = await test.rows('SHOW CLUSTER SETTING ui.display_timezone', { in: 'copy' });
    assert.deepEqual(timezone, [{ 'ui.display_timezone': 'Etc/UTC' }], 'settings are those of the backup');

    const [job] = await test.rows(`SHOW JOB ${restored.rows[0]?.['job_id']}`, { in: 'copy' });
    assert.deepEqual(
      [job?.['job_type'], job?.['status'], job?.['fraction_completed'], job?.['user_name']],
      ['RESTORE', 'succeeded', '1', 'root'],
    );
    assert.equal(job?.['description'], `RESTORE FROM '${path?.['path']}' IN 'nodelocal://1/main'`);
    const inCopy = await test.rows('SHOW JOBS', { in: 'copy' });
    assert.deepEqual(
      inCopy.map((row) => [row['job_type'], row['status']]),
      [['RESTORE', 'succeeded']],
      'the BACKUP was going on at the time of the backup, in another life of the data',
    );
    const kept = await test.rows('SHOW JOBS', SYSTEM);
    assert.deepEqual(
      kept.map((row) => row['job_type']),
      ['RESTORE'],
    );

    const again = await test.refusal("RESTORE FROM LATEST IN 'nodelocal://1/main'", { in: 'copy' });
    assert.equal(again.sqlstate, '55000');
    assert.match(
      again.message,
      /^full cluster restore can only be run on a cluster with no tables or databases but found \d+ descriptors: defaultdb\.public\.t/,
    );
    const foreign = await test.refusal("BACKUP INTO 'nodelocal://1/main'", { in: 'copy' });
    assert.equal(foreign.sqlstate, '55000');
    assert.match(foreign.hint ?? '', /collection/);
    assert.equal(
      (await test.rows("BACKUP INTO 'nodelocal://1/copy'", { in: 'copy' }))[0]?.['status'],
      'succeeded',
    );
  });

  it('leave a virtual cluster as it was when the backup is damaged', async () => {
    await test.ask("BACKUP INTO 'nodelocal://1/missing'");
    const files = await readdir(join(test.externalDirectory, 'missing'), { recursive: true });
    const pack = files.find((name) => name.endsWith('.pack')) ?? '';
    const { rename } = await import('node:fs/promises');
    await rename(join(test.externalDirectory, 'missing', pack), join(test.externalDirectory, 'away'));
    const shown = await test.refusal("SHOW BACKUP FROM LATEST IN 'nodelocal://1/missing' WITH check_files");
    assert.match(shown.message, /^The following files are missing from the backup:\n\t.*\.pack$/);
    await make(test, 'victim');
    const refused = await test.refusal("RESTORE FROM LATEST IN 'nodelocal://1/missing'", { in: 'victim' });
    assert.notEqual(refused.sqlstate, 'XX000', refused.message);
    const [job] = await test.rows('SHOW JOBS', { in: 'victim' });
    assert.deepEqual(
      [job?.['job_type'], job?.['status'], job?.['error']],
      ['RESTORE', 'failed', refused.message],
    );
    await test.postgres('CREATE TABLE still_mine (a int)', { in: 'victim' });
    const id = test.idOf('victim');
    const left = await readdir(join(test.directory, 'store', 'vc', String(id)));
    assert.equal(left.filter((name) => /^[0-9a-f-]{36}/.test(name)).length, 1, left.join(' '));
  });

  it('never replace what somebody has made meanwhile', async () => {
    await make(test, 'busy');
    gate.close();
    const restoring = test.refusal("RESTORE FROM LATEST IN 'nodelocal://1/main'", { in: 'busy' });
    await gate.reached.promise;
    await test.postgres('CREATE TABLE precious AS SELECT 1 AS a', { in: 'busy' });
    await test.ask('ALTER VIRTUAL CLUSTER busy RENAME TO busier', SYSTEM);
    gate.open();
    const refused = await restoring;
    assert.equal(refused.sqlstate, '55000');
    assert.match(refused.message, /found 1 descriptors: defaultdb\.public\.precious$/);
    assert.deepEqual(await test.postgres('SELECT a FROM precious', { in: 'busier' }), [{ a: '1' }]);
    const route = await test.control.service.route({ name: 'busier', signal: new AbortController().signal });
    assert.equal(route.virtualClusterName, 'busier');
  });

  it('show what a backup holds', async () => {
    const { columns, types, rows } = await test.ask("SHOW BACKUP FROM LATEST IN 'nodelocal://1/main'");
    assert.deepEqual(columns, [
      'database_name',
      'parent_schema_name',
      'object_name',
      'object_type',
      'backup_type',
      'start_time',
      'end_time',
      'size_bytes',
      'rows',
      'is_full_cluster',
      'regions',
    ]);
    assert.equal(types[6], 'timestamptz');
    const table = rows.find((row) => row['object_name'] === 't');
    assert.deepEqual(
      [
        table?.['database_name'],
        table?.['parent_schema_name'],
        table?.['object_type'],
        table?.['backup_type'],
      ],
      ['defaultdb', 'public', 'table', 'full'],
    );
    assert.deepEqual(
      [table?.['start_time'], table?.['rows'], table?.['is_full_cluster']],
      [null, '5000', 't'],
    );
    const database = rows.find(
      (row) => row['object_type'] === 'database' && row['object_name'] === 'defaultdb',
    );
    assert.deepEqual([database?.['database_name'], database?.['size_bytes']], [null, null]);
    const checked = await test.ask("SHOW BACKUP FROM LATEST IN 'nodelocal://1/main' WITH check_files");
    assert.equal(checked.columns.at(-1), 'file_bytes');
    const [path] = await test.rows("SHOW BACKUPS IN 'nodelocal://1/main'");
    const named = await test.ask('SHOW BACKUP FROM $1 IN $2', {
      parameters: [path?.['path'] ?? null, 'nodelocal://1/main'],
    });
    assert.deepEqual(named.rows, rows);
    assert.equal((await test.refusal("SHOW BACKUP FROM LATEST IN 'nodelocal://1/empty'")).sqlstate, '42704');
    assert.deepEqual(await test.rows("SHOW BACKUPS IN 'nodelocal://1/empty'"), []);
  });

  it('run detached, and are waited for by SHOW JOB WHEN COMPLETE', async () => {
    const detached = await test.ask("BACKUP INTO 'nodelocal://1/detached' WITH detached");
    assert.deepEqual(detached.columns, ['job_id']);
    const id = detached.rows[0]?.['job_id'];
    const complete = await test.ask(`SHOW JOB WHEN COMPLETE ${id}`);
    assert.deepEqual([complete.rows[0]?.['status'], complete.rows[0]?.['error']], ['succeeded', null]);
    assert.ok(complete.columns.includes('execution_errors'));
    const off = await test.ask("BACKUP INTO 'nodelocal://1/detached' WITH detached = false");
    assert.deepEqual(off.columns, COLUMNS);
    assert.equal((await test.rows("SHOW BACKUPS IN 'nodelocal://1/detached'")).length, 2);
  });

  it('outlive the client and the daemon', async () => {
    const client = new AbortController();
    const blocked = test.refusal("BACKUP INTO 'nodelocal://1/outlives'", { signal: client.signal });
    const [job] = await waitFor('the job', async () => {
      const jobs = await test.rows('SHOW JOBS');
      const ours = jobs.filter((row) => row['description']?.includes('outlives'));
      return ours.length > 0 && ours;
    });
    client.abort();
    assert.equal((await blocked).code, 'cancelled');
    await test.stop();
    await test.start();
    const [complete] = await test.rows(`SHOW JOB WHEN COMPLETE ${job?.['job_id']}`);
    assert.equal(complete?.['status'], 'succeeded', complete?.['error'] ?? '');
  });

  it('need the privileges that are documented', async () => {
    const admins = 'only users with the admin role or the';
    const backup = await test.refusal("BACKUP INTO 'nodelocal://1/p'", { as: 'plain' });
    assert.deepEqual(
      [backup.sqlstate, backup.message],
      ['42501', `${admins} BACKUP system privilege are allowed to perform full cluster backups`],
    );
    const restore = await test.refusal("RESTORE FROM LATEST IN 'nodelocal://1/main'", { as: 'keeper' });
    assert.deepEqual(
      [restore.sqlstate, restore.message],
      ['42501', `${admins} RESTORE system privilege are allowed to perform a cluster restore`],
    );
    const [kept] = await test.rows("BACKUP INTO 'nodelocal://1/main'", { as: 'keeper' });
    assert.equal(kept?.['status'], 'succeeded');
    const shown = await test.refusal("SHOW BACKUPS IN 'nodelocal://1/main'", { as: 'plain' });
    assert.match(shown.message, /EXTERNALIOIMPLICITACCESS/);
    await test.ask('ALTER VIRTUAL CLUSTER main REVOKE CAPABILITY can_use_nodelocal_storage', SYSTEM);
    const incapable = await test.refusal("BACKUP INTO 'nodelocal://1/main'");
    assert.deepEqual([incapable.sqlstate, /GRANT CAPABILITY/.test(incapable.hint ?? '')], ['42501', true]);
    await test.ask('ALTER VIRTUAL CLUSTER main GRANT ALL CAPABILITIES', SYSTEM);
  });

  it('refuse what this release does not offer, by name', async () => {
    const refused = [
      "BACKUP INTO 'nodelocal://1/x' AS OF SYSTEM TIME '-10s'",
      "BACKUP INTO 'nodelocal://1/x' WITH revision_history",
      "BACKUP INTO LATEST IN 's3://b/x?AWS_ACCESS_KEY_ID=a&AWS_SECRET_ACCESS_KEY=b&S3_STORAGE_CLASS=GLACIER'",
      "BACKUP INTO 'nodelocal://1/x' WITH incremental_location = ('nodelocal://1/y', 'nodelocal://1/z')",
      "RESTORE FROM LATEST IN 'nodelocal://1/main' WITH virtual_cluster_name = 'x'",
      "BACKUP INTO 'nodelocal://1/x' WITH include_all_virtual_clusters",
      "BACKUP INTO 'nodelocal://1/x' WITH verify",
    ];
    for (const text of refused) {
      const error = await test.refusal(text);
      assert.equal(error.sqlstate, '0A000', `${text}: ${error.message}`);
      assert.ok(error.hint !== undefined, text);
    }
    const system = await test.refusal("RESTORE FROM LATEST IN 'nodelocal://1/main'", SYSTEM);
    assert.equal(system.sqlstate, '0A000');
  });

  for (const [options, message] of [
    [
      "new_db_name = 'other'",
      'new_db_name can only be used for RESTORE DATABASE with a single target database',
    ],
    ["into_db = 'other'", 'into_db can only be used when running RESTORE TABLE'],
    [
      'verify_backup_table_data',
      'to set the verify_backup_table_data option, the schema_only option must be set',
    ],
  ] as const) {
    it(`refuse ${options} where everything is restored`, async () => {
      const error = await test.refusal(`RESTORE FROM LATEST IN 'nodelocal://1/main' WITH ${options}`);
      assert.deepEqual([error.sqlstate, error.message], ['22023', message]);
    });
  }

  it('go under a name of the user’s own where that is allowed, and are not listed', async () => {
    const into = (path: string) => `BACKUP INTO '${path}' IN 'nodelocal://1/named'`;
    const absent = await test.refusal(into('/weekly/monday'));
    assert.equal(absent.sqlstate, '42704');
    assert.match(
      absent.message,
      /^No full backup exists in "\/weekly\/monday" to append an incremental backup to\./,
    );
    await test.ask('SET CLUSTER SETTING bulkio.backup.deprecated_full_backup_with_subdir.enabled = true');
    const taken = await test.ask(into('/weekly/monday'));
    assert.equal(taken.rows[0]?.['status'], 'succeeded');
    assert.match(taken.notices.map(({ message }) => message).join(), /SHOW BACKUPS does not list it/);
    assert.deepEqual(await test.rows("SHOW BACKUPS IN 'nodelocal://1/named'"), []);
    assert.equal((await test.refusal("SHOW BACKUP FROM LATEST IN 'nodelocal://1/named'")).sqlstate, '42704');
    const shown = await test.rows("SHOW BACKUP FROM 'weekly/monday' IN 'nodelocal://1/named'");
    assert.ok(shown.some((row) => row['object_name'] === 't' && row['backup_type'] === 'full'));
    for (const path of ['metadata/x', 'incrementals', '../x', '2024/13/40-250745.00', 'a//b']) {
      assert.equal((await test.refusal(into(path))).sqlstate, '22023', path);
    }
    await test.ask('RESET CLUSTER SETTING bulkio.backup.deprecated_full_backup_with_subdir.enabled');
    await make(test, 'of-name');
    await test.ask("RESTORE FROM '/weekly/monday/' IN 'nodelocal://1/named'", { in: 'of-name' });
    assert.deepEqual(await test.postgres('SELECT count(*)::text AS n FROM t', { in: 'of-name' }), [
      { n: '5000' },
    ]);
  });

  it('keep to the rules of transactions', async () => {
    const inside = { transaction: 'in_transaction' } as const;
    const plain = await test.refusal("BACKUP INTO 'nodelocal://1/x'", inside);
    assert.deepEqual(
      [plain.sqlstate, plain.message],
      ['25001', 'BACKUP cannot be used inside a multi-statement transaction without DETACHED option'],
    );
    const detached = await test.refusal("RESTORE FROM LATEST IN 'nodelocal://1/x' WITH detached", inside);
    assert.equal(detached.sqlstate, '0A000');
  });

  it('can be switched off', async () => {
    await test.ask('SET CLUSTER SETTING feature.backup.enabled = false');
    const off = await test.refusal("BACKUP INTO 'nodelocal://1/main'");
    assert.deepEqual(
      [off.sqlstate, off.message],
      ['57000', 'feature BACKUP was disabled by the database administrator'],
    );
    await test.ask('RESET CLUSTER SETTING feature.backup.enabled');
  });

  it('take system too, which is restored nowhere', async () => {
    const [row] = await test.rows("BACKUP INTO 'nodelocal://1/system'", SYSTEM);
    assert.equal(row?.['status'], 'succeeded');
  });

  it('warn of what a database that admits nobody keeps from being counted', async () => {
    await make(test, 'hermit');
    const inHermit = { in: 'hermit' } as const;
    const counted = await test.ask(`BACKUP INTO 'nodelocal://1/hermit'`, inHermit);
    assert.deepEqual(counted.notices, []);
    await test.postgres('CREATE DATABASE cell', inHermit);
    await test.postgres('CREATE TABLE t AS SELECT generate_series(1, 9) AS a', {
      ...inHermit,
      database: 'cell',
    });
    await test.postgres('ALTER DATABASE cell CONNECTION LIMIT 0', inHermit);
    const { notices, rows } = await test.ask(`BACKUP INTO 'nodelocal://1/hermit'`, inHermit);
    assert.equal(rows[0]?.['rows'], '0');
    assert.deepEqual(
      notices.map(({ severity, message }) => [severity, message]),
      [
        [
          'WARNING',
          'rows and index entries do not count what is in database "cell", which admitted no session',
        ],
      ],
    );
    const shown = await test.rows(`SHOW BACKUP LATEST IN 'nodelocal://1/hermit'`, inHermit);
    const inCell = shown.filter((row) => row['object_name'] === 'cell' || row['database_name'] === 'cell');
    assert.deepEqual(
      inCell.map((row) => [row['object_type'], row['rows']]),
      [['database', null]],
    );
  });
});
