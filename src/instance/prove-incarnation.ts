/** The one start of a restored data directory: recovered, prepared and stopped before it may serve, or looked at and given up. */
import { dirname } from 'node:path';
import {
  AppError,
  assert,
  canSyncFileSystems,
  type Clock,
  formatLsn,
  isAppError,
  type Logger,
  type Lsn,
  required,
  syncFileSystemOf,
  toError,
} from '../base/index.ts';
import { adoptServer } from './adopt-server.ts';
import type { InternalClient, ProvedIncarnation, RecoveryTarget, StopMode } from './contract.ts';
import { clearForStart, endRestoreProgress, readControlFile, readForkLsn } from './data-directory.ts';
import { ranOutOfDisk } from './disk-space.ts';
import type { Owner } from './durable-files.ts';
import type { Engine } from './engine.ts';
import { emptyAll, emptyExcluded } from './empty-excluded.ts';
import { removeForeignCode } from './foreign-code.ts';
import { rawLogTail, sizeOf, TAIL_LINES_MAX } from './log-forwarder.ts';
import { readableTail } from './log-lines.ts';
import { isOwnLogin, type Login } from './login.ts';
import { type Postmaster, type StopLimits, stopPostmaster } from './postmaster.ts';
import type { Privileges } from './privileges/contract.ts';
import { clearStaleClaim } from './process-record.ts';
import { untilServing } from './readiness.ts';
import { withSystemSession } from './sessions.ts';
import { emptySocketDirectory } from './socket-directory.ts';

export interface ProofOptions {
  readonly dataDirectory: string;
  readonly configuration: string;
  readonly sockets: string;
  readonly log: string;
  readonly user: Owner | null;
  readonly clusterName: string;
  readonly engine: Engine;
  readonly stopLimits: StopLimits;
  readonly privileges: Privileges;
  readonly recovery: RecoveryTarget;
  readonly prepare: (client: InternalClient) => Promise<void>;
  readonly onDisabledSubscriptions: (names: readonly string[]) => void;
  /** Given for data that comes from elsewhere: told what was found of code that would run as the server, and was taken away. */
  readonly onForeignCode?: ((findings: readonly string[]) => void) | undefined;
  /** The data's bootstrap superuser was that of another physical cluster. Heeded where `onForeignCode` is given. */
  readonly isOfOtherCluster?: boolean | undefined;
  /** Given for data out of a backup: tables with `exclude_data_from_backup` are emptied; told which could not be. */
  readonly onNotEmptied?: ((findings: readonly string[]) => void) | undefined;
  /** Of the data, only definitions are wanted: no table of a tenant's keeps a row. */
  readonly isSchemaOnly?: boolean | undefined;
  /** Parameters on top of those of every such start. */
  readonly parameters?: Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/**
 * Recovers to the target, runs `prepare`, disables all subscriptions, and stops cleanly.
 * @throws AppError `instance_failed` with the end of the server's log when it does not get there
 */
export async function proveIncarnation(options: ProofOptions): Promise<ProvedIncarnation> {
  const { dataDirectory } = options;
  return namingWhy(options, async () => {
    // One sync when all is done, instead of one for each file and step: until then the directory counts for nothing.
    const isSyncedAfterwards = await canSyncFileSystems();
    const parameters = { ...(isSyncedAfterwards ? { fsync: 'off' } : {}), ...options.parameters };
    await runOnce(
      { ...options, parameters },
      {
        async use(client) {
          await clearForeignCode(client, options);
          await emptyTables(client, options);
          await options.prepare(client);
          await disableSubscriptions(client, options);
          await client.query('CHECKPOINT');
        },
        stop: 'orderly',
      },
    );
    if (isSyncedAfterwards) await makeDurable(options);
    const { state, timelineId } = await readControlFile(dataDirectory);
    if (state !== 'shut_down') {
      throw new AppError('instance_failed', `${dataDirectory} was not stopped cleanly but is ${state}`);
    }
    const forkLsn = await readForkLsn(dataDirectory, timelineId);
    requireWholeLog(forkLsn, options.recovery);
    return { timelineId, forkLsn };
  });
}

/** The server has synced nothing. The folder above is ours, whoever the directory belongs to by now. */
async function makeDurable({ dataDirectory }: ProofOptions): Promise<void> {
  if (await syncFileSystemOf(dirname(dataDirectory))) return;
  throw new AppError('io', `what was recovered in ${dataDirectory} cannot be synced`);
}

/** For data that nobody wants afterwards: nothing of it need outlive a crash, of the server or of the machine. */
const FLEETING = { fsync: 'off', synchronous_commit: 'off' };

/**
 * Recovers to the target, lends a session, and ends the server at once: what it held in memory is lost.
 * @throws AppError `instance_failed` as `proveIncarnation`; what `use` throws, as it is
 */
export async function serveRecovered<T>(
  options: Omit<ProofOptions, 'prepare' | 'onDisabledSubscriptions'>,
  use: (client: InternalClient) => Promise<T>,
): Promise<T> {
  const parameters = { ...FLEETING, ...options.parameters };
  const used: { outcome?: () => T } = {};
  const toUse = async (client: InternalClient) => {
    try {
      const result = await use(client);
      used.outcome = () => result;
    } catch (error) {
      // A server that ran out of disk is what failed, whoever met it first.
      if (await hasRunOutOfDisk(options)) throw error;
      used.outcome = () => {
        throw error;
      };
    }
  };
  await namingWhy(options, () => runOnce({ ...options, parameters }, { use: toUse, stop: 'immediate' }));
  return required(used.outcome, 'outcome of what was lent a session')();
}

async function hasRunOutOfDisk({
  log,
  dataDirectory,
}: Pick<ProofOptions, 'log' | 'dataDirectory'>): Promise<boolean> {
  return ranOutOfDisk({ log: await rawLogTail(log, { from: 0 }), directory: dataDirectory });
}

/** Readies the directory for its start; what goes wrong then is told with what the server said last. */
async function namingWhy<T>(
  options: Pick<
    ProofOptions,
    'dataDirectory' | 'log' | 'sockets' | 'clock' | 'privileges' | 'user' | 'signal'
  >,
  work: () => Promise<T>,
): Promise<T> {
  const { dataDirectory, log, clock, privileges, user, signal } = options;
  await clearStaleClaim({ dataDirectory, clock, privileges, signal });
  await clearForStart(dataDirectory, { privileges });
  await endRestoreProgress(dataDirectory, { privileges });
  await privileges.sign(dataDirectory, 'recovery.signal', { owner: user });
  await emptySocketDirectory({ path: options.sockets, user, privileges });
  const logFrom = await sizeOf(log);
  try {
    return await work();
  } catch (error) {
    if (isAppError(error, 'cancelled')) throw error;
    const text = await rawLogTail(log, { from: logFrom });
    if (await ranOutOfDisk({ log: text, directory: dataDirectory })) {
      throw new AppError('disk_full', 'no space is left to recover restored data', {
        cause: error,
        hint: 'free space on the disk of the store and try again',
      });
    }
    const tail = readableTail(text, { linesMax: TAIL_LINES_MAX });
    throw new AppError('instance_failed', `restored data in ${dataDirectory} cannot be proved`, {
      cause: error,
      detail: `${toError(error).message}\n${tail}`,
    });
  }
}

/** Without a target Postgres takes whatever it cannot read for the end of the log: then we must see that it was the end. */
function requireWholeLog(forkLsn: Lsn, { logEndLsn = null }: RecoveryTarget): void {
  if (logEndLsn === null || forkLsn >= logEndLsn) return;
  throw new AppError(
    'instance_failed',
    `recovery ended at ${formatLsn(forkLsn)}, before the end of the log at ${formatLsn(logEndLsn)}`,
  );
}

type RunOptions = Omit<ProofOptions, 'prepare' | 'onDisabledSubscriptions'>;

async function runOnce(
  options: RunOptions,
  { use, stop }: { use: (client: InternalClient) => Promise<void>; stop: StopMode },
): Promise<void> {
  const { clock, signal, stopLimits: limits } = options;
  const postmaster = await options.privileges.launch({
    postgres: options.engine.postgres,
    dataDirectory: options.dataDirectory,
    configuration: options.configuration,
    overrides: overridesOf(options),
    log: options.log,
    user: options.user,
  });
  const stopping = { limits, clock, hurry: AbortSignal.abort(), signal: new AbortController().signal };
  try {
    const login = await untilServingOrEnded(postmaster, options);
    if (!isOwnLogin(login)) await adopt(options, login);
    await withSystemSession({ ...options, socketDirectory: options.sockets }, use);
    await stopPostmaster(postmaster, { ...stopping, mode: stop, hurry: signal });
  } catch (error) {
    await stopPostmaster(postmaster, { ...stopping, mode: 'immediate' });
    throw error;
  }
}

/** Data of before the move of a plain server into a virtual cluster is made what that was made, whenever it comes back. */
async function adopt(options: RunOptions, login: Login): Promise<void> {
  const { onForeignCode, sockets: socketDirectory } = options;
  const onFindings = (findings: readonly string[]) => {
    for (const finding of findings) options.logger.warning(`data of a plain server: ${finding}`);
    if (findings.length > 0) onForeignCode?.(findings);
  };
  await adoptServer({ ...options, socketDirectory }, { login, onFindings });
}

async function clearForeignCode(client: InternalClient, options: ProofOptions): Promise<void> {
  const { onForeignCode, isOfOtherCluster = false, sockets: socketDirectory } = options;
  if (onForeignCode === undefined) return;
  const findings = await removeForeignCode(client, { ...options, socketDirectory, isOfOtherCluster });
  for (const finding of findings) options.logger.warning(`foreign code: ${finding}`);
  if (findings.length > 0) onForeignCode(findings);
}

/** Nothing that could run meanwhile is left of what came from elsewhere. */
async function emptyTables(client: InternalClient, options: ProofOptions): Promise<void> {
  const { onNotEmptied, isSchemaOnly = false, sockets: socketDirectory } = options;
  if (isSchemaOnly) await emptyAll(client, { ...options, socketDirectory });
  if (onNotEmptied === undefined) return;
  const findings = await emptyExcluded(client, { ...options, socketDirectory });
  for (const finding of findings) options.logger.warning(finding);
  if (findings.length > 0) onNotEmptied(findings);
}

/** Parameters of this start alone. The log that is needed lies in pg_wal, so nothing is ever fetched. */
function overridesOf(
  options: Pick<ProofOptions, 'recovery' | 'sockets' | 'parameters'>,
): Record<string, string> {
  const { lsn, timelineId, logEndLsn = null } = options.recovery;
  assert(timelineId > 0, 'timelines count from 1');
  // Postgres ends in an error when its target never comes.
  const target = { recovery_target_lsn: formatLsn(lsn), recovery_target_inclusive: 'off' };
  return {
    unix_socket_directories: options.sockets,
    ...(logEndLsn === null ? target : {}),
    recovery_target_timeline: String(timelineId),
    recovery_target_action: 'promote',
    restore_command: 'false',
    // Refuses sessions until the target is reached, and asks nothing of the settings of the original.
    hot_standby: 'off',
    // A copy must never consume the slots of the original's subscriptions.
    max_logical_replication_workers: '0',
    autovacuum: 'off',
    // Whoever receives the log of the new incarnation comes later and needs it from its first byte.
    wal_keep_size: '256MB',
    // A summarizer that misses log rests for ten seconds, and lets no server stop meanwhile.
    summarize_wal: 'off',
    ...options.parameters,
  };
}

/** With hot standby off, a server that lets us in has been promoted. */
async function untilServingOrEnded(postmaster: Postmaster, options: RunOptions): Promise<Login> {
  const race = new AbortController();
  const signal = AbortSignal.any([options.signal, race.signal]);
  const serving = untilServing({
    ...options,
    socketDirectory: options.sockets,
    systemIdentifier: null,
    signal,
  });
  const ended = postmaster.ended({ signal }).then((ending) => {
    throw new AppError('instance_failed', `the server ${ending} before it had recovered`);
  });
  try {
    return await Promise.race([serving, ended]);
  } finally {
    race.abort();
    await Promise.allSettled([serving, ended]);
  }
}

/** The catalog of subscriptions is shared by all databases, so none of them needs to be entered. */
export async function disableSubscriptions(
  client: InternalClient,
  options: Pick<ProofOptions, 'logger' | 'onDisabledSubscriptions'>,
): Promise<void> {
  const disabled = await client.query(
    'UPDATE pg_catalog.pg_subscription SET subenabled = false WHERE subenabled RETURNING subname',
  );
  const names = disabled.map((row) => row['subname'] ?? '');
  for (const name of names) options.logger.warning(`disabled subscription "${name}": the data is a copy`);
  if (names.length > 0) options.onDisabledSubscriptions(names);
}
