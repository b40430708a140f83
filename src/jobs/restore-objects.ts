/**
 * RESTORE of databases or tables into a virtual cluster that serves. Tables are made in one transaction; databases under names that nobody asks
 * for, and get theirs all at once when they are complete. A role of the copy's own makes them and says, in the transaction that makes them,
 * that it did: so a later attempt knows how far an earlier one came.
 */
import { InputError, type Rng, required, type VirtualClusterId } from '../base/index.ts';
import { type JsonObject, writeDatabaseRegions } from '../catalog/index.ts';
import type { Instance, InternalClient } from '../instance/index.ts';
import {
  createDatabaseSql,
  type CopyDatabase,
  regionsOf,
  SKIP_NOTHING,
  type SkipMissing,
} from '../logical-copy/index.ts';
import type {
  ClusterKey,
  CollectionLocation,
  CopyOrigin,
  LogicalWorker,
  RestoreObjectsResult,
} from '../timeline/index.ts';
import { type BackupTotals, readTotals, recordTotals } from './backup-totals.ts';
import { recordedRole, recordRole } from './copy-role.ts';
import type { JobContext } from './job-type.ts';
import { textField } from './payload.ts';
import {
  readRegionTerms,
  type RegionTerms,
  regionTermsPayload,
  requireRegions,
  restoredRegions,
} from './restored-regions.ts';

export interface CopiedPattern {
  readonly schema: string | null;
  readonly name: string | null;
}

export interface RestoredDatabase {
  readonly from: string;
  readonly to: string;
  /** What it was made with; as the template is when null. */
  readonly like: CopyDatabase | null;
}

/** What is restored, by the names in the backup, and where to. */
export type RestoredObjects =
  | { readonly kind: 'databases'; readonly databases: readonly RestoredDatabase[] }
  | {
      readonly kind: 'tables';
      readonly from: string;
      readonly into: string;
      readonly patterns: readonly CopiedPattern[];
    };

export interface RestoreObjectsPayload {
  readonly collectionUri: string;
  readonly subdirectory: string;
  readonly objects: RestoredObjects;
  readonly schemaOnly: boolean;
  readonly verifyTableData: boolean;
  readonly skip: SkipMissing;
  readonly regions: RegionTerms;
}

export interface RestoreObjectsDependencies {
  readonly worker: LogicalWorker;
  readonly rng: Rng;
  readonly key: ClusterKey;
  readonly resolveCollection: (
    virtualClusterId: VirtualClusterId,
    uri: string,
  ) => Promise<CollectionLocation>;
  /** @throws AppError `cannot_connect_now` when the virtual cluster does not run */
  readonly instanceOf: (virtualClusterId: VirtualClusterId) => Instance;
}

/** Gives where a database of the backup is to be copied from. */
export type OriginOf = (database: string) => CopyOrigin;

/** What is copied from is there while `use` runs. Asked only when there is something to copy. */
export interface Origins {
  withOrigins<T>(use: (originOf: OriginOf) => Promise<T>): Promise<T>;
}

export function restoreObjectsPayload(payload: RestoreObjectsPayload): JsonObject {
  const { regions, ...rest } = payload;
  return {
    ...rest,
    ...regionTermsPayload(regions),
    objects: JSON.stringify(payload.objects),
    skip: { ...payload.skip },
  };
}

export function isObjectsRestore({ payload }: { readonly payload: JsonObject }): boolean {
  return typeof payload['objects'] === 'string';
}

/** Out of a backup of databases or tables. */
export async function restoreObjects(
  context: JobContext,
  dependencies: RestoreObjectsDependencies,
): Promise<JsonObject> {
  const { job, domain } = context;
  const { key, resolveCollection } = dependencies;
  const collection = await resolveCollection(
    domain.virtualClusterId,
    textField(job.payload, 'collectionUri'),
  );
  const subdirectory = textField(job.payload, 'subdirectory');
  const originOf: OriginOf = (database) => ({ kind: 'backup', collection, subdirectory, key, database });
  return restoreObjectsFrom(context, dependencies, { withOrigins: (use) => use(originOf) });
}

/** What a job restores, as it was recorded. */
export function readObjects(payload: JsonObject): RestoredObjects {
  return JSON.parse(textField(payload, 'objects')) as RestoredObjects; // What `restoreObjectsPayload` wrote.
}

/** The same from wherever the origins are. */
export async function restoreObjectsFrom(
  context: JobContext,
  dependencies: RestoreObjectsDependencies,
  origins: Origins,
): Promise<JsonObject> {
  const payload = readPayload(context.job.payload);
  if (context.job.progress['restored'] === true) return {};
  const parts = { payload, origins, instance: dependencies.instanceOf(context.domain.virtualClusterId) };
  return payload.objects.kind === 'tables'
    ? restoreTables(context, dependencies, { ...parts, objects: payload.objects })
    : restoreDatabases(context, dependencies, { ...parts, objects: payload.objects });
}

/** Takes away what a restore has left that did not come to its end. */
export async function abandonObjects(
  context: JobContext,
  dependencies: RestoreObjectsDependencies,
): Promise<void> {
  const { job, domain, signal } = context;
  const instance = dependencies.instanceOf(domain.virtualClusterId);
  const { objects } = readPayload(job.payload);
  if (objects.kind === 'databases') {
    await dropHidden(instance, { names: hiddenNames(context, objects), signal });
  }
  await removeRole(context, instance);
}

interface Parts<Objects> {
  readonly payload: RestoreObjectsPayload;
  readonly objects: Objects;
  readonly origins: Origins;
  readonly instance: Instance;
}

async function restoreTables(
  context: JobContext,
  dependencies: RestoreObjectsDependencies,
  { payload, objects, origins, instance }: Parts<Extract<RestoredObjects, { kind: 'tables' }>>,
): Promise<JsonObject> {
  const { signal } = context;
  const { user } = context.job;
  const earlier = recordedRole(context.job);
  const mark = earlier === null ? null : await instance.copyRoles.mark({ role: earlier, signal });
  if (earlier !== null && mark?.isDone === true)
    return finish(context, { totals: mark, instance, role: earlier });
  if (earlier !== null) await instance.copyRoles.remove({ role: earlier, signal });
  return origins.withOrigins(async (originOf) => {
    const role = await recordRole(context, dependencies.rng);
    await instance.copyRoles.makeMaker({ role, onBehalfOf: user, database: objects.into, signal });
    const totals = await make(context, dependencies, {
      payload,
      origin: originOf(objects.from),
      patterns: objects.patterns,
      target: { instance, database: objects.into, role, owner: user },
      share: { from: 0, to: 1 },
    });
    return finish(context, { totals, instance, role });
  });
}

type Made = Omit<BackupTotals, 'uncounted'>;

/** What was made stays, whatever comes now: that is recorded before the role is gone that says it. */
async function finish(
  context: JobContext,
  { totals, instance, role }: { totals: Made; instance: Instance; role: string },
): Promise<JsonObject> {
  const recorded = recordTotals({ ...totals, uncounted: [] });
  await context.save({ ...recorded, restored: true });
  await instance.copyRoles.remove({ role, signal: context.signal });
  return recorded;
}

async function restoreDatabases(
  context: JobContext,
  dependencies: RestoreObjectsDependencies,
  parts: Parts<Extract<RestoredObjects, { kind: 'databases' }>>,
): Promise<JsonObject> {
  const { objects, instance } = parts;
  const { signal } = context;
  const names = hiddenNames(context, objects);
  const made = readMade(context.job.progress);
  const present = await presentDatabases(instance, {
    names: names.flatMap(({ hidden, to }) => [hidden, to]),
    signal,
  });
  const isMade = ({ hidden }: Hidden) => made.has(hidden) && present.has(hidden);
  // Those that were complete and are there under their names: an earlier attempt had come to its end.
  const isRevealed = names.every(
    ({ hidden, to }) => made.has(hidden) && !present.has(hidden) && present.has(to),
  );
  if (!isRevealed) {
    await dropHidden(instance, { names: names.filter((name) => !isMade(name)), signal });
    await removeRole(context, instance);
    requireFree(present, names);
    for (const { like } of names) requireRegions(regionsOf(like?.settings ?? []), parts.payload.regions);
    if (!names.every(isMade)) {
      await parts.origins.withOrigins(async (originOf) => {
        for (const [index, name] of names.entries()) {
          if (isMade(name)) continue;
          const share = { from: index / names.length, to: (index + 1) / names.length };
          made.set(name.hidden, await makeHidden(context, dependencies, { ...parts, originOf, name, share }));
          await context.save(recordMade(made));
        }
      });
    }
    await instance.withSystemClient((client) => reveal(client, { names, regions: parts.payload.regions }), {
      signal,
    });
  }
  const sum = (count: (one: Made) => bigint) => made.values().reduce((total, one) => total + count(one), 0n);
  const recorded = recordTotals({
    rows: sum(({ rows }) => rows),
    indexEntries: sum(({ indexEntries }) => indexEntries),
    bytes: sum(({ bytes }) => bytes),
    uncounted: [],
  });
  await context.save({ ...recorded, restored: true });
  return recorded;
}

/** Complete databases, by the names that nobody asks for, and how much was made in each. */
function recordMade(made: ReadonlyMap<string, Made>): JsonObject {
  const entries = Array.from(made, ([hidden, totals]) => [
    hidden,
    recordTotals({ ...totals, uncounted: [] }),
  ]);
  return { made: Object.fromEntries(entries) as JsonObject };
}

function readMade({ made }: JsonObject): Map<string, Made> {
  if (typeof made !== 'object' || made === null || Array.isArray(made)) return new Map();
  return new Map(Object.entries(made).map(([hidden, totals]) => [hidden, readTotals(totals as JsonObject)]));
}

async function dropHidden(
  instance: Instance,
  { names, signal }: { names: readonly Hidden[]; signal: AbortSignal },
): Promise<void> {
  await instance.withSystemClient(
    async (client) => {
      for (const { hidden } of names) {
        await client.query(`DROP DATABASE IF EXISTS ${quoted(hidden)} WITH (FORCE)`);
      }
    },
    { signal },
  );
}

/** A whole database, of which only its maker and its owner know yet. */
async function makeHidden(
  context: JobContext,
  dependencies: RestoreObjectsDependencies,
  options: Parts<unknown> & {
    readonly originOf: OriginOf;
    readonly name: Hidden;
    readonly share: MakeOptions['share'];
  },
): Promise<Made> {
  const { instance, payload, originOf, name, share } = options;
  const { signal } = context;
  const { user } = context.job;
  const database = name.hidden;
  const system = (sql: string) => instance.withSystemClient((client) => client.query(sql), { signal });
  const role = await recordRole(context, dependencies.rng);
  await system(createDatabaseSql(database, name.like));
  await system(`REVOKE ALL ON DATABASE ${quoted(database)} FROM PUBLIC`);
  await instance.copyRoles.makeMaker({ role, onBehalfOf: user, database, signal });
  await system(`ALTER DATABASE ${quoted(database)} OWNER TO ${quoted(role)}`);
  const target = { instance, database, role, owner: null };
  const made = await make(context, dependencies, {
    payload,
    origin: originOf(name.from),
    patterns: null,
    target,
    share,
  });
  await instance.copyRoles.giveAll({ role, database, owner: user, signal });
  await instance.copyRoles.remove({ role, signal });
  return made;
}

/** From now on they are there, all at once. */
async function reveal(
  client: InternalClient,
  { names, regions }: { readonly names: readonly Hidden[]; readonly regions: RegionTerms },
): Promise<void> {
  await client.query('BEGIN');
  for (const { hidden, to, like } of names) {
    await writeDatabaseRegions(client, {
      database: hidden,
      regions: restoredRegions(regionsOf(like?.settings ?? []), regions),
    });
    await client.query(`ALTER DATABASE ${quoted(hidden)} RENAME TO ${quoted(to)}`);
    await client.query(`GRANT CONNECT, TEMPORARY ON DATABASE ${quoted(to)} TO PUBLIC`);
  }
  await client.query('COMMIT');
}

interface Hidden extends RestoredDatabase {
  readonly hidden: string;
}

function hiddenNames(
  { job }: JobContext,
  { databases }: Extract<RestoredObjects, { kind: 'databases' }>,
): readonly Hidden[] {
  return databases.map((names, index) => ({ ...names, hidden: `atoll_restore_${job.id}_${index}` }));
}

/** Which of these there are. */
async function presentDatabases(
  instance: Instance,
  { names, signal }: { names: readonly string[]; signal: AbortSignal },
): Promise<ReadonlySet<string>> {
  const rows = await instance.withSystemClient(
    (client) =>
      client.query('SELECT datname FROM pg_catalog.pg_database WHERE datname = ANY ($1::text[])', [
        `{${names.map((name) => `"${name.replaceAll(/(["\\])/g, '\\$1')}"`).join(',')}}`,
      ]),
    { signal },
  );
  return new Set(rows.map(({ datname }) => required(datname, 'name of a database')));
}

/** @throws InputError `object_exists` */
function requireFree(present: ReadonlySet<string>, names: readonly Hidden[]): void {
  const taken = names.find(({ to }) => present.has(to));
  if (taken === undefined) return;
  throw new InputError('object_exists', `database "${taken.to}" already exists`, {
    hint: 'drop or rename it, or restore under another name: WITH new_db_name = ...',
  });
}

interface MakeOptions {
  readonly payload: RestoreObjectsPayload;
  readonly origin: CopyOrigin;
  readonly patterns: readonly CopiedPattern[] | null;
  readonly target: {
    readonly instance: Instance;
    readonly database: string;
    readonly role: string;
    readonly owner: string | null;
  };
  /** Of the progress of the job. */
  readonly share: { readonly from: number; readonly to: number };
}

async function make(
  context: JobContext,
  { worker }: RestoreObjectsDependencies,
  { payload, origin, patterns, target, share }: MakeOptions,
): Promise<Made> {
  const { instance, ...rest } = target;
  const result: RestoreObjectsResult = await worker.restoreObjects(
    {
      origin,
      patterns,
      target: {
        ...rest,
        virtualClusterName: context.domain.virtualClusterName,
        socketDirectory: instance.socketDirectory,
      },
      schemaOnly: payload.schemaOnly,
      verifyTableData: payload.verifyTableData,
      skip: payload.skip,
    },
    {
      onProgress: ({ fraction, phase }) =>
        context.report({ fraction: share.from + (share.to - share.from) * fraction, runningStatus: phase }),
      signal: context.signal,
    },
  );
  for (const what of result.skipped) {
    context.logger.info(`RESTORE job ${context.job.id} left out ${what}`);
  }
  return { rows: result.rows, indexEntries: result.indexEntries, bytes: result.bytes };
}

async function removeRole(context: JobContext, instance: Instance): Promise<void> {
  const role = recordedRole(context.job);
  if (role !== null) await instance.copyRoles.remove({ role, signal: context.signal });
}

function readPayload(payload: JsonObject): RestoreObjectsPayload {
  const skip = payload['skip'];
  return {
    collectionUri: textField(payload, 'collectionUri'),
    subdirectory: textField(payload, 'subdirectory'),
    objects: readObjects(payload),
    schemaOnly: payload['schemaOnly'] === true,
    verifyTableData: payload['verifyTableData'] === true,
    skip: {
      ...SKIP_NOTHING,
      ...(typeof skip === 'object' && skip !== null ? (skip as Partial<SkipMissing>) : {}),
    },
    regions: readRegionTerms(payload),
  };
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
