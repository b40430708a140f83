import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../../test/harness/control.ts';
import { noBackups } from '../../../test/harness/scripted-backups.ts';
import type { RegionAction } from '../../sql/index.ts';
import { changedRegions } from './region-change.ts';

describe('ALTER RANGE default CONFIGURE ZONE', () => {
  let test: TestControl;
  const ttl = async (name = 'main') => {
    const [row] = await test.rows('SHOW CLUSTER SETTING gc.ttlseconds', { in: name });
    return Object.values(row ?? {})[0];
  };

  before(async () => {
    test = await TestControl.open({ ...noBackups(), virtualized: 'main' });
  });
  after(async () => {
    await test?.[Symbol.asyncDispose]();
  });

  it('sets the window of its virtual cluster, and takes it back', async () => {
    assert.equal(await ttl(), '14400');
    const { tag } = await test.ask('ALTER RANGE default CONFIGURE ZONE USING gc.ttlseconds = 3600');
    assert.equal(tag, 'CONFIGURE ZONE 1');
    assert.equal(await ttl(), '3600');
    assert.equal(await ttl('system'), '14400', 'each has its own');
    await test.ask('ALTER RANGE default CONFIGURE ZONE USING gc.ttlseconds = DEFAULT');
    assert.equal(await ttl(), '14400');
    await test.ask('ALTER RANGE default CONFIGURE ZONE USING gc.ttlseconds = 90');
    await test.ask('ALTER RANGE default CONFIGURE ZONE DISCARD');
    assert.equal(await ttl(), '14400');
  });

  it('is shown as it is set', async () => {
    await test.ask('ALTER RANGE default CONFIGURE ZONE USING gc.ttlseconds = 7200');
    assert.deepEqual(await test.rows('SHOW ZONE CONFIGURATION FOR RANGE default'), [
      {
        target: 'RANGE default',
        raw_config_sql: 'ALTER RANGE default CONFIGURE ZONE USING\n\tgc.ttlseconds = 7200',
      },
    ]);
    await test.ask('ALTER RANGE default CONFIGURE ZONE DISCARD');
    const other = await test.refusal('SHOW ZONE CONFIGURATION FOR RANGE meta');
    assert.equal(other.code, 'feature_not_supported');
  });

  it('refuses what does not act on a virtual cluster, and changes nothing then', async () => {
    const refused = async (rest: string, code: string) => {
      const error = await test.refusal(`ALTER RANGE ${rest}`);
      assert.equal(error.code, code, `${rest}: ${error.message}`);
    };
    await refused('meta CONFIGURE ZONE USING gc.ttlseconds = 3600', 'feature_not_supported');
    await refused('default CONFIGURE ZONE USING gc.ttlseconds = 3600, num_copies = 3', 'parameter_invalid');
    await refused('default CONFIGURE ZONE USING gc.ttlseconds = 3600, num_replicas = 0', 'parameter_invalid');
    await refused('default CONFIGURE ZONE USING gc.ttlseconds = 3600, global_reads = 7', 'parameter_invalid');
    await refused(
      'default CONFIGURE ZONE USING gc.ttlseconds = 3600, num_replicas = 3, num_voters = 5',
      'parameter_invalid',
    );
    await refused('default CONFIGURE ZONE USING gc.ttlseconds = 59, num_replicas = 3', 'parameter_invalid');
    await refused(
      'default CONFIGURE ZONE USING gc.ttlseconds = 100, gc.ttlseconds = 200',
      'parameter_invalid',
    );
    await refused('default CONFIGURE ZONE USING gc.ttlseconds = 59', 'parameter_invalid');
    await refused("default CONFIGURE ZONE USING gc.ttlseconds = 'long'", 'parameter_invalid');
    assert.equal(await ttl(), '14400');
    const [shown] = await test.rows('SHOW ZONE CONFIGURATION FOR RANGE default');
    assert.equal(
      shown?.['raw_config_sql'],
      'ALTER RANGE default CONFIGURE ZONE USING\n\tgc.ttlseconds = 14400',
    );
  });

  it('is for those who may change settings', async () => {
    await test.postgres('CREATE ROLE nobody LOGIN');
    const error = await test.refusal('ALTER RANGE default CONFIGURE ZONE DISCARD', { as: 'nobody' });
    assert.equal(error.code, 'insufficient_privilege');
    const shown = await test.refusal('SHOW ZONE CONFIGURATION FOR RANGE default', { as: 'nobody' });
    assert.equal(shown.code, 'insufficient_privilege');
  });

  it('keeps what acts when there are several nodes, and says that it does not yet', async () => {
    const { notices } = await test.ask(
      "ALTER RANGE default CONFIGURE ZONE USING num_replicas = 5, constraints = '[+region=eu]'",
    );
    assert.match(notices[0]?.message ?? '', /without effect.*num_replicas, constraints/);
    const [shown] = await test.rows('SHOW ZONE CONFIGURATION FOR RANGE default');
    assert.equal(
      shown?.['raw_config_sql'],
      "ALTER RANGE default CONFIGURE ZONE USING\n\tgc.ttlseconds = 14400,\n\tnum_replicas = 5,\n\tconstraints = '[+region=eu]'",
    );
    // What it prints it reads again.
    await test.ask(shown?.['raw_config_sql'] ?? '');
    assert.deepEqual(await test.rows('SHOW ZONE CONFIGURATION FOR RANGE default'), [shown]);
    await test.ask('ALTER RANGE default CONFIGURE ZONE DISCARD');
  });

  it('of databases and tables follows them, and is filled up by what they lie in', async () => {
    await test.postgres('CREATE TABLE placed (a int)');
    await test.ask('ALTER DATABASE defaultdb CONFIGURE ZONE USING num_replicas = 3, gc.ttlseconds = 600');
    await test.ask('ALTER TABLE placed CONFIGURE ZONE USING num_replicas = 7');
    const sqlOf = async (target: string) => {
      const [row] = await test.rows(`SHOW ZONE CONFIGURATION FROM ${target}`);
      return [row?.['target'], row?.['raw_config_sql']?.split('\n\t').slice(1).join(' ')];
    };
    assert.deepEqual(await sqlOf('TABLE public.placed'), [
      'TABLE defaultdb.public.placed',
      'gc.ttlseconds = 600, num_replicas = 7',
    ]);
    await test.postgres('ALTER TABLE placed RENAME TO moved');
    const all = await test.rows('SHOW ALL ZONE CONFIGURATIONS');
    assert.deepEqual(
      all.map(({ target }) => target),
      ['RANGE default', 'DATABASE defaultdb', 'TABLE defaultdb.public.moved'],
    );
    await test.ask('ALTER TABLE moved CONFIGURE ZONE USING num_replicas = DEFAULT');
    assert.deepEqual(await sqlOf('TABLE moved'), [
      'DATABASE defaultdb',
      'gc.ttlseconds = 600, num_replicas = 3',
    ]);
    await test.ask('ALTER DATABASE defaultdb CONFIGURE ZONE DISCARD');
    assert.deepEqual(await sqlOf('DATABASE defaultdb'), ['RANGE default', 'gc.ttlseconds = 14400']);
    assert.equal((await test.refusal('SHOW ZONE CONFIGURATION FOR TABLE nothing')).sqlstate, '42P01');
    assert.equal((await test.refusal('ALTER DATABASE nothing CONFIGURE ZONE DISCARD')).sqlstate, '3D000');
  });

  it('of databases and tables is for owners and admins', async () => {
    await test.postgres('CREATE ROLE owner LOGIN');
    await test.postgres('CREATE TABLE owned (a int)');
    await test.postgres('GRANT CREATE ON SCHEMA public TO owner');
    await test.postgres('ALTER TABLE owned OWNER TO owner');
    await test.ask('ALTER TABLE owned CONFIGURE ZONE USING num_replicas = 3', { as: 'owner' });
    for (const text of [
      'ALTER DATABASE defaultdb CONFIGURE ZONE DISCARD',
      'ALTER DATABASE defaultdb DROP REGION a',
    ]) {
      assert.equal((await test.refusal(text, { as: 'owner' })).sqlstate, '42501', text);
    }
    const other = await test.refusal('ALTER TABLE owned CONFIGURE ZONE DISCARD', { as: 'nobody' });
    assert.equal(other.sqlstate, '42501');
  });
});

describe('ALTER DATABASE ... REGION', () => {
  let test: TestControl;

  before(async () => {
    test = await TestControl.open({
      ...noBackups(),
      virtualized: 'main',
      locality: [
        { key: 'region', value: 'eu' },
        { key: 'zone', value: 'a' },
      ],
    });
  });
  after(async () => {
    await test?.[Symbol.asyncDispose]();
  });

  it('gives a database regions that nodes are in', async () => {
    const refused = async (rest: string, sqlstate: string) => {
      const error = await test.refusal(`ALTER DATABASE defaultdb ${rest}`);
      assert.equal(error.sqlstate, sqlstate, `${rest}: ${error.message}`);
    };
    await refused('PRIMARY REGION us', '42704');
    await refused('ADD REGION eu', '55000');
    await refused('DROP REGION eu', '42704');
    await test.ask('ALTER DATABASE defaultdb DROP REGION IF EXISTS eu');
    const { tag } = await test.ask('ALTER DATABASE defaultdb SET PRIMARY REGION eu');
    assert.equal(tag, 'ALTER DATABASE PRIMARY REGION');
    await refused('ADD REGION eu', '42710');
    await test.ask('ALTER DATABASE defaultdb ADD REGION IF NOT EXISTS eu');
    assert.deepEqual(await test.rows('SHOW REGIONS FROM DATABASE'), [
      { database: 'defaultdb', region: 'eu', primary: 't', zones: '{a}' },
    ]);
    assert.deepEqual(await test.rows('SHOW REGIONS FROM ALL DATABASES'), [
      { database_name: 'defaultdb', regions: '{eu}', primary_region: 'eu' },
    ]);
    assert.deepEqual(await test.rows('SHOW REGIONS FROM CLUSTER'), [{ region: 'eu', zones: '{a}' }]);
    assert.deepEqual(await test.rows('SHOW REGIONS'), [
      {
        region: 'eu',
        zones: '{a}',
        database_names: '{defaultdb}',
        primary_region_of: '{defaultdb}',
        secondary_region_of: '{}',
      },
    ]);
    await test.ask('ALTER DATABASE defaultdb DROP REGION eu');
    assert.deepEqual(await test.rows('SHOW REGIONS FROM DATABASE defaultdb'), []);
  });

  it('is what nobody else can say of a database', async () => {
    await test.postgres('CREATE ROLE landlord LOGIN');
    await test.postgres('ALTER DATABASE defaultdb OWNER TO landlord');
    await test.ask('ALTER DATABASE defaultdb PRIMARY REGION eu', { as: 'landlord' });
    for (const change of ["SET atoll.regions = 'moon'", 'RESET atoll.regions']) {
      await assert.rejects(test.postgres(`ALTER DATABASE defaultdb ${change}`, { as: 'landlord' }), {
        code: '42501',
      });
    }
    await test.postgres('ALTER DATABASE defaultdb RESET ALL', { as: 'landlord' });
    assert.equal((await test.rows('SHOW REGIONS FROM DATABASE defaultdb')).length, 1);
  });
});

describe('changedRegions', () => {
  const available = ['eu', 'us', 'asia'];
  const change = (regions: readonly string[], action: RegionAction) =>
    changedRegions({ database: 'd', regions, action, available });

  it('keeps the primary region first', () => {
    assert.deepEqual(change(['eu', 'us'], { kind: 'set_primary', region: 'us' }), ['us', 'eu']);
    assert.deepEqual(change(['eu'], { kind: 'add', ifNotExists: false, region: 'us' }), ['eu', 'us']);
    assert.deepEqual(change(['eu', 'us'], { kind: 'drop', ifExists: false, region: 'us' }), ['eu']);
    assert.deepEqual(change(['eu'], { kind: 'drop', ifExists: false, region: 'eu' }), []);
  });

  it('refuses a primary region that was not added, and to drop one that others follow', () => {
    assert.throws(() => change(['eu'], { kind: 'set_primary', region: 'us' }), {
      message: 'region "us" has not been added to the database',
    });
    assert.throws(() => change(['eu', 'us'], { kind: 'drop', ifExists: false, region: 'eu' }), {
      message: 'cannot drop region "eu": it is the primary region',
    });
  });
});
