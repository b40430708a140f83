/** BACKUP of databases or tables: a logical one, of the present, or of a moment from a copy that is recovered for it. */
import type { Rng, VirtualClusterId } from '../base/index.ts';
import type { JsonObject } from '../catalog/index.ts';
import type { Instance } from '../instance/index.ts';
import type {
  BackupSummary,
  ClusterKey,
  LogicalBackupRequest,
  LogicalSelection,
  LogicalWorker,
} from '../timeline/index.ts';
import { recordedRole, recordRole } from './copy-role.ts';
import type { JobContext } from './job-type.ts';
import { listObjects } from './part/list-objects.ts';
import { withPartOfTimeline } from './part/part-of-timeline.ts';
import { guessPart, type PartTarget } from './part/part-target.ts';
import { publishBackup, type PublishDependencies, type PublishJob, withMoment } from './publish-backup.ts';

export interface ObjectsDependencies {
  readonly worker: LogicalWorker;
  readonly rng: Rng;
  readonly instanceOf: (virtualClusterId: VirtualClusterId) => Instance;
}

/** What is backed up; null for the whole virtual cluster. */
export function selectionOf({ payload }: { readonly payload: JsonObject }): LogicalSelection | null {
  const text = payload['selection'];
  return typeof text === 'string' ? (JSON.parse(text) as LogicalSelection) : null; // What `backupPayload` wrote.
}

/** With a role that may read what is selected, and is gone afterwards. */
export async function backupObjects(
  context: JobContext,
  dependencies: ObjectsDependencies,
  request: Omit<LogicalBackupRequest, 'role'>,
): Promise<BackupSummary> {
  const { signal, domain } = context;
  const instance = dependencies.instanceOf(domain.virtualClusterId);
  await dropReader(context, instance);
  const role = await recordRole(context, dependencies.rng);
  const { selection } = request;
  const databases = selection.kind === 'databases' ? selection.names : [selection.database];
  try {
    await instance.copyRoles.makeReader({ role, databases, signal });
    return await dependencies.worker.backupObjects(
      { ...request, role },
      {
        onProgress: ({ fraction, phase }) => context.report({ fraction, runningStatus: phase }),
        signal,
      },
    );
  } finally {
    // When this attempt is broken off the next one, or the end of the job, does it.
    if (!signal.aborted) await instance.copyRoles.remove({ role, signal });
  }
}

/** Share of the work until the copy serves, in what is shown as progress. */
const SERVED_FRACTION = 0.4;

/** As of the job's moment: no file and no session of the virtual cluster that serves is asked for anything but what its log says changed. */
export async function backupObjectsOfMoment(
  context: JobContext,
  dependencies: ObjectsDependencies & { readonly publish: PublishDependencies; readonly key: ClusterKey },
  request: Omit<LogicalBackupRequest, 'role' | 'moment' | 'timeline'>,
): Promise<BackupSummary> {
  const { domain, signal } = context;
  const { publish, key } = dependencies;
  const { virtualClusterId } = domain;
  return withMoment(context, publish, ({ store, point, incarnations }) =>
    withPartOfTimeline(
      {
        ...publish,
        key,
        virtualClusterId,
        store,
        incarnations,
        point,
        target: targetOf(request.selection),
        context,
        fraction: SERVED_FRACTION,
      },
      ({ socketDirectory, reader: role }, quietLsn) =>
        dependencies.worker.backupObjects(
          {
            ...request,
            role,
            timeline: { store, incarnations },
            moment: { point, socketDirectory, quietLsn },
          },
          {
            onProgress: ({ fraction, phase }) =>
              context.report({
                fraction: SERVED_FRACTION + (1 - SERVED_FRACTION) * fraction,
                runningStatus: phase,
              }),
            signal,
          },
        ),
    ),
  );
}

/**
 * With revision history: the files that the selection needs, and the log of everybody, for what it says of some cannot be told from what it
 * says of others. Which files these are is found out in a copy: what it was proved with, the backup can be restored from.
 */
export async function publishObjects(
  context: JobContext,
  dependencies: { readonly publish: PublishDependencies; readonly key: ClusterKey },
  { selection, ...what }: PublishJob & { readonly selection: LogicalSelection },
): Promise<BackupSummary> {
  const { publish, key } = dependencies;
  const { virtualClusterId } = context.domain;
  const { onProgress } = what;
  const target = targetOf(selection);
  const { summary } = await publishBackup(context, publish, {
    ...what,
    partOf: (moment) =>
      withPartOfTimeline(
        { ...publish, ...moment, key, virtualClusterId, target, context, fraction: SERVED_FRACTION },
        async (part) => ({
          selection,
          files: { databases: guessPart(target), added: part.files },
          objects: await listObjects(part, target),
        }),
      ),
    onProgress: ({ fraction, phase }) =>
      onProgress({ fraction: SERVED_FRACTION + (1 - SERVED_FRACTION) * fraction, phase }),
  });
  return summary;
}

function targetOf(selection: LogicalSelection): PartTarget {
  if (selection.kind === 'databases') return selection;
  return { kind: 'tables', database: selection.database, relations: selection.patterns };
}

/** Of an earlier attempt. Harmless when there is none. */
export async function dropReader(context: JobContext, instance: Instance): Promise<void> {
  const role = recordedRole(context.job);
  if (role !== null) await instance.copyRoles.remove({ role, signal: context.signal });
}
