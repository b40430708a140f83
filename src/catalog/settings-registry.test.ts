import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { decodeSettingValue, printSettingValue } from './setting-value.ts';
import { settingsReference } from './settings-reference.ts';
import { SETTINGS, findSetting, lookupSetting } from './settings-registry.ts';

describe('the registry of cluster settings', () => {
  it('has a default of its type, in printed form, for every setting', () => {
    for (const setting of SETTINGS) {
      const value = decodeSettingValue(setting.type, setting.defaultValue);
      assert.equal(printSettingValue(setting.type, value), setting.defaultValue, setting.name);
    }
  });

  it('describes every setting in a sentence without a full stop', () => {
    for (const setting of SETTINGS) {
      assert.match(setting.description, /^[a-zA-Z].{15,}[^.]$/, setting.name);
      assert.match(setting.name, /^[a-z0-9_.]+$/);
    }
  });

  it('gives no name twice, aliases included', () => {
    const names = SETTINGS.flatMap((setting) => [setting.name, ...(setting.aliases ?? [])]);
    assert.equal(new Set(names).size, names.length);
  });

  it('uses the modifiers only where they mean something', () => {
    for (const setting of SETTINGS) {
      if (setting.alsoForSystem) assert.equal(setting.scope, 'application', setting.name);
      if (setting.perVirtualCluster) assert.equal(setting.scope, 'system-only', setting.name);
      if (setting.wasApplication) assert.equal(setting.scope, 'system-visible', setting.name);
    }
  });

  it('finds settings by alias and in any case, and names what is unknown', () => {
    assert.equal(findSetting('AUTO_UPGRADE.enabled')?.name, 'cluster.auto_upgrade.enabled');
    assert.equal(findSetting('preserve_downgrade_option')?.name, 'cluster.preserve_downgrade_option');
    assert.equal(
      findSetting('bulkio.stream_ingestion.minimum_flush_interval')?.name,
      'physical_replication.consumer.minimum_flush_interval',
    );
    assert.throws(() => lookupSetting('no.such'), {
      code: 'object_not_found',
      message: "unknown cluster setting 'no.such'",
    });
  });

  it('carries the documented scopes and defaults', () => {
    const expected: readonly [string, string, string][] = [
      ['bulkio.backup.file_size', 'application', '128 MiB'],
      ['feature.backup.enabled', 'application', 'true'],
      ['jobs.retention_time', 'application', '336h0m0s'],
      ['cloudstorage.s3.write.node_rate_limit', 'application', '0 B'],
      ['physical_replication.consumer.minimum_flush_interval', 'system-only', '5s'],
      ['kv.rangefeed.enabled', 'system-visible', 'false'],
      ['storage.max_sync_duration', 'system-visible', '20s'],
      ['sql.restrict_system_interface.enabled', 'system-only', 'false'],
    ];
    for (const [name, scope, defaultValue] of expected) {
      const setting = lookupSetting(name);
      assert.deepEqual([setting.scope, setting.defaultValue], [scope, defaultValue], name);
    }
  });

  it('is what docs/reference/settings.md says', () => {
    const path = join(import.meta.dirname, '../../docs/reference/settings.md');
    assert.equal(
      readFileSync(path, 'utf8'),
      settingsReference(),
      'run bin/node scripts/generate-settings-reference.ts',
    );
  });
});
