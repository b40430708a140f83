/** Where a BACKUP goes in its collection: a folder for a full backup, or one on top of an earlier backup. */
import {
  AppError,
  formatTimestamp,
  type IncarnationId,
  InputError,
  isAppError,
  type Lsn,
  required,
  type Timestamp,
} from '../../base/index.ts';
import type { InstanceIdentity } from '../../instance/index.ts';
import { BACKUP_JOB, type PublishedMoment, chainOf } from '../../jobs/index.ts';
import type { BackupSelector } from '../../sql/index.ts';
import {
  type BackupSummary,
  type CollectionLocation,
  type LogicalSelection,
  formatIncrementalSubdirectory,
  normalizeFullFolder,
} from '../../timeline/index.ts';
import { requireAfter } from './backup-moment.ts';
import type { ChainKeys } from './chain-keys.ts';
import { type CollectionCore, readSummary } from './collection.ts';
import type { ExecuteContext, Notice } from '../contract.ts';
import type { Core } from '../core.ts';
import { textValue } from '../values.ts';
import { restorableTimes } from './restorable-times.ts';

export interface BackupPlace {
  /** With the key of its chain, when that is encrypted. */
  readonly collection: CollectionLocation;
  readonly subdirectory: string;
  /** The full backup of its chain: itself, or the one it adds to. */
  readonly full: string;
  /** The backup it builds on, and the position at which that one ends; null for a full one. */
  readonly onto: string | null;
  readonly ontoLsn: Lsn | null;
  /** What is to be said once the backup is there, or goes on by itself: that it is another than was asked for. */
  readonly notice?: Notice;
}

interface Where {
  readonly collection: CollectionLocation;
  readonly keys: ChainKeys;
  readonly appendTo: BackupSelector | undefined;
  /** Null for the present state of what runs. */
  readonly moment: PublishedMoment | null;
  /** Null for the whole virtual cluster. */
  readonly selection: LogicalSelection | null;
  /** Files and log, or definitions and rows. */
  readonly isOfFiles: boolean;
}

/**
 * Chosen before anything is written. A chain is extended by the life of the data that began it: after a restore or a failover the next
 * BACKUP INTO LATEST is a full one, and a notice says so.
 * @throws AppError `backup_not_found`; InputError `parameter_invalid`, `object_in_use`, `object_state`
 */
export async function placeBackup(core: Core, where: Where, context: ExecuteContext): Promise<BackupPlace> {
  const { appendTo, collection: closed, keys, moment } = where;
  if (appendTo === undefined) return placeFull(core, where, context);
  const { signal } = context;
  const { collectionReader } = core.options;
  const path = appendTo.kind === 'latest' ? null : textValue(appendTo.path, 'the path of a backup');
  const named = path === null ? null : await placeNamed(core, { ...where, path }, context);
  if (named !== null) return named;
  const full =
    path === null
      ? await collectionReader.latest(closed, { signal })
      : await requireFull(core, { collection: closed, path }, context);
  const collection = await keys.open(full);
  const newest = await newestLayer(core, { collection, full, signal });
  requireSameTargets(newest, where.selection);
  const obstacle = obstacleTo(core, newest, { ...context, moment }) ?? otherForm(newest, where);
  if (obstacle === undefined) {
    requireNoOther(core, { collection, full }, context);
    requireAfter(newest, moment);
    const time = core.backupPaths.nextTime({ now: core.options.clock.now() });
    const subdirectory = formatIncrementalSubdirectory(time, { full });
    return { collection, subdirectory, full, onto: newest.subdirectory, ontoLsn: newest.targetLsn };
  }
  if (appendTo.kind === 'subdirectory') {
    throw new InputError('object_state', `backup ${full} cannot be added to: ${obstacle}`, {
      hint: 'take a full backup: BACKUP INTO the collection, without a subdirectory',
    });
  }
  return {
    ...(await placeFull(core, where, context)),
    notice: {
      severity: 'NOTICE',
      sqlstate: '00000',
      message: `this is a full backup: the chain of ${full} cannot be added to, because ${obstacle}`,
    },
  };
}

/** Every backup of a chain holds the same. @throws InputError `object_state` naming what the older one lacks */
function requireSameTargets(older: BackupSummary, selection: LogicalSelection | null): void {
  const [had, wanted] = [older.selection, selection].map((each) => JSON.stringify(namesIn(each)));
  if (had === wanted) return;
  const lacking = namesIn(selection).find((name) => !namesIn(older.selection).includes(name));
  throw new InputError(
    'object_state',
    lacking === undefined
      ? `backup ${older.subdirectory} holds more than is asked for: ${namesIn(older.selection).join(', ')}`
      : `previous backup does not contain ${lacking}`,
    {
      hint: 'name the same targets as the full backup, or take a new full backup: BACKUP ... INTO the collection',
    },
  );
}

function namesIn(selection: LogicalSelection | null): readonly string[] {
  if (selection === null) return ['the whole virtual cluster'];
  if (selection.kind === 'databases') return selection.names.map((name) => `database "${name}"`).toSorted();
  const { database, patterns } = selection;
  return patterns
    .map(({ schema, name }) => `table "${[database, schema ?? '*', name ?? '*'].join('.')}"`)
    .toSorted();
}

async function placeFull(
  core: Core,
  where: Where,
  { session, signal }: ExecuteContext,
): Promise<BackupPlace> {
  const { collection, keys } = where;
  const taken = await core.options.collectionReader.list(collection, { signal });
  const subdirectory = core.backupPaths.next({ now: core.options.clock.now(), taken });
  return {
    collection: await keys.begin(subdirectory, lifeOf(core, { ...where, session })),
    subdirectory,
    full: subdirectory,
    onto: null,
    ontoLsn: null,
  };
}

/**
 * A full backup under a name of the user's own, as old versions made it where there is none of this name; null where there is, or where
 * `bulkio.backup.deprecated_full_backup_with_subdir.enabled` is off.
 */
async function placeNamed(
  core: Core,
  where: Where & { readonly path: string },
  { session, signal }: ExecuteContext,
): Promise<BackupPlace | null> {
  const { collection, keys, path } = where;
  const setting = 'bulkio.backup.deprecated_full_backup_with_subdir.enabled';
  if (!core.settings.isOn(session.virtualClusterId, setting)) return null;
  const subdirectory = normalizeFullFolder(path);
  try {
    await core.options.collectionReader.chain({ collection, subdirectory, signal });
    return null;
  } catch (error) {
    if (!isAppError(error, 'backup_not_found')) throw error;
  }
  return {
    collection: await keys.begin(subdirectory, lifeOf(core, { ...where, session })),
    subdirectory,
    full: subdirectory,
    onto: null,
    ontoLsn: null,
    notice: {
      severity: 'WARNING',
      sqlstate: '01000',
      message: `this is a full backup: there is none in "${path}" to add to. SHOW BACKUPS does not list it`,
      hint: `write BACKUP INTO the collection without a subdirectory; ${setting} allows this form`,
    },
  };
}

/** @throws InputError `backup_not_found`, told as users know it */
async function requireFull(
  core: Core,
  { collection, path }: { collection: CollectionLocation; path: string },
  { signal }: ExecuteContext,
): Promise<string> {
  try {
    const subdirectory = normalizeFullFolder(path);
    await core.options.collectionReader.chain({ collection, subdirectory, signal });
    return subdirectory;
  } catch (error) {
    if (!isAppError(error, 'backup_not_found', 'parameter_invalid')) throw error;
    throw new InputError(
      'backup_not_found',
      `No full backup exists in "${path}" to append an incremental backup to. To take a full backup, remove the subdirectory from the backup command`,
      { cause: error, hint: 'SHOW BACKUPS IN the collection lists the full backups it holds' },
    );
  }
}

interface Chain {
  readonly collection: CollectionLocation;
  readonly full: string;
  readonly signal: AbortSignal;
}

/**
 * What a chain holds, by the moments at which its backups end. Folders tell when a backup was begun: one that was paused and
 * resumed may end after one that was begun later. @throws AppError `backup_not_found`
 */
export async function layersOf(
  core: CollectionCore,
  { collection, full, signal }: Chain,
): Promise<readonly BackupSummary[]> {
  const chain = await core.options.collectionReader.chain({ collection, subdirectory: full, signal });
  const layers: BackupSummary[] = [];
  for (const subdirectory of chain)
    layers.push(await readSummary(core, { collection, subdirectory, signal }));
  return layers.sort((left, right) => Number(left.endTime - right.endTime));
}

/** The backup of a chain that ends last. @throws AppError `backup_not_found` */
export async function newestLayer(core: CollectionCore, chain: Chain): Promise<BackupSummary> {
  return required((await layersOf(core, chain)).at(-1), 'a chain begins with its full backup');
}

/** A backup to be restored, and which moment of it: null for its end. */
export interface RestorableMoment {
  readonly layer: BackupSummary;
  readonly asOf: Timestamp | null;
  /** The layer is a base of a continuous backup, whose log leads on to the moment, or to the end when there is none. */
  readonly isContinuous?: true;
  /** Of a continuous backup: the newest moment that is known of. */
  readonly through?: Timestamp;
}

/**
 * The backup of a chain that ends at this very moment, or whose revision history holds it.
 * @throws InputError `parameter_invalid` naming the nearest moments
 */
export async function layerAt(
  core: CollectionCore,
  { time, ...chain }: Chain & { readonly time: Timestamp },
): Promise<RestorableMoment> {
  const layers = await layersOf(core, chain);
  const found = layers.find((layer) => layer.endTime === time);
  if (found !== undefined) return { layer: found, asOf: null };
  const covering = layers.find(
    ({ endTime, revisionStart }) => revisionStart !== null && revisionStart <= time && time < endTime,
  );
  if (covering !== undefined) return { layer: covering, asOf: time };
  const before = layers.findLast((layer) => layer.endTime < time);
  const after = layers.find((layer) => layer.endTime > time);
  throw betweenBackups([before?.endTime, after?.endTime], restorableTimes(layers, { near: time }));
}

function betweenBackups(nearest: readonly (Timestamp | undefined)[], hint: string): InputError {
  const times = nearest.flatMap((time) => (time === undefined ? [] : [formatTimestamp(time)]));
  return new InputError(
    'parameter_invalid',
    `invalid RESTORE timestamp: restoring to arbitrary time requires that BACKUP for requested time be created with 'revision_history' option. nearest backup time(s) ${times.join(', ')}`,
    { hint },
  );
}

/** Why the data that is served now cannot be told from a backup by its changes. */
function obstacleTo(
  core: Core,
  newest: BackupSummary,
  { session, moment }: Pick<ExecuteContext, 'session'> & Pick<Where, 'moment'>,
): string | undefined {
  const identity = identityOf(core, session);
  const isOfAnother = newest.virtualClusterId !== identity.virtualClusterId;
  if (isOfAnother && newest.virtualClusterName !== identity.virtualClusterName) {
    return `it is of virtual cluster "${newest.virtualClusterName}"`;
  }
  if (newest.engineMajor !== identity.engineMajor)
    return `it was taken from PostgreSQL ${newest.engineMajor}`;
  if (isOfAnother || newest.incarnation !== lifeOf(core, { session, moment })) {
    return 'the data was restored, branched or taken back in time since';
  }
  return undefined;
}

/** The life of the data that a backup is of. */
function lifeOf(
  core: Core,
  { session, moment }: Pick<ExecuteContext, 'session'> & Pick<Where, 'moment'>,
): IncarnationId {
  const isDated = moment !== null && moment !== 'first_base';
  return isDated ? moment.incarnation : identityOf(core, session).incarnation;
}

/** @throws AppError `object_not_found` */
function identityOf(core: Core, session: ExecuteContext['session']): InstanceIdentity {
  const identity = core.options.instanceHost.get(session.virtualClusterId)?.identity;
  if (identity === undefined) throw new AppError('object_not_found', 'the virtual cluster is gone');
  return identity;
}

/** Files and log go on from files, rows from rows. */
function otherForm({ isImage }: BackupSummary, { isOfFiles }: Where): string | undefined {
  if (isImage === isOfFiles) return undefined;
  return isImage
    ? 'it was taken with revision_history, and this one is not'
    : 'it was taken without revision_history, and this one is not';
}

/** Two that build on the same backup would each lack what the other has. @throws InputError `object_in_use` */
function requireNoOther(
  core: Core,
  { collection, full }: { collection: CollectionLocation; full: string },
  { session }: ExecuteContext,
): void {
  const other = core.runner.active(session.virtualClusterId).find((job) => {
    if (job.type !== BACKUP_JOB) return false;
    const chain = chainOf(job);
    return chain.collectionUri === collection.displayUri && chain.full === full;
  });
  if (other === undefined) return;
  throw new InputError(
    'object_in_use',
    `job ${other.id} is adding to backup ${full} in ${collection.displayUri}`,
    {
      hint: `wait for it with SHOW JOB WHEN COMPLETE ${other.id}`,
    },
  );
}
