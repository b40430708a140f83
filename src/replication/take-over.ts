/** A failover, once it is decided where the data is cut: that is what it comes to, however often it is begun. */
import { toError, type VirtualClusterId } from '../base/index.ts';
import { faultPoint } from '../timeline/index.ts';
import type { ConsumerContext, ConsumerDependencies, ConsumerTools } from './consumer-contract.ts';
import { farewell } from './farewell.ts';
import { sampleFollower } from './follower-sample.ts';
import { requireInstance } from './following.ts';
import type { StreamRecord } from './stream-record.ts';
import type { FailoverCut } from './stream-state.ts';

/** A failover waits no longer for a vault that does not come up to it: whoever waits for the failover has nothing else. */
const KEPT_MS_MAX = 10_000;

/** Until the virtual cluster is one of its own. May be begun again at any step. */
export async function takeOver(stream: StreamRecord, cut: FailoverCut, tools: ConsumerTools): Promise<void> {
  const { dependencies, context } = tools;
  const { instanceHost, exclusively, streams, prepare, noteSubscriptions } = dependencies;
  const { virtualClusterId: id } = stream;
  const { signal } = context;
  context.report({ fraction: 0.5, runningStatus: 'failing over' });
  faultPoint('failover.cut');
  await exclusively(id, () => dependencies.dropReader(id));
  await exclusively(id, () => keepLastLog(id, tools));
  await dependencies.unfollowLog(id);
  if (cut.point === null) {
    await exclusively(id, async () => {
      await forgetLaterStop(dependencies, { id, cut, signal });
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
    await goBack(tools, { id, cut });
  }
  faultPoint('failover.promoted');
  await streams.apply({ id, event: { kind: 'promoted' }, signal });
  context.logger.info('the virtual cluster is one of its own');
  await farewell(stream, { clock: dependencies.clock, signal, logger: context.logger });
}

/**
 * Sees that the vault has all that the follower has. Of what its server becomes it receives the log of that life alone: no base before leads
 * over what it has not got by then.
 */
export async function keepLog(
  { instanceHost, followLog, whenKept }: ConsumerDependencies,
  id: VirtualClusterId,
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  await followLog(id);
  const { replayedLsn } = await sampleFollower(requireInstance(instanceHost, id), { signal });
  if (replayedLsn !== null) await whenKept(id, replayedLsn, { signal });
}

async function keepLastLog(id: VirtualClusterId, { dependencies, context }: ConsumerTools): Promise<void> {
  const instance = dependencies.instanceHost.get(id);
  // Later, in an attempt that goes on, it writes the log of its new life.
  if (instance?.following?.phase !== 'cut_off') return;
  // After a reboot nobody but the failover has a use for it.
  await instance.start({ signal: context.signal });
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(KEPT_MS_MAX)]);
  try {
    await keepLog(dependencies, id, { signal });
  } catch (error) {
    if (context.signal.aborted) throw error;
    context.logger.warning(
      `the timeline lacks the end of the log that was replicated: moments before the failover can be had from the other side, and from the next base on (${toError(error).message})`,
    );
  }
}

async function goBack(
  { dependencies, meter, context }: ConsumerTools,
  target: { id: VirtualClusterId; cut: FailoverCut },
): Promise<void> {
  const { id } = target;
  meter.noteWayBack(id, 0);
  try {
    const watched: ConsumerContext = {
      ...context,
      report: (progress) => {
        meter.noteWayBack(id, progress.fraction);
        context.report(progress);
      },
    };
    await dependencies.goBack(watched, target);
  } finally {
    meter.noteWayBack(id, 1);
  }
}

/**
 * A server that is promoted before it has come to where it shall stop ends instead. What was cut before an earlier failover's time has
 * replayed everything that was received, so that nothing lies behind.
 */
async function forgetLaterStop(
  { instanceHost }: ConsumerDependencies,
  { id, cut, signal }: { id: VirtualClusterId; cut: FailoverCut; signal: AbortSignal },
): Promise<void> {
  const instance = requireInstance(instanceHost, id);
  const { following } = instance;
  if (following === null || following.stopAt === null || following.stopAt <= cut.time) return;
  // Where to stop is fixed when a server starts.
  await instance.stop({ mode: 'orderly', signal });
  await instanceHost.setFollowing({
    virtualClusterId: id,
    following: { ...following, stopAt: null },
  });
}
