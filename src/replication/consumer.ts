/**
 * The consumer of a stream, as the body of a job: brings the first image, follows, and fails over when it is told to. What is to be done is
 * read from the stream's state, which others change; what has been done is looked at, never remembered: it may be begun again anywhere.
 */
import {
  AppError,
  CancelledError,
  isAppError,
  type Logger,
  type Lsn,
  type Timestamp,
  toError,
  type VirtualClusterId,
} from '../base/index.ts';
import type { Following, Instance } from '../instance/index.ts';
import { faultPoint } from '../timeline/index.ts';
import type { ConsumerContext, ConsumerDependencies } from './consumer-contract.ts';
import { Conversation } from './conversation.ts';
import { farewell } from './farewell.ts';
import { fill, isFilled } from './fill.ts';
import { type FollowerSample, sampleFollower } from './follower-sample.ts';
import { followingOf, requireInstance } from './following.ts';
import { StreamMeter } from './stream-figures.ts';
import type { StreamRecord } from './stream-record.ts';
import { isScanned } from './stream-state.ts';
import type { StreamAnswer } from './stream-terms.ts';
import { keepLog, takeOver } from './take-over.ts';
import { GIVEN_UP_HINT, isPassing, Troubles } from './troubles.ts';

/** How often a follower is looked at, and its source told. */
const SAMPLE_MS = 500;
/** While clients of a source that went out of service wait for the failover. */
const DRAIN_SAMPLE_MS = 50;
const CUT_MS_MAX = 30_000;
const CUT_POLL_MS = 10;
/** The oldest time changes with bases, which are captured every now and then. */
const SAMPLES_PER_OLDEST = 20;

export class Consumer {
  readonly meter = new StreamMeter();
  readonly #dependencies: ConsumerDependencies;
  /** Why the last planned failover came to nothing. */
  readonly #drainEnds = new Map<VirtualClusterId, { readonly drainId: string; readonly reason: string }>();

  constructor(dependencies: ConsumerDependencies) {
    this.#dependencies = dependencies;
  }

  /** Until the stream is over. @throws AppError why it was given up, which its state tells, too */
  async run(id: VirtualClusterId, context: ConsumerContext): Promise<void> {
    const { streams } = this.#dependencies;
    const troubles = new Troubles(this.#dependencies.clock);
    for (;;) {
      if (context.signal.aborted) throw new CancelledError('cancelled', { cause: context.signal.reason });
      const stream = streams.get(id);
      if (stream === undefined || stream.state.kind === 'completed') return;
      if (stream.state.kind === 'paused') return;
      // Given up for good: whether it is worth another try was decided before, and is now for people to say.
      if (stream.state.kind === 'failed')
        throw new AppError('object_state', stream.state.reason, { hint: GIVEN_UP_HINT });
      try {
        await this.#step(stream, { context, troubles });
      } catch (error) {
        if (context.signal.aborted || isAppError(error, 'cancelled')) throw error;
        await this.#afterTrouble(id, { error, context, troubles });
      }
    }
  }

  async #step(
    stream: StreamRecord,
    { context, troubles }: { context: ConsumerContext; troubles: Troubles },
  ): Promise<void> {
    const { state } = stream;
    if (state.kind === 'failing_over') return takeOver(stream, state.cut, this.#toolsFor(context));
    if (isScanned(state)) return this.#follow(stream, { context, onGood: () => troubles.forget() });
    return this.#scan(stream, context);
  }

  /** Trouble that may pass is waited out; any other, and any for too long, ends the stream, unless it is failing over: that is tried for ever. */
  async #afterTrouble(
    id: VirtualClusterId,
    options: { error: unknown; context: ConsumerContext; troubles: Troubles },
  ): Promise<void> {
    const { error, context, troubles } = options;
    const { streams, clock, patienceMs } = this.#dependencies;
    const { message } = toError(error);
    troubles.note();
    const isFailingOver = streams.get(id)?.state.kind === 'failing_over';
    if (isFailingOver || (isPassing(error) && troubles.sinceMs < patienceMs(id))) {
      this.meter.noteRestart(id);
      context.logger.warning(`the replication stream met trouble, will try again: ${message}`, error);
      await clock.sleep(troubles.retryMs, { signal: context.signal });
      return;
    }
    context.logger.warning(`the replication stream is given up: ${message}`, error);
    await streams.apply({ id, event: { kind: 'failed', reason: message }, signal: context.signal });
  }

  /**
   * Lets a follower receive nothing more and replay what it has; gives the newest commit that it then holds. From now on the follower stands
   * still. @throws AppError `cannot_connect_now` when it does not get there in time: then it follows again
   */
  async cutHere(id: VirtualClusterId, { signal }: { signal: AbortSignal }): Promise<Timestamp> {
    const { instanceHost, clock } = this.#dependencies;
    const instance = requireInstance(this.#dependencies.instanceHost, id);
    const { following } = instance;
    if (following === null) throw new AppError('object_state', `virtual cluster ${id} follows nothing`);
    const known = this.#dependencies.streams.get(id)?.replicatedTime ?? null;
    // Where to stop is fixed when a server starts.
    const stopAt = instance.state.kind === 'stopped' ? null : following.stopAt;
    const cutOff: Following = { ...following, phase: 'cut_off', stopAt };
    await instanceHost.setFollowing({ virtualClusterId: id, following: cutOff });
    const deadlineMs = clock.monotonicMs() + CUT_MS_MAX;
    try {
      await instance.start({ signal });
      for (let before: Lsn | null = null; ; ) {
        const sample = await sampleFollower(instance, { signal });
        if (await this.#givenPlaces(instance, { sample, signal })) continue;
        const { receivedLsn, replayedLsn } = sample;
        // A server that was just started has received nothing, and may still have something to replay.
        const hasAll = receivedLsn !== null && receivedLsn <= (replayedLsn ?? 0n);
        const isThrough = hasAll || (sample.isWaiting && replayedLsn === before);
        before = replayedLsn;
        if (!sample.isReceiving && isThrough) return laterOf(sample.time, known) ?? clock.now();
        if (clock.monotonicMs() > deadlineMs) {
          throw new AppError(
            'cannot_connect_now',
            'the follower has not replayed in time what it has received',
            {
              hint: 'it goes on; ask again in a while',
            },
          );
        }
        await clock.sleep(CUT_POLL_MS, { signal });
      }
    } catch (error) {
      await instanceHost.setFollowing({ virtualClusterId: id, following });
      throw error;
    }
  }

  /** Why this attempt to drain the source came to nothing; undefined when that is not known. */
  whyNotDrained(id: VirtualClusterId, drainId: string): string | undefined {
    const end = this.#drainEnds.get(id);
    return end?.drainId === drainId ? end.reason : undefined;
  }

  /** Stops what follows; it stays where it is. Harmless when nothing runs. */
  async halt(id: VirtualClusterId, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#dependencies.unfollowLog(id);
    await this.#dependencies.instanceHost.get(id)?.stop({ mode: 'orderly', signal });
  }

  /** The first image, or, at a failback, our own data as it was when the source's history left ours. */
  async #scan(stream: StreamRecord, context: ConsumerContext): Promise<void> {
    const { virtualClusterId: id } = stream;
    if (!isFilled(this.#dependencies, stream)) {
      await fill(stream, this.#toolsFor(context));
      faultPoint('failback.committed');
    }
    context.report({ fraction: 0.95, runningStatus: 'waiting for the log that makes the data consistent' });
    await this.#start(stream, context);
    faultPoint('failback.consistent');
    await this.#dependencies.streams.apply({ id, event: { kind: 'scanned' }, signal: context.signal });
    context.logger.info('the data of the source is here; it is followed from now on');
  }

  /** Runs, is consistent, and has come to the source's own timeline; its log goes to the vault. */
  async #start(stream: StreamRecord, context: ConsumerContext): Promise<void> {
    const { clock, followLog } = this.#dependencies;
    const { signal } = context;
    const instance = requireInstance(this.#dependencies.instanceHost, stream.virtualClusterId);
    await this.#setFollowing(stream, instance);
    await instance.start({ signal });
    const ownFromLsn = stream.terms.lineage[0]?.forkLsn ?? null;
    const deadlineMs = clock.monotonicMs() + this.#dependencies.patienceMs(stream.virtualClusterId);
    for (;;) {
      const sample = await sampleFollower(instance, { signal });
      await this.#givenPlaces(instance, { sample, signal });
      const { replayedLsn } = sample;
      // What lies before is the log of another life.
      if (ownFromLsn === null || (replayedLsn ?? 0n) > ownFromLsn) break;
      if (clock.monotonicMs() > deadlineMs) {
        throw new AppError(
          'connection_failure',
          'the source does not send the log that follows the common history',
        );
      }
      await clock.sleep(SAMPLE_MS / 5, { signal });
    }
    await followLog(stream.virtualClusterId);
  }

  /** Follows until the state says otherwise. @throws AppError when the stream cannot go on */
  async #follow(
    stream: StreamRecord,
    { context, onGood }: { context: ConsumerContext; onGood: () => void },
  ): Promise<void> {
    const { streams } = this.#dependencies;
    const { virtualClusterId: id } = stream;
    if (!(await this.#exclusivelyStarted(stream, context))) return;
    context.report({ fraction: 1, runningStatus: 'following' });
    const changing = new AbortController();
    const signal = AbortSignal.any([context.signal, changing.signal]);
    const changed = streams.whenChanged(id, { signal }).then(() => changing.abort());
    await using conversation = new Conversation(stream, {
      clock: this.#dependencies.clock,
      logger: context.logger,
    });
    let oldest: Timestamp | null = stream.retainedTime;
    try {
      for (let round = 0; !signal.aborted; round += 1) {
        const sample = await this.#sample(stream, { signal });
        if (sample.isPaused && (await this.#exclusivelyGivenPlaces(stream, { sample, signal }))) continue;
        // The first base is noticed at once: from then on there is a moment to go back to.
        const isDue = oldest === null || round % SAMPLES_PER_OLDEST === 0;
        if (isDue) oldest = await this.#dependencies.oldestTime(id);
        const before = streams.get(id)?.replicatedTime ?? null;
        const replicatedTime = laterOf(sample.time, before);
        if (replicatedTime !== null) {
          if (replicatedTime !== before) this.meter.noteResolved(id);
          const retainedTime = this.#retainedTime(stream, { oldest, replicatedTime });
          await streams.noteTimes({ id, retainedTime, replicatedTime, signal });
        }
        await this.#reachTarget(stream, { sample, replicatedTime, signal });
        if (signal.aborted || this.#isCutOff(id)) break;
        const told = { replicatedTime, replicatedLsn: sample.replayedLsn };
        const answer = await conversation.tell(told, { sample, signal });
        if (answer !== null)
          this.meter.noteEnd(id, { sourceLsn: answer.lsn, replayedLsn: sample.replayedLsn });
        if (answer !== null) await this.#reachEnd(stream, { answer, sample, signal });
        if (conversation.silenceMs > this.#dependencies.patienceMs(id)) throw conversation.givenUp();
        onGood();
        const pauseMs = stream.state.kind === 'draining' ? DRAIN_SAMPLE_MS : SAMPLE_MS;
        await this.#dependencies.clock.sleep(pauseMs, { signal });
      }
    } catch (error) {
      // The state has changed meanwhile: that is why it ended.
      if (!changing.signal.aborted || context.signal.aborted) throw error;
    } finally {
      changing.abort();
      await changed;
    }
  }

  /** By a failover, which is being recorded, or could not be: then it is to follow again. */
  #isCutOff(id: VirtualClusterId): boolean {
    return requireInstance(this.#dependencies.instanceHost, id).following?.phase === 'cut_off';
  }

  /** No further back than the window, whatever bases there still are; null before the first of them. */
  #retainedTime(
    { virtualClusterId: id, limits }: StreamRecord,
    { oldest, replicatedTime }: { oldest: Timestamp | null; replicatedTime: Timestamp },
  ): Timestamp | null {
    const { streams, windowUs } = this.#dependencies;
    const windowBegin = (replicatedTime - (limits.retentionUs ?? windowUs(id)) + 1n) as Timestamp;
    const begin = oldest ?? streams.get(id)?.retainedTime ?? null;
    if (begin === null) return null;
    return begin > windowBegin ? begin : windowBegin;
  }

  /** Under the lock of the virtual cluster: nobody may be cutting or stopping it meanwhile. False when the state is another. */
  async #exclusivelyStarted(stream: StreamRecord, context: ConsumerContext): Promise<boolean> {
    const { exclusively, streams } = this.#dependencies;
    return exclusively(stream.virtualClusterId, async () => {
      // What was cut off may have been recorded though nobody was told so: then it must not go on.
      await streams.settle({ id: stream.virtualClusterId, signal: context.signal });
      if (streams.get(stream.virtualClusterId)?.state !== stream.state) return false;
      if (await this.#isCutBehind(stream, context)) return false;
      await this.#start(stream, context);
      await this.#dependencies.tendReader(stream.virtualClusterId);
      return true;
    });
  }

  /**
   * A follower that has replayed past the moment at which it shall stop was never consistent there: Postgres would refuse to start. So it stands
   * still before it is decided which way leads to the moment: by a stop, or back, as for moments that were over when they were asked for.
   */
  async #isCutBehind(
    { virtualClusterId: id, state }: StreamRecord,
    context: ConsumerContext,
  ): Promise<boolean> {
    if (state.kind !== 'pending_failover' || state.target.kind !== 'time') return false;
    const { time } = state.target;
    // It was decided before the stop was set.
    if (requireInstance(this.#dependencies.instanceHost, id).following?.stopAt === time) return false;
    const { signal } = context;
    faultPoint('failover.awaited');
    if ((await this.cutHere(id, { signal })) <= time) return false;
    const { pointAt, streams, newIncarnation } = this.#dependencies;
    await keepLog(this.#dependencies, id, { signal });
    const point = await pointAt(id, { time, signal });
    await streams.apply({
      id,
      event: { kind: 'cut', cut: { incarnation: newIncarnation(), time, point } },
      signal,
    });
    return true;
  }

  /** True when replay stood still for want of places, and goes on now. */
  async #exclusivelyGivenPlaces(
    stream: StreamRecord,
    options: { sample: FollowerSample; signal: AbortSignal },
  ): Promise<boolean> {
    const { exclusively, streams } = this.#dependencies;
    const { virtualClusterId: id, state } = stream;
    return exclusively(id, async () => {
      if (streams.get(id)?.state !== state) return false;
      return this.#givenPlaces(requireInstance(this.#dependencies.instanceHost, id), options);
    });
  }

  async #givenPlaces(
    instance: Instance,
    { sample, signal }: { sample: FollowerSample; signal: AbortSignal },
  ): Promise<boolean> {
    if (!sample.isPaused || !(await instance.lacksPlaces({ signal }))) return false;
    await instance.stop({ mode: 'orderly', signal });
    await instance.start({ signal });
    return true;
  }

  async #sample(stream: StreamRecord, { signal }: { signal: AbortSignal }): Promise<FollowerSample> {
    const instance = requireInstance(this.#dependencies.instanceHost, stream.virtualClusterId);
    // One that has ended is started again by itself; whoever asks waits for it.
    await instance.whenServing({ timeoutMs: this.#dependencies.patienceMs(stream.virtualClusterId), signal });
    return sampleFollower(instance, { signal });
  }

  /** A failover that waits for its time is cut when the follower has come there. */
  async #reachTarget(
    stream: StreamRecord,
    options: { sample: FollowerSample; replicatedTime: Timestamp | null; signal: AbortSignal },
  ): Promise<void> {
    const { state, virtualClusterId: id } = stream;
    if (state.kind !== 'pending_failover') return;
    const { sample, signal } = options;
    const { exclusively, streams, newIncarnation } = this.#dependencies;
    const { target } = state;
    if (target.kind === 'time' && !sample.isPaused) return;
    await exclusively(id, async () => {
      if (streams.get(id)?.state !== state) return;
      const time = target.kind === 'time' ? target.time : await this.cutHere(id, { signal });
      await streams.apply({
        id,
        event: { kind: 'cut', cut: { incarnation: newIncarnation(), time, point: null } },
        signal,
      });
    });
  }

  /** A planned failover is cut when the source has written its last, and the follower has replayed it; or it comes to nothing. */
  async #reachEnd(
    stream: StreamRecord,
    options: { answer: StreamAnswer; sample: FollowerSample; signal: AbortSignal },
  ): Promise<void> {
    const { state, virtualClusterId: id } = stream;
    if (state.kind !== 'draining') return;
    const { answer, sample, signal } = options;
    const { exclusively, streams, newIncarnation } = this.#dependencies;
    const { drain } = answer;
    if (drain === undefined) {
      return this.#endDrain(stream, { reason: 'its release cannot be drained', signal });
    }
    // That of an attempt before is undone first.
    if (drain?.id !== state.drainId) return;
    if (drain.kind === 'lifted' || drain.kind === 'lifting') {
      return this.#endDrain(stream, { reason: drain.reason, signal });
    }
    if (drain.kind === 'draining' || (sample.replayedLsn ?? 0n) < drain.lsn) return;
    await exclusively(id, async () => {
      if (streams.get(id)?.state !== state) return;
      const time = await this.cutHere(id, { signal });
      const cut = { incarnation: newIncarnation(), time, point: null };
      await streams.apply({ id, event: { kind: 'cut', cut }, signal });
    });
  }

  async #endDrain(
    { virtualClusterId: id, state }: StreamRecord,
    { reason, signal }: { reason: string; signal: AbortSignal },
  ): Promise<void> {
    if (state.kind !== 'draining') return;
    this.#drainEnds.set(id, { drainId: state.drainId, reason });
    await this.#dependencies.streams.apply({ id, event: { kind: 'drain_ended' }, signal });
  }

  /** Tells the source that it need keep nothing more. One that cannot be reached notices by itself. */
  async farewell(stream: StreamRecord, options: { signal: AbortSignal; logger: Logger }): Promise<void> {
    await farewell(stream, { clock: this.#dependencies.clock, ...options });
  }

  #toolsFor(context: ConsumerContext) {
    return { dependencies: this.#dependencies, meter: this.meter, context };
  }

  async #setFollowing(stream: StreamRecord, instance: Instance): Promise<void> {
    const wanted = followingOf(stream);
    if (JSON.stringify(instance.following, plain) === JSON.stringify(wanted, plain)) return;
    const isRunning = instance.state.kind !== 'stopped';
    const isOtherStop = instance.following?.stopAt !== wanted.stopAt;
    const { instanceHost } = this.#dependencies;
    // Where to stop is fixed when a server starts.
    if (isRunning && isOtherStop)
      await this.halt(stream.virtualClusterId, { signal: AbortSignal.timeout(60_000) });
    await instanceHost.setFollowing({ virtualClusterId: stream.virtualClusterId, following: wanted });
  }
}

function laterOf(left: Timestamp | null, right: Timestamp | null): Timestamp | null {
  if (left === null || right === null) return left ?? right;
  return left > right ? left : right;
}

function plain(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
