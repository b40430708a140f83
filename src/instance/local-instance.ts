/** One instance on this machine: its server under supervision, its sessions, its log. */
import { join } from 'node:path';
import { AppError, type Clock, isAppError, type Logger, type LogScope } from '../base/index.ts';
import type { ControlState } from '../pg/index.ts';
import { BackgroundTasks } from './background-tasks.ts';
import { checkSettings, writeConfiguration } from './configuration.ts';
import { copyRoles } from './copy-roles.ts';
import type {
  CopyRoles,
  Following,
  Instance,
  InstanceIdentity,
  InstanceSettings,
  InstanceState,
  InternalClient,
  StopMode,
} from './contract.ts';
import {
  clearForStart,
  endRestoreProgress,
  hasLaterTimeline,
  isPresent,
  readControlFile,
} from './data-directory.ts';
import type { Owner } from './durable-files.ts';
import { ranOutOfDisk } from './disk-space.ts';
import type { Engine } from './engine.ts';
import {
  followerParameters,
  hasFewerPlaces,
  readFollowing,
  removeFollowing,
  writeFollowing,
  writeSecretFiles,
} from './following.ts';
import { publicState } from './lifecycle.ts';
import { isOwnLogin, type Login, OWN_LOGIN, readLogins } from './login.ts';
import { readableTail } from './log-lines.ts';
import { LogForwarder, rawLogTail, sizeOf, TAIL_LINES_MAX } from './log-forwarder.ts';
import type { Postmaster, StopLimits } from './postmaster.ts';
import type { Privileges } from './privileges/contract.ts';
import { limitsOf } from './process-limits.ts';
import { clearStaleClaim, findRunning, recordProcess } from './process-record.ts';
import { type ReadOnlyRecord, readOnlyParameters, readReadOnly, writeReadOnly } from './read-only.ts';
import { untilServing } from './readiness.ts';
import type { OnReplacement } from './replace-life.ts';
import { guardDatabases, installGuards } from './database-guards.ts';
import { SystemSessions, withDefinerSession, withReaderSession, withRoleSession } from './sessions.ts';
import { emptySocketDirectory } from './socket-directory.ts';
import { type ClusterLayout, SOCKET_NAME } from './store-layout.ts';
import { type Charge, Supervisor } from './supervisor.ts';
import { throwIfCancelled } from './waiting.ts';

/** How long `start` waits. A recovery that takes longer goes on; only the caller is told. */
const START_MS_MAX = 120_000;
/** They name no path: errors travel to clients. */
const OUT_OF_DISK = 'no space is left on its disk';
const RELOAD_MS_MAX = 10_000;
const SEE_LOG = 'the log of the node says why';

/** What an instance shares with the others of its host. */
export interface InstanceEnvironment {
  readonly engine: Engine;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly stopLimits: StopLimits;
  readonly privileges: Privileges;
  /** Told on the way from one life of a data directory to the next. */
  readonly onReplacement: OnReplacement;
}

export interface LocalInstanceOptions {
  readonly layout: ClusterLayout;
  readonly identity: InstanceIdentity;
  readonly settings: InstanceSettings;
  readonly user: Owner | null;
  readonly environment: InstanceEnvironment;
  /** Runs each time the instance has begun to serve. */
  readonly onServing: (instance: LocalInstance) => void;
}

export class LocalInstance implements Instance {
  readonly layout: ClusterLayout;
  readonly user: Owner | null;
  readonly #environment: InstanceEnvironment;
  readonly #onServing: (instance: LocalInstance) => void;
  readonly #supervisor: Supervisor;
  readonly #closing = new BackgroundTasks();
  readonly #log: LogForwarder;
  #identity: InstanceIdentity;
  #settings: InstanceSettings;
  #following: Following | null;
  #readOnly: ReadOnlyRecord | null;
  #sessions: SystemSessions | null = null;
  /** How the present server lets us in. */
  #login: Login = OWN_LOGIN;
  /** Where the log ended when the present server was launched. */
  #logFrom = 0;
  /** It ended for want of disk, and has not served since. */
  #isOutOfDisk = false;

  private constructor(
    options: LocalInstanceOptions,
    log: LogForwarder,
    records: { following: Following | null; readOnly: ReadOnlyRecord | null },
  ) {
    this.layout = options.layout;
    this.user = options.user;
    this.#environment = options.environment;
    this.#onServing = options.onServing;
    this.#identity = options.identity;
    this.#settings = options.settings;
    this.#log = log;
    this.#following = records.following;
    this.#readOnly = records.readOnly;
    this.#supervisor = new Supervisor({ ...options.environment, charge: this.#charge() });
  }

  static async open(options: LocalInstanceOptions): Promise<LocalInstance> {
    const { layout, environment } = options;
    const logger = environment.logger.for({ ...scopeOf(options.identity), channel: 'postgres' });
    const log = await LogForwarder.open({ path: layout.log, clock: environment.clock, logger });
    const following = await readFollowing(layout.configuration);
    const readOnly = await readReadOnly(layout.configuration);
    return new LocalInstance(options, log, { following, readOnly });
  }

  get identity(): InstanceIdentity {
    return this.#identity;
  }

  get following(): Following | null {
    const following = this.#following;
    return following?.incarnation === this.#identity.incarnation ? following : null;
  }

  /** Durable when it returns; null ends it. It counts from the next start on, or from `reload`. */
  async setFollowing(following: Following | null): Promise<void> {
    const { configuration } = this.layout;
    if (following === null) await removeFollowing(configuration);
    else await writeFollowing(configuration, following);
    this.#following = following;
  }

  get isReadOnly(): boolean {
    return this.#ownReadOnly?.phase === 'on';
  }

  get #ownReadOnly(): ReadOnlyRecord | null {
    return this.#readOnly?.incarnation === this.#identity.incarnation ? this.#readOnly : null;
  }

  async setReadOnly(isReadOnly: boolean): Promise<void> {
    const { incarnation } = this.#identity;
    if (isReadOnly) return this.#recordReadOnly({ incarnation, phase: 'on' });
    if (this.#ownReadOnly !== null) await this.#recordReadOnly({ incarnation, phase: 'leaving' });
  }

  async #recordReadOnly(record: ReadOnlyRecord | null): Promise<void> {
    await writeReadOnly(this.layout.configuration, record);
    this.#readOnly = record;
  }

  /** Lets a server that runs read its configuration anew. */
  async reload(): Promise<void> {
    if (this.state.kind !== 'running') return;
    await this.writeConfiguration('itself');
    await this.withSystemClient((client) => client.query('SELECT pg_catalog.pg_reload_conf()'), {
      signal: AbortSignal.timeout(RELOAD_MS_MAX),
    });
  }

  get login(): Login {
    return this.#login;
  }

  get state(): InstanceState {
    return publicState(this.#supervisor.state);
  }

  get generation(): number {
    return this.#supervisor.generation;
  }

  get dataDirectory(): string {
    return this.layout.current(this.#identity.incarnation);
  }

  get socketDirectory(): string {
    return this.layout.sockets;
  }

  get socketPath(): string {
    return join(this.layout.sockets, SOCKET_NAME);
  }

  async start(options: { signal: AbortSignal }): Promise<void> {
    const { signal } = options;
    throwIfCancelled(signal);
    this.#supervisor.requestStart();
    const isUp = await this.#supervisor.until(
      (state) => {
        switch (state.kind) {
          case 'running':
            return true;
          case 'backing_off':
            throw this.#failedToStart(state.lastError);
          case 'stopped':
            throw new AppError('instance_failed', `${this.#title} was stopped while it started`);
          case 'starting':
          case 'stopping':
            return false;
        }
      },
      { timeoutMs: START_MS_MAX, signal },
    );
    if (!isUp) throw this.#notServing(START_MS_MAX);
  }

  /** Takes up a server that runs. One that does not answer in time is left to the supervision. */
  async resume(options: { timeoutMs: number; signal: AbortSignal }): Promise<void> {
    this.#supervisor.requestStart();
    await this.#supervisor.until((state) => state.kind !== 'starting', options);
  }

  async stop(options: { mode: StopMode; signal: AbortSignal }): Promise<void> {
    throwIfCancelled(options.signal);
    this.#supervisor.requestStop(options.mode);
    await this.#supervisor.until((state) => state.kind !== 'stopping', { signal: options.signal });
  }

  async whenServing(options: { timeoutMs: number; signal: AbortSignal }): Promise<void> {
    const isUp = await this.#supervisor.until((state) => state.kind === 'running', options);
    if (!isUp) throw this.#notServing(options.timeoutMs);
  }

  async withSystemClient<T>(
    use: (client: InternalClient) => Promise<T>,
    options: { signal: AbortSignal },
  ): Promise<T> {
    if (this.#sessions === null) {
      throw new AppError('cannot_connect_now', `${this.#title} ${this.#condition}`);
    }
    return this.#sessions.lend(use, options);
  }

  async withReaderClient<T>(
    options: { database: string; signal: AbortSignal },
    use: (client: InternalClient) => Promise<T>,
  ): Promise<T> {
    const clusterName = this.#identity.virtualClusterName;
    const session = { ...options, socketDirectory: this.socketDirectory, clusterName };
    let hasBegun = false;
    const begin = (client: InternalClient) => {
      hasBegun = true;
      return use(client);
    };
    try {
      return await withReaderSession(session, begin);
    } catch (error) {
      if (hasBegun || !isAppError(error, 'insufficient_privilege')) throw error;
    }
    // The tenant took CONNECT from PUBLIC in this database; that is meant for others.
    await this.withSystemClient(async (client) => {
      const [row] = await client.query('SELECT quote_ident($1) AS name', [options.database]);
      await client.query(`GRANT CONNECT ON DATABASE ${row?.['name']} TO atoll_reader`);
    }, options);
    return withReaderSession(session, use);
  }

  async withRoleClient<T>(
    options: { database: string; role: string; signal: AbortSignal },
    use: (client: InternalClient) => Promise<T>,
  ): Promise<T> {
    const clusterName = this.#identity.virtualClusterName;
    return withRoleSession({ ...options, socketDirectory: this.socketDirectory, clusterName }, use);
  }

  async installPrivilegeStore(options: { database: string; signal: AbortSignal }): Promise<void> {
    const clusterName = this.#identity.virtualClusterName;
    const session = { ...options, socketDirectory: this.socketDirectory, clusterName };
    await withDefinerSession(session, (client) => installGuards(client));
  }

  async guardDatabases(options: { signal: AbortSignal }): Promise<readonly string[]> {
    const place = { socketDirectory: this.socketDirectory, clusterName: this.#identity.virtualClusterName };
    return this.withSystemClient((client) => guardDatabases(client, { ...place, ...options }), options);
  }

  get copyRoles(): CopyRoles {
    return copyRoles({
      system: (use, signal) => this.withSystemClient(use, { signal }),
      definer: (options, use) => {
        const clusterName = this.#identity.virtualClusterName;
        return withDefinerSession({ ...options, socketDirectory: this.socketDirectory, clusterName }, use);
      },
    });
  }

  async lacksPlaces(options: { signal: AbortSignal }): Promise<boolean> {
    const control = await readControlFile(this.dataDirectory);
    return this.withSystemClient((client) => hasFewerPlaces(client, control), options);
  }

  configure(settings: InstanceSettings): void {
    checkSettings(settings);
    this.#settings = settings;
  }

  /** Shows another identity from now on; the host has written it. Another incarnation only while it is stopped. */
  replaceIdentity(identity: InstanceIdentity): void {
    this.#identity = identity;
    this.#log.useLogger(this.#environment.logger.for({ ...scopeOf(identity), channel: 'postgres' }));
  }

  /** Writes the node's configuration of the next start: of the instance itself, or of another life of its data beside it. */
  async writeConfiguration(of: 'itself' | 'another' = 'another'): Promise<void> {
    const { user } = this;
    const { privileges } = this.#environment;
    const following = of === 'itself' ? this.following : null;
    const { configuration } = this.layout;
    if (following !== null) await writeSecretFiles(configuration, following, user);
    await writeConfiguration({
      ...(this.isReadOnly
        ? {
            parameters: readOnlyParameters({
              control: await readControlFile(this.dataDirectory),
              connections: this.#settings.maxConnections,
            }),
          }
        : {}),
      ...(following === null
        ? {}
        : {
            parameters: followerParameters(following, {
              configuration,
              control: await readControlFile(this.dataDirectory),
              connections: this.#settings.maxConnections,
            }),
          }),
      // Who reads a follower must not find himself writing into what it becomes. Of a plain server's data nobody reads anything.
      isClosed: following?.phase === 'promoting' && isOwnLogin(this.#login),
      directory: this.layout.configuration,
      clusterName: this.#identity.virtualClusterName,
      socketDirectory: this.layout.sockets,
      settings: this.#settings,
      engine: this.#environment.engine,
      privileges,
      user: this.user,
    });
    await privileges.openConfiguration(this.layout.directory);
  }

  /** Forwards new lines of the log. Harmless at any time. */
  async pollLog(): Promise<void> {
    await this.#log.poll();
  }

  /** Lets go of the server, which goes on, and of everything else. Waits until nothing is under way. */
  async detach(): Promise<void> {
    this.#closeSessions();
    await this.#supervisor.detach();
    await this.#closing.settled();
  }

  get #title(): string {
    return `virtual cluster "${this.#identity.virtualClusterName}"`;
  }

  get #logger(): Logger {
    return this.#environment.logger.for(scopeOf(this.#identity));
  }

  /** For the operator who asked for the start; clients that wait meet `whenServing`. */
  #failedToStart(lastError: string): AppError {
    if (!this.#isOutOfDisk) {
      const told = { detail: lastError, hint: SEE_LOG };
      return new AppError('instance_failed', `${this.#title} did not start`, told);
    }
    return new AppError('disk_full', `${this.#title} did not start: ${OUT_OF_DISK}`, {
      detail: lastError,
      hint: 'free space on the disk of the store; it is started again by itself',
    });
  }

  /** Why it does not run, as far as anybody may know. The same while it is tried again and again. */
  get #condition(): string {
    if (this.#isOutOfDisk) return `does not run: ${OUT_OF_DISK}`;
    const { kind } = this.state;
    return kind === 'backing_off' ? 'failed to start and is tried again' : `is ${kind}`;
  }

  /** Also for clients that nobody has authenticated yet: no path, and nothing of the log, which has the reason. */
  #notServing(timeoutMs: number): AppError {
    return new AppError('cannot_connect_now', `${this.#title} ${this.#condition}`, {
      detail: `waited ${Math.ceil(timeoutMs)} ms`,
      hint: `connect again in a moment; ${SEE_LOG}`,
    });
  }

  #charge(): Charge {
    return {
      launch: ({ signal }) => this.#findOrSpawn(signal),
      untilServing: async ({ signal }) => {
        const login = await untilServing({
          dataDirectory: this.dataDirectory,
          socketDirectory: this.socketDirectory,
          clusterName: this.#identity.virtualClusterName,
          systemIdentifier: this.#identity.systemIdentifier,
          clock: this.#environment.clock,
          signal,
        });
        if (!isOwnLogin(login) && this.following === null) {
          throw new AppError('instance_failed', `${this.#title} holds the data of a plain server`, {
            hint: 'drop the virtual cluster and make it again',
          });
        }
        this.#login = login;
      },
      onServing: () => {
        this.#isOutOfDisk = false;
        this.#openSessions();
        this.#onServing(this);
      },
      onLeaving: () => this.#closeSessions(),
      clearLeftovers: ({ signal }) =>
        clearStaleClaim({ ...this.#environment, dataDirectory: this.dataDirectory, signal }),
      onFailure: async (ending) => {
        try {
          await this.#log.poll();
          const log = await rawLogTail(this.layout.log, { from: this.#logFrom });
          this.#isOutOfDisk = await ranOutOfDisk({ log, directory: this.layout.directory });
          const tail = readableTail(log, { linesMax: TAIL_LINES_MAX });
          return tail === '' ? ending : `${ending}\n${tail}`;
        } catch (error) {
          this.#logger.warning(`cannot read ${this.layout.log}`, error);
          return ending;
        } finally {
          this.#logger.error(`instance ended: ${ending}`);
        }
      },
    };
  }

  async #findOrSpawn(signal: AbortSignal): Promise<Postmaster> {
    const { clock, engine, privileges } = this.#environment;
    const { layout, dataDirectory, user } = this;
    this.#logFrom = await sizeOf(layout.log);
    const control = await readControlFile(dataDirectory);
    if (control.systemIdentifier !== this.#identity.systemIdentifier) {
      throw new AppError('instance_failed', `${dataDirectory} is of another system than ${this.#title}`);
    }
    const running = await findRunning({
      clusterDirectory: layout.directory,
      dataDirectory,
      clock,
      privileges,
    });
    if (running !== undefined) {
      this.#logger.info(`adopted running instance, process ${running.pid}`);
      return running;
    }
    await clearStaleClaim({ dataDirectory, clock, privileges, signal });
    await endRestoreProgress(dataDirectory, { privileges });
    await clearForStart(dataDirectory, { privileges });
    await this.#signFollower(control.state);
    await emptySocketDirectory({ path: layout.sockets, user, privileges });
    const [likeliest = OWN_LOGIN] = await readLogins(dataDirectory);
    this.#login = likeliest;
    await this.writeConfiguration('itself');
    throwIfCancelled(signal);
    const postmaster = await privileges.launch({
      postgres: engine.postgres,
      dataDirectory,
      configuration: layout.configuration,
      overrides: {},
      log: layout.log,
      user,
      limits: limitsOf(this.#settings, this.identity),
    });
    for (const limit of postmaster.unkept)
      this.#logger.warning(`not kept for want of control groups: ${limit}`);
    try {
      await recordProcess(layout.directory, postmaster);
    } catch (error) {
      // Nobody would know it: it must not run.
      await postmaster.send('SIGQUIT');
      await postmaster.ended({ signal: new AbortController().signal });
      throw error;
    }
    return postmaster;
  }

  /**
   * A directory that was following is never started as an instance of its own but by its promotion: it would go on with the log of its source
   * as if it were its own. @throws AppError `instance_failed`
   */
  async #signFollower(state: ControlState): Promise<void> {
    const { following, dataDirectory, user } = this;
    // Of another life: it holds a password, and has no use any more.
    if (following === null && this.#following !== null) await this.setFollowing(null);
    const isInRecovery = state === 'in_archive_recovery' || state === 'shut_down_in_recovery';
    if (following === null && this.#readOnly !== null) return this.#signReadOnly(isInRecovery);
    if (following === null) {
      if (!isInRecovery && !(await isPresent(join(dataDirectory, 'backup_label')))) return;
      throw new AppError(
        'instance_failed',
        `${dataDirectory} is that of a follower, and nothing says what it follows`,
        {
          hint: 'drop the virtual cluster and make it again',
        },
      );
    }
    const isPromoted = !isInRecovery && (await hasLaterTimeline(dataDirectory, following.timelineId));
    if (following.phase === 'promoting' && isPromoted) return;
    await this.#environment.privileges.sign(dataDirectory, 'standby.signal', { owner: user });
  }

  /** One that has left the recovery in which it could not write needs no word of it any more, nor does another life. */
  async #signReadOnly(isInRecovery: boolean): Promise<void> {
    const own = this.#ownReadOnly;
    if (own?.phase === 'on') {
      const { privileges } = this.#environment;
      return privileges.sign(this.dataDirectory, 'standby.signal', { owner: this.user });
    }
    if (own === null || !isInRecovery) await this.#recordReadOnly(null);
    if (own === null) await this.#signFollower((await readControlFile(this.dataDirectory)).state);
  }

  /** The server has become one of ours while it ran: from now on it lets us in as any other. */
  logInAsOwn(): void {
    this.#login = OWN_LOGIN;
    if (this.#sessions === null) return;
    this.#closeSessions();
    this.#openSessions();
  }

  #openSessions(): void {
    const clusterName = this.#identity.virtualClusterName;
    const login = this.#login;
    this.#sessions = new SystemSessions({ socketDirectory: this.socketDirectory, clusterName, login });
  }

  #closeSessions(): void {
    const sessions = this.#sessions;
    this.#sessions = null;
    // Lent sessions end when their borrowers give them back, or their server goes.
    if (sessions !== null) this.#closing.add(sessions.close());
  }
}

function scopeOf(identity: InstanceIdentity): LogScope {
  const { virtualClusterId, virtualClusterName } = identity;
  return { virtualClusterId, virtualClusterName };
}
