import { AppError, assert, type Clock, type Logger, toError } from '../base/index.ts';
import type { TransactionStatus } from '../control/index.ts';
import { BACKEND, type CancelKey, encodeFlush, encodeQuery, type ReadyStatus } from '../pg/index.ts';
import { type BackendFilter, BackendFlow } from './backend-flow.ts';
import { forwardCancel } from './cancel.ts';
import type { Channel } from './channel.ts';
import type { FrontDoorCounters } from './counters.ts';
import { errorResponse } from './errors.ts';
import { FrontendFlow } from './frontend-flow.ts';
import type { Interpreter } from './interpreter.ts';
import { ReplyLedger } from './reply-ledger.ts';
import type { StatementMeter } from './statement-figures.ts';
import type { Upstream } from './upstream.ts';

/** How long a client may take to read the last words said to it. */
const LINGER_MS = 10_000;
const FLUSH = encodeFlush();
/** Fails, whatever the state of the session, and tells the reader of the instance's log why. */
const FAILING_QUERY = encodeQuery('ROLLBACK TO SAVEPOINT "atoll: a statement in this transaction failed"');

/** The backend's connection ended. Caught by the relay alone. */
export class BackendLostError extends Error {
  override readonly name = 'BackendLostError';
}

/** A backend to go on with, and where it is. */
export interface Backend {
  readonly upstream: Upstream;
  readonly socketPath: string;
}

export interface RelayOptions {
  readonly client: Channel;
  readonly backend: Backend;
  /** How the virtual cluster is called in messages. */
  readonly virtualClusterName: string;
  readonly counters: FrontDoorCounters;
  readonly meter: StatementMeter;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Some messages of our own for the backend, while the client's flow stands still. */
export interface Exchange {
  /** One whole message each. */
  readonly messages: readonly Buffer[];
  /** Types of replies that the client must not see. */
  readonly hidden?: readonly number[];
  /** Hears what is hidden, whole messages that are gone afterwards. */
  readonly heard?: (type: number, message: Buffer) => void;
  /** Changes replies of one type. */
  readonly mapped?: { readonly type: number; readonly map: (message: Buffer) => Buffer };
}

/** What somebody waits for from the backend. */
interface Wait {
  readonly isOver: () => boolean;
  /** COPY data of the client goes to the backend meanwhile. */
  readonly passesCopyData: boolean;
}

/**
 * One session: a client's socket and a backend's, joined. Bytes go through as they came; what the interpreter takes out
 * of the client's stream is dealt with here, by talking to the backend (`settle`, `exchange`) and to the client (`reply`)
 * while the stream stands still.
 */
export class Relay {
  readonly #options: RelayOptions;
  readonly #client: Channel;
  readonly #ledger = new ReplyLedger();
  readonly #frontend: FrontendFlow;
  readonly #backendFlow: BackendFlow;
  readonly #closed = Promise.withResolvers<void>();
  readonly #gone = new AbortController();
  readonly #lingering = new AbortController();
  #interpreter: Interpreter | undefined;
  #backend: Channel;
  #backendSocketPath: string;
  #backendKey: CancelKey | undefined;
  #isBackendLost = false;
  #isClientClosed = false;
  /** The last word is said. */
  #isEnding = false;
  #hasClientEnded = false;
  #isClientHeld = false;
  #isBackendFull = false;
  /** Messages for the client that must wait for the end of one of the backend's. */
  #deferred: Buffer[] = [];
  #waiter: (Wait & { readonly resolvers: PromiseWithResolvers<void> }) | undefined;
  #task: Promise<void> | undefined;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#client = options.client;
    const { upstream, socketPath } = options.backend;
    this.#backend = upstream.channel;
    this.#backendSocketPath = socketPath;
    this.#backendKey = upstream.cancelKey;
    const ledger = this.#ledger;
    const forward = (bytes: Buffer): void => this.#writeToClient(bytes);
    this.#backendFlow = new BackendFlow({ ledger, meter: options.meter, forward });
    this.#backendFlow.status = upstream.status;
    this.#frontend = new FrontendFlow({
      ledger,
      handler: {
        forward: (bytes) => this.#writeToBackend(bytes),
        wants: (type, bytes, begin, end) => this.#interpreter?.wants(type, bytes, begin, end) === true,
        take: (type, message) => {
          this.#task = this.#take(type, message);
        },
        wantsLong: (type, bytes, begin) => this.#interpreter?.wantsLong(type, bytes, begin) === true,
        violated: (message) => this.#violated(message),
        hold: (isHeld) => {
          this.#isClientHeld = isHeld;
          this.#steerClient();
        },
      },
    });
  }

  /**
   * Relays, beginning with what the backend said at login and what the client has sent ahead. Resolves when both
   * connections are closed.
   */
  run(options: { interpreter: Interpreter; upstream: Upstream; clientBytes: Buffer }): Promise<void> {
    const { interpreter, upstream, clientBytes } = options;
    this.#interpreter = interpreter;
    this.#client.events = {
      onData: (bytes) => this.#onClientData(bytes),
      onEnd: () => this.#onClientEnd(),
      onDrain: () => this.#backend.resume(),
      onClose: () => this.#onClientClose(),
    };
    this.#attachBackend();
    this.#writeToClient(Buffer.concat(upstream.greeting));
    if (upstream.rest.length > 0) this.#onBackendData(upstream.rest);
    if (clientBytes.length > 0) this.#onClientData(clientBytes);
    this.#steerClient();
    if (this.#client.hasEnded) this.#onClientEnd();
    if (this.#client.isClosed) this.#onClientClose();
    return this.#closed.promise;
  }

  /** Aborts when the client is gone. */
  get goneSignal(): AbortSignal {
    return this.#gone.signal;
  }

  get ledger(): ReplyLedger {
    return this.#ledger;
  }

  get isBackendLost(): boolean {
    return this.#isBackendLost;
  }

  /** It says no more: it is about to be lost. */
  get hasBackendEnded(): boolean {
    return this.#backend.hasEnded;
  }

  /** ReadyForQuery messages of the client that found the session outside any transaction. */
  get idleCount(): number {
    return this.#backendFlow.idleCount;
  }

  get status(): ReadyStatus {
    return this.#backendFlow.status;
  }

  /** The transaction that a statement of ours would run in. What was executed but not synced counts as one. */
  get transaction(): TransactionStatus {
    if (this.status === 'E') return 'failed';
    return this.status === 'T' || this.#ledger.hasExecuted ? 'in_transaction' : 'idle';
  }

  /** Looks at every message of the extended protocol from now on, or no longer. */
  set isAttentive(isAttentive: boolean) {
    this.#frontend.isAttentive = isAttentive;
  }

  /** Drops what the client sends until its next Sync, as a server does after an error. */
  discardUntilSync(): void {
    this.#frontend.discardUntilSync();
  }

  /** Sends something to the client, behind what the backend has sent so far. */
  reply(message: Buffer): void {
    if (this.#backendFlow.isAtBoundary) this.#writeToClient(message);
    else this.#deferred.push(message);
  }

  /** Passes a message of the client on that turned out not to be ours. */
  passOn(message: Buffer, options: { isAnswered: boolean } = { isAnswered: true }): void {
    if (options.isAnswered) this.#ledger.sent(message[0] ?? 0);
    this.#writeToBackend(message);
  }

  /**
   * Waits until the backend has answered all that was sent, or waits for COPY data.
   * @throws BackendLostError
   */
  async settle(): Promise<void> {
    const isOver = (): boolean => this.#ledger.isSettled || this.#ledger.isCopyingIn;
    if (isOver()) return;
    if (this.#ledger.hasOpenSegment) this.#writeToBackend(FLUSH);
    await this.#wait({ isOver, passesCopyData: false });
  }

  /** Sends messages of our own and waits for all replies, which reach the client. @throws BackendLostError */
  async exchange({ messages, hidden = [], heard, mapped }: Exchange): Promise<{ hasFailed: boolean }> {
    let hasFailed = false;
    const types = [BACKEND.errorResponse, ...hidden, ...(mapped === undefined ? [] : [mapped.type])];
    this.filter = {
      types,
      map: (type, message) => {
        if (type === BACKEND.errorResponse) hasFailed = true;
        if (hidden.includes(type)) {
          heard?.(type, message);
          return undefined;
        }
        return type === mapped?.type ? mapped.map(message) : message;
      },
    };
    try {
      for (const message of messages) this.#ledger.sent(message[0] ?? 0);
      const flush = this.#ledger.hasOpenSegment ? [FLUSH] : [];
      this.#writeToBackend(Buffer.concat([...messages, ...flush]));
      await this.#wait({ isOver: () => this.#ledger.isSettled, passesCopyData: true });
    } finally {
      this.filter = undefined;
    }
    return { hasFailed };
  }

  /** Makes an open transaction of the backend a failed one. @throws BackendLostError */
  async failTransaction(): Promise<void> {
    if (this.status !== 'T') return;
    const hidden = [BACKEND.errorResponse, BACKEND.readyForQuery];
    await this.exchange({ messages: [FAILING_QUERY], hidden });
  }

  set filter(filter: BackendFilter | undefined) {
    this.#backendFlow.filter = filter;
  }

  /** Goes on with another backend; what the former one knew of the session is gone. */
  replaceBackend(backend: Backend): void {
    assert(this.#isBackendLost, 'the former backend is gone');
    this.#backend = backend.upstream.channel;
    this.#backendSocketPath = backend.socketPath;
    this.#backendKey = backend.upstream.cancelKey;
    this.#isBackendLost = false;
    this.#isBackendFull = false;
    this.#ledger.reset();
    this.#backendFlow.reset(backend.upstream.status);
    this.#attachBackend();
    if (backend.upstream.rest.length > 0) this.#onBackendData(backend.upstream.rest);
    this.#options.counters.sessionsReconnected += 1;
  }

  /** Closes the connection to a backend that is about to end anyway. */
  dropBackend(): void {
    this.#isBackendLost = true;
    this.#backend.destroy();
  }

  /** Hands a cancel request to the backend that serves now, under the key that it gave. */
  cancelBackend(): void {
    const key = this.#backendKey;
    if (key !== undefined) forwardCancel({ socketPath: this.#backendSocketPath, key });
  }

  /** Ends the session with a last word to the client. */
  terminate(error: unknown): void {
    this.#frontend.end();
    if (!this.#isEnding && this.#backendFlow.isAtBoundary) {
      this.#writeToClient(errorResponse(error, { severity: 'FATAL', logger: this.#options.logger }));
    }
    this.#backend.destroy();
    this.#closeClient();
  }

  #attachBackend(): void {
    const channel = this.#backend;
    channel.events = {
      onData: (bytes) => this.#onBackendData(bytes),
      onEnd: () => undefined,
      onDrain: () => {
        this.#isBackendFull = false;
        this.#steerClient();
      },
      onClose: () => {
        if (this.#backend === channel) this.#onBackendClose();
      },
    };
    if (channel.isClosed) this.#onBackendClose();
  }

  #onClientData(bytes: Buffer): void {
    this.#options.counters.clientBytes += bytes.length;
    this.#frontend.push(bytes);
  }

  #onBackendData(bytes: Buffer): void {
    this.#options.counters.backendBytes += bytes.length;
    try {
      this.#backendFlow.push(bytes);
    } catch (error) {
      this.#options.logger.error('the backend broke the protocol', error);
      this.#backend.destroy();
      return;
    }
    if (this.#deferred.length > 0 && this.#backendFlow.isAtBoundary) {
      for (const message of this.#deferred.splice(0)) this.#writeToClient(message);
    }
    if (this.#waiter !== undefined) this.#checkWaiter();
  }

  #checkWaiter(): void {
    if (this.#waiter?.passesCopyData === true && this.#ledger.isCopyingIn) this.#frontend.passCopyData();
    if (this.#waiter?.isOver() === true && this.#backendFlow.isAtBoundary) {
      const { resolvers } = this.#waiter;
      this.#waiter = undefined;
      resolvers.resolve();
    }
  }

  async #wait(wait: Wait): Promise<void> {
    assert(this.#waiter === undefined, 'one exchange with the backend at a time');
    if (this.#isBackendLost) throw new BackendLostError();
    const resolvers = Promise.withResolvers<void>();
    this.#waiter = { ...wait, resolvers };
    await resolvers.promise;
  }

  async #take(type: number, message: Buffer): Promise<void> {
    try {
      await this.#interpreter?.handle(type, message);
    } catch (error) {
      if (!(error instanceof BackendLostError)) {
        this.terminate(error instanceof AppError ? error : toError(error));
      } else if (!this.#isBackendLost) {
        this.#backend.destroy();
      }
    }
    this.#task = undefined;
    if (this.#isBackendLost) this.#onBackendGone();
    else if (!this.#isClientClosed) this.#frontend.proceed();
    if (this.#hasClientEnded && this.#task === undefined) this.#backend.end();
    this.#settleClosed();
  }

  #writeToBackend(bytes: Buffer): void {
    if (this.#ledger.owesReady) this.#options.meter.asked();
    if (this.#backend.write(bytes)) return;
    this.#isBackendFull = true;
    this.#steerClient();
  }

  #writeToClient(bytes: Buffer): void {
    if (!this.#client.write(bytes)) this.#backend.pause();
  }

  #steerClient(): void {
    if (this.#isBackendFull || this.#isClientHeld) this.#client.pause();
    else this.#client.resume();
  }

  #violated(message: string): void {
    this.#options.counters.protocolViolations += 1;
    this.terminate(new AppError('protocol_violation', message));
  }

  /** The client will send no more. What it sent is still carried out, as Postgres does. */
  #onClientEnd(): void {
    this.#hasClientEnded = true;
    this.#gone.abort();
    if (this.#task === undefined) this.#backend.end();
  }

  #onClientClose(): void {
    this.#isClientClosed = true;
    this.#gone.abort();
    this.#frontend.end();
    if (this.#hasClientEnded) this.#backend.closeGently();
    else this.#backend.destroy();
    this.#settleClosed();
  }

  #onBackendClose(): void {
    if (this.#isBackendLost) return;
    this.#isBackendLost = true;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.resolvers.reject(new BackendLostError());
    // Who deals with a message finds out by itself, and may go on with another backend.
    if (this.#task === undefined) this.#onBackendGone();
    this.#settleClosed();
  }

  /** The session ends with its backend; if that said nothing, we do. */
  #onBackendGone(): void {
    if (!this.#isClientClosed && !this.#isEnding) {
      const isExpected = this.#hasClientEnded || this.#frontend.hasTerminated;
      const hasSpoken = this.#backendFlow.lastType === BACKEND.errorResponse;
      if (!isExpected) this.#options.counters.backendsLost += 1;
      if (!isExpected && !hasSpoken && this.#backendFlow.isAtBoundary) {
        const { virtualClusterName, logger } = this.#options;
        const error = new AppError(
          'instance_ended',
          `the server of virtual cluster "${virtualClusterName}" ended`,
          { hint: 'reconnect; what was not committed is undone' },
        );
        this.#writeToClient(errorResponse(error, { severity: 'FATAL', logger }));
      }
      this.#frontend.end();
      this.#closeClient();
    }
    this.#settleClosed();
  }

  #closeClient(): void {
    this.#isEnding = true;
    this.#client.closeGently();
    this.#options.clock.sleep(LINGER_MS, { signal: this.#lingering.signal }).then(
      () => this.#client.destroy(),
      () => undefined,
    );
  }

  #settleClosed(): void {
    if (!this.#isClientClosed || !this.#isBackendLost || this.#task !== undefined) return;
    this.#lingering.abort();
    this.#closed.resolve();
  }
}
