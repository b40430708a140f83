/** What BACKUP, RESTORE and SHOW BACKUP share: the URI, who may use it, and what is in it. */
import { CorruptError, InputError, Mutex, type Timestamp } from '../../base/index.ts';
import {
  encodeStorageRecord,
  formatUserfileUri,
  type LocalityTier,
  placeForNode,
  uriLocality,
  usesImplicitRights,
  withUserfileOwner,
} from '../../blob/index.ts';
import type { BackupSelector, Option, Value } from '../../sql/index.ts';
import {
  type BackupSummary,
  type CollectionLocation,
  type Place,
  formatBackupSubdirectory,
  normalizeFullFolder,
} from '../../timeline/index.ts';
import { requireConnectionPrivilege } from '../connections/connection-access.ts';
import type { ExecuteContext } from '../contract.ts';
import type { ControlOptions, Core } from '../core.ts';
import { requireCapability } from '../privileges/capability.ts';
import { requirePrivilege } from '../privileges/privileges.ts';
import { parseExternalUri } from './storage-location.ts';
import { holderOfUserfiles } from './userfile-owner.ts';
import { askerOf } from '../use-case.ts';
import { notAvailable, textValue } from '../values.ts';

const HUNDREDTH_US = 10_000n;

/** Where a statement works, and whether it may write there. */
export interface OpenOptions {
  /** Writing needs to know which location is for which nodes; reading finds things wherever they are. */
  readonly isWriting?: boolean;
  readonly options?: readonly Option[];
}

/**
 * Opens the location of a statement, or its list of locations, for who may use them.
 * @throws InputError for unknown schemes, localities that do not fit, and what is malformed; `insufficient_privilege`
 */
export async function openCollection(
  core: Core,
  locations: readonly Value[],
  context: ExecuteContext,
  { isWriting = false, options = [] }: OpenOptions = {},
): Promise<CollectionLocation> {
  const writtenOut = (uri: string) => withUserfileOwner(uri, context.session.user);
  const uris = locations.map((value) => writtenOut(textValue(value, 'the URI of a collection')));
  const elsewhere = incrementalLocation(options);
  const incrementals = elsewhere === null ? null : writtenOut(elsewhere);
  for (const uri of [...uris, ...(incrementals === null ? [] : [incrementals])]) {
    const place = await core.resolvePlace(context.session.virtualClusterId, uri);
    await requireStorageAccess(core, { context, uri, place });
  }
  const places = isWriting ? placesToWrite(uris, core.options.locality) : placesToRead(uris);
  const record = encodeStorageRecord({ locations: uris, ...places, incrementals });
  return core.resolveCollection(context.session.virtualClusterId, record);
}

/** @throws InputError `parameter_invalid` */
function placesToWrite(
  uris: readonly string[],
  node: readonly LocalityTier[],
): { readonly home: number; readonly bulk: number } {
  const localities = uris.map(uriLocality);
  const [only] = localities;
  if (uris.length > 1) return placeForNode(localities, node);
  if (only === null || only === 'default') return { home: 0, bulk: 0 };
  throw new InputError('parameter_invalid', 'COCKROACH_LOCALITY of a single location must be "default"', {
    hint: 'leave it out, or give a list of locations of which one is the default',
  });
}

/** The default is first unless it is named. */
function placesToRead(uris: readonly string[]): { readonly home: number; readonly bulk: number } {
  const home = Math.max(0, uris.map(uriLocality).indexOf('default'));
  return { home, bulk: home };
}

/** @throws InputError `feature_not_supported` for a list */
function incrementalLocation(options: readonly Option[]): string | null {
  const value = options.find(({ name }) => name === 'incremental_location')?.value;
  if (value === undefined) return null;
  const [uri, ...others] = Array.isArray(value) ? (value as readonly Value[]) : [value as Value];
  if (uri === undefined || others.length > 0) {
    throw notAvailable('a list of incremental locations', 'give one location for the incremental backups');
  }
  return textValue(uri, 'incremental_location');
}

/**
 * Whoever may use an external connection need not be trusted with all of the node's files.
 * @throws InputError `insufficient_privilege`
 */
async function requireStorageAccess(
  core: Core,
  { context, uri, place }: { context: ExecuteContext; uri: string; place: Place },
): Promise<void> {
  const reference = parseExternalUri(uri);
  if (reference === undefined) return requireLocationAccess(core, context, place);
  if (!('service' in place) && place.userfileOwner === undefined)
    requireCapability(core, context.session, 'can_use_nodelocal_storage');
  await requireConnectionPrivilege(askerOf(core, context), { name: reference.name, privilege: 'USAGE' });
}

/**
 * What naming a location itself takes. Storage that is reached with credentials of the user's own needs nothing: they decide.
 * @throws InputError `insufficient_privilege`
 */
export async function requireLocationAccess(
  core: Core,
  context: ExecuteContext,
  location: Place,
): Promise<void> {
  if (!('service' in location)) {
    const { userfileOwner } = location;
    return userfileOwner === undefined
      ? requireNodelocal(core, context)
      : requireUserfile(core, context, userfileOwner);
  }
  if (!usesImplicitRights(location.service)) return;
  await requirePrivilege(askerOf(core, context), {
    anyOf: ['EXTERNALIOIMPLICITACCESS'],
    refusal: `only users with the admin role or the EXTERNALIOIMPLICITACCESS system privilege are allowed to access the specified ${location.service.kind} URI`,
  });
}

/** Everybody has files of their own, admins those of all. @throws InputError `insufficient_privilege` */
async function requireUserfile(core: Core, context: ExecuteContext, owner: string): Promise<void> {
  const asker = askerOf(core, context);
  if (owner !== context.session.user) {
    await requirePrivilege(asker, {
      refusal: `only user ${owner} and members of admin are allowed to access the userfile storage of ${owner}`,
      hint: 'userfile:///path is your own; an external connection can lend a folder',
    });
  }
  if ((await holderOfUserfiles(core, { owner, asker })) !== 'another') return;
  await requirePrivilege(asker, {
    refusal: `the userfile storage of ${owner} holds files of a former role of that name`,
    hint: `a member of admin can get them, and delete them: atoll userfile delete '${formatUserfileUri(owner, ['*'])}'`,
  });
}

/**
 * It would be lost with what it is to bring back.
 * @throws InputError `feature_not_supported` for a backup of a whole virtual cluster in userfile storage
 */
export function requireOutsideStore(collection: CollectionLocation): void {
  const places = 'places' in collection ? collection.places : [collection];
  if (places.every((place) => 'service' in place || place.userfileOwner === undefined)) return;
  throw notAvailable(
    'a backup of a whole virtual cluster into userfile storage, which is removed with the virtual cluster,',
    'back up databases or tables there, and the whole into storage outside: see nodelocal, S3, GCS, Azure',
  );
}

/**
 * `nodelocal` shows a virtual cluster the node's files: the operator must have granted the capability, and the user must be trusted.
 * @throws InputError `insufficient_privilege`
 */
async function requireNodelocal(core: Core, context: ExecuteContext): Promise<void> {
  requireCapability(core, context.session, 'can_use_nodelocal_storage');
  await requirePrivilege(askerOf(core, context), {
    anyOf: ['EXTERNALIOIMPLICITACCESS'],
    refusal:
      'only users with the admin role or the EXTERNALIOIMPLICITACCESS system privilege are allowed to access the specified nodelocal URI',
  });
}

/** What reading a collection takes: also without a cluster. */
export interface CollectionCore {
  readonly options: Pick<ControlOptions, 'collectionReader'> & {
    readonly cluster: Pick<ControlOptions['cluster'], 'key'>;
  };
}

/** The path of the full backup a statement means. @throws AppError `backup_not_found`, `parameter_invalid` */
export async function selectBackup(
  core: CollectionCore,
  options: { collection: CollectionLocation; selector: BackupSelector; signal: AbortSignal },
): Promise<string> {
  const { collection, selector, signal } = options;
  if (selector.kind === 'latest') return core.options.collectionReader.latest(collection, { signal });
  return normalizeFullFolder(textValue(selector.path, 'the path of a backup'));
}

/** @throws AppError `backup_not_found`, `data_corrupt`, `backup_untrusted`, `format_unsupported` */
export async function readSummary(
  core: CollectionCore,
  options: { collection: CollectionLocation; subdirectory: string; signal: AbortSignal },
): Promise<BackupSummary> {
  return core.options.collectionReader.summary({ ...options, key: core.options.cluster.key });
}

/** How many missing files the error names. */
const MISSING_NAMED_MAX = 10;

/** @throws CorruptError naming the first files that the backups of a chain lack */
export async function requireComplete(
  core: CollectionCore,
  { collection, full, signal }: { collection: CollectionLocation; full: string; signal: AbortSignal },
): Promise<void> {
  const { collectionReader, cluster } = core.options;
  const missing = new Set<string>();
  for (const subdirectory of await collectionReader.chain({ collection, subdirectory: full, signal })) {
    const options = { collection, subdirectory, key: cluster.key, signal };
    for (const path of await collectionReader.missingFiles(options)) missing.add(path);
  }
  if (missing.size === 0) return;
  const named = [...missing].slice(0, MISSING_NAMED_MAX).map((path) => `\t${path}`);
  const more = missing.size > named.length ? [`\tand ${missing.size - named.length} more`] : [];
  throw new CorruptError(['The following files are missing from the backup:', ...named, ...more].join('\n'));
}

/** Chooses the paths of new backups: each once, also when several begin in the same moment or the clock steps back. */
export class BackupPaths {
  /** From choosing a place to recording the job: two statements at once must not build on the same backup. */
  readonly choosing = new Mutex();
  #last = 0n;

  next(options: { now: Timestamp; taken: readonly string[] }): string {
    const used = new Set(options.taken.map((path) => path.replace(/^\//, '')));
    let unit = this.#nextUnit(options.now);
    while (used.has(pathAt(unit))) unit += 1n;
    this.#last = unit;
    return pathAt(unit);
  }

  /** A time that no other backup is named after. */
  nextTime(options: { now: Timestamp }): Timestamp {
    this.#last = this.#nextUnit(options.now);
    return (this.#last * HUNDREDTH_US) as Timestamp;
  }

  #nextUnit(now: Timestamp): bigint {
    const unit = now / HUNDREDTH_US;
    return unit <= this.#last ? this.#last + 1n : unit;
  }
}

function pathAt(unit: bigint): string {
  return formatBackupSubdirectory((unit * HUNDREDTH_US) as Timestamp);
}

/** Refuses options beyond those named. @throws InputError `feature_not_supported` */
export function requireKnownOptions(
  options: readonly Option[],
  expected: { statement: string; known: readonly string[] },
): void {
  const other = options.find((option) => !expected.known.includes(option.name));
  if (other === undefined) return;
  throw notAvailable(
    `option "${other.name}" of ${expected.statement}`,
    expected.known.length === 0
      ? 'leave it out'
      : `available ${expected.known.length === 1 ? 'is' : 'are'} ${expected.known.join(', ')}`,
  );
}
