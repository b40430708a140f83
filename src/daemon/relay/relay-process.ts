import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import { AppError, CancelledError, type Clock, type Logger } from '../../base/index.ts';
import type { SessionService, TlsMaterial } from '../../frontdoor/index.ts';
import type { CancelKey } from '../../pg/index.ts';
import {
  fromTravelling,
  toTravelling,
  type FromRelay,
  type Question,
  type RelayFigures,
  type RelayListen,
  type ToRelay,
} from './messages.ts';

const PROGRAM = join(import.meta.dirname, 'relay-main.ts');
/** How long a relay may take to say good-bye to its clients before it is killed. */
const CLOSE_MS_MAX = 5_000;
/** How long a relay may take to report its figures before they are left out. */
const REPORT_MS_MAX = 1_000;

export interface RelayProcessOptions {
  readonly listen: RelayListen;
  readonly service: SessionService;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A cancel request came in here for a session of another process. */
  readonly onCancelElsewhere: (key: CancelKey) => void;
}

/** One relay process, from the daemon's side: answers its questions, passes cancel requests on. */
export class RelayProcess {
  readonly #options: RelayProcessOptions;
  readonly #child: ChildProcess;
  readonly #asked = new Map<number, AbortController>();
  readonly #reports = new Map<number, (figures: RelayFigures) => void>();
  readonly #listening = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #lastReport = 0;

  private constructor(options: RelayProcessOptions) {
    this.#options = options;
    this.#child = fork(PROGRAM, { serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    this.#child.on('message', (message) => this.#take(message as FromRelay));
    this.#child.on('error', (error) => this.#listening.reject(error));
    this.#child.on('exit', (code, signal) => {
      const how = signal ?? `exit code ${code}`;
      this.#listening.reject(new AppError('internal', `a relay process ended before it listened (${how})`));
      for (const controller of this.#asked.values()) controller.abort();
      this.#ended.resolve();
    });
  }

  /** Resolves when it listens. @throws AppError `address_in_use`, `io`, `internal` */
  static async start(options: RelayProcessOptions): Promise<RelayProcess> {
    const relay = new RelayProcess(options);
    relay.#send({ kind: 'listen', listen: options.listen });
    try {
      await relay.#listening.promise;
      return relay;
    } catch (error) {
      await relay.close();
      throw error;
    }
  }

  get processId(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves when the process has ended, whatever ended it. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  cancel(key: CancelKey): void {
    this.#send({ kind: 'cancel', key });
  }

  useCertificate(material: TlsMaterial): void {
    this.#send({ kind: 'certificate', material });
  }

  /** Undefined when it does not answer in time. */
  async figures(): Promise<RelayFigures | undefined> {
    this.#lastReport += 1;
    const id = this.#lastReport;
    const { promise, resolve } = Promise.withResolvers<RelayFigures | undefined>();
    this.#reports.set(id, resolve);
    this.#send({ kind: 'report', id });
    return await this.#within(REPORT_MS_MAX, promise).finally(() => this.#reports.delete(id));
  }

  /** Clients are told and sent away; harmless when it has ended. */
  async close(): Promise<void> {
    this.#send({ kind: 'close' });
    await this.#within(CLOSE_MS_MAX, this.#ended.promise);
    this.#child.kill('SIGKILL'); // Nothing, when it has ended.
    await this.#ended.promise;
  }

  #send(message: ToRelay): void {
    if (this.#child.connected) this.#child.send(message, () => undefined); // Its end is noticed by `exit`.
  }

  #take(message: FromRelay): void {
    switch (message.kind) {
      case 'listening':
        this.#listening.resolve();
        break;
      case 'failed':
        this.#listening.reject(fromTravelling(message.error));
        break;
      case 'ask':
        void this.#answer(message.id, message.question);
        break;
      case 'withdraw':
        this.#asked.get(message.id)?.abort();
        break;
      case 'cancel_elsewhere':
        this.#options.onCancelElsewhere(message.key);
        break;
      case 'figures':
        this.#reports.get(message.id)?.(message.figures);
        break;
      case 'log': {
        const { logger } = this.#options;
        const scoped = message.scope === undefined ? logger : logger.for(message.scope);
        scoped.log(message.severity, `relay ${this.processId}: ${message.message}`);
      }
    }
  }

  async #answer(id: number, question: Question): Promise<void> {
    const controller = new AbortController();
    this.#asked.set(id, controller);
    try {
      const value = await this.#ask(question, { id, signal: controller.signal });
      this.#send({ kind: 'answered', id, value });
    } catch (error) {
      this.#send({ kind: 'refused', id, error: toTravelling(error) });
    } finally {
      this.#asked.delete(id);
    }
  }

  async #ask(question: Question, { id, signal }: { id: number; signal: AbortSignal }): Promise<unknown> {
    const { service } = this.#options;
    switch (question.method) {
      case 'route':
        return await service.route({ ...question, signal });
      case 'credential':
        return await service.credential({ ...question, signal });
      case 'authorize':
        return await service.authorize({ ...question, signal });
      case 'authorizeBySystem':
        return await service.authorizeBySystem?.({ ...question, signal });
      case 'screen':
        return await service.screen?.(question);
      case 'describe':
        return await service.describe(question.statement, question.session);
      case 'execute':
        return await service.execute(question.statement, {
          ...question.context,
          onNotice: (notice) => this.#send({ kind: 'notice', id, notice }),
          signal,
        });
    }
  }

  /** What the promise gives, or undefined after a time. */
  async #within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
    const done = new AbortController();
    const late = this.#options.clock.sleep(ms, { signal: done.signal }).then(
      () => undefined,
      (error: unknown) => {
        if (error instanceof CancelledError) return undefined;
        throw error;
      },
    );
    try {
      return await Promise.race([promise, late]);
    } finally {
      done.abort();
      await late;
    }
  }
}
