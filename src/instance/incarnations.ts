/** The steps by which one life of a data directory replaces another. The host lets one through at a time. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, type IncarnationId, type Lsn, RESTORE_PROGRESS_FILE, type Rng } from '../base/index.ts';
import type { InstanceIdentity, InternalClient, ProvedIncarnation, RecoveryTarget } from './contract.ts';
import { isPresent, newSystemIdentifier, readControlFile, reidentify, trimWal } from './data-directory.ts';
import { makeDirectory, renameDurably } from './durable-files.ts';
import type { InstanceEnvironment, LocalInstance } from './local-instance.ts';
import { proveIncarnation } from './prove-incarnation.ts';
import { replaceLife } from './replace-life.ts';
import { discard, type DiscardOptions } from './scan-store.ts';
import { endLeftovers } from './postmaster.ts';
import { BEGUN_SUFFIX, REWINDING_SUFFIX, SUPERSEDED_SUFFIX } from './store-layout.ts';

interface Step {
  readonly instance: LocalInstance;
  readonly environment: InstanceEnvironment;
  readonly incarnation: IncarnationId;
  readonly signal: AbortSignal;
}

/**
 * Makes an empty data directory beside the current one; those of earlier attempts are deleted, unless one at this very incarnation tells how
 * far it was written: then that goes on.
 */
export async function begin(step: Step): Promise<string> {
  const { instance, environment, signal } = step;
  const { layout, identity } = instance;
  const { directory } = layout;
  const dataDirectory = layout.begun(step.incarnation);
  const goesOn = await isPresent(join(dataDirectory, RESTORE_PROGRESS_FILE));
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if (!name.endsWith(BEGUN_SUFFIX) || (goesOn && path === dataDirectory)) continue;
    await discard(path, { ...environment, signal });
  }
  // Of a commit that was cut off before its record.
  if (identity.incarnation !== step.incarnation) {
    await discard(layout.current(step.incarnation), { ...environment, signal });
  }
  if (goesOn) return dataDirectory;
  await makeDirectory({ path: dataDirectory, mode: 0o700, owner: instance.user });
  return dataDirectory;
}

/** Recovers and prepares what was begun, beside the current incarnation. */
export async function prove(
  step: Step & {
    rng: Rng;
    recovery: RecoveryTarget;
    prepare: (client: InternalClient) => Promise<void>;
    isNewSystem: boolean;
    onDisabledSubscriptions: (names: readonly string[]) => void;
    onForeignCode?: ((findings: readonly string[]) => void) | undefined;
    isOfOtherCluster?: boolean | undefined;
    onNotEmptied?: ((findings: readonly string[]) => void) | undefined;
    isSchemaOnly?: boolean | undefined;
  },
): Promise<ProvedIncarnation> {
  const { instance, environment } = step;
  const { layout, identity, user } = instance;
  const dataDirectory = await requireBegun(step);
  await instance.writeConfiguration();
  const proved = await proveIncarnation({
    ...environment,
    dataDirectory,
    configuration: layout.configuration,
    sockets: layout.proofSockets,
    log: layout.log,
    user,
    clusterName: identity.virtualClusterName,
    recovery: step.recovery,
    prepare: step.prepare,
    onDisabledSubscriptions: step.onDisabledSubscriptions,
    onForeignCode: step.onForeignCode,
    isOfOtherCluster: step.isOfOtherCluster,
    onNotEmptied: step.onNotEmptied,
    isSchemaOnly: step.isSchemaOnly,
    logger: environment.logger.for(identity),
    signal: step.signal,
  });
  await rm(layout.proofSockets, { recursive: true, force: true });
  if (step.isNewSystem) await becomeNewSystem(dataDirectory, step);
  return proved;
}

/** Not before it was stopped cleanly: log of the former system is then needed no more. Cut off here, it is begun anew. */
async function becomeNewSystem(
  dataDirectory: string,
  { environment, rng }: Step & { rng: Rng },
): Promise<void> {
  const { clock, privileges } = environment;
  await privileges.take(dataDirectory);
  await trimWal(dataDirectory);
  await reidentify({ dataDirectory, systemIdentifier: newSystemIdentifier({ clock, rng }), rng });
}

/** Makes what was proved current. The record of the identity is the moment; before it, the old one is. */
export async function commit(
  step: Step & { parentIncarnation: IncarnationId | null; forkLsn: Lsn | null; start: 'now' | 'later' },
): Promise<void> {
  const { instance, incarnation, signal } = step;
  const { layout, identity: before } = instance;
  // Asked again after it was done: the same answer.
  if (before.incarnation === incarnation) return startIfWanted(step);
  const begun = await requireBegun(step);
  const control = await readControlFile(begun);
  if (control.state !== 'shut_down' || (await isPresent(join(begun, 'recovery.signal')))) {
    throw new AppError('object_state', `incarnation ${incarnation} has not been proved`);
  }
  await instance.stop({ mode: 'orderly', signal });
  const identity: InstanceIdentity = {
    ...before,
    incarnation,
    parentIncarnation: step.parentIncarnation,
    forkLsn: step.forkLsn,
    systemIdentifier: control.systemIdentifier,
  };
  await replaceLife(layout, { before, identity, onStep: step.environment.onReplacement });
  instance.replaceIdentity(identity);
  await discardRewinding(step);
  await startIfWanted(step);
}

async function startIfWanted({ instance, start, signal }: Step & { start: 'now' | 'later' }): Promise<void> {
  if (start === 'now') await instance.start({ signal });
}

/** @throws AppError `object_state` when it runs, or was not stopped in order */
export async function lastRecordLsn(instance: LocalInstance): Promise<Lsn> {
  const { dataDirectory, identity } = instance;
  const { state, checkpointLsn } = await readControlFile(dataDirectory);
  // What could only be read has written nothing since.
  const isReadOnly = state === 'shut_down_in_recovery' && instance.isReadOnly;
  if (instance.state.kind === 'stopped' && (state === 'shut_down' || isReadOnly)) return checkpointLsn;
  throw new AppError(
    'object_state',
    `virtual cluster "${identity.virtualClusterName}" was not stopped in order: ${state}`,
    { hint: 'start its service and stop it again' },
  );
}

/** Null when neither the current directory nor one that was set apart for this incarnation is there. */
export async function beginRewind(step: Step): Promise<string | null> {
  const { instance, environment, incarnation, signal } = step;
  const { layout, identity, dataDirectory: current } = instance;
  const rewinding = layout.rewinding(incarnation);
  const { privileges } = environment;
  if (await isPresent(rewinding)) {
    await privileges.take(rewinding);
    return rewinding;
  }
  if (!(await isPresent(current))) return null;
  if (instance.state.kind !== 'stopped') {
    throw new AppError('object_state', `virtual cluster "${identity.virtualClusterName}" runs`);
  }
  await endLeftovers({ ...environment, dataDirectory: current, signal });
  await renameDurably({ from: current, to: rewinding });
  await privileges.take(rewinding);
  return rewinding;
}

export async function endRewind({ instance, incarnation }: Step): Promise<void> {
  const { layout } = instance;
  await renameDurably({ from: layout.rewinding(incarnation), to: layout.begun(incarnation) });
}

/** A rewind begins by removing the control file, and one that is complete has left a backup label. */
export async function abandonRewind({ instance, incarnation }: Step): Promise<boolean> {
  const { layout, dataDirectory: current } = instance;
  const rewinding = layout.rewinding(incarnation);
  const isUntouched =
    (await isPresent(join(rewinding, 'global', 'pg_control'))) &&
    !(await isPresent(join(rewinding, 'backup_label')));
  if (isUntouched) await renameDurably({ from: rewinding, to: current });
  return isUntouched;
}

/** Left of attempts that were given up for another way. */
async function discardRewinding({ instance, environment, signal }: Step): Promise<void> {
  const { directory } = instance.layout;
  for (const name of await readdir(directory)) {
    if (name.endsWith(REWINDING_SUFFIX)) await discard(join(directory, name), { ...environment, signal });
  }
}

export async function abandon(step: Step): Promise<void> {
  await discard(step.instance.layout.begun(step.incarnation), { ...step.environment, signal: step.signal });
}

/** What was replaced is deleted when what replaced it has served, and not before. */
export async function discardSuperseded(instance: LocalInstance, options: DiscardOptions): Promise<void> {
  const { directory } = instance.layout;
  for (const name of await readdir(directory)) {
    if (name.endsWith(SUPERSEDED_SUFFIX)) await discard(join(directory, name), options);
  }
}

async function requireBegun(step: Step): Promise<string> {
  const dataDirectory = step.instance.layout.begun(step.incarnation);
  if (await isPresent(dataDirectory)) return dataDirectory;
  throw new AppError('object_not_found', `incarnation ${step.incarnation} has not been begun`);
}
