import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../../test/harness/control.ts';
import { noBackups } from '../../../test/harness/scripted-backups.ts';

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
    await refused(
      'default CONFIGURE ZONE USING gc.ttlseconds = 3600, num_replicas = 3',
      'feature_not_supported',
    );
    await refused(
      'default CONFIGURE ZONE USING gc.ttlseconds = 100, gc.ttlseconds = 200',
      'parameter_invalid',
    );
    await refused('default CONFIGURE ZONE USING gc.ttlseconds = 59', 'parameter_invalid');
    await refused("default CONFIGURE ZONE USING gc.ttlseconds = 'long'", 'parameter_invalid');
    assert.equal(await ttl(), '14400');
  });

  it('is for those who may change settings', async () => {
    await test.postgres('CREATE ROLE nobody LOGIN');
    const error = await test.refusal('ALTER RANGE default CONFIGURE ZONE DISCARD', { as: 'nobody' });
    assert.equal(error.code, 'insufficient_privilege');
    const shown = await test.refusal('SHOW ZONE CONFIGURATION FOR RANGE default', { as: 'nobody' });
    assert.equal(shown.code, 'insufficient_privilege');
  });
});
