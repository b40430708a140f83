/** Keeps a server running for as long as it is wanted: carries out what the state machine of `lifecycle.ts` says. */
import { type Clock, isAppError, toError } from '../base/index.ts';
import { BackgroundTasks } from './background-tasks.ts';
import type { StopMode } from './contract.ts';
import {
  INITIAL_STATE,
  type LifecycleEffect,
  type LifecycleEvent,
  type LifecycleState,
  transition,
} from './lifecycle.ts';
import { type Postmaster, type StopLimits, stopPostmaster } from './postmaster.ts';
import { untilCancelled } from './waiting.ts';

/** How one server is started and looked after. */
export interface Charge {
  /** Finds the server running, or starts it. Starts nothing any more once `signal` is aborted. */
  launch(options: { signal: AbortSignal }): Promise<Postmaster>;
  /** Resolves when it serves. @throws when it never will; it is then ended */
  untilServing(options: { signal: AbortSignal }): Promise<void>;
  /** It serves: called before anybody is told. */
  onServing(): void;
  /** It is about to be stopped, or has ended: called at least once after each `onServing`, perhaps twice. */
  onLeaving(): void;
  /** Ends what a killed server has left running. */
  clearLeftovers(options: { signal: AbortSignal }): Promise<void>;
  /** Called when it has ended though nobody wanted that; gives what is to be known about it. */
  onFailure(ending: string): Promise<string>;
}

export class Supervisor {
  readonly #charge: Charge;
  readonly #clock: Clock;
  readonly #stopLimits: StopLimits;
  readonly #tasks = new BackgroundTasks();
  readonly #detaching = new AbortController();
  #state: LifecycleState = INITIAL_STATE;
  #generation = 0;
  /** The launch under way: aborting it keeps it from starting anything more. */
  #launch = new AbortController();
  /** The server of that launch, or null when it came to none. */
  #server = Promise.withResolvers<Postmaster | null>();
  #hurry = new AbortController();
  #retry = new AbortController();
  #change = Promise.withResolvers<void>();

  constructor(options: { charge: Charge; clock: Clock; stopLimits: StopLimits }) {
    this.#charge = options.charge;
    this.#clock = options.clock;
    this.#stopLimits = options.stopLimits;
  }

  get state(): LifecycleState {
    return this.#state;
  }

  /** How many times it has begun to serve. */
  get generation(): number {
    return this.#generation;
  }

  requestStart(): void {
    this.#dispatch({ kind: 'start_requested' });
  }

  requestStop(mode: StopMode): void {
    this.#dispatch({ kind: 'stop_requested', mode });
  }

  /**
   * True once `condition` holds of the state, false when it did not within `timeoutMs`. What it throws is thrown.
   * @throws CancelledError also when the supervisor lets go
   */
  async until(
    condition: (state: LifecycleState) => boolean,
    options: { timeoutMs?: number; signal: AbortSignal },
  ): Promise<boolean> {
    const { timeoutMs, signal } = options;
    const over = new AbortController();
    const any = AbortSignal.any([signal, over.signal, this.#detaching.signal]);
    let isLate = false;
    const timer =
      timeoutMs === undefined
        ? []
        : [
            this.#clock.sleep(timeoutMs, { signal: any }).then(
              () => {
                isLate = true;
              },
              () => undefined,
            ),
          ];
    try {
      while (!condition(this.#state)) {
        if (isLate) return false;
        await untilCancelled(Promise.race([this.#change.promise, ...timer]), any);
      }
      return true;
    } finally {
      over.abort();
    }
  }

  /** Lets go of the server, which goes on. Returns when nothing is under way any more. */
  async detach(): Promise<void> {
    this.#detaching.abort();
    this.#retry.abort();
    await this.#tasks.settled();
  }

  #dispatch(event: LifecycleEvent): void {
    const { state, effects } = transition(this.#state, event);
    this.#state = state;
    for (const effect of effects) this.#perform(effect);
    const change = this.#change;
    this.#change = Promise.withResolvers<void>();
    change.resolve();
  }

  #perform(effect: LifecycleEffect): void {
    switch (effect.kind) {
      case 'launch':
        return this.#tasks.add(this.#run());
      case 'terminate':
        return this.#tasks.add(this.#terminate(effect.mode));
      case 'schedule_retry':
        this.#retry = new AbortController();
        return this.#tasks.add(this.#retryAt(effect.atMs));
      case 'cancel_retry':
        return this.#retry.abort();
    }
  }

  async #retryAt(atMs: number): Promise<void> {
    const signal = AbortSignal.any([this.#retry.signal, this.#detaching.signal]);
    await this.#clock.sleep(Math.max(0, atMs - this.#clock.monotonicMs()), { signal });
    this.#dispatch({ kind: 'retry_due' });
  }

  /** One launch from beginning to end: exactly one `ended` event, unless we let go of it. */
  async #run(): Promise<void> {
    this.#launch = new AbortController();
    this.#hurry = new AbortController();
    const server = Promise.withResolvers<Postmaster | null>();
    this.#server = server;
    let ending: string;
    try {
      ending = await this.#live(this.#launch, server.resolve);
    } catch (error) {
      if (this.#detaching.signal.aborted) return;
      ending = isAppError(error, 'cancelled') ? 'stopped before it started' : describe(error);
    } finally {
      server.resolve(null);
      this.#charge.onLeaving();
    }
    if (this.#state.kind !== 'stopping') ending = await this.#charge.onFailure(ending);
    this.#dispatch({ kind: 'ended', error: ending, nowMs: this.#clock.monotonicMs() });
  }

  /** Says how the server ended. */
  async #live(launch: AbortController, onServer: (server: Postmaster) => void): Promise<string> {
    const signal = AbortSignal.any([launch.signal, this.#detaching.signal]);
    const server = await this.#charge.launch({ signal });
    onServer(server);
    const announcing = this.#announce(server, signal);
    try {
      const ending = await server.ended({ signal: this.#detaching.signal });
      launch.abort();
      const failure = await announcing;
      // What a killed server leaves running must be gone before the next one starts, or the folder is deleted.
      await this.#charge.clearLeftovers({ signal: this.#detaching.signal });
      return failure ?? ending;
    } finally {
      launch.abort();
      await announcing;
    }
  }

  /** Tells when the server serves. One that can't is ended; the result says why. */
  async #announce(server: Postmaster, signal: AbortSignal): Promise<string | null> {
    try {
      await this.#charge.untilServing({ signal });
    } catch (error) {
      if (isAppError(error, 'cancelled')) return null;
      await server.send('SIGQUIT');
      return describe(error);
    }
    if (signal.aborted) return null;
    this.#charge.onServing();
    this.#generation += 1;
    this.#dispatch({ kind: 'ready', pid: server.pid, nowMs: this.#clock.monotonicMs() });
    return null;
  }

  async #terminate(mode: StopMode): Promise<void> {
    this.#launch.abort();
    if (mode === 'immediate') this.#hurry.abort();
    const hurry = this.#hurry.signal;
    const server = await this.#server.promise;
    if (server === null) return;
    this.#charge.onLeaving();
    const options = { limits: this.#stopLimits, clock: this.#clock, signal: this.#detaching.signal };
    await stopPostmaster(server, { ...options, mode, hurry });
  }
}

/** An error with what led to it, in one line. */
function describe(error: unknown): string {
  const { message, cause } = toError(error);
  const detail = isAppError(error) ? error.detail : undefined;
  return [message, detail, cause instanceof Error ? cause.message : undefined]
    .filter((part) => part !== undefined)
    .join(': ');
}
