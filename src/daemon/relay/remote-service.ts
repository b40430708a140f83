import { CancelledError } from '../../base/index.ts';
import type { Column, Credential, Notice, Route, ServedAs, StatementResult } from '../../control/index.ts';
import type { SessionService } from '../../frontdoor/index.ts';
import { fromTravelling, type FromRelay, type Question, type ToRelay } from './messages.ts';

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
  onNotice(notice: Notice): void;
}

/** The control layer as a relay process sees it: every question goes to the daemon and comes back answered. */
export class RemoteService implements SessionService {
  readonly #send: (message: FromRelay) => void;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;

  constructor(send: (message: FromRelay) => void) {
    this.#send = send;
  }

  /** Takes what the daemon says; false when it is no answer to a question. */
  take(message: ToRelay): boolean {
    if (message.kind !== 'answered' && message.kind !== 'refused' && message.kind !== 'notice') return false;
    const waiting = this.#waiting.get(message.id);
    if (message.kind === 'notice') {
      waiting?.onNotice(message.notice);
      return true;
    }
    this.#waiting.delete(message.id);
    if (message.kind === 'answered') waiting?.resolve(message.value);
    else waiting?.reject(fromTravelling(message.error));
    return true;
  }

  // The daemon answers with what the method of the same name returned, so its type is known.
  async route(options: Parameters<SessionService['route']>[0]): Promise<Route> {
    const { signal, ...rest } = options;
    return (await this.#ask({ method: 'route', ...rest }, { signal })) as Route;
  }

  async credential(options: Parameters<SessionService['credential']>[0]): Promise<Credential | undefined> {
    const { virtualClusterId, user, signal } = options;
    const answer = await this.#ask({ method: 'credential', virtualClusterId, user }, { signal });
    return answer as Credential | undefined;
  }

  async authorize(options: Parameters<SessionService['authorize']>[0]): Promise<void> {
    const { signal, ...rest } = options;
    await this.#ask({ method: 'authorize', ...rest }, { signal });
  }

  async authorizeBySystem(
    options: Parameters<NonNullable<SessionService['authorizeBySystem']>>[0],
  ): Promise<ServedAs> {
    const { signal, ...rest } = options;
    return (await this.#ask({ method: 'authorizeBySystem', ...rest }, { signal })) as ServedAs;
  }

  async screen(options: Parameters<NonNullable<SessionService['screen']>>[0]): Promise<void> {
    await this.#ask({ method: 'screen', ...options }, {});
  }

  async describe(...[statement, session]: Parameters<SessionService['describe']>) {
    return (await this.#ask({ method: 'describe', statement, session }, {})) as readonly Column[] | undefined;
  }

  async execute(...[statement, context]: Parameters<SessionService['execute']>): Promise<StatementResult> {
    const { onNotice, signal, ...rest } = context;
    const answer = await this.#ask({ method: 'execute', statement, context: rest }, { onNotice, signal });
    return answer as StatementResult;
  }

  async #ask(
    question: Question,
    options: { onNotice?: (notice: Notice) => void; signal?: AbortSignal },
  ): Promise<unknown> {
    const { onNotice = () => undefined, signal } = options;
    if (signal?.aborted === true) throw new CancelledError();
    this.#lastId += 1;
    const id = this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject, onNotice });
    // The daemon decides what a withdrawal means: its answer is awaited all the same.
    const onAbort = () => this.#send({ kind: 'withdraw', id });
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      this.#send({ kind: 'ask', id, question });
      return await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }
}
