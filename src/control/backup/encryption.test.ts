import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, it } from 'node:test';
import { RecordingLogger, TestControl } from '../../../test/harness/control.ts';
import { AwsKmsServer } from '../../../test/harness/kms-servers.ts';
import type { AppError } from '../../base/index.ts';
import { systemClock } from '../../daemon/clock.ts';
import { systemRng } from '../../daemon/rng.ts';
import { createBulkWorker, createCollectionReader } from '../../timeline/index.ts';

const ATOLL = fileURLToPath(new URL('../../../bin/atoll', import.meta.url));
const SYSTEM = { in: 'system' } as const;
const PASSPHRASE = 'correct horse battery staple ü';
const WITH_PASSPHRASE = `WITH encryption_passphrase = '${PASSPHRASE}'`;
/** In a table, in its name, and so in whatever tells of it. */
const ROW = 'row-that-nobody-reads';
const TABLE = 'table_that_nobody_lists';

/** Makes a virtual cluster that may use the node's files, and starts it. */
async function make(test: TestControl, name: string): Promise<void> {
  await test.ask(`CREATE VIRTUAL CLUSTER ${name}`, SYSTEM);
  await test.ask(`ALTER VIRTUAL CLUSTER ${name} GRANT ALL CAPABILITIES`, SYSTEM);
  await test.ask(`ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`, SYSTEM);
}

describe('encrypted backups', () => {
  let test: TestControl;
  let kms: AwsKmsServer;
  before(async () => {
    kms = await AwsKmsServer.start('one', 'two', 'three');
    test = await TestControl.open({
      virtualized: 'main',
      bulkWorker: createBulkWorker({ clock: systemClock(), logger: new RecordingLogger() }),
      collectionReader: createCollectionReader({ rng: systemRng() }),
    });
    await test.postgres(`
      CREATE TABLE ${TABLE} (a int PRIMARY KEY, b text);
      INSERT INTO ${TABLE} SELECT n, '${ROW}' || n FROM generate_series(1, 3000) n;
      CREATE ROLE plain LOGIN; GRANT SELECT ON ${TABLE} TO plain`);
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
    await kms[Symbol.asyncDispose]();
  });

  const files = async (collection: string) => {
    const root = join(test.externalDirectory, collection);
    const entries = await readdir(root, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  };
  const refusedBecause = (error: AppError, code: string, message: RegExp) => {
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    for (const text of [error.message, error.hint, error.detail, String(error.stack)])
      assert.doesNotMatch(text ?? '', /correct horse|awsSecret/);
  };
  const invalid = async (text: string, message: RegExp, options = {}) =>
    refusedBecause(await test.refusal(text, options), 'parameter_invalid', message);

  it('with a passphrase show nothing to who has not got it, and everything to who has', async () => {
    const into = `IN 'nodelocal://1/pass'`;
    await test.ask(`BACKUP INTO 'nodelocal://1/pass' ${WITH_PASSPHRASE}`);
    await test.postgres(`INSERT INTO ${TABLE} SELECT n, 'later' FROM generate_series(3001, 3100) n`);
    const added = await test.ask(`BACKUP INTO LATEST ${into} ${WITH_PASSPHRASE}`);
    assert.equal(added.rows[0]?.['status'], 'succeeded');

    const paths = await files('pass');
    assert.equal(paths.filter((path) => path.endsWith('/ENCRYPTION-INFO')).length, 1);
    assert.equal(paths.filter((path) => path.endsWith('/BACKUP_MANIFEST')).length, 2);
    for (const path of paths) {
      const content = await readFile(path);
      const isOpen = /ENCRYPTION-INFO|BACKUP-LOCK|metadata/.test(path);
      assert.equal(
        content.subarray(0, 8).toString(),
        isOpen ? content.subarray(0, 8).toString() : 'ATOLSEAL',
        path,
      );
      assert.ok(!content.includes(ROW) && !content.includes(TABLE) && !content.includes('defaultdb'), path);
    }

    const shown = await test.rows(`SHOW BACKUP FROM LATEST ${into} ${WITH_PASSPHRASE}`);
    const layers = shown.filter((row) => row['object_name'] === TABLE).map((row) => row['backup_type']);
    assert.deepEqual(layers, ['full', 'incremental']);
    assert.ok(
      (await test.rows(`SHOW BACKUP FROM LATEST ${into} ${WITH_PASSPHRASE}, check_files`)).length > 0,
    );
    assert.equal((await test.rows(`SHOW BACKUPS ${into}`)).length, 1);

    await make(test, 'opened');
    for (const statement of [`SHOW BACKUP FROM LATEST ${into}`, `BACKUP INTO LATEST ${into}`]) {
      await invalid(statement, /^backup \S+ is encrypted$/);
      await invalid(
        `${statement} WITH encryption_passphrase = 'another'`,
        /^the passphrase is not that of backup/,
      );
      await invalid(
        `${statement} WITH kms = '${kms.uri('one')}'`,
        /was encrypted with a passphrase, not with KMS keys$/,
      );
    }
    await invalid(`RESTORE FROM LATEST ${into}`, /is encrypted$/, { in: 'opened' });
    await invalid(
      `RESTORE FROM LATEST ${into} WITH encryption_passphrase = 'another'`,
      /not that of backup/,
      { in: 'opened' },
    );
    assert.deepEqual(await files('pass'), paths, 'what was refused has changed nothing');

    const restored = await test.ask(`RESTORE FROM LATEST ${into} ${WITH_PASSPHRASE}`, { in: 'opened' });
    assert.equal(restored.rows[0]?.['status'], 'succeeded');
    const count = `SELECT count(*)::text AS n, min(b) AS b FROM ${TABLE}`;
    assert.deepEqual(await test.postgres(count, { in: 'opened' }), [{ n: '3100', b: 'later' }]);
    const [job] = await test.rows(`SHOW JOB ${restored.rows[0]?.['job_id']}`, { in: 'opened' });
    assert.match(job?.['description'] ?? '', /WITH OPTIONS \(encryption_passphrase = 'redacted'\)$/);
  });

  it('are restored without a cluster by who has the passphrase, which is on no command line', async () => {
    const to = join(test.directory, 'offline');
    const atoll = async (passphrase: string, ...more: readonly string[]) => {
      const command = spawn(ATOLL, [
        'restore',
        join(test.externalDirectory, 'pass'),
        `--cluster-key-file=${join(test.directory, 'store', 'cluster-key')}`,
        `--to=${to}`,
        ...more,
      ]);
      command.stdin.end(`${passphrase}\n`);
      const [out, errors, [code]] = await Promise.all([
        command.stdout.toArray(),
        command.stderr.toArray(),
        once(command, 'close') as Promise<[number]>,
      ]);
      return { code, text: Buffer.concat([...out, ...errors] as Buffer[]).toString() };
    };
    const STDIN = '--encryption-passphrase-file=-';
    const closed = await atoll('', '--plan');
    assert.equal(closed.code, 2, closed.text);
    assert.match(closed.text, /is encrypted/);
    const wrong = await atoll('another', STDIN, '--plan');
    assert.match(wrong.text, /the passphrase is not that of backup/);
    const done = await atoll(PASSPHRASE, STDIN);
    assert.equal(done.code, 0, done.text);
    assert.equal((await readFile(join(to, 'PG_VERSION'), 'utf8')).trim(), '18');
    assert.doesNotMatch(`${closed.text}${wrong.text}${done.text}`, /correct horse/);
    await rm(to, { recursive: true });
  });

  it('of objects are opened the same way', async () => {
    const into = `IN 'nodelocal://1/objects'`;
    await test.ask(`BACKUP TABLE ${TABLE} INTO 'nodelocal://1/objects' WITH kms = '${kms.uri('one')}'`);
    await test.postgres('CREATE DATABASE elsewhere');
    const restore = `RESTORE TABLE ${TABLE} FROM LATEST ${into} WITH into_db = 'elsewhere'`;
    await invalid(restore, /is encrypted$/);
    await test.ask(`${restore}, kms = '${kms.uri('one')}'`);
    const count = await test.postgres(`SELECT count(*)::text AS n FROM ${TABLE}`, { database: 'elsewhere' });
    assert.deepEqual(count, [{ n: '3100' }]);
    for (const path of await files('objects')) assert.ok(!(await readFile(path)).includes(TABLE), path);
    const shown = await test.rows(`SHOW BACKUP SCHEMAS FROM LATEST ${into} WITH kms = '${kms.uri('one')}'`);
    assert.match(
      shown.find((row) => row['object_name'] === TABLE)?.['create_statement'] ?? '',
      /CREATE TABLE/,
    );
  });

  it('with KMS keys are opened by each of them, and by those that are added', async () => {
    const [one, two, three] = [kms.uri('one'), kms.uri('two'), kms.uri('three')];
    const into = `IN 'nodelocal://1/kms'`;
    await test.ask(`BACKUP INTO 'nodelocal://1/kms' WITH kms = ('${one}', '${two}')`);
    const show = (uris: string) => test.rows(`SHOW BACKUP FROM LATEST ${into} WITH kms = ${uris}`);
    for (const uris of [`'${one}'`, `'${two}'`, `('${three}', '${two}')`])
      assert.ok((await show(uris)).length > 0);
    await invalid(
      `SHOW BACKUP FROM LATEST ${into} WITH kms = '${three}'`,
      /^KMS key aws-kms:\/\/\/three\?REGION=eu-test-1 is none of backup/,
    );
    await invalid(
      `SHOW BACKUP FROM LATEST ${into} ${WITH_PASSPHRASE}`,
      /was encrypted with KMS keys, not with a passphrase$/,
    );

    await test.ask(`BACKUP INTO LATEST ${into} WITH kms = '${two}'`);
    await invalid(
      `BACKUP INTO LATEST ${into} WITH kms = ('${two}', '${three}')`,
      /three.* is none of backup/,
    );

    const alter = (path: string, added: string, old: string) =>
      `ALTER BACKUP ${path} ${into} ADD NEW_KMS = ${added} WITH OLD_KMS = ${old}`;
    const before = await files('kms');
    await invalid(alter('LATEST', `'${three}'`, `'${three}'`), /three.* is none of backup/);
    const [{ path = '' } = {}] = await test.rows(`SHOW BACKUPS ${into}`);
    await invalid(
      alter(`'incrementals${path}/20260101/010000.00'`, `'${three}'`, `'${one}'`),
      /not the path of a backup/,
    );
    refusedBecause(
      await test.refusal(alter('LATEST', `'${three}'`, `'${one}'`), { as: 'plain' }),
      'insufficient_privilege',
      /only users with the admin role/,
    );
    refusedBecause(
      await test.refusal(alter('LATEST', `'${kms.uri('missing')}'`, `'${one}'`)),
      'kms_refused',
      /aws-kms:\/\/\/missing/,
    );
    assert.deepEqual(await files('kms'), before, 'what was refused has changed nothing');

    await test.ask(alter(`'${path}'`, `('${three}', '${two}')`, `('${kms.uri('missing')}', '${one}')`));
    const again = await test.ask(alter('LATEST', `'${three}'`, `'${two}'`));
    assert.match(again.notices[0]?.message ?? '', /three.* opens backup .* already/);
    assert.equal((await files('kms')).length, before.length + 1);
    kms.remove('one');
    kms.remove('two');
    await make(test, 'rescued');
    refusedBecause(
      await test.refusal(`RESTORE FROM LATEST ${into} WITH kms = '${one}'`, { in: 'rescued' }),
      'kms_refused',
      /the service refused to use KMS key aws-kms:\/\/\/one/,
    );
    await test.ask(`RESTORE FROM LATEST ${into} WITH kms = ('${one}', '${three}')`, { in: 'rescued' });
    const count = await test.postgres(`SELECT count(*)::text AS n FROM ${TABLE}`, { in: 'rescued' });
    assert.deepEqual(count, [{ n: '3100' }]);
  });

  it('do not take what was exchanged between them for their own', async () => {
    const keys = WITH_PASSPHRASE;
    for (let n = 0; n < 2; n++) await test.ask(`BACKUP TABLE ${TABLE} INTO 'nodelocal://1/swap' ${keys}`);
    await test.ask(`BACKUP TABLE ${TABLE} INTO LATEST IN 'nodelocal://1/swap' ${keys}`);
    const root = join(test.externalDirectory, 'swap');
    const whole = join(test.directory, 'swap-whole');
    await cp(root, whole, { recursive: true });
    const fulls = await test.rows("SHOW BACKUPS IN 'nodelocal://1/swap'");
    const [a, b] = fulls.map(({ path }) => path ?? '');
    const [added] = (await files('swap')).filter((path) => /incrementals.*BACKUP_MANIFEST$/.test(path));
    const incremental = (added ?? '').slice(root.length).replace('/BACKUP_MANIFEST', '');
    const CHANGES: readonly (readonly [string, readonly (readonly [string, string])[], string, RegExp])[] = [
      [
        'the key of another',
        [[`${a}/ENCRYPTION-INFO`, `${b}/ENCRYPTION-INFO`]],
        'backup_untrusted',
        /it is of backup/,
      ],
      [
        'the manifest of another',
        [[`${a}/BACKUP_MANIFEST`, `${b}/BACKUP_MANIFEST`]],
        'backup_untrusted',
        /not encrypted with the key of its backup/,
      ],
      ['all of another', [[`${a}`, `${b}`]], 'backup_untrusted', /it is of backup/],
      [
        'an older one of the same chain',
        [[`${b}/BACKUP_MANIFEST`, `${incremental}/BACKUP_MANIFEST`]],
        'data_corrupt',
        /chunk 0 does not decrypt/,
      ],
      [
        'nothing for the key',
        [['', `${b}/ENCRYPTION-INFO`]],
        'parameter_invalid',
        /could not find or read encryption information/,
      ],
    ];
    for (const [what, changes, code, message] of CHANGES) {
      await rm(root, { recursive: true });
      await cp(whole, root, { recursive: true });
      for (const [from, to] of changes) {
        await rm(join(root, to), { recursive: true });
        if (from !== '') await cp(join(whole, from), join(root, to), { recursive: true });
      }
      const error = await test.refusal(`SHOW BACKUP FROM '${b}' IN 'nodelocal://1/swap' ${keys}`);
      assert.equal(error.code, code, `${what}: ${error.message}`);
      assert.match(error.message, message, what);
    }
    // Frames are not looked at before they are restored.
    await rm(root, { recursive: true });
    await cp(whole, root, { recursive: true });
    const [pack = ''] = (await files('swap')).filter((path) => path.startsWith(`${root}${b}/data/`));
    await cp(pack.replace(`${b}`, `${a}`), pack);
    await test.postgres('CREATE DATABASE swapped');
    const restore = `RESTORE TABLE ${TABLE} FROM '${b}' IN 'nodelocal://1/swap' ${keys}, into_db = 'swapped'`;
    assert.match((await test.refusal(restore)).message, /not encrypted with the key of its backup/);
    const left = await test.postgres(`SELECT to_regclass('${TABLE}')::text AS t`, { database: 'swapped' });
    assert.deepEqual(left, [{ t: null }]);
  });

  it('are refused what they are not, and where nothing is encrypted', async () => {
    const both = `encryption_passphrase = 'x', kms = '${kms.uri('three')}'`;
    await invalid(
      `BACKUP INTO 'nodelocal://1/none' WITH ${both}`,
      /^cannot have both encryption_passphrase and kms option set$/,
    );
    await invalid(`BACKUP INTO 'nodelocal://1/none' WITH encryption_passphrase = ''`, /passphrase is empty/);
    await invalid(`BACKUP INTO 'nodelocal://1/none' WITH kms = 'kms://x'`, /not the URI of a KMS key/);
    refusedBecause(
      await test.refusal(`BACKUP INTO 'nodelocal://1/none' WITH kms = '${kms.uri('missing')}'`),
      'kms_refused',
      /missing/,
    );
    const lastFailure = async () =>
      (await test.control.metricsSnapshot({ signal: new AbortController().signal }))
        .find(({ name }) => name === 'backup_last_failed_time_kms_inaccessible')
        ?.samples.find(({ labels }) => labels['tenant'] === 'main')?.value;
    assert.equal(await lastFailure(), 0, 'nobody has asked for it');
    await test.refusal(
      `BACKUP INTO 'nodelocal://1/none' WITH updates_cluster_monitoring_metrics, kms = '${kms.uri('missing')}'`,
    );
    assert.ok(Number(await lastFailure()) > 1_700_000_000);
    await test.ask("BACKUP INTO 'nodelocal://1/none'");
    for (const keys of [WITH_PASSPHRASE, `WITH kms = '${kms.uri('three')}'`]) {
      for (const statement of ['SHOW BACKUP FROM LATEST', 'BACKUP INTO LATEST'])
        await invalid(
          `${statement} IN 'nodelocal://1/none' ${keys}`,
          /^could not find or read encryption information$/,
        );
    }
    await invalid(
      `ALTER BACKUP LATEST IN 'nodelocal://1/none' ADD NEW_KMS = '${kms.uri('three')}' WITH OLD_KMS = '${kms.uri('three')}'`,
      /^could not find or read encryption information$/,
    );
    await invalid(
      `ALTER BACKUP LATEST IN 'nodelocal://1/pass' ADD NEW_KMS = '${kms.uri('three')}' WITH OLD_KMS = '${kms.uri('three')}'`,
      /was encrypted with a passphrase, not with KMS keys$/,
    );
  });

  it('take keys by the names of external connections, for who may use them', async () => {
    for (const uri of [kms.uri('missing'), kms.uri('three').replace('awsSecret', 'another')]) {
      const refusal = await test.refusal(`CREATE EXTERNAL CONNECTION vault AS '${uri}'`);
      refusedBecause(refusal, 'kms_refused', /the service refused to use KMS key aws-kms:/);
    }
    assert.deepEqual(await test.rows('SHOW EXTERNAL CONNECTIONS'), [], 'what cannot be used is not kept');
    await test.ask(`CREATE EXTERNAL CONNECTION vault AS '${kms.uri('three')}'`);
    const [shown] = await test.rows('SHOW EXTERNAL CONNECTION vault');
    assert.equal(shown?.['connection_type'], 'KMS');
    assert.doesNotMatch(JSON.stringify(shown), /awsSecret|AKIATEST/);
    await test.ask("CREATE EXTERNAL CONNECTION place AS 'nodelocal://1/place'");
    await test.ask('GRANT USAGE ON EXTERNAL CONNECTION place TO plain');
    const backup = `BACKUP TABLE ${TABLE} INTO 'external://place' WITH kms =`;
    const refused = async (uri: string, message: RegExp) =>
      refusedBecause(
        await test.refusal(`${backup} '${uri}'`, { as: 'plain' }),
        'insufficient_privilege',
        message,
      );
    await refused('external://vault', /does not have USAGE privilege/);
    await refused(kms.uri('three'), /allowed to access the specified KMS URI/);
    await invalid(`${backup} 'external://place'`, /is not of a KMS key/);
    await test.ask('GRANT USAGE ON EXTERNAL CONNECTION vault TO plain');
    await test.ask(`${backup} 'external://vault'`, { as: 'plain' });
    const shownBackup = `SHOW BACKUP FROM LATEST IN 'external://place' WITH kms = '${kms.uri('three')}'`;
    assert.ok((await test.rows(shownBackup)).length > 0, 'it is the same key under its own name');
  });

  it('leave no secret in jobs, and none in the log', async () => {
    const rows = await test.postgres('SELECT row_to_json(jobs)::text AS job FROM public.jobs', {
      database: 'system',
      as: 'atoll',
    });
    assert.ok(rows.length >= 4);
    for (const text of [
      JSON.stringify(rows),
      ...test.logger.lines,
      JSON.stringify(await test.rows('SHOW JOBS')),
    ]) {
      assert.doesNotMatch(text, /correct horse|awsSecret|AKIATEST/);
    }
  });
});
