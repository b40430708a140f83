/** ALTER VIRTUAL CLUSTER x SET CONTINUOUS BACKUP: where it goes is a fact of the control plane; here is what brings it about. */
import {
  InputError,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  timestampToMs,
  type VirtualClusterId,
} from '../../base/index.ts';
import { decodeStorageRecord } from '../../blob/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import { type Option, type Value, redactUri } from '../../sql/index.ts';
import type {
  CollectionLocation,
  ContinuousHost,
  ContinuousStatus,
  ContinuousTarget,
} from '../../timeline/index.ts';
import { readBackupKeys } from './backup-keys.ts';
import { openContinuous } from './chain-keys.ts';
import { openCollection, requireOutsideStore } from './collection.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import type { MetricFamily } from '../status.ts';
import { recordedUri } from './storage-location.ts';
import { requireTimeline, storeOfTimeline } from '../timeline/timeline-point.ts';
import { notAvailable } from '../values.ts';

/** How often wishes and vaults are looked at. */
const LOOK_MS = 1000;
/** An external connection may lead elsewhere by now. */
const RESOLVE_AGAIN_MS = 60_000;
/** A request to storage is tried again by itself for so long; then the failure shows, and publishing tries again. */
const REQUEST_MS_MAX = 30_000;

const factOf = (id: VirtualClusterId) => `continuous_backup/${id}` as const;

/** As the record has it; it may hold secrets. Undefined while there is none. */
function uriOf({ catalog }: Core, id: VirtualClusterId): string | undefined {
  const uri = catalog.fact(factOf(id));
  return uri === '' ? undefined : uri;
}

/** Where it goes, as it may be shown. */
export function continuousUri(core: Core, id: VirtualClusterId): string | undefined {
  const uri = uriOf(core, id);
  return uri === undefined ? undefined : redactUri(decodeStorageRecord(uri).locations[0] ?? '');
}

/**
 * The collection is tried and claimed before anything changes; URIs mean what they mean in the system virtual cluster. Of the keys nothing is
 * recorded: publishing has the data key, as only this cluster can open it.
 * @throws InputError, AppError `object_state` for a collection that is another's, holds backups, or is encrypted when this is not to be, or the
 * other way round; what storage and keys are refused for
 */
export async function setContinuousBackup(
  core: Core,
  {
    record,
    location,
    options,
    context,
  }: {
    record: VirtualClusterRecord;
    location: Value;
    options: readonly Option[];
    context: ExecuteContext;
  },
): Promise<string> {
  if (requireTimeline(core).continuous === undefined)
    throw notAvailable('continuous backup', 'start another node');
  const collection = await openCollection(core, [location], context, { isWriting: true });
  requireOutsideStore(collection);
  if ('places' in collection) {
    throw new InputError('parameter_invalid', 'a continuous backup goes to one location');
  }
  const { signal } = context;
  const keys = await readBackupKeys(core, options, context);
  const { incarnation } = core.services.instanceOf(record).identity;
  const opened = await openContinuous(core, { collection, keys, incarnation, signal });
  const { id: virtualClusterId, name: virtualClusterName } = record;
  await core.options.collectionReader.claimForContinuous(opened, {
    owner: { clusterId: core.options.cluster.id, virtualClusterId, virtualClusterName },
    form: opened.encryption === undefined ? 'open' : 'encrypted',
    info: opened.encryption?.info ?? null,
    signal,
  });
  await core.catalog.setFact({
    name: factOf(virtualClusterId),
    value: recordedUri(opened),
    signal: core.signal,
  });
  return `backed up continuously into ${collection.displayUri}`;
}

export async function resetContinuousBackup(core: Core, { id }: VirtualClusterRecord): Promise<string> {
  await core.catalog.setFact({ name: factOf(id), value: '', signal: core.signal });
  core.options.timeline?.continuous?.stop(id);
  return 'not backed up continuously';
}

/** @throws InputError `object_state` when it is published to continuously: what that removes others would miss */
export async function requireNoContinuousBackup(
  core: Core,
  collection: CollectionLocation,
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  if (!(await core.options.collectionReader.isContinuous(collection, { signal }))) return;
  throw new InputError(
    'object_state',
    `${collection.displayUri} holds a continuous backup, which keeps its own order`,
    {
      hint: 'give the backups a collection URI of their own',
    },
  );
}

/** Has published what shall be, until the daemon stops. On a node that keeps no timelines it ends at once. */
export async function keepContinuousBackups(core: Core): Promise<void> {
  const continuous = core.options.timeline?.continuous;
  if (continuous === undefined) return;
  const keeper = new Keeper(core, continuous);
  while (!core.signal.aborted) {
    await keeper.look();
    await core.options.clock.sleep(LOOK_MS, { signal: core.signal }).catch(() => undefined);
  }
}

interface Resolved {
  readonly uri: string;
  readonly atMs: number;
  /** Null when the URI leads nowhere at present. */
  readonly collection: CollectionLocation | null;
}

class Keeper {
  readonly #core: Core;
  readonly #continuous: ContinuousHost;
  readonly #resolved = new Map<VirtualClusterId, Resolved>();

  constructor(core: Core, continuous: ContinuousHost) {
    this.#core = core;
    this.#continuous = continuous;
  }

  async look(): Promise<void> {
    const { catalog, options } = this.#core;
    const wanted = catalog.list().filter(({ id }) => uriOf(this.#core, id) !== undefined);
    for (const id of this.#resolved.keys()) {
      if (wanted.some((record) => record.id === id)) continue;
      this.#resolved.delete(id);
      this.#continuous.stop(id);
    }
    for (const record of wanted) {
      const target = await this.#target(record);
      if (target !== null) this.#continuous.publish(target);
    }
    if (wanted.length > 0) this.#continuous.note(options.timeline?.vault.statuses() ?? []);
  }

  /** Null while it is not known: then what is published goes on as it is. */
  async #target(record: VirtualClusterRecord): Promise<ContinuousTarget | null> {
    const { settings, options } = this.#core;
    const { id, name } = record;
    const collection = await this.#collection(record);
    if (collection === null || !settings.isLoaded(id)) return null;
    return {
      virtualClusterId: id,
      virtualClusterName: name,
      store: storeOfTimeline(this.#core, record),
      collection:
        'service' in collection
          ? { ...collection, timeoutMs: Math.min(collection.timeoutMs, REQUEST_MS_MAX) }
          : collection,
      clusterId: options.cluster.id,
      key: options.cluster.key,
      windowUs: settings.integer(id, 'timeline.continuous.window'),
      backlogBytesMax: settings.integer(id, 'timeline.continuous.backlog_max'),
    };
  }

  async #collection(record: VirtualClusterRecord): Promise<CollectionLocation | null> {
    const uri = uriOf(this.#core, record.id) ?? '';
    const nowMs = this.#core.options.clock.monotonicMs();
    const known = this.#resolved.get(record.id);
    if (known?.uri === uri && nowMs - known.atMs < RESOLVE_AGAIN_MS) return known.collection;
    const collection = await this.#core
      .resolveCollection(SYSTEM_VIRTUAL_CLUSTER_ID, uri)
      .catch((error: unknown) => {
        if (!this.#core.signal.aborted) {
          loggerOf(this.#core, record).warning('continuous backup: its collection is not to be found', error);
        }
        return null;
      });
    // What was found before is as good as nothing new.
    const found = collection ?? (known?.uri === uri ? known.collection : null);
    this.#resolved.set(record.id, { uri, atMs: nowMs, collection: found });
    return found;
  }
}

/** A sentence for SHOW TIMELINE. */
export function continuousStateText(status: ContinuousStatus | undefined): string {
  if (status === undefined) return 'waiting';
  switch (status.state.kind) {
    case 'beginning':
      return 'no base yet';
    case 'publishing':
      return 'publishing';
    case 'failing': {
      const given = status.state.isGivenUp ? ', and log is no longer kept for it' : '';
      return `failing: ${status.state.reason}${given}`;
    }
  }
}

/** Figures by virtual cluster; of those that are backed up continuously. */
export function continuousFamilies(core: Core): readonly MetricFamily[] {
  const { catalog, options } = core;
  const published = catalog.list().flatMap(({ id, name }) => {
    const status = options.timeline?.continuous?.status(id);
    return status === undefined || uriOf(core, id) === undefined ? [] : [{ name, status }];
  });
  const nowMs = timestampToMs(options.clock.now());
  const family = (
    name: string,
    type: MetricFamily['type'],
    help: string,
    value: (status: ContinuousStatus) => number | null,
  ): MetricFamily => ({
    name: `timeline_continuous_${name}`,
    help,
    type,
    samples: published.flatMap(({ name: tenant, status }) => {
      const figure = value(status);
      return figure === null ? [] : [{ labels: { tenant }, value: figure }];
    }),
  });
  return [
    family(
      'restorable_through_age_seconds',
      'gauge',
      'How long ago the newest moment was that the collection of the continuous backup can restore',
      ({ restorableThrough: through }) =>
        through === null ? null : Math.max(0, (nowMs - timestampToMs(through)) / 1000),
    ),
    family('backlog_bytes', 'gauge', 'Log that is durable on this node and not in the collection', (status) =>
      Number(status.backlogBytes),
    ),
    family('failing', 'gauge', '1 while publishing fails and is tried again', ({ state }) =>
      Number(state.kind === 'failing'),
    ),
    family('restorable', 'gauge', '1 when the collection alone can restore something', (status) =>
      Number(status.restorableThrough !== null),
    ),
    family('published_bytes', 'counter', 'Log and bases sent since publishing began', (status) =>
      Number(status.publishedBytes),
    ),
    family(
      'failures',
      'counter',
      'Attempts that have failed since publishing began',
      ({ failures }) => failures,
    ),
  ];
}
