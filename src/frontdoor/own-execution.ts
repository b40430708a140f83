import { setImmediate as nextTurn } from 'node:timers/promises';
import { AppError, assert, CancelledError, isAppError, type Logger } from '../base/index.ts';
import { type Cell, joinsTransaction, type SessionIdentity, type StatementResult } from '../control/index.ts';
import { BACKEND, decodeErrorFields } from '../pg/index.ts';
import type { Statement } from '../sql/index.ts';
import type { FrontDoorCounters } from './counters.ts';
import { BackendError, noticeResponse } from './errors.ts';
import { type Backend, BackendLostError, type Relay } from './relay.ts';
import type { SessionService } from './service.ts';
import { transactionIdOf } from './transaction-id.ts';

export interface OwnExecutionOptions {
  readonly relay: Relay;
  readonly session: SessionIdentity;
  readonly service: SessionService;
  readonly counters: FrontDoorCounters;
  readonly logger: Logger;
  /** Logs in again, where the virtual cluster is served now. @throws AppError */
  readonly reconnect: (options: { signal: AbortSignal }) => Promise<Backend>;
}

/** One of our statements as it was written, with what was bound to it. */
export interface OwnStatement {
  readonly statement: Statement;
  readonly text: string;
  readonly parameters: readonly Cell[];
}

/**
 * Carries out our statements for one session, one at a time: with the session's transaction, cancellable, and so that
 * the session outlives a backend that such a statement ends (RESTORE of the connected virtual cluster).
 */
export class OwnExecution {
  readonly #options: OwnExecutionOptions;
  #running: AbortController | undefined;
  /** Whether the last statement began outside any transaction: only then nothing is lost with the backend. */
  #wasIdle = false;

  constructor(options: OwnExecutionOptions) {
    this.#options = options;
  }

  /** A cancel request for this session: it stops our statement, or goes to the backend. */
  cancel(): void {
    if (this.#running === undefined) this.#options.relay.cancelBackend();
    else this.#running.abort(new CancelledError('canceling statement due to user request'));
  }

  /** @throws AppError of the statement; BackendError when the backend broke in */
  async execute({ statement, text, parameters }: OwnStatement): Promise<StatementResult> {
    const { relay, service, session, counters } = this.#options;
    assert(this.#running === undefined, 'one statement of ours at a time');
    const { transaction } = relay;
    if (transaction === 'failed') throw transactionFailed();
    const joins = transaction === 'in_transaction' && joinsTransaction(statement);
    const transactionId = joins ? await transactionIdOf(relay) : undefined;
    const running = new AbortController();
    let interruption: Buffer | undefined;
    // A backend that is stopped says so; the client shall hear the statement's own outcome instead.
    relay.filter = {
      types: [BACKEND.errorResponse],
      map: (_, message) => {
        interruption = Buffer.from(message);
        return undefined;
      },
    };
    this.#running = running;
    this.#wasIdle = transaction === 'idle';
    counters.ownStatements += 1;
    try {
      return await service.execute(statement, {
        session,
        transaction,
        ...(transactionId === undefined ? {} : { transactionId }),
        text,
        parameters,
        onNotice: (notice) => relay.reply(noticeResponse(notice)),
        signal: AbortSignal.any([running.signal, relay.goneSignal]),
      });
    } catch (error) {
      counters.ownStatementsFailed += 1;
      throw running.signal.aborted && isAppError(error, 'cancelled') ? running.signal.reason : error;
    } finally {
      // That a backend has ended meanwhile may be heard in this very turn, after what made us go on.
      await nextTurn();
      this.#running = undefined;
      if (!relay.isBackendLost) relay.filter = undefined;
      this.#judge(interruption);
    }
  }

  /** A backend that said it ends, or says no more, is as good as gone; any other error of its own takes the place of our result. */
  #judge(interruption: Buffer | undefined): void {
    const { relay } = this.#options;
    if (relay.isBackendLost) return;
    if (relay.hasBackendEnded) return relay.dropBackend();
    if (interruption === undefined) return;
    const severity = decodeErrorFields(interruption).get('V');
    if (severity === 'ERROR') throw new BackendError(interruption);
    relay.dropBackend();
  }

  /**
   * Sees to it that the session has a backend again, if the last statement cost it its own.
   * @throws BackendLostError when a transaction went with it; AppError when the virtual cluster can't be entered again
   */
  async recover(): Promise<boolean> {
    const { relay, reconnect, session } = this.#options;
    if (!relay.isBackendLost) return false;
    if (!this.#wasIdle) throw new BackendLostError();
    const backend = await reconnect({ signal: relay.goneSignal });
    relay.replaceBackend(backend);
    for (const message of backend.upstream.greeting) {
      if (message[0] === BACKEND.parameterStatus) relay.reply(message);
    }
    relay.reply(
      noticeResponse({
        severity: 'WARNING',
        sqlstate: '01000',
        message: `the server of virtual cluster "${session.virtualClusterName}" was replaced during the statement`,
        hint: 'settings, prepared statements, temporary tables and locks of the session are lost',
      }),
    );
    return true;
  }
}

export function transactionFailed(): AppError {
  return new AppError(
    'transaction_failed',
    'current transaction is aborted, commands ignored until end of transaction block',
  );
}
