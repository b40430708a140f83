/** CREATE VIRTUAL CLUSTER … FROM REPLICATION: a stream is begun, and its follower made. */
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import { type StreamTerms, parseSourceUri, reserveLog } from '../../replication/index.ts';
import type { ReplicationSource, StreamOptions } from '../../sql/index.ts';
import { faultPoint } from '../../timeline/index.ts';
import type { ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { unmake } from '../virtual-clusters/unmake.ts';
import { inspectPlain } from './plain-source.ts';
import { addReader, dropReader, requireReaderName } from './reader.ts';
import { carryOn } from './replication-consumer.ts';
import { streamLimitsOf } from './stream-options.ts';
import { newStream, orDrop, requireFollowable, sourceUri, withProducer } from './stream-source.ts';

/** Before anything is asked of the source. @throws InputError `parameter_invalid`, `object_exists`, `virtual_cluster_name_invalid` */
export function checkStreamOptions(
  core: Core,
  { name, options }: { name: string; options: StreamOptions },
): void {
  streamLimitsOf(options);
  if (options.readVirtualCluster) requireReaderName(core, name);
}

/** Refuses what cannot be, before anything of the new virtual cluster is there; a producer keeps its log from then on. */
export async function beginStream(
  core: Core,
  source: ReplicationSource,
  context: ExecuteContext,
): Promise<{ readonly uri: string; readonly terms: StreamTerms }> {
  const uri = await sourceUri(core, source.uri, context);
  const address = parseSourceUri(uri);
  if (address.kind === 'postgres') {
    return { uri, terms: await inspectPlain(core, { source, address, context }) };
  }
  const terms = await withProducer(uri, context, (connection) =>
    connection.createStream({ name: source.source, after: null }),
  );
  await orDrop({ uri, terms }, core, () => {
    requireFollowable(core, terms);
    return Promise.resolve();
  });
  return { uri, terms };
}

/** The follower of a stream that was begun, recorded by `add`. When this fails nothing of it is left, here or there. */
export async function makeFollower(
  core: Core,
  options: {
    add: () => Promise<VirtualClusterRecord>;
    source: ReplicationSource;
    stream: { readonly uri: string; readonly terms: StreamTerms };
    context: ExecuteContext;
  },
): Promise<VirtualClusterRecord> {
  const { add, stream } = options;
  return orDrop(stream, core, async () => {
    const record = await add();
    await core.locks.run(record.id, () => fillFollower(core, { ...options, record }));
    return record;
  });
}

async function fillFollower(
  core: Core,
  options: {
    record: VirtualClusterRecord;
    source: ReplicationSource;
    stream: { readonly uri: string; readonly terms: StreamTerms };
    context: ExecuteContext;
  },
): Promise<void> {
  const { record, source, stream, context } = options;
  const { id, name } = record;
  const { signal } = core;
  try {
    await core.streams.add(newStream(record, { source, stream, divergence: null }), core);
    if (source.options.readVirtualCluster) await addReader(core, record);
    faultPoint('stream.recorded');
    await reserveIfPlain(stream, core);
    faultPoint('stream.reserved');
    await core.options.instanceHost.create({
      virtualClusterId: id,
      name,
      settings: core.services.instanceSettings(id),
      signal,
    });
    await core.catalog.apply({ id, event: { kind: 'directory_made' }, signal });
    await carryOn(core, id, context.session.user);
  } catch (error) {
    if (signal.aborted) throw error;
    await dropReader(core, id);
    await core.streams.forget({ id, signal });
    await unmake(core, record);
    throw error;
  }
}

/** A producer has done it by itself; it gives up a consumer that it never hears of. A plain server would keep log for ever for one that it recorded nowhere. */
async function reserveIfPlain(
  { uri, terms }: { readonly uri: string; readonly terms: StreamTerms },
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const address = parseSourceUri(uri);
  if (address.kind === 'postgres') await reserveLog(address, { terms, signal });
}

/** Of a CREATE that a daemon died in, before there was a directory: the source need keep nothing for it. */
export async function forgetUnborn(core: Core): Promise<void> {
  const { signal } = core;
  for (const stream of core.streams.list()) {
    const { virtualClusterId: id } = stream;
    if (core.catalog.get(id) !== undefined) continue;
    // Of one that is over the source was told, and its secrets are gone.
    if (stream.state.kind !== 'completed') {
      await core.consumer.farewell(stream, { signal, logger: core.options.logger });
    }
    await dropReader(core, id);
    await core.streams.forget({ id, signal });
    core.options.logger.info(`forgot the replication stream of virtual cluster ${id}, which was never made`);
  }
}
