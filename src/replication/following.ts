import { AppError, type VirtualClusterId } from '../base/index.ts';
import type { Following, Instance, InstanceHost } from '../instance/index.ts';
import { parseSourceUri, type SourceAddress } from './source-address.ts';
import type { StreamRecord } from './stream-record.ts';
import { isScanned } from './stream-state.ts';

/** What the follower of a stream follows, as its state has it. */
export function followingOf({ terms, sourceName, sourceUri, state }: StreamRecord): Following {
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

/** Where a server's clients and followers are led to a virtual cluster by the authority of the system VC; a plain server leads nowhere else. */
function followedBy(address: SourceAddress, name: string): Following['source'] {
  const { kind, host, port, user, password, options, tls } = address;
  if (kind === 'postgres') return { host, port, user, password, options, tls };
  const lead = `-ccluster=${name} -cauthority=system`;
  return { host, port, user, password, options: options === '' ? lead : `${lead} ${options}`, tls };
}

/** The server that follows. @throws AppError `object_not_found` */
export function requireInstance(instanceHost: InstanceHost, id: VirtualClusterId): Instance {
  const instance = instanceHost.get(id);
  if (instance !== undefined) return instance;
  throw new AppError('object_not_found', `virtual cluster ${id} is gone`);
}
