/** ALTER VIRTUAL CLUSTER name … */
import { AppError, InputError, assertNever, parseVirtualClusterName, toError } from '../../base/index.ts';
import {
  ALL_CAPABILITIES,
  type Capability,
  type CapabilitySet,
  NO_CAPABILITIES,
  type SettingType,
  type VirtualClusterRecord,
  decodeSettingValue,
  lookupSetting,
  parseCapability,
  parseSettingInput,
  serviceModeOf,
} from '../../catalog/index.ts';
import { summariseLog } from '../../instance/index.ts';
import type { AlterVirtualClusterAction, CapabilityList, Statement, Value } from '../../sql/index.ts';
import { checkTimeline } from '../timeline/check-timeline.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { applyDrain, requireNotDrained, serveAgain } from '../replication/drain.ts';
import { resetContinuousBackup, setContinuousBackup } from '../backup/continuous-backups.ts';
import { isSystem } from '../privileges/privileges.ts';
import { applySettingChange, noticesOfChange } from '../settings/setting-change.ts';
import { FAILOVER_COLUMNS } from '../replication/failover.ts';
import { alterReplication } from '../replication/replication.ts';
import { type ReplicationAction, isReplicationAction } from '../replication/replication-action.ts';
import { requireNoStream } from '../replication/require-stream.ts';
import {
  findReader,
  requireNoReader,
  requireReaderName,
  startReader,
  stopReader,
} from '../replication/reader.ts';
import { rememberWindow } from '../timeline/timeline-point.ts';
import { type UseCase, done } from '../use-case.ts';
import { settingInput, textValue } from '../values.ts';
import { resetData } from './reset-data.ts';
import {
  lookupDropped,
  lookupVirtualCluster,
  requireManager,
  requireNoRestore,
  requireRecord,
  withReader,
  withVirtualCluster,
} from './virtual-cluster-lookup.ts';

type AlterVirtualCluster = Extract<Statement, { kind: 'alter_virtual_cluster' }>;

const TAG = 'ALTER VIRTUAL CLUSTER';
const SUSPEND_AFTER: SettingType = { kind: 'duration', minUs: 0n, maxUs: 365n * 86_400_000_000n };
/** Without summaries a stop is none the worse. */
const SUMMARY_MS_MAX = 5_000;
const SUSPEND_AFTER_US_MIN = 1_000_000n;

export const alterVirtualCluster: UseCase<AlterVirtualCluster> = {
  columns: ({ action }) => (action.kind === 'complete_replication' ? FAILOVER_COLUMNS : undefined),
  refusedInTransaction: TAG,
  async run(core, statement, context) {
    await requireManager(core, context);
    const { action } = statement;
    if (core.catalog.find(statement.name)?.readerOf != null) {
      await alterReader(core, { name: statement.name, action, context });
      return done(TAG);
    }
    if (isReplicationAction(action)) return alterReplication(core, { name: statement.name, action, context });
    if (action.kind === 'undrop') {
      await undrop(core, statement.name, context);
      return done(TAG);
    }
    if (action.kind === 'reset_data') {
      const found = lookupVirtualCluster(core, statement.name);
      requireAlterable(found, action);
      requireNoStream(core, found, 'be taken back in time');
      await resetData(core, { name: statement.name, action, context });
      return done(TAG);
    }
    if (action.kind === 'check_timeline') {
      await checkTimeline(core, { name: statement.name, action, context });
      return done(TAG);
    }
    await withVirtualCluster(core, statement.name, async (record) => {
      requireAlterable(record, action);
      const said = await act(core, { record, action, context });
      const altered = requireRecord(core, record.id);
      loggerOf(core, altered).info(`virtual cluster altered by ${context.session.user}: ${said}`);
    });
    return done(TAG);
  },
};

/** It has no data, and the name that the one it reads gives it. @throws InputError `object_state` */
async function alterReader(
  core: Core,
  options: { name: string; action: AlterVirtualClusterAction; context: ExecuteContext },
): Promise<void> {
  const { name, action, context } = options;
  await withReader(core, name, async (record) => {
    const said = await actOnReader(core, { record, action, context });
    loggerOf(core, record).info(`virtual cluster altered by ${context.session.user}: ${said}`);
  });
}

async function actOnReader(
  core: Core,
  options: { record: VirtualClusterRecord; action: AlterVirtualClusterAction; context: ExecuteContext },
): Promise<string> {
  const { record, action, context } = options;
  switch (action.kind) {
    case 'start_service_shared':
      await startReader(core, record);
      return 'service started';
    case 'stop_service':
      await stopReader(core, record);
      return 'service stopped';
    case 'grant_capabilities':
    case 'revoke_capabilities':
    case 'set_cluster_setting':
    case 'reset_cluster_setting':
      return act(core, { record, action, context });
    default:
      requireNoReader(record, 'be altered like that');
      return 'nothing';
  }
}

/** Carries the action out and says, for the audit, what was done. */
async function act(
  core: Core,
  options: {
    record: VirtualClusterRecord;
    action: Exclude<
      AlterVirtualClusterAction,
      ReplicationAction | { kind: 'undrop' | 'reset_data' | 'check_timeline' }
    >;
    context: ExecuteContext;
  },
): Promise<string> {
  const { record, action, context } = options;
  switch (action.kind) {
    case 'start_service_shared':
      requireNoStream(core, record, 'be started');
      if (await startByForce(core, record, action)) return 'service started by force';
      await requireStartable(core, record);
      await startService(core, record);
      return 'service started';
    case 'stop_service':
      // A follower's server runs without serving anybody.
      if (core.streams.active(record.id) !== undefined) return 'service stopped already';
      await requireNoRestore(core, record);
      await stopService(core, record);
      return 'service stopped';
    case 'rename_to':
      return rename(core, record, action.name);
    case 'grant_capabilities':
      return grant(core, record, action.capabilities);
    case 'revoke_capabilities':
      return revoke(core, record, action.capabilities);
    case 'set_cluster_setting':
      return override(core, { record, name: action.name, value: action.value, context });
    case 'reset_cluster_setting':
      return override(core, { record, name: action.name, value: 'default', context });
    case 'set_suspend_after':
      return suspendAfter(core, record, suspendAfterUs(action.after));
    case 'reset_suspend_after':
      return suspendAfter(core, record, null);
    case 'set_continuous_backup':
      return setContinuousBackup(core, { ...action, record, context });
    case 'reset_continuous_backup':
      return resetContinuousBackup(core, record);
    default:
      return assertNever(action);
  }
}

/** Undoes what a planned failover did to it; false when there is nothing to undo. @throws InputError `object_state` without force */
async function startByForce(
  core: Core,
  record: VirtualClusterRecord,
  { withForce }: { withForce: boolean },
): Promise<boolean> {
  if (!withForce) requireNotDrained(core, record);
  const drain = await applyDrain(core, record.id, { kind: 'forced' });
  if (drain?.kind !== 'lifting') return false;
  await serveAgain(core, record);
  return true;
}

/** A RESTORE goes on while it serves; what else works on it needs it stopped. @throws InputError `object_in_use` */
async function requireStartable(core: Core, record: VirtualClusterRecord): Promise<void> {
  if (serviceModeOf(record.state) === 'none') await requireNoRestore(core, record);
}

/** As it was before its DROP, its service stopped. @throws InputError `object_not_found`, `object_exists` */
async function undrop(core: Core, name: string, context: ExecuteContext): Promise<void> {
  const { id } = lookupDropped(core, name);
  await core.locks.run(id, async () => {
    if (core.catalog.find(name) !== undefined) {
      throw new InputError('object_exists', `there is another virtual cluster "${name}" now`, {
        hint: 'give that one another name first: ALTER VIRTUAL CLUSTER ... RENAME TO ...',
      });
    }
    const record = await core.catalog.apply({ id, event: { kind: 'undropped' }, signal: core.signal });
    loggerOf(core, record).info(`virtual cluster altered by ${context.session.user}: its removal was undone`);
  });
}

/** @throws AppError `object_state` when a RESET DATA has failed and could not put back what there was */
async function requireWhole(core: Core, { id, name }: VirtualClusterRecord): Promise<void> {
  const { instanceHost } = core.options;
  if (instanceHost.get(id) === undefined || (await instanceHost.isWhole(id))) return;
  throw new AppError('object_state', `the data directory of virtual cluster "${name}" is missing`, {
    hint: `make it anew from its timeline: ALTER VIRTUAL CLUSTER ${name} RESET DATA TO VIRTUAL CLUSTER ${name} AS OF SYSTEM TIME '0s'`,
  });
}

/** What is recorded first is what a restarted daemon brings about. */
async function startService(core: Core, record: VirtualClusterRecord): Promise<void> {
  const { signal } = core;
  await requireWhole(core, record);
  const started = await core.catalog.apply({ id: record.id, event: { kind: 'service_started' }, signal });
  try {
    await core.services.open(started, { signal });
  } catch (error) {
    if (!signal.aborted && serviceModeOf(record.state) === 'none') {
      await core.catalog.apply({ id: record.id, event: { kind: 'service_stopped' }, signal });
      await core.services.close(record, { signal });
    }
    throw error;
  }
}

async function stopService(core: Core, record: VirtualClusterRecord): Promise<void> {
  const { signal } = core;
  await rememberWindow(core, record.id);
  await summariseForRewind(core, record);
  const stopped = await core.catalog.apply({ id: record.id, event: { kind: 'service_stopped' }, signal });
  await core.services.close(stopped, { signal });
}

/** While a RESET DATA or a failback finds out what has changed nobody can use the virtual cluster; now they still can. */
async function summariseForRewind(core: Core, record: VirtualClusterRecord): Promise<void> {
  const { clock, instanceHost } = core.options;
  const instance = instanceHost.get(record.id);
  if (instance?.state.kind !== 'running' || instance.isReadOnly) return;
  const signal = AbortSignal.any([core.signal, AbortSignal.timeout(SUMMARY_MS_MAX)]);
  try {
    await summariseLog(instance, { clock, signal });
  } catch (error) {
    if (core.signal.aborted) throw error;
    loggerOf(core, record).info(`stops before its log is summarised: ${toError(error).message}`);
  }
}

async function rename(core: Core, record: VirtualClusterRecord, to: string): Promise<string> {
  const name = parseVirtualClusterName(to);
  if (name === record.name) return 'renamed to its own name';
  const reader = findReader(core, record.id);
  const nameOfReader = reader && requireReaderName(core, name);
  await core.catalog.rename({ id: record.id, name, signal: core.signal });
  if (reader !== undefined && nameOfReader !== undefined) {
    await core.catalog.rename({ id: reader.id, name: nameOfReader, signal: core.signal });
  }
  await core.options.instanceHost.rename({ virtualClusterId: record.id, name });
  return `renamed from "${record.name}" to "${name}"`;
}

async function grant(core: Core, record: VirtualClusterRecord, list: CapabilityList): Promise<string> {
  const capabilities = new Set<Capability>(list.kind === 'all' ? ALL_CAPABILITIES : record.capabilities);
  if (list.kind === 'some') changeSet(capabilities, list.capabilities);
  if (!isSystem(record.id)) await setCapabilities(core, record, capabilities);
  return `capabilities are now ${[...capabilities].join(', ') || 'none'}`;
}

async function revoke(core: Core, record: VirtualClusterRecord, list: CapabilityList): Promise<string> {
  const capabilities = new Set<Capability>(list.kind === 'all' ? NO_CAPABILITIES : record.capabilities);
  if (list.kind === 'some') {
    for (const { name, value } of list.capabilities) {
      if (value !== undefined) {
        throw new InputError('parameter_invalid', `REVOKE CAPABILITY takes no value for "${name}"`);
      }
      capabilities.delete(parseCapability(name));
    }
  }
  await setCapabilities(core, record, capabilities);
  return `capabilities are now ${[...capabilities].join(', ') || 'none'}`;
}

function changeSet(
  capabilities: Set<Capability>,
  changes: readonly { readonly name: string; readonly value: Value | undefined }[],
): void {
  for (const { name, value } of changes) {
    const capability = parseCapability(name);
    const word = value === undefined ? 'true' : textValue(value, `capability "${name}"`).toLowerCase();
    if (word === 'true') capabilities.add(capability);
    else if (word === 'false') capabilities.delete(capability);
    else throw new InputError('parameter_invalid', `capability "${name}" is true or false, not "${word}"`);
  }
}

async function setCapabilities(
  core: Core,
  record: VirtualClusterRecord,
  capabilities: CapabilitySet,
): Promise<void> {
  await core.catalog.setCapabilities({ id: record.id, capabilities, signal: core.signal });
}

/** Null for never; one that sleeps and may no longer is woken. */
async function suspendAfter(
  core: Core,
  record: VirtualClusterRecord,
  afterUs: bigint | null,
): Promise<string> {
  const { id } = record;
  if (afterUs === null) {
    await core.suspender.wakeLocked(id);
    await core.catalog.setSuspension({ id, suspension: null, signal: core.signal });
    return 'never suspended';
  }
  const suspension = { afterUs, asleep: record.suspension?.asleep ?? null };
  await core.catalog.setSuspension({ id, suspension, signal: core.signal });
  return `suspended after ${afterUs / 1_000_000n} s`;
}

/** Null for `off` and 0. @throws InputError `parameter_invalid` */
function suspendAfterUs(value: Value): bigint | null {
  const input = settingInput(value, 'SUSPEND AFTER');
  if (input.text.trim().toLowerCase() === 'off') return null;
  const read = decodeSettingValue(SUSPEND_AFTER, parseSettingInput(SUSPEND_AFTER, input));
  if (read === 0n) return null;
  if (typeof read === 'bigint' && read >= SUSPEND_AFTER_US_MIN) return read;
  throw new InputError('parameter_invalid', 'a virtual cluster is suspended after a second or more', {
    hint: "write SET SUSPEND AFTER '10m', or OFF for never",
  });
}

/** The operator's value for one virtual cluster, which wins over the virtual cluster's own. */
async function override(
  core: Core,
  options: {
    record: VirtualClusterRecord;
    name: string;
    value: Value | 'default';
    context: ExecuteContext;
  },
): Promise<string> {
  const { record, value, context } = options;
  const setting = lookupSetting(options.name);
  if (setting.scope === 'system-only' && setting.perVirtualCluster !== true) {
    throw new InputError(
      'insufficient_privilege',
      `${setting.name} is a system-only setting and has one value for the whole physical cluster`,
      {
        hint: `write SET CLUSTER SETTING ${setting.name} = ... while connected to the system virtual cluster`,
      },
    );
  }
  if (setting.name === 'version') {
    throw new InputError('parameter_invalid', 'the version of a virtual cluster is set inside it');
  }
  const stored =
    value === 'default' ? undefined : parseSettingInput(setting.type, settingInput(value, setting.name));
  await core.catalog.setSettingOverride({
    id: record.id,
    name: setting.name,
    value: stored,
    signal: core.signal,
  });
  await applySettingChange(core, { setting, virtualClusterId: record.id });
  if (stored !== undefined) for (const notice of noticesOfChange(setting)) context.onNotice(notice);
  return stored === undefined ? `setting ${setting.name} released` : `setting ${setting.name} fixed`;
}

/** Of the system VC nothing but capabilities and settings can change. @throws InputError `object_state` */
function requireAlterable(
  record: VirtualClusterRecord,
  action: Exclude<AlterVirtualClusterAction, ReplicationAction>,
): void {
  if (!isSystem(record.id)) return;
  switch (action.kind) {
    case 'grant_capabilities':
    case 'check_timeline':
      return;
    case 'revoke_capabilities':
      throw new InputError('object_state', 'the system virtual cluster always holds every capability');
    case 'set_cluster_setting':
    case 'reset_cluster_setting':
      throw new InputError('object_state', 'the system virtual cluster sets its settings itself', {
        hint: 'write SET CLUSTER SETTING while connected to it',
      });
    case 'set_suspend_after':
    case 'reset_suspend_after':
      throw new InputError('object_state', 'the system virtual cluster is never suspended');
    case 'set_continuous_backup':
    case 'reset_continuous_backup':
      throw new InputError('object_state', 'the system virtual cluster is not backed up continuously', {
        hint: 'back it up by a schedule: CREATE SCHEDULE FOR BACKUP INTO ...',
      });
    case 'start_service_shared':
    case 'stop_service':
    case 'rename_to':
    case 'reset_data':
    case 'undrop':
      throw new InputError(
        'object_state',
        'the system virtual cluster cannot be started, stopped, renamed or taken back in time',
      );
    default:
      assertNever(action);
  }
}
