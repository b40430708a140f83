/** How the data of a follower comes to its place, once. What has been done is looked at, so that it may be begun again anywhere. */
import { isAppError } from '../base/index.ts';
import { faultPoint } from '../timeline/index.ts';
import type { ConsumerDependencies, ConsumerTools } from './consumer-contract.ts';
import { replaced } from './conversation.ts';
import { followingOf, requireInstance } from './following.ts';
import type { Divergence, StreamRecord } from './stream-record.ts';

/** The data that the stream goes on from is in its place. */
export function isFilled(
  { instanceHost }: ConsumerDependencies,
  { virtualClusterId, terms }: StreamRecord,
): boolean {
  const { following, identity } = requireInstance(instanceHost, virtualClusterId);
  return following !== null && identity.incarnation === terms.lineage[0]?.incarnation;
}

/** The first image, or, at a failback, our own data as it was when the source's history left ours. */
export async function fill(stream: StreamRecord, tools: ConsumerTools): Promise<void> {
  const { divergence } = stream;
  if (divergence === null) await receive(stream, tools);
  else await rewind(stream, divergence, tools);
}

async function receive(stream: StreamRecord, tools: ConsumerTools): Promise<void> {
  const { dependencies, meter, context } = tools;
  const { instanceHost, receiver } = dependencies;
  const { virtualClusterId, terms } = stream;
  const following = followingOf(stream);
  const { incarnation } = following;
  await dependencies.keepReplaced(context, virtualClusterId);
  const begun = await instanceHost.beginIncarnation({ virtualClusterId, incarnation });
  meter.noteScanBegun(virtualClusterId);
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
        if (received !== undefined) meter.noteScan(virtualClusterId, received);
        context.report({ fraction: fraction * 0.9, runningStatus: phase });
      },
      signal: context.signal,
    },
  );
  meter.noteScan(virtualClusterId, {
    receivedBytes: Number(receivedBytes),
    totalBytes: Number(receivedBytes),
  });
  meter.noteScanEnded(virtualClusterId);
  if (anewBecause !== null) context.logger.warning(`the initial scan was begun anew, because ${anewBecause}`);
  if (keptBytes > 0n)
    context.logger.info(`the initial scan has gone on: ${keptBytes} bytes were here, ${receivedBytes} came`);
  if (timelineId !== terms.timelineId) throw replaced();
  const history = { timelineId, text: terms.history };
  await instanceHost.fence({ virtualClusterId, incarnation, forkLsn: null, history });
  await commit(stream, tools);
}

/** Our own data as it was when the source's history left ours; where nothing leads there, the image after all. */
async function rewind(stream: StreamRecord, divergence: Divergence, tools: ConsumerTools): Promise<void> {
  const { dependencies, context } = tools;
  const { instanceHost, streams, rewindToDivergence } = dependencies;
  const { virtualClusterId, terms } = stream;
  const { incarnation } = followingOf(stream);
  try {
    await rewindToDivergence(context, { id: virtualClusterId, incarnation, divergence });
  } catch (error) {
    if (!isAppError(error, 'time_outside_window')) throw error;
    context.logger.warning(`all data is copied from the source, because ${error.message}`);
    await streams.copyInstead({ id: virtualClusterId, signal: context.signal });
    return receive({ ...stream, divergence: null }, tools);
  }
  faultPoint('failback.rewound');
  const history = { timelineId: terms.timelineId, text: terms.history };
  await instanceHost.fence({ virtualClusterId, incarnation, forkLsn: divergence.lsn, history });
  faultPoint('failback.fenced');
  await commit(stream, tools);
}

/** What lies in its place is a follower from now on, with the life of its source. */
async function commit(stream: StreamRecord, { dependencies, context }: ConsumerTools): Promise<void> {
  const { parentIncarnation = null, forkLsn = null } = stream.terms.lineage[0] ?? {};
  await dependencies.instanceHost.commitFollower({
    virtualClusterId: stream.virtualClusterId,
    following: followingOf(stream),
    parentIncarnation,
    forkLsn,
    signal: context.signal,
  });
}
