import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError } from '../../base/index.ts';
import { lookupSetting } from '../../catalog/index.ts';
import { type SettingPlace, decideSetting, isListed, isReadable } from './setting-scope.ts';

const APP: SettingPlace = {
  isSystem: false,
  isSystemRestricted: true,
  areIgnored: false,
  isOverridden: false,
};
const SYSTEM: SettingPlace = { ...APP, isSystem: true };

/** What becomes of an attempt to set it: done, ignored, or refused with an SQLSTATE. */
function outcome(name: string, place: SettingPlace): string {
  try {
    return decideSetting(lookupSetting(name), place).kind;
  } catch (error) {
    assert.ok(isAppError(error));
    return error.sqlstate;
  }
}

const CASES: readonly [name: string, place: SettingPlace, expected: string][] = [
  ['bulkio.backup.read_timeout', APP, 'set'],
  ['bulkio.backup.read_timeout', { ...APP, isOverridden: true }, '55000'],
  ['bulkio.backup.read_timeout', SYSTEM, '42501'],
  ['bulkio.backup.read_timeout', { ...SYSTEM, isSystemRestricted: false }, 'set'],
  ['version', SYSTEM, 'set'],
  ['feature.backup.enabled', SYSTEM, 'set'],
  ['server.controller.default_target_cluster', SYSTEM, 'set'],
  ['server.controller.default_target_cluster', APP, '42501'],
  ['server.controller.default_target_cluster', { ...APP, areIgnored: true }, '42501'],
  ['kv.rangefeed.enabled', SYSTEM, 'set'],
  ['kv.rangefeed.enabled', APP, '42501'],
  ['kv.rangefeed.enabled', { ...APP, areIgnored: true }, 'ignore'],
  ['enterprise.license', { ...APP, areIgnored: true }, '42501'],
  ['cluster.organization', { ...APP, areIgnored: true }, '42501'],
];

describe('scopes of cluster settings', () => {
  for (const [name, place, expected] of CASES) {
    it(`${name} in ${place.isSystem ? 'system' : 'an app VC'}: ${expected}`, () => {
      assert.equal(outcome(name, place), expected);
    });
  }

  it('refuse with the documented texts', () => {
    assert.throws(() => decideSetting(lookupSetting('server.rangelog.ttl'), APP), {
      message: 'cannot modify storage-level setting from virtual cluster',
      hint: 'Connect to the system interface and modify the cluster setting from there.',
    });
    const ignored = decideSetting(lookupSetting('kv.rangefeed.enabled'), { ...APP, areIgnored: true });
    assert.ok(ignored.kind === 'ignore');
    assert.equal(ignored.notice.message, 'ignoring attempt to modify "kv.rangefeed.enabled"');
    assert.match(ignored.notice.hint ?? '', /^The setting is only modifiable by the operator\./);
  });

  it('decide what is readable and listed', () => {
    const application = lookupSetting('bulkio.backup.read_timeout');
    const only = lookupSetting('server.rangelog.ttl');
    const visible = lookupSetting('storage.max_sync_duration');
    const reserved = lookupSetting('sql.restrict_system_interface.enabled');
    assert.deepEqual(
      [application, only, visible].map((setting) => isReadable(setting, { isSystem: false })),
      [true, false, true],
    );
    const list = (isSystem: boolean, isVirtualized: boolean, visibility: 'public' | 'all') =>
      [application, only, visible, reserved].map((setting) =>
        isListed(setting, { isSystem, isVirtualized, visibility }),
      );
    assert.deepEqual(list(false, true, 'all'), [true, false, true, false]);
    assert.deepEqual(list(true, true, 'public'), [false, true, true, false]);
    assert.deepEqual(list(true, true, 'all'), [false, true, true, true]);
    assert.deepEqual(list(true, false, 'public'), [true, true, true, false]);
  });
});
