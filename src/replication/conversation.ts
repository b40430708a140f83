/** What is said between a follower and its source while the one follows the other. */
import { AppError, type Clock, type Logger, type Lsn, type Timestamp } from '../base/index.ts';
import type { FollowerSample } from './follower-sample.ts';
import { openSource } from './open-source.ts';
import type { StreamSource } from './source-connection.ts';
import { drainWish } from './source-drain.ts';
import type { StreamRecord } from './stream-record.ts';
import type { DrainAnswer, StreamAnswer } from './stream-terms.ts';
import { GIVEN_UP_HINT, GivenUpError, RETRY_MS } from './troubles.ts';

/** Reports to the producer, and keeps account of how long nothing has come from it. */
export class Conversation implements AsyncDisposable {
  readonly #stream: StreamRecord;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #connection: StreamSource | null = null;
  #retryMs: number = RETRY_MS.first;
  #nextAttemptMs = 0;
  #goodMs: number;
  #receivedLsn: Lsn | null = null;
  #drain: DrainAnswer | null = null;
  #reason = 'it sends nothing';

  constructor(stream: StreamRecord, { clock, logger }: { clock: Clock; logger: Logger }) {
    this.#stream = stream;
    this.#clock = clock;
    this.#logger = logger;
    this.#goodMs = clock.monotonicMs();
  }

  /** For so long neither log has come nor an answer. */
  get silenceMs(): number {
    return this.#clock.monotonicMs() - this.#goodMs;
  }

  givenUp(): AppError {
    const isDraining = this.#stream.state.kind === 'draining';
    const told = isDraining
      ? '; it may have gone out of service, which START SERVICE SHARED WITH FORCE undoes there'
      : '';
    return new GivenUpError(
      'connection_failure',
      `the source could not be reached for too long: ${this.#reason}${told}`,
      { hint: GIVEN_UP_HINT },
    );
  }

  /** Null when nothing was answered. @throws AppError when the producer says that the stream is over, or of other data */
  async tell(
    report: { replicatedTime: Timestamp | null; replicatedLsn: Lsn | null },
    { sample, signal }: { sample: FollowerSample; signal: AbortSignal },
  ): Promise<StreamAnswer | null> {
    const nowMs = this.#clock.monotonicMs();
    // A follower whose server says that it streams may still have lost its source: what counts is what comes.
    if (sample.receivedLsn !== this.#receivedLsn) this.#goodMs = nowMs;
    this.#receivedLsn = sample.receivedLsn;
    if (nowMs < this.#nextAttemptMs) return null;
    const { terms, state, limits } = this.#stream;
    try {
      this.#connection ??= await openSource(this.#stream, { signal });
      const drain = drainWish(state, this.#drain);
      const { expirationWindowUs } = limits;
      const answer = await this.#connection.report(terms.streamId, { ...report, expirationWindowUs, drain });
      this.#goodMs = this.#clock.monotonicMs();
      this.#retryMs = RETRY_MS.first;
      this.#drain = answer.drain ?? null;
      if (answer.incarnation !== terms.lineage[0]?.incarnation) throw replaced();
      return answer;
    } catch (error) {
      if (signal.aborted) throw error;
      await this.#close();
      if (!(error instanceof AppError) || error.row.retry === 'never') throw error;
      this.#reason = error.message;
      this.#logger.warning(`${error.message}; will try again`);
      this.#nextAttemptMs = this.#clock.monotonicMs() + this.#retryMs;
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS.max);
      return null;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  async #close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    await connection?.[Symbol.asyncDispose]();
  }
}

/** The source is not what was followed any more. */
export function replaced(): AppError {
  return new AppError(
    'object_state',
    "the source's data was replaced by another: it cannot be followed any more",
    {
      hint: 'drop the virtual cluster and make it again, or fail over to what there is',
    },
  );
}
