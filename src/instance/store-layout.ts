/** Where everything lies inside a store. */
import { join } from 'node:path';
import type { IncarnationId, Rng, VirtualClusterId } from '../base/index.ts';

/** Name of the socket file that Postgres makes in its folder; the port is part of it and nothing else. */
export const SOCKET_NAME = '.s.PGSQL.5432';
export const SOCKET_PORT = 5432;

export interface StoreLayout {
  readonly root: string;
  readonly storeRecord: string;
  readonly lock: string;
  /** Who holds the lock, for messages; the lock alone decides. */
  readonly lockHolder: string;
  readonly clusterKey: string;
  /** Keys of other physical clusters whose backups are accepted. */
  readonly trustedKeys: string;
  readonly engines: string;
  readonly templates: string;
  readonly sockets: string;
  readonly clusters: string;
  readonly logs: string;
  readonly quarantine: string;
}

export function storeLayout(root: string): StoreLayout {
  return {
    root,
    storeRecord: join(root, 'STORE'),
    lock: join(root, 'lock'),
    lockHolder: join(root, 'lock-holder'),
    clusterKey: join(root, 'cluster-key'),
    trustedKeys: join(root, 'trusted-keys'),
    engines: join(root, 'engine'),
    templates: join(root, 'template'),
    sockets: join(root, 'run'),
    clusters: join(root, 'vc'),
    logs: join(root, 'logs'),
    quarantine: join(root, 'quarantine'),
  };
}

export interface ScratchLayout {
  readonly dataDirectory: string;
  readonly sockets: string;
  readonly log: string;
}

/** Of the digits of its name, those that a copy's folder of sockets has: paths of sockets must be short. */
const SCRATCH_SOCKETS_DIGITS = 8;

/** The paths of one virtual cluster. */
export interface ClusterLayout {
  readonly directory: string;
  readonly configuration: string;
  /** Socket folder of the instance that serves, and of one that is being proved beside it. */
  readonly sockets: string;
  readonly proofSockets: string;
  readonly log: string;
  /** Of copies that are made to be looked at: each has a folder and a log of its own, whose names begin like this. */
  readonly scratchTraces: readonly { readonly directory: string; readonly prefix: string }[];
  /** Data directory of the current incarnation. */
  current(incarnation: IncarnationId): string;
  /** Data directory of an incarnation that was begun and not committed. */
  begun(incarnation: IncarnationId): string;
  /** Data directory that is being made into another incarnation in its own place: neither the one nor the other. */
  rewinding(incarnation: IncarnationId): string;
  /** Data directory of an incarnation that another has replaced, until the other has served. */
  superseded(incarnation: IncarnationId): string;
  /** A copy that is made to be looked at, and thrown away. */
  scratch(name: string): ScratchLayout;
}

/** Folders of virtual clusters that are being made or deleted: neither is one. */
export const CREATING_PREFIX = '.creating-';
export const REMOVING_PREFIX = '.removing-';
export const BEGUN_SUFFIX = '.begun';
export const REWINDING_SUFFIX = '.rewinding';
export const SUPERSEDED_SUFFIX = '.superseded';
export const SCRATCH_SUFFIX = '.scratch';
export const CONFIGURATION_NAME = 'conf';

/** Names of data directories in a virtual cluster's folder: incarnations, in each of their states, and copies to be looked at. */
export const DATA_DIRECTORY_NAME =
  /^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:\.begun|\.rewinding|\.superseded)?|[0-9a-f]{16}\.scratch)$/;

export function clusterLayout(store: StoreLayout, id: VirtualClusterId): ClusterLayout {
  const directory = join(store.clusters, String(id));
  const scratchSockets = `${id}s`;
  const scratchLog = `scratch-${id}-`;
  return {
    directory,
    configuration: join(directory, CONFIGURATION_NAME),
    sockets: join(store.sockets, String(id)),
    proofSockets: join(store.sockets, `${id}p`),
    log: join(store.logs, `postgres-${id}.log`),
    scratchTraces: [
      { directory: store.sockets, prefix: scratchSockets },
      { directory: store.logs, prefix: scratchLog },
    ],
    current: (incarnation) => join(directory, incarnation),
    begun: (incarnation) => join(directory, `${incarnation}${BEGUN_SUFFIX}`),
    rewinding: (incarnation) => join(directory, `${incarnation}${REWINDING_SUFFIX}`),
    superseded: (incarnation) => join(directory, `${incarnation}${SUPERSEDED_SUFFIX}`),
    scratch: (name) => ({
      dataDirectory: join(directory, `${name}${SCRATCH_SUFFIX}`),
      sockets: join(store.sockets, `${scratchSockets}${name.slice(0, SCRATCH_SOCKETS_DIGITS)}`),
      log: join(store.logs, `${scratchLog}${name}.log`),
    }),
  };
}

/** Sixteen hexadecimal digits that make a name nobody else has. */
export function randomSuffix(rng: Rng): string {
  return Buffer.from(rng.bytes(8)).toString('hex');
}
