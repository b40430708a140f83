import type { Socket } from 'node:net';
import {
  AppError,
  type Clock,
  errnoOf,
  InputError,
  isAppError,
  type Logger,
  type Rng,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  toError,
  type VirtualClusterId,
} from '../base/index.ts';
import type { AdmissionLimits, LoginThrottle, Route, SessionIdentity } from '../control/index.ts';
import {
  BACKEND,
  type CancelKey,
  decodeErrorFields,
  decodeStartupPacket,
  encodeNegotiateProtocolVersion,
  protocolViolation,
  type StartupPacket,
  startupPacketLength,
} from '../pg/index.ts';
import { type LastAnswers, withinAnswerTime } from './answer-time.ts';
import { authenticateByScram } from './authentication.ts';
import type { CancelRegistry } from './cancel.ts';
import { Channel } from './channel.ts';
import type { LanePool } from './fast-lane.ts';
import type { FrontDoorCounters } from './counters.ts';
import type { Deadlines, Expiring } from './deadlines.ts';
import { errorResponse } from './errors.ts';
import { OwnExecution } from './own-execution.ts';
import { OwnInterpreter } from './own-interpreter.ts';
import { PacketReader, typedPacketLength } from './packet-reader.ts';
import { type Backend, Relay } from './relay.ts';
import { ReplicationGuard } from './replication-guard.ts';
import type { SessionService } from './service.ts';
import { readSessionRequest, servedAs, type SessionRequest } from './startup.ts';
import { allowsUser, peerOf, type PrincipalMap, type ServerTls, type TlsPeer } from './tls.ts';
import { type StatementFigures, StatementMeter, zeroFigures } from './statement-figures.ts';
import { logIn } from './upstream.ts';

/** Longest answer to an authentication request. */
const PASSWORD_BYTES_MAX = 4_096;
/** What a client may send ahead of its login. */
const AHEAD_BYTES_MAX = 65_536;
/** An instance's death is noticed within milliseconds where it is our child, within a second where it was adopted. */
const ENTER_ATTEMPTS_MAX = 20;
const ENTER_RETRY_MS = 100;
/** The answers to a request for encryption: none is offered here; go ahead. */
const NOT_OFFERED = Buffer.from('N');
const GO_AHEAD = Buffer.from('S');

/** `trusted`: whoever can open the socket file may be any role. */
export type Authentication = 'insecure' | 'scram' | 'trusted';

/** How a front door deals with encryption. */
export interface Encryption {
  /** As new connections are encrypted; undefined when they can't be. */
  readonly current: ServerTls | undefined;
  /** Lets clients in that do not encrypt. */
  readonly acceptsPlain: boolean;
  readonly principals: PrincipalMap;
}

/** How a client's connection is encrypted. */
interface SecuredBy {
  readonly tls: ServerTls;
  readonly peer: TlsPeer;
}

/** What all sessions of a front door share. */
export interface SessionEnvironment {
  readonly service: SessionService;
  readonly authentication: Authentication;
  readonly encryption: Encryption;
  readonly authenticationTimeoutMs: number;
  /** What a client may take for each thing it has to say until its virtual cluster is known. */
  readonly loginTimeoutMs: () => number;
  readonly throttle: LoginThrottle;
  /** Ends connections that take too long to log in. */
  readonly deadlines: Deadlines;
  readonly lastAnswers: LastAnswers;
  /** Told what the operator allows, whenever somebody logs in. */
  readonly onAdmissionLimits: (limits: AdmissionLimits) => void;
  readonly answerTimeoutMs: number;
  readonly cancels: CancelRegistry;
  /** For a key that no session here has: it may belong to another relay process. */
  readonly cancelElsewhere: (key: CancelKey) => void;
  readonly mockKey: Uint8Array;
  readonly pool: LanePool | undefined;
  readonly counters: FrontDoorCounters;
  /** By virtual cluster; those that nobody of here has been in are missing. */
  readonly statements: Map<VirtualClusterId, StatementFigures>;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/** A client that was let in, ready to be relayed. */
interface Admission {
  readonly request: SessionRequest;
  readonly route: Route;
  readonly backend: Backend;
}

/** One client's connection from its first byte to its last. */
export class Session implements Expiring {
  readonly #environment: SessionEnvironment;
  readonly #client: Channel;
  readonly #reader = new PacketReader({ lengthOf: (bytes) => this.#lengthOf(bytes) });
  readonly #abort = new AbortController();
  #hasStarted = false;
  #securedBy: SecuredBy | undefined;
  #relay: Relay | undefined;
  readonly #closed = Promise.withResolvers<void>();
  readonly #address: string | undefined;
  readonly #onAdmitted: () => void;
  #loginTimeoutMs: number;
  /** By when it must have logged in, on the monotonic clock. */
  #admittedByMs = 0;
  /** What it is told if its time is up. */
  #lateWord = '';

  /** @param options.onAdmitted called when the client has logged in, if it does */
  constructor(socket: Socket, environment: SessionEnvironment, options: { onAdmitted: () => void }) {
    this.#environment = environment;
    this.#address = socket.remoteAddress;
    this.#onAdmitted = options.onAdmitted;
    this.#loginTimeoutMs = environment.loginTimeoutMs();
    this.#client = Channel.accepted(socket, {
      pool: environment.pool,
      events: {
        onData: (bytes) => {
          this.#reader.push(bytes);
          if (this.#reader.bufferedBytes > AHEAD_BYTES_MAX) this.#client.pause();
        },
        onEnd: () => this.#reader.end(),
        onDrain: () => undefined,
        onClose: () => {
          this.#reader.end();
          this.#abort.abort();
          this.#closed.resolve();
        },
      },
    });
  }

  /** Serves the client. Resolves when its connection and its backend's are closed; never rejects. */
  async run(): Promise<void> {
    const admission = await this.#admit();
    if (admission === undefined) {
      await this.#closed.promise;
      return;
    }
    this.#onAdmitted();
    await this.#serve(admission);
  }

  /** Ends one that took too long to log in. */
  expire(): void {
    this.#abort.abort(new AppError('timed_out', this.#lateWord));
  }

  /** Ends one that has not logged in, for others want to. */
  turnAway(): void {
    this.#abort.abort(
      new AppError('too_many_connections', 'too many connections that have not logged in', {
        hint: 'log in as soon as the connection is made',
      }),
    );
  }

  /** Ends the session with a word to the client. */
  shutDown(): void {
    const error = new AppError('shutting_down', 'terminating connection due to administrator command');
    if (this.#relay !== undefined) this.#relay.terminate(error);
    else this.#abort.abort(error);
  }

  /** Ends the session at once. */
  destroy(): void {
    this.#abort.abort();
    this.#client.destroy();
  }

  #lengthOf(bytes: Buffer): number | undefined {
    return this.#hasStarted ? passwordLength(bytes) : startupPacketLength(bytes);
  }

  /** Undefined when the connection was not for a session, or was refused. */
  async #admit(): Promise<Admission | undefined> {
    const { clock, authenticationTimeoutMs, deadlines, logger, counters } = this.#environment;
    this.#admittedByMs = clock.monotonicMs() + authenticationTimeoutMs;
    this.#mindAuthentication();
    const onAbort = (): void => {
      const { reason } = this.#abort.signal;
      this.#reader.end(reason instanceof AppError ? reason : undefined);
    };
    this.#abort.signal.addEventListener('abort', onAbort, { once: true });
    try {
      const startup = await this.#readStartup();
      return startup && (await this.#logIn(startup));
    } catch (error) {
      const { reason } = this.#abort.signal;
      const told = reason instanceof AppError ? reason : error;
      if (isAppError(told, 'protocol_violation')) counters.protocolViolations += 1;
      if (isAppError(told, 'authentication_failed')) {
        counters.authenticationsFailed += 1;
        logger.info(`refused a client: ${told.message}`);
      }
      if (this.#hasStarted && !this.#hasLeft(told)) counters.connectionsRefused += 1;
      this.#refuse(errorResponse(told, { severity: 'FATAL', logger }));
      return undefined;
    } finally {
      deadlines.clear(this);
      this.#abort.signal.removeEventListener('abort', onAbort);
    }
  }

  /** The client went away by itself, as psql does to ask for a password: nobody refused it. */
  #hasLeft(error: unknown): boolean {
    return isAppError(error, 'connection_failure') && this.#reader.isEndedBy(error);
  }

  #refuse(messages: Buffer): void {
    this.#client.write(messages);
    this.#client.closeGently();
  }

  /** Waits for the client, but not for long: who says little or nothing takes the place of others. */
  async #inLoginTime<T>(waiting: Promise<T>): Promise<T> {
    const { deadlines, clock } = this.#environment;
    const withinMs = this.#loginTimeoutMs;
    if (clock.monotonicMs() + withinMs < this.#admittedByMs) {
      this.#lateWord = 'the client took too long to log in';
      deadlines.set(this, { withinMs });
    }
    try {
      return await waiting;
    } finally {
      this.#mindAuthentication();
    }
  }

  /** What it waits for now may take as long as all of the login may. */
  #mindAuthentication(): void {
    const { deadlines, clock } = this.#environment;
    this.#lateWord = 'authentication took too long';
    deadlines.set(this, { withinMs: this.#admittedByMs - clock.monotonicMs() });
  }

  async #readStartup(): Promise<Extract<StartupPacket, { kind: 'startup' }> | undefined> {
    for (let requests = 0; ; requests += 1) {
      const packet = decodeStartupPacket(await this.#inLoginTime(this.#reader.next()));
      switch (packet.kind) {
        case 'ssl_request':
        case 'gssenc_request':
          // Each may be asked for once.
          if (requests >= 2) throw protocolViolation('too many requests for encryption');
          await this.#answerEncryption(packet.kind);
          break;
        case 'cancel_request':
          this.#environment.counters.cancelRequests += 1;
          if (!this.#environment.cancels.cancel(packet.key)) this.#environment.cancelElsewhere(packet.key);
          this.#client.closeGently();
          return undefined;
        case 'startup':
          this.#hasStarted = true;
          return packet;
      }
    }
  }

  /** On the operator's socket the kernel keeps others out, and nothing is encrypted. */
  async #answerEncryption(kind: 'ssl_request' | 'gssenc_request'): Promise<void> {
    const { encryption, authentication } = this.#environment;
    if (this.#securedBy !== undefined) throw protocolViolation('the connection is encrypted already');
    const tls = authentication === 'trusted' ? undefined : encryption.current;
    if (kind === 'gssenc_request' || tls === undefined) {
      this.#client.write(NOT_OFFERED);
      return;
    }
    if (this.#reader.bufferedBytes > 0) {
      // They would be taken for something that came encrypted.
      throw protocolViolation('received unencrypted data after SSL request');
    }
    const { signal } = this.#abort;
    const cut = (): void => this.#client.destroy();
    signal.addEventListener('abort', cut, { once: true });
    try {
      this.#client.write(GO_AHEAD);
      const socket = await this.#inLoginTime(this.#client.secure(tls.socketOptions));
      this.#securedBy = { tls, peer: peerOf(socket) };
    } catch (error) {
      this.#environment.logger.info(`refused a client: ${toError(error).message}`);
      throw error;
    } finally {
      signal.removeEventListener('abort', cut);
    }
  }

  async #logIn(startup: Extract<StartupPacket, { kind: 'startup' }>): Promise<Admission | undefined> {
    const { service, authentication, mockKey, rng } = this.#environment;
    const { signal } = this.#abort;
    const request = readSessionRequest(startup);
    const { user, protocol, negotiation } = request;
    const send = (message: Buffer): void => {
      this.#client.write(message);
    };
    if (negotiation !== undefined) send(encodeNegotiateProtocolVersion({ protocol, ...negotiation }));
    const { virtualClusterName: name, isStream } = request;
    const route = await service.route({ name, isStream, signal });
    if (route.admission !== undefined) {
      this.#environment.onAdmissionLimits(route.admission);
      this.#loginTimeoutMs = route.admission.loginTimeoutMs;
    }
    if (authentication === 'scram' && !this.#isCertified(user)) {
      const answering: Pick<SessionService, 'credential'> = {
        credential: (options) =>
          this.#answered({ route, signal }, (limited) => service.credential({ ...options, signal: limited })),
      };
      const reader = { next: () => this.#inLoginTime(this.#reader.next()) };
      const home = hasForeignAuthority(request, route)
        ? { ...route, virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID }
        : route;
      await authenticateByScram({
        user,
        route: home,
        service: answering,
        mockKey,
        rng,
        reader,
        throttle: this.#environment.throttle,
        address: this.#address,
        send,
        channelBinding: this.#securedBy?.tls.channelBinding,
        signal,
      });
    }
    const { request: served, backend } = await this.#enter(request, { route, signal });
    if (backend instanceof Uint8Array) {
      this.#environment.counters.connectionsRefused += 1;
      this.#refuse(backend);
      return undefined;
    }
    return { request: served, route, backend };
  }

  /**
   * Whether the client has shown by a certificate that it is `user`. Who shows one that does not do is refused, and not asked for a
   * password: it would never be noticed. @throws InputError `authorization_invalid`
   */
  #isCertified(user: string): boolean {
    const { encryption } = this.#environment;
    if (this.#securedBy === undefined) {
      if (encryption.current === undefined || encryption.acceptsPlain) return false;
      throw new InputError('authorization_invalid', 'this node takes encrypted connections only', {
        hint: 'connect with sslmode=verify-full',
      });
    }
    const { peer } = this.#securedBy;
    switch (peer.kind) {
      case 'anonymous':
        return false;
      case 'invalid':
        throw new InputError(
          'authorization_invalid',
          `the client's certificate is not accepted: ${peer.reason}`,
          {
            hint: "it must be signed by the cluster's CA and be valid now: atoll cert list, atoll cert create-client",
          },
        );
      case 'certified':
        if (allowsUser(encryption.principals, { name: peer.name, user })) return true;
        throw new InputError(
          'authorization_invalid',
          `the client's certificate is that of "${peer.name}", not of "${user}"`,
          { hint: 'connect as that user, with another certificate, or without one to log in by password' },
        );
    }
  }

  /**
   * Authorizes and connects. An instance that has just been killed refuses connections before anyone has noticed: then the
   * way is asked for again, which waits until the instance serves.
   */
  async #enter(
    request: SessionRequest,
    options: { route: Route; signal: AbortSignal },
  ): Promise<{ request: SessionRequest; backend: Backend | Buffer }> {
    const { service, clock } = this.#environment;
    const { signal } = options;
    const { virtualClusterName } = options.route;
    let { route } = options;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const served = await this.#authorize(request, { route, signal });
        return { request: served, backend: await this.#connect(served, { route, signal }) };
      } catch (error) {
        if (!isInstanceGone(error) || attempt === ENTER_ATTEMPTS_MAX) throw error;
      }
      await clock.sleep(ENTER_RETRY_MS, { signal });
      route = await service.route({ name: virtualClusterName, isStream: request.isStream, signal });
    }
  }

  /** The request as it is to be served: by the authority of the system VC it is another role's. */
  async #authorize(
    request: SessionRequest,
    options: { route: Route; signal: AbortSignal },
  ): Promise<SessionRequest> {
    const { service } = this.#environment;
    const { virtualClusterId } = options.route;
    const { user } = request;
    if (!request.isStream && !hasForeignAuthority(request, options.route)) {
      const { isReplication } = request;
      await this.#answered(options, (signal) =>
        service.authorize({ virtualClusterId, user, isReplication, signal }),
      );
      return request;
    }
    if (service.authorizeBySystem === undefined || (request.isReplication && !request.isStream)) {
      throw new AppError(
        'feature_not_supported',
        'there is no such session by the authority of the system virtual cluster',
      );
    }
    const authorize = service.authorizeBySystem.bind(service);
    const { isStream } = request;
    const served = await this.#answered(options, (signal) =>
      authorize({ virtualClusterId, user, isStream, signal }),
    );
    return servedAs(request, served);
  }

  /** A backend, or the messages by which Postgres refused. */
  async #connect(
    request: SessionRequest,
    options: { route: Route; signal: AbortSignal },
  ): Promise<Backend | Buffer> {
    const { socketPath } = options.route;
    const { protocol, parameters } = request;
    const { pool } = this.#environment;
    const login = await this.#answered(options, (signal) =>
      logIn({ socketPath, protocol, parameters, pool, signal }),
    );
    return login.kind === 'refused' ? login.messages : { upstream: login.upstream, socketPath };
  }

  /** @throws AppError `instance_unresponsive` */
  #answered<T>(
    options: { route: Route; signal: AbortSignal },
    ask: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { clock, answerTimeoutMs: timeoutMs, lastAnswers } = this.#environment;
    const { virtualClusterId, virtualClusterName } = options.route;
    const { signal } = options;
    return withinAnswerTime(ask, {
      virtualClusterId,
      virtualClusterName,
      lastAnswers,
      clock,
      timeoutMs,
      signal,
    });
  }

  async #serve({ request, route, backend }: Admission): Promise<void> {
    const { counters, clock, cancels, service } = this.#environment;
    const { virtualClusterId, virtualClusterName } = route;
    const { upstream } = backend;
    const logger = this.#environment.logger.for({ virtualClusterId, virtualClusterName });
    const client = this.#client;
    const meter = new StatementMeter(this.#figuresFor(request, route), { clock });
    const relay = new Relay({ client, backend, virtualClusterName, counters, meter, clock, logger });
    const session: SessionIdentity = {
      virtualClusterId,
      virtualClusterName,
      user: request.user,
      database: request.parameters.get('database') ?? '',
      applicationName: request.applicationName,
    };
    const execution = new OwnExecution({
      relay,
      session,
      service,
      counters,
      logger,
      reconnect: ({ signal }) => this.#reconnect(request, { route, signal }),
    });
    const isScreened = virtualClusterId === SYSTEM_VIRTUAL_CLUSTER_ID && service.screen !== undefined;
    const interpreter = request.isReplication
      ? new ReplicationGuard({ relay, logger, isStream: request.isStream })
      : new OwnInterpreter({ relay, execution, service, session, logger, isScreened });
    const unregister =
      upstream.cancelKey === undefined ? () => undefined : cancels.register(upstream.cancelKey, execution);
    this.#relay = relay;
    try {
      await relay.run({ interpreter, upstream, clientBytes: this.#reader.takeRest() });
    } finally {
      unregister();
    }
  }

  /** Sessions of replication send no statements that anybody would count. */
  #figuresFor({ isReplication }: SessionRequest, { virtualClusterId }: Route): StatementFigures {
    const { statements } = this.#environment;
    const figures = statements.get(virtualClusterId) ?? zeroFigures();
    if (!isReplication) statements.set(virtualClusterId, figures);
    return figures;
  }

  /** Finds the virtual cluster again, by its name, and logs in as before. @throws AppError */
  async #reconnect(
    request: SessionRequest,
    options: { route: Route; signal: AbortSignal },
  ): Promise<Backend> {
    const { service } = this.#environment;
    const { signal } = options;
    const route = await service.route({ name: options.route.virtualClusterName, signal });
    const backend = await this.#connect(request, { route, signal });
    if (!(backend instanceof Uint8Array)) return backend;
    throw notAdmittedAgain(backend, request);
  }
}

/** A session that has outlived its server, and is refused by the one that serves now: the data may be others, without its database or role. */
function notAdmittedAgain(refusal: Buffer, request: SessionRequest): AppError {
  const { sqlstate, message } = refusedWith(refusal);
  if (sqlstate !== DATABASE_MISSING) {
    return new AppError('cannot_connect_now', `the session ends: ${message}`, {
      hint: 'the server was replaced during the statement, and refuses the session now; connect again',
    });
  }
  const database = request.parameters.get('database') ?? request.user;
  return new AppError(
    'database_not_found',
    `the session ends: database "${database}" does not exist any more`,
    {
      hint: 'the statement itself is over; connect to another database',
    },
  );
}

const DATABASE_MISSING = '3D000';

/** What the ErrorResponse among the messages of a refused login says. */
function refusedWith(messages: Buffer): { readonly sqlstate: string; readonly message: string } {
  let at = 0;
  // A type, and a length that counts itself.
  while (at < messages.length && messages[at] !== BACKEND.errorResponse)
    at += 1 + messages.readUInt32BE(at + 1);
  const fields = decodeErrorFields(messages.subarray(at));
  const message = Buffer.from(fields.get('M') ?? '', 'latin1').toString();
  return { sqlstate: fields.get('C') ?? '', message };
}

/** In the system VC itself its authority is everybody's own. */
function hasForeignAuthority(request: SessionRequest, route: Route): boolean {
  return request.hasSystemAuthority && route.virtualClusterId !== SYSTEM_VIRTUAL_CLUSTER_ID;
}

/** Refused connections, lost ones, and what a server says when it ends or begins (57P01 to 57P03). */
function isInstanceGone(error: unknown): boolean {
  if (isAppError(error, 'cannot_connect_now', 'connection_failure')) return true;
  return /^57P0[123]$/.test(errnoOf(error) ?? '');
}

const passwordLength = typedPacketLength({
  bytesMax: PASSWORD_BYTES_MAX,
  onTooLong: () => protocolViolation('invalid length of an authentication message'),
});
