import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { decodeSettingValue, printSettingValue } from './setting-value.ts';
import { settingsReference } from './settings-reference.ts';
import { SETTINGS, findSetting, lookupSetting } from './settings-registry.ts';

/** Every setting that the documents name. */
const DOCUMENTED = `
  admission.disk_bandwidth_tokens.elastic.enabled auto_upgrade.enabled backup.compaction.threshold
  bulkio.backup.deprecated_full_backup_with_subdir.enabled bulkio.backup.file_size bulkio.backup.read_retry_delay
  bulkio.backup.read_timeout bulkio.stream_ingestion.minimum_flush_interval cloudstorage.azure.concurrent_upload_buffers
  cloudstorage.azure.read.node_burst_limit cloudstorage.azure.read.node_rate_limit cloudstorage.azure.write.node_burst_limit
  cloudstorage.azure.write.node_rate_limit cloudstorage.gs.read.node_burst_limit cloudstorage.gs.read.node_rate_limit
  cloudstorage.gs.write.node_burst_limit cloudstorage.gs.write.node_rate_limit cloudstorage.http.custom_ca
  cloudstorage.s3.read.node_burst_limit cloudstorage.s3.read.node_rate_limit cloudstorage.s3.write.node_burst_limit
  cloudstorage.s3.write.node_rate_limit cloudstorage.timeout cluster.auto_upgrade.enabled cluster.organization
  cluster.preserve_downgrade_option diagnostics.reporting.enabled enterprise.license feature.backup.enabled
  feature.restore.enabled jobs.debug.pausepoints jobs.registry.retry.initial_delay jobs.registry.retry.max_delay
  jobs.retention_time jobs.scheduler.enabled jobs.scheduler.max_jobs_per_iteration jobs.scheduler.pace
  kv.bulk_io_write.max_rate kv.bulk_sst.max_allowed_overage kv.bulk_sst.target_size
  kv.closed_timestamp.side_transport_interval kv.closed_timestamp.target_duration kv.protectedts.reconciliation.interval
  kv.rangefeed.enabled physical_replication.consumer.minimum_flush_interval preserve_downgrade_option
  schedules.backup.gc_protection.enabled server.child_metrics.enabled server.consistency_check.max_rate
  server.controller.default_target_cluster server.eventlog.enabled server.eventlog.ttl
  server.host_based_authentication.configuration server.max_connections_per_gateway server.rangelog.ttl
  server.redact_sensitive_settings.enabled server.web_session.timeout spanconfig.range_coalescing.application.enabled
  spanconfig.range_coalescing.system.enabled sql.defaults.primary_region sql.error_tip_system_interface.enabled
  sql.restrict_system_interface.enabled storage.max_sync_duration
  storage.sstable.compression_algorithm_backup_storage storage.sstable.compression_algorithm_backup_transport
  timeseries.storage.enabled timeseries.storage.resolution_10s.ttl timeseries.storage.resolution_30m.ttl
  ui.display_timezone version`
  .trim()
  .split(/\s+/);

/** Groups that the documents name without a member: at least one of each is here. */
const DOCUMENTED_GROUPS = ['cloudstorage.', 'physical_replication.', 'server.user_login.', 'sql.defaults.'];

/** Named, and not here: they tune how another engine deals with locks, statistics and transactions; a value could mean nothing. */
const ABSENT = ['bulkio.backup.read_with_priority_after', 'sql.stats.', 'sql.txn.'];

describe('the registry of cluster settings', () => {
  it('has every setting that the documents name, but those whose subject does not exist here', () => {
    for (const name of DOCUMENTED) assert.ok(findSetting(name) !== undefined, name);
    const isInGroup = (group: string) => SETTINGS.some(({ name }) => name.startsWith(group));
    for (const group of DOCUMENTED_GROUPS) assert.ok(isInGroup(group), group);
    for (const group of ABSENT) assert.ok(!isInGroup(group), group);
  });

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
