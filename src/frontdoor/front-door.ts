import { chmod, mkdir, rm } from 'node:fs/promises';
import { createServer, type ListenOptions as ServerListenOptions, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import {
  AppError,
  type Clock,
  errnoOf,
  type Logger,
  type Rng,
  type VirtualClusterId,
} from '../base/index.ts';
import { type AdmissionLimits, LoginThrottle, networkOf } from '../control/index.ts';
import type { CancelKey } from '../pg/index.ts';
import { LastAnswers } from './answer-time.ts';
import { CancelRegistry } from './cancel.ts';
import { LanePool } from './fast-lane.ts';
import { type FrontDoorCounters, zeroCounters } from './counters.ts';
import { Deadlines } from './deadlines.ts';
import { errorResponse } from './errors.ts';
import { Lobby } from './lobby.ts';
import type { SessionService } from './service.ts';
import type { StatementFigures } from './statement-figures.ts';
import { type PrincipalMap, ServerTls, type TlsMaterial } from './tls.ts';
import { type Authentication, type Encryption, Session, type SessionEnvironment } from './session.ts';

export interface FrontDoorLimits {
  /** Connections of all kinds at one time, in this process. */
  readonly connectionsMax: number;
  /** Of those, connections of clients that have not logged in. */
  readonly pendingMax: number;
  /** What a client may take for each thing it has to say while it logs in. */
  readonly loginTimeoutMs: number;
  /** From the first byte to ReadyForQuery. */
  readonly authenticationTimeoutMs: number;
  /** What an instance may take for each thing a login asks of it: a verifier, the right to enter, a session. */
  readonly answerTimeoutMs: number;
}

export const FRONT_DOOR_LIMITS: FrontDoorLimits = {
  connectionsMax: 10_000,
  pendingMax: 1_000,
  loginTimeoutMs: 10_000,
  authenticationTimeoutMs: 60_000,
  // A login takes milliseconds. One that takes longer than this comes upon a server that is stopped or waits for its disk:
  // clients had better know, for most have pools to fill and time-outs of their own.
  answerTimeoutMs: 8_000,
};

export interface ListenOptions {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /**
   * Folder of the operator's own socket, `.s.PGSQL.<port>`. It is kept closed to everyone but the daemon's user, and who
   * can open it may log in as any role without a password.
   */
  readonly socketDirectory?: string;
  /** Several processes listen on the same port (Linux). */
  readonly reusePort?: boolean;
}

export interface FrontDoorOptions {
  readonly service: SessionService;
  readonly listen: ListenOptions;
  readonly authentication: 'insecure' | 'scram';
  /** Undefined: nothing is encrypted. */
  readonly tls?: FrontDoorTls | undefined;
  readonly limits?: Partial<FrontDoorLimits>;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  /** Closes the front door as `close` does. */
  readonly signal: AbortSignal;
  /** Slows down who guesses passwords; one of its own by default. */
  readonly throttle?: LoginThrottle;
  /** What logins of unknown roles are answered from; processes that share a port share it. Random by default. */
  readonly mockKey?: Uint8Array;
  /** Reads and writes only by the documented means of the runtime, which is slower. */
  readonly isPlain?: boolean;
  /** Takes cancel requests for sessions of other relay processes. */
  readonly cancelElsewhere?: (key: CancelKey) => void;
}

/** How the SQL port deals with encryption; all of it may travel to another process. */
export interface FrontDoorTls {
  readonly material: TlsMaterial;
  /** Lets clients in that do not encrypt. */
  readonly acceptsPlain: boolean;
  /** Names in certificates, with the users they stand for. */
  readonly principals: PrincipalMap;
}

/** How long clients may take to read their last words when the door closes. */
const CLOSE_GRACE_MS = 2_000;
/** Probes find out about clients whose machine is gone. */
const KEEPALIVE_DELAY_MS = 60_000;
/** Connections that the kernel keeps ready while we accept others. */
const BACKLOG = 1_024;

/** The SQL port: authenticates, finds the virtual cluster, and relays to its instance. */
export class FrontDoor {
  readonly #environment: Omit<SessionEnvironment, 'authentication'>;
  /** As it was opened with; a service that knows better has the last word. */
  #limits: FrontDoorLimits;
  readonly #lobby = new Lobby();
  /** Of the sessions, those that were turned away and are not gone yet. */
  readonly #leaving = new Set<Session>();
  readonly #sessions = new Set<Session>();
  readonly #servers: Server[] = [];
  readonly #clock: Clock;
  readonly #idle: (() => void)[] = [];
  readonly #encryption: { current: ServerTls | undefined } & Encryption;
  #address: { readonly host: string; readonly port: number } = { host: '', port: 0 };
  #closing: Promise<void> | undefined;

  private constructor(options: FrontDoorOptions) {
    const { service, clock, rng, logger } = options;
    this.#limits = { ...FRONT_DOOR_LIMITS, ...options.limits };
    this.#clock = clock;
    const { tls } = options;
    this.#encryption = {
      current: tls && new ServerTls(tls.material),
      acceptsPlain: tls?.acceptsPlain ?? true,
      principals: tls?.principals ?? new Map(),
    };
    this.#environment = {
      encryption: this.#encryption,
      service,
      clock,
      rng,
      logger,
      authenticationTimeoutMs: this.#limits.authenticationTimeoutMs,
      loginTimeoutMs: () => this.#limits.loginTimeoutMs,
      throttle: options.throttle ?? new LoginThrottle({ clock }),
      deadlines: new Deadlines({ clock }),
      lastAnswers: new LastAnswers({ clock }),
      onAdmissionLimits: (limits) => this.#useLimits(limits),
      answerTimeoutMs: this.#limits.answerTimeoutMs,
      cancels: new CancelRegistry(),
      cancelElsewhere: options.cancelElsewhere ?? (() => undefined),
      mockKey: options.mockKey ?? rng.bytes(32),
      pool: options.isPlain === true ? undefined : new LanePool(),
      counters: zeroCounters(),
      statements: new Map(),
    };
  }

  /** Listens. @throws AppError `address_in_use`, `parameter_invalid` */
  static async open(options: FrontDoorOptions): Promise<FrontDoor> {
    const door = new FrontDoor(options);
    try {
      await door.#listen(options);
    } catch (error) {
      await door.close();
      throw error;
    }
    if (options.signal.aborted) await door.close();
    else options.signal.addEventListener('abort', () => void door.close(), { once: true });
    return door;
  }

  /** Where clients connect; the port is the real one. */
  get address(): { readonly host: string; readonly port: number } {
    return this.#address;
  }

  /** Connections open at this moment, those still logging in included. */
  get sessions(): number {
    return this.#sessions.size;
  }

  get counters(): Readonly<FrontDoorCounters> {
    return this.#environment.counters;
  }

  /** What clients of each virtual cluster have done here. */
  get statements(): ReadonlyMap<VirtualClusterId, StatementFigures> {
    return this.#environment.statements;
  }

  /** Shows itself to new connections by another certificate; those that are open go on. @throws AppError `parameter_invalid` */
  useCertificate(material: TlsMaterial): void {
    this.#encryption.current = new ServerTls(material);
  }

  /** Cancels what one of the sessions here does; false when none has this key. */
  cancel(key: CancelKey): boolean {
    return this.#environment.cancels.cancel(key);
  }

  /** Stops listening, tells every client, and waits until all is closed. May be called twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #listen({ listen, authentication }: FrontDoorOptions): Promise<void> {
    const { host, socketDirectory } = listen;
    const server = this.#server(authentication);
    await listening(server, {
      host,
      port: listen.port,
      reusePort: listen.reusePort ?? false,
      backlog: BACKLOG,
    });
    const bound = server.address();
    const port = typeof bound === 'object' && bound !== null ? bound.port : listen.port;
    this.#address = { host, port };
    if (socketDirectory === undefined) return;
    await mkdir(socketDirectory, { recursive: true, mode: 0o700 });
    await chmod(socketDirectory, 0o700);
    const path = join(socketDirectory, `.s.PGSQL.${port}`);
    await rm(path, { force: true }); // Left by a daemon that was killed; the store's lock says that none runs.
    await listening(this.#server('trusted'), { path, backlog: BACKLOG });
  }

  #server(authentication: Authentication): Server {
    const environment: SessionEnvironment = { ...this.#environment, authentication };
    const server = createServer(
      { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_DELAY_MS },
      (socket) => this.#accept(socket, environment),
    );
    this.#servers.push(server);
    return server;
  }

  #useLimits({ connectionsMax, pendingMax, failuresMax, failuresPerMinute }: AdmissionLimits): void {
    this.#limits = { ...this.#limits, connectionsMax, pendingMax };
    this.#environment.throttle.limits = { failuresMax, failuresPerMinute };
  }

  get #isFull(): boolean {
    return this.#sessions.size - this.#leaving.size >= this.#limits.connectionsMax;
  }

  /** So that there is room for one more: gently beyond the limit, at any price beyond twice the limit or when no connection is left. */
  #clearLobby(nowMs: number): void {
    const { pendingMax } = this.#limits;
    for (;;) {
      const isUrgent = this.#isFull || this.#lobby.size >= 2 * pendingMax;
      if (!isUrgent && this.#lobby.size < pendingMax) return;
      if (!this.#lobby.makeRoom({ nowMs, isUrgent })) return;
    }
  }

  #turnAway(session: Session): void {
    this.#leaving.add(session);
    session.turnAway();
  }

  #accept(socket: Socket, environment: SessionEnvironment): void {
    const { authentication, counters, logger } = environment;
    counters.connectionsAccepted += 1;
    const nowMs = this.#clock.monotonicMs();
    this.#clearLobby(nowMs);
    if (this.#isFull) {
      counters.connectionsRefused += 1;
      const error = new AppError('too_many_connections', 'sorry, too many clients already', {
        hint: 'close connections that are no longer needed, or put a pool before them',
      });
      socket.on('error', () => socket.destroy());
      socket.write(errorResponse(error, { severity: 'FATAL', logger }));
      socket.destroySoon();
      return;
    }
    const pending = { turnAway: () => this.#turnAway(session) };
    const session = new Session(socket, environment, { onAdmitted: () => this.#lobby.leave(pending) });
    this.#sessions.add(session);
    const { remoteAddress } = socket;
    // Who can open the socket file is the operator.
    if (authentication !== 'trusted' && remoteAddress !== undefined) {
      this.#lobby.enter(pending, { address: networkOf(remoteAddress), sinceMs: nowMs });
    }
    void session.run().then(() => {
      this.#lobby.leave(pending);
      this.#leaving.delete(session);
      this.#sessions.delete(session);
      if (this.#sessions.size === 0) for (const tell of this.#idle.splice(0)) tell();
    });
  }

  async #close(): Promise<void> {
    const servers = this.#servers.splice(0);
    const stopped = servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    for (const session of this.#sessions) session.shutDown();
    const grace = new AbortController();
    const late = this.#clock.sleep(CLOSE_GRACE_MS, { signal: grace.signal }).then(
      () => {
        for (const session of this.#sessions) session.destroy();
      },
      () => undefined,
    );
    if (this.#sessions.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    grace.abort();
    this.#environment.deadlines.close();
    await Promise.all([...stopped, late]);
  }
}

/** Opens a front door. @throws AppError `address_in_use` */
export function openFrontDoor(options: FrontDoorOptions): Promise<FrontDoor> {
  return FrontDoor.open(options);
}

function listening(server: Server, where: ServerListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      const name = where.path ?? `${where.host}:${where.port}`;
      const isTaken = errnoOf(cause) === 'EADDRINUSE';
      reject(
        new AppError(isTaken ? 'address_in_use' : 'io', `cannot listen on ${name}`, {
          cause,
          hint: isTaken ? 'another program listens there; choose another address' : 'check the address',
        }),
      );
    });
    server.listen(where, () => {
      server.removeAllListeners('error');
      server.on('error', () => undefined); // A failed accept concerns one client only.
      resolve();
    });
  });
}
