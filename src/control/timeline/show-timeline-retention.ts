/** SHOW TIMELINE RETENTION FOR VIRTUAL CLUSTER x: what would be removed of its timeline now, what stays, and why. Nothing is touched. */
import { formatTimestamp } from '../../base/index.ts';
import type { Statement } from '../../sql/index.ts';
import { type RetentionPlan, createTimelineRetention } from '../../timeline/index.ts';
import type { Cell } from '../contract.ts';
import { requireTimeline, storeOfTimeline, windowUs } from './timeline-point.ts';
import { type UseCase, columnsOf, rowsResult } from '../use-case.ts';
import { damagedBases } from './verify-timelines.ts';
import { lookupVirtualCluster, requireManager } from '../virtual-clusters/virtual-cluster-lookup.ts';

type ShowTimelineRetention = Extract<Statement, { kind: 'show_timeline_retention' }>;

const COLUMNS = columnsOf({
  action: 'text',
  kind: 'text',
  name: 'text',
  incarnation: 'text',
  bytes: 'int8',
  reason: 'text',
});

export const showTimelineRetention: UseCase<ShowTimelineRetention> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    await requireManager(core, context);
    requireTimeline(core);
    const record = lookupVirtualCluster(core, statement.name);
    const { rng, clock, cluster } = core.options;
    const request = {
      store: storeOfTimeline(core, record),
      key: cluster.key,
      now: clock.now(),
      windowUs: windowUs(core, record.id),
      current: core.services.instanceOf(record).identity.incarnation,
      bytesMax: core.settings.integer(record.id, 'timeline.size_max'),
      damaged: await damagedBases(core, record),
    };
    return rowsResult(COLUMNS, rowsOf(await createTimelineRetention({ rng, clock }).plan(request, context)));
  },
};

function rowsOf({ removals, kept, keptBytes, horizon }: RetentionPlan): readonly (readonly Cell[])[] {
  const since = `moments since ${formatTimestamp(horizon)} stay restorable`;
  return [
    ['keep', 'window', null, null, String(keptBytes), since],
    ...kept.map(({ subdirectory, reason }) => ['keep', 'base', subdirectory, null, null, reason]),
    ...removals.map(({ kind, name, incarnation, bytes, reason }) => [
      'remove',
      kind,
      name,
      incarnation,
      String(bytes),
      reason,
    ]),
  ];
}
