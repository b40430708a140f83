/**
 * The consumer of a stream, as the body of a job: brings the first image, follows, and fails over when it is told to. What is to be done is
 * read from the stream's state, which others change; what has been done is looked at, never remembered: it may be begun again anywhere.
 */
import {
  AppError,
  CancelledError,
  type Clock,
  type IncarnationId,
  isAppError,
  type Logger,
  type Lsn,
  type Timestamp,
  toError,
  type VirtualClusterId,
} from '../base/index.ts';
import type { Following, Instance, InstanceHost, InternalClient } from '../instance/index.ts';
import { faultPoint, type ReceiveWorker } from '../timeline/index.ts';
import { type FollowerSample, sampleFollower } from './follower-sample.ts';
import { StreamMeter } from './stream-figures.ts';
import { Conversation, replaced } from './conversation.ts';
import { openSource } from './open-source.ts';
import { slotLeft } from './plain-server.ts';
import { parseSourceUri, type SourceAddress } from './source-address.ts';
import type { StreamCatalog } from './stream-catalog.ts';
import type { Divergence, StreamRecord } from './stream-record.ts';
import { type FailoverCut, isScanned } from './stream-state.ts';
import type { StreamAnswer, StreamReport } from './stream-terms.ts';
import { GIVEN_UP_HINT, isPassing, Troubles } from './troubles.ts';

export interface ConsumerDependencies {
  readonly streams: StreamCatalog;
  readonly instanceHost: InstanceHost;
  readonly receiver: ReceiveWorker;
  readonly clock: Clock;
  readonly newIncarnation: () => IncarnationId;
  /** One life-cycle change of a virtual cluster at a time. */
  readonly exclusively: <T>(id: VirtualClusterId, use: () => Promise<T>) => Promise<T>;
  /** Lets the vault receive what the follower receives. */
  readonly followLog: (id: VirtualClusterId) => Promise<void>;
  readonly unfollowLog: (id: VirtualClusterId) => Promise<void>;
  /** What must not be kept of the source, in database `system` of what becomes a virtual cluster of its own. */
  readonly prepare: (
    client: InternalClient,
    options: { id: VirtualClusterId; incarnation: IncarnationId },
  ) => Promise<void>;
  readonly noteSubscriptions: (id: VirtualClusterId, names: readonly string[]) => void;
  /** Takes the data back to where the source's history left it; the result is begun and not committed. */
  readonly rewindToDivergence: (
    context: ConsumerContext,
    options: { id: VirtualClusterId; incarnation: IncarnationId; divergence: Divergence },
  ) => Promise<void>;
  /** Keeps what the first image replaces, where there is something. */
  readonly keepReplaced: (context: ConsumerContext, id: VirtualClusterId) => Promise<void>;
  /** Takes a stopped follower back to a point of its own timeline, as a new life, committed and stopped. */
  readonly goBack: (
    context: ConsumerContext,
    options: { id: VirtualClusterId; cut: FailoverCut },
  ) => Promise<void>;
  /** Where the follower's own timeline leads to a moment, once it holds all that the follower has. @throws InputError `time_outside_window` */
  readonly pointAt: (
    id: VirtualClusterId,
    moment: { time: Timestamp; throughLsn: Lsn; signal: AbortSignal },
  ) => Promise<FailoverCut['point']>;
  /** How far back a failover may go, in microseconds, where the stream does not say. */
  readonly windowUs: (id: VirtualClusterId) => bigint;
  /** The oldest moment that the timeline leads to; null when there is none yet. */
  readonly oldestTime: (id: VirtualClusterId) => Promise<Timestamp | null>;
  /** Lets clients read the follower, where they may; harmless where it is done. */
  readonly tendReader: (id: VirtualClusterId) => Promise<void>;
  /** Nobody reads any more: what follows is about to be written. Harmless where nobody does. */
  readonly dropReader: (id: VirtualClusterId) => Promise<void>;
  /** How long a source may be out of reach before the stream is given up. */
  readonly patienceMs: (id: VirtualClusterId) => number;
}

export interface ConsumerContext {
  readonly signal: AbortSignal;
  readonly logger: Logger;
  report(progress: { fraction: number; runningStatus: string }): void;
}

/** How often a follower is looked at, and its source told. */
const SAMPLE_MS = 500;
/** While clients of a source that went out of service wait for the failover. */
const DRAIN_SAMPLE_MS = 50;
/** What a source may take to hear that it need keep nothing more. */
const FAREWELL_MS_MAX = 5_000;
const CUT_MS_MAX = 30_000;
const CUT_POLL_MS = 10;
/** The oldest time changes with bases, which are captured every now and then. */
const SAMPLES_PER_OLDEST = 20;

/** Where a server's clients and followers are led to a virtual cluster by the authority of the system VC; a plain server leads nowhere else. */
export function followedBy(address: SourceAddress, name: string): Following['source'] {
  const { kind, host, port, user, password, options, tls } = address;
  if (kind === 'postgres') return { host, port, user, password, options, tls };
  const lead = `-ccluster=${name} -cauthority=system`;
  return { host, port, user, password, options: options === '' ? lead : `${lead} ${options}`, tls };
}

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
    if (state.kind === 'failing_over') return this.#failOver(stream, { cut: state.cut, context });
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
    const instance = this.#require(id);
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
    const { virtualClusterId: id, divergence } = stream;
    if (!this.#isFilled(stream)) {
      if (divergence === null) await this.#receive(stream, context);
      else await this.#rewind(stream, { divergence, context });
      faultPoint('failback.committed');
    }
    context.report({ fraction: 0.95, runningStatus: 'waiting for the log that makes the data consistent' });
    await this.#start(stream, context);
    faultPoint('failback.consistent');
    await this.#dependencies.streams.apply({ id, event: { kind: 'scanned' }, signal: context.signal });
    context.logger.info('the data of the source is here; it is followed from now on');
  }

  #isFilled({ virtualClusterId, terms }: StreamRecord): boolean {
    const { following, identity } = this.#require(virtualClusterId);
    return following !== null && identity.incarnation === terms.lineage[0]?.incarnation;
  }

  async #receive(stream: StreamRecord, context: ConsumerContext): Promise<void> {
    const { instanceHost, receiver } = this.#dependencies;
    const { virtualClusterId, terms } = stream;
    const following = followingOf(stream);
    const { incarnation } = following;
    await this.#dependencies.keepReplaced(context, virtualClusterId);
    const begun = await instanceHost.beginIncarnation({ virtualClusterId, incarnation });
    this.meter.noteScanBegun(virtualClusterId);
    const { systemIdentifier, slot } = terms;
    const { timelineId, receivedBytes, keptBytes, anewBecause } = await receiver.receiveBase(
      {
        source: following.source,
        identity: { systemIdentifier, slot },
        targetDirectory: begun.dataDirectory,
        uid: begun.uid,
      },
      {
        onProgress: ({ fraction, phase, received }) => {
          if (received !== undefined) this.meter.noteScan(virtualClusterId, received);
          context.report({ fraction: fraction * 0.9, runningStatus: phase });
        },
        signal: context.signal,
      },
    );
    this.meter.noteScan(virtualClusterId, {
      receivedBytes: Number(receivedBytes),
      totalBytes: Number(receivedBytes),
    });
    this.meter.noteScanEnded(virtualClusterId);
    if (anewBecause !== null)
      context.logger.warning(`the initial scan was begun anew, because ${anewBecause}`);
    if (keptBytes > 0n)
      context.logger.info(
        `the initial scan has gone on: ${keptBytes} bytes were here, ${receivedBytes} came`,
      );
    if (timelineId !== terms.timelineId) throw replaced();
    const history = { timelineId, text: terms.history };
    await instanceHost.fence({ virtualClusterId, incarnation, forkLsn: null, history });
    const { parentIncarnation = null, forkLsn = null } = terms.lineage[0] ?? {};
    await instanceHost.commitFollower({
      virtualClusterId,
      following,
      parentIncarnation,
      forkLsn,
      signal: context.signal,
    });
  }

  async #rewind(
    stream: StreamRecord,
    { divergence, context }: { divergence: Divergence; context: ConsumerContext },
  ): Promise<void> {
    const { instanceHost, streams, rewindToDivergence } = this.#dependencies;
    const { virtualClusterId, terms } = stream;
    const following = followingOf(stream);
    const { incarnation } = following;
    try {
      await rewindToDivergence(context, { id: virtualClusterId, incarnation, divergence });
    } catch (error) {
      if (!isAppError(error, 'time_outside_window')) throw error;
      context.logger.warning(`all data is copied from the source, because ${error.message}`);
      await streams.copyInstead({ id: virtualClusterId, signal: context.signal });
      return this.#receive({ ...stream, divergence: null }, context);
    }
    faultPoint('failback.rewound');
    const history = { timelineId: terms.timelineId, text: terms.history };
    await instanceHost.fence({ virtualClusterId, incarnation, forkLsn: divergence.lsn, history });
    faultPoint('failback.fenced');
    const { parentIncarnation = null, forkLsn = null } = terms.lineage[0] ?? {};
    await instanceHost.commitFollower({
      virtualClusterId,
      following,
      parentIncarnation,
      forkLsn,
      signal: context.signal,
    });
  }

  /** Runs, is consistent, and has come to the source's own timeline; its log goes to the vault. */
  async #start(stream: StreamRecord, context: ConsumerContext): Promise<void> {
    const { clock, followLog } = this.#dependencies;
    const { signal } = context;
    const instance = this.#require(stream.virtualClusterId);
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
        if (signal.aborted) break;
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
    if (this.#require(id).following?.stopAt === time) return false;
    const { signal } = context;
    faultPoint('failover.awaited');
    if ((await this.cutHere(id, { signal })) <= time) return false;
    const { followLog, pointAt, streams, newIncarnation } = this.#dependencies;
    await followLog(id);
    const { replayedLsn } = await sampleFollower(this.#require(id), { signal });
    if (replayedLsn === null)
      throw new AppError('internal', 'a follower that has come past a moment has replayed log');
    const point = await pointAt(id, { time, throughLsn: replayedLsn, signal });
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
      return this.#givenPlaces(this.#require(id), options);
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
    const instance = this.#require(stream.virtualClusterId);
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

  async #failOver(
    stream: StreamRecord,
    { cut, context }: { cut: FailoverCut; context: ConsumerContext },
  ): Promise<void> {
    const { instanceHost, exclusively, streams, prepare, noteSubscriptions } = this.#dependencies;
    const { virtualClusterId: id } = stream;
    const { signal } = context;
    context.report({ fraction: 0.5, runningStatus: 'failing over' });
    faultPoint('failover.cut');
    await exclusively(id, () => this.#dependencies.dropReader(id));
    // All that was received is in the vault when this returns.
    await this.#dependencies.unfollowLog(id);
    if (cut.point === null) {
      await exclusively(id, async () => {
        await this.#forgetLaterStop(id, { cut, signal });
        await instanceHost.promote({
          virtualClusterId: id,
          incarnation: cut.incarnation,
          prepare: (client) => prepare(client, { id, incarnation: cut.incarnation }),
          onDisabledSubscriptions: (names) => noteSubscriptions(id, names),
          signal,
        });
      });
    } else {
      await instanceHost.get(id)?.stop({ mode: 'orderly', signal });
      await this.#goBack(context, { id, cut });
    }
    faultPoint('failover.promoted');
    await streams.apply({ id, event: { kind: 'promoted' }, signal });
    context.logger.info('the virtual cluster is one of its own');
    await this.farewell(stream, { signal, logger: context.logger });
  }

  async #goBack(context: ConsumerContext, target: { id: VirtualClusterId; cut: FailoverCut }): Promise<void> {
    const { id } = target;
    this.meter.noteWayBack(id, 0);
    try {
      const watched: ConsumerContext = {
        ...context,
        report: (progress) => {
          this.meter.noteWayBack(id, progress.fraction);
          context.report(progress);
        },
      };
      await this.#dependencies.goBack(watched, target);
    } finally {
      this.meter.noteWayBack(id, 1);
    }
  }

  /**
   * A server that is promoted before it has come to where it shall stop ends instead. What was cut before an earlier failover's time has
   * replayed everything that was received, so that nothing lies behind.
   */
  async #forgetLaterStop(
    id: VirtualClusterId,
    { cut, signal }: { cut: FailoverCut; signal: AbortSignal },
  ): Promise<void> {
    const instance = this.#require(id);
    const { following } = instance;
    if (following === null || following.stopAt === null || following.stopAt <= cut.time) return;
    // Where to stop is fixed when a server starts.
    await instance.stop({ mode: 'orderly', signal });
    await this.#dependencies.instanceHost.setFollowing({
      virtualClusterId: id,
      following: { ...following, stopAt: null },
    });
  }

  /** Tells the source that it need keep nothing more. One that cannot be reached notices by itself. */
  async farewell(
    stream: StreamRecord,
    { signal, logger }: { signal: AbortSignal; logger: Logger },
  ): Promise<void> {
    const limit = new AbortController();
    const bounded = AbortSignal.any([signal, limit.signal]);
    const late = this.#dependencies.clock.sleep(FAREWELL_MS_MAX, { signal: bounded }).then(
      () => limit.abort(),
      () => undefined,
    );
    try {
      const { state, terms } = stream;
      await using source = await openSource(stream, { signal: bounded });
      // Nobody takes over: it is to serve again.
      if (state.kind === 'draining') await source.report(terms.streamId, givingUp(state.drainId));
      await source.dropStream(terms.streamId);
    } catch (error) {
      const isPlain = parseSourceUri(stream.sourceUri).kind === 'postgres';
      const left = isPlain ? `; run there: ${slotLeft(stream.terms)}` : '';
      const message = `the source was not told that the stream is over: ${toError(error).message}${left}`;
      if (isPlain) logger.warning(message);
      else logger.info(message);
    } finally {
      limit.abort();
      await late;
    }
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

  #require(id: VirtualClusterId): Instance {
    const instance = this.#dependencies.instanceHost.get(id);
    if (instance !== undefined) return instance;
    throw new AppError('object_not_found', `virtual cluster ${id} is gone`);
  }
}

/** A report that says nothing but that the source shall serve again. */
function givingUp(drainId: string): StreamReport {
  return { replicatedTime: null, replicatedLsn: null, drain: { id: drainId, isWanted: false } };
}

/** What the follower of a stream follows, as its state has it. */
function followingOf({ terms, sourceName, sourceUri, state }: StreamRecord): Following {
  const [life] = terms.lineage;
  if (life === undefined) throw new AppError('internal', 'a stream has no life to follow');
  // The first image may end behind the moment: it must be consistent before that is known.
  const isPending = state.kind === 'pending_failover' && isScanned(state);
  const stopAt = isPending && state.target.kind === 'time' ? state.target.time : null;
  return {
    incarnation: life.incarnation,
    phase: 'following',
    timelineId: terms.timelineId,
    slot: terms.slot,
    source: followedBy(parseSourceUri(sourceUri), sourceName),
    stopAt,
  };
}

function laterOf(left: Timestamp | null, right: Timestamp | null): Timestamp | null {
  if (left === null || right === null) return left ?? right;
  return left > right ? left : right;
}

function plain(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
