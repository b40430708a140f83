/** SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER x: how the restores fared that were tried out, newest first. */
import { SYSTEM_VIRTUAL_CLUSTER_ID } from '../base/index.ts';
import { type ListedTimelineCheck, listTimelineChecks } from '../catalog/index.ts';
import type { Statement } from '../sql/index.ts';
import type { Cell } from './contract.ts';
import { requireRecord, lookupVirtualCluster, requireManager } from './virtual-cluster-lookup.ts';
import { type UseCase, columnsOf, rowsResult, timestampCell } from './use-case.ts';

type ShowTimelineChecks = Extract<Statement, { kind: 'show_timeline_checks' }>;

const COLUMNS = columnsOf({
  job_id: 'int8',
  state: 'text',
  as_of: 'timestamptz',
  position: 'text',
  started: 'timestamptz',
  duration_ms: 'int8',
  databases: 'int8',
  tables: 'int8',
  indexes: 'int8',
  pages: 'int8',
  findings: 'text',
});

export const showTimelineChecks: UseCase<ShowTimelineChecks> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    await requireManager(core, context);
    const { id } = lookupVirtualCluster(core, statement.name);
    const system = core.services.instanceOf(requireRecord(core, SYSTEM_VIRTUAL_CLUSTER_ID));
    const checks = await system.withSystemClient(
      (client) => listTimelineChecks(client, { virtualClusterId: id }),
      context,
    );
    return rowsResult(COLUMNS, checks.map(checkRow));
  },
};

function checkRow(check: ListedTimelineCheck): readonly Cell[] {
  const { counts, findings } = check;
  return [
    check.jobId,
    check.state,
    timestampCell(check.time),
    check.position,
    timestampCell(check.started),
    String((check.finished - check.started) / 1000n),
    String(counts.databases),
    String(counts.tables),
    String(counts.indexes),
    String(counts.pages),
    findings.length === 0 ? null : findings.join('\n'),
  ];
}
