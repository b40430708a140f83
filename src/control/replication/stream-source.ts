/** The other side of a stream as statements meet it: where it is, whether it can be followed, and that it keeps nothing in vain. */
import { SYSTEM_VIRTUAL_CLUSTER_ID, toError } from '../../base/index.ts';
import { CURRENT_RELEASE, type VirtualClusterRecord } from '../../catalog/index.ts';
import {
  type Divergence,
  SourceConnection,
  type StreamRecord,
  type StreamTerms,
  openSource,
  parseSourceUri,
  requireCompatible,
} from '../../replication/index.ts';
import type { ReplicationSource, Value } from '../../sql/index.ts';
import { requireConnectionPrivilege } from '../connections/connection-access.ts';
import type { ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { askerOf } from '../use-case.ts';
import { textValue } from '../values.ts';
import { streamLimitsOf } from './stream-options.ts';

/** A URI, or the name of an external connection of the system VC. @throws InputError `parameter_invalid`, `object_not_found` */
export async function sourceUri(core: Core, value: Value, context: ExecuteContext): Promise<string> {
  const text = textValue(value, 'the connection string');
  const name = /^external:\/\/([^/?]+)\/?$/.exec(text)?.[1] ?? (text.includes('://') ? undefined : text);
  const uri =
    name === undefined
      ? text
      : (await requireConnectionPrivilege(askerOf(core, context), { name, privilege: 'USAGE' })).uri;
  parseSourceUri(uri);
  return uri;
}

/** That no Atoll keeps log for. */
export function isPlain({ sourceUri }: StreamRecord): boolean {
  return parseSourceUri(sourceUri).kind === 'postgres';
}

export async function withProducer<T>(
  uri: string,
  { signal }: { signal: AbortSignal },
  use: (connection: SourceConnection) => Promise<T>,
): Promise<T> {
  await using connection = await SourceConnection.open(parseSourceUri(uri), { signal });
  // Not before it is done is the connection closed.
  return await use(connection);
}

/** What the source was asked to keep is given back when nothing comes of it. */
export async function orDrop<T>(
  { uri, terms }: { uri: string; terms: StreamTerms },
  core: Core,
  use: () => Promise<T>,
): Promise<T> {
  try {
    return await use();
  } catch (error) {
    await dropStream({ sourceUri: uri, terms }, core).catch((late: unknown) =>
      core.options.logger.info(`the source was not told that the stream is over: ${toError(late).message}`),
    );
    throw error;
  }
}

async function dropStream(
  stream: Pick<StreamRecord, 'sourceUri' | 'terms'>,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  await using source = await openSource(stream, { signal });
  await source.dropStream(stream.terms.streamId);
}

/** @throws InputError as `requireCompatible` */
export function requireFollowable(core: Core, terms: StreamTerms): void {
  const system = core.options.instanceHost.get(SYSTEM_VIRTUAL_CLUSTER_ID);
  const engineMajor = system?.identity.engineMajor ?? 0;
  requireCompatible(terms, { clusterId: core.options.cluster.id, release: CURRENT_RELEASE, engineMajor });
}

export function newStream(
  record: VirtualClusterRecord,
  options: {
    source: ReplicationSource;
    stream: { readonly uri: string; readonly terms: StreamTerms };
    divergence: Divergence | null;
  },
): StreamRecord {
  const { source, stream, divergence } = options;
  return {
    virtualClusterId: record.id,
    sourceName: source.source,
    sourceUri: stream.uri,
    jobId: null,
    state: { kind: 'initializing' },
    terms: stream.terms,
    divergence,
    limits: streamLimitsOf(source.options),
    retainedTime: null,
    replicatedTime: null,
  };
}
