/** What a logical backup is of: the present of what runs, each database at a snapshot of its own; or a moment, of which a copy was recovered. */
import { type Lsn, parseLsn, required, type Timestamp } from '../../base/index.ts';
import { type CopySelection, CopySource, type CopyTable } from '../../logical-copy/index.ts';
import { BackupSession } from '../capture/backup-session.ts';
import type { CaptureTools } from '../capture/capture.ts';
import type { ManifestHeader } from '../format/manifest.ts';
import type { LogicalBackupRequest, LogicalSelection, RecoveredMoment } from './contract.ts';

/** Of the life of the data, and when in it. */
export type MomentFacts = Pick<
  ManifestHeader,
  | 'incarnation'
  | 'parentIncarnation'
  | 'systemIdentifier'
  | 'engine'
  | 'timelineId'
  | 'startLsn'
  | 'targetLsn'
  | 'endTime'
>;

export interface OpenedMoment {
  /** One for each database. */
  readonly sources: readonly CopySource[];
  readonly facts: MomentFacts;
  /** Whether the log from `startLsn` on tells all that becomes of what the table holds. */
  readonly isSettled: (table: CopyTable, source: CopySource) => boolean;
}

interface Opening {
  readonly tools: CaptureTools;
  /** Takes the sources. */
  readonly held: AsyncDisposableStack;
}

/** @throws InputError `database_not_found`; AppError `object_state` when an instance is not the one that is meant */
export async function openMoment(request: LogicalBackupRequest, opening: Opening): Promise<OpenedMoment> {
  return request.moment === undefined
    ? openPresent(request, opening)
    : openRecovered(request, { ...opening, moment: request.moment });
}

async function openPresent(request: LogicalBackupRequest, { tools, held }: Opening): Promise<OpenedMoment> {
  const { source } = request;
  await using session = await BackupSession.open(source, tools);
  const sources = await openSources(request, { ...source, tools, held });
  // Every snapshot is taken; what the log says up to here is more than they see.
  const { engine, timelineId } = await session.present(source);
  const { targetLsn } = await session.target(tools);
  const lsns = sources.map(({ lsnBefore }) => parseLsn(lsnBefore));
  return {
    sources,
    facts: {
      incarnation: source.incarnation,
      parentIncarnation: source.parentIncarnation ?? null,
      systemIdentifier: source.systemIdentifier,
      engine,
      timelineId,
      startLsn: lsns.reduce((least, lsn) => (lsn < least ? lsn : least)),
      targetLsn,
      endTime: sources.reduce<Timestamp>(
        (last, { takenAt }) => (takenAt > last ? takenAt : last),
        0n as Timestamp,
      ),
    },
    isSettled: ({ oid }, { written }) => !written.has(oid),
  };
}

/** Positions are those of the life that was recovered: what the copy itself has logged since is of no history. */
async function openRecovered(
  request: LogicalBackupRequest,
  { tools, held, moment }: Opening & { moment: RecoveredMoment },
): Promise<OpenedMoment> {
  const { source, timeline } = request;
  const { point, socketDirectory, quietLsn } = moment;
  const life = required(
    timeline?.incarnations.find(({ incarnation }) => incarnation === point.incarnation),
    `record of incarnation ${point.incarnation}`,
  );
  const { systemIdentifier, engineMajor } = life;
  const copy = { ...source, socketDirectory, systemIdentifier, engineMajor };
  await using session = await BackupSession.open(copy, tools);
  const { engine } = await session.present(copy);
  return {
    sources: await openSources(request, { socketDirectory, tools, held }),
    facts: {
      incarnation: point.incarnation,
      parentIncarnation: life.parentIncarnation,
      systemIdentifier,
      engine,
      timelineId: point.timelineId,
      startLsn: earlier(quietLsn, point.lsn),
      targetLsn: point.lsn,
      endTime: point.time,
    },
    isSettled: () => quietLsn !== null,
  };
}

function earlier(left: Lsn | null, right: Lsn): Lsn {
  return left !== null && left < right ? left : right;
}

async function openSources(
  { selection, role }: LogicalBackupRequest,
  { socketDirectory, tools, held }: Opening & { socketDirectory: string },
): Promise<readonly CopySource[]> {
  const lock = copySelectionOf(selection);
  const sources: CopySource[] = [];
  for (const database of databasesOf(selection)) {
    sources.push(held.use(await CopySource.open({ socketDirectory, database, role }, { ...tools, lock })));
  }
  return sources;
}

function databasesOf(selection: LogicalSelection): readonly string[] {
  return selection.kind === 'databases' ? selection.names : [selection.database];
}

export function copySelectionOf(selection: LogicalSelection): CopySelection {
  if (selection.kind === 'databases') return { kind: 'database' };
  const patterns = selection.patterns.map(({ schema, name }) => ({
    schema: schema ?? undefined,
    name: name ?? undefined,
  }));
  return { kind: 'tables', patterns };
}
