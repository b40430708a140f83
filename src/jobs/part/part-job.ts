/**
 * RESTORE of databases, tables or users out of a backup of a whole virtual cluster, into the one that serves. Its record is the virtual
 * cluster's own. An attempt that follows another recovers a copy anew, unless the other had made everything.
 */
import { AppError, type Timestamp, type VirtualClusterId } from '../../base/index.ts';
import { type JobRecord, type JsonObject, readDatabaseRegions } from '../../catalog/index.ts';
import type { Instance, InstanceHost, InternalClient } from '../../instance/index.ts';
import type { BulkWorker, ClusterKey, CollectionLocation } from '../../timeline/index.ts';
import { recordTotals } from '../backup-totals.ts';
import type { JobContext } from '../job-type.ts';
import { optionalTextField, textField } from '../payload.ts';
import {
  readObjects,
  type RestoredDatabase,
  type RestoredObjects,
  type RestoreObjectsDependencies,
  restoreObjectsFrom,
} from '../restore-objects.ts';
import type { PartTarget } from './part-target.ts';
import { type PartOfBackupOptions, withPartOfBackup } from './part-of-backup.ts';
import { readDefinition } from './read-copy.ts';
import {
  isRestorableSystemTable,
  type RestorableSystemTable,
  restoreSystemTables,
} from './restore-system-tables.ts';
import { readRegionTerms, requireTableRegions } from '../restored-regions.ts';
import { restoreUsers } from './restore-users.ts';
import type { ServedPart } from './with-part.ts';

/** Which backup of a whole virtual cluster a part is taken from. */
export interface ImagePayload {
  readonly collectionUri: string;
  readonly subdirectory: string;
  /** A moment of the backup's revision history; null for its end. */
  readonly asOf: Timestamp | null;
}

export interface PartJobDependencies {
  readonly bulkWorker: Pick<BulkWorker, 'materialize'>;
  readonly instanceHost: Pick<InstanceHost, 'get' | 'withServingCopy'>;
  readonly key: ClusterKey;
  readonly resolveCollection: (
    virtualClusterId: VirtualClusterId,
    uri: string,
  ) => Promise<CollectionLocation>;
}

/** Shares of the work in what is shown as progress. */
const FRACTION = { served: 0.4 } as const;
const IMAGE = 'image';
const USERS = 'system_users';
const SYSTEM_TABLES = 'system_tables';

/** What an objects' restore records besides, when it is out of an image. */
export function imagePayload({ asOf, ...payload }: ImagePayload): JsonObject {
  return { ...payload, asOf: asOf === null ? null : String(asOf), form: IMAGE };
}

export function usersPayload(payload: ImagePayload): JsonObject {
  return { ...imagePayload(payload), form: USERS };
}

export function systemTablesPayload(
  payload: ImagePayload & { readonly tables: readonly RestorableSystemTable[]; readonly into: string },
): JsonObject {
  const { tables, into, ...image } = payload;
  return { ...imagePayload(image), form: SYSTEM_TABLES, tables, into };
}

export function isSystemTablesRestore({ payload }: Pick<JobRecord, 'payload'>): boolean {
  return payload['form'] === SYSTEM_TABLES;
}

export function isImageRestore({ payload }: Pick<JobRecord, 'payload'>): boolean {
  return payload['form'] === IMAGE;
}

export function isUsersRestore({ payload }: Pick<JobRecord, 'payload'>): boolean {
  return payload['form'] === USERS;
}

/** Databases or tables. What the job has left that did not come to its end, `abandonObjects` takes away. */
export async function restoreObjectsOfImage(
  context: JobContext,
  dependencies: PartJobDependencies & { readonly objects: RestoreObjectsDependencies },
): Promise<JsonObject> {
  const { payload, progress } = context.job;
  if (progress['restored'] === true) return {};
  const objects = readObjects(payload);
  const target = targetOf(objects);
  if (objects.kind === 'tables') {
    return restoreObjectsFrom(afterServing(context, payload), dependencies.objects, {
      withOrigins: (use) =>
        withPart(context, dependencies, {
          target,
          async use(part) {
            await requireRegionsOf(context, dependencies, { ...objects, system: part.system });
            return use((database) => originOf(part, database));
          },
        }),
    });
  }
  return withPart(context, dependencies, {
    target,
    async use(part) {
      const alike = await withDefinitions(objects.databases, part.system);
      const later = afterServing(context, { ...payload, objects: JSON.stringify(alike) });
      return restoreObjectsFrom(later, dependencies.objects, {
        withOrigins: (use) => use((database) => originOf(part, database)),
      });
    },
  });
}

/** What regions the tables come from is known when the copy serves. @throws InputError `object_state` */
async function requireRegionsOf(
  { job, domain, signal }: JobContext,
  { instanceHost }: PartJobDependencies,
  { from, into, system }: { from: string; into: string; system: InternalClient },
): Promise<void> {
  const target = requireInstance(instanceHost, domain.virtualClusterId);
  const there = await readDatabaseRegions(system);
  const here = await target.withSystemClient(readDatabaseRegions, { signal });
  requireTableRegions(
    {
      from: { name: from, regions: there.get(from) ?? [] },
      into: { name: into, regions: here.get(into) ?? [] },
    },
    readRegionTerms(job.payload),
  );
}

/** The same job, with what is known of its databases by now, in the rest of its progress. */
function afterServing(context: JobContext, payload: JsonObject): JobContext {
  const { served } = FRACTION;
  return {
    ...context,
    job: { ...context.job, payload },
    report: ({ fraction, runningStatus }) =>
      context.report({ fraction: served + (1 - served) * fraction, runningStatus }),
  };
}

/** How databases are to be made is known when the copy serves. */
async function withDefinitions(
  names: readonly RestoredDatabase[],
  system: InternalClient,
): Promise<RestoredObjects> {
  const databases: RestoredDatabase[] = [];
  for (const database of names) {
    databases.push({ ...database, like: await readDefinition(system, database.from) });
  }
  return { kind: 'databases', databases };
}

/** Users, with their memberships. */
export async function restoreUsersOfImage(
  context: JobContext,
  dependencies: PartJobDependencies,
): Promise<JsonObject> {
  const { job, domain, logger, signal } = context;
  const instance = requireInstance(dependencies.instanceHost, domain.virtualClusterId);
  const added = await withPart(context, dependencies, {
    target: { kind: 'databases', names: [] },
    use: ({ system }) => instance.withSystemClient((client) => restoreUsers(system, client), { signal }),
  });
  logger.info(`RESTORE job ${job.id} has added ${added.length} roles: ${added.join(', ')}`);
  return recordTotals({ rows: BigInt(added.length), indexEntries: 0n, bytes: 0n, uncounted: [] });
}

/** Tables of ours, as plain tables, made as who asked. */
export async function restoreSystemTablesOfImage(
  context: JobContext,
  dependencies: PartJobDependencies,
): Promise<JsonObject> {
  const { job, domain, signal } = context;
  const instance = requireInstance(dependencies.instanceHost, domain.virtualClusterId);
  const names: unknown = job.payload['tables'];
  const tables = (Array.isArray(names) ? names.map(String) : []).filter(isRestorableSystemTable);
  const into = { database: textField(job.payload, 'into'), role: job.user, signal };
  const rows = await withPart(context, dependencies, {
    target: { kind: 'databases', names: [] },
    use: ({ system: from }) =>
      instance.withRoleClient(into, (to) =>
        restoreSystemTables(tables, { from, to, mark: `restored by job ${job.id}` }),
      ),
  });
  return recordTotals({ rows: BigInt(rows), indexEntries: 0n, bytes: 0n, uncounted: [] });
}

async function withPart<T>(
  context: JobContext,
  dependencies: PartJobDependencies,
  { target, use }: { target: PartTarget; use: (part: ServedPart) => Promise<T> },
): Promise<T> {
  const { job, domain } = context;
  const { virtualClusterId } = domain;
  const asOf = optionalTextField(job.payload, 'asOf');
  const options: PartOfBackupOptions = {
    ...dependencies,
    virtualClusterId,
    collection: await dependencies.resolveCollection(
      virtualClusterId,
      textField(job.payload, 'collectionUri'),
    ),
    subdirectory: textField(job.payload, 'subdirectory'),
    asOf: asOf === null ? null : (BigInt(asOf) as Timestamp),
    target,
    context,
    fraction: FRACTION.served,
  };
  return withPartOfBackup(options, use);
}

function targetOf(objects: RestoredObjects): PartTarget {
  if (objects.kind === 'databases') {
    return { kind: 'databases', names: objects.databases.map(({ from }) => from) };
  }
  return { kind: 'tables', database: objects.from, relations: objects.patterns };
}

function originOf({ socketDirectory, reader: role }: ServedPart, database: string) {
  return { kind: 'instance', socketDirectory, database, role } as const;
}

function requireInstance(instanceHost: Pick<InstanceHost, 'get'>, id: VirtualClusterId): Instance {
  const instance = instanceHost.get(id);
  if (instance === undefined) throw new AppError('object_not_found', `virtual cluster ${id} is gone`);
  return instance;
}
