/** SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER x: what is damaged, and how the restores fared that were tried out, newest first. */
import type { DamageRecord, ListedTimelineCheck } from '../../catalog/index.ts';
import type { Statement } from '../../sql/index.ts';
import type { Cell, ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { requireCapability } from '../privileges/capability.ts';
import { isSystem, requirePrivilege } from '../privileges/privileges.ts';
import { lookupVirtualCluster, requireManager } from '../virtual-clusters/virtual-cluster-lookup.ts';
import { type UseCase, askerOf, columnsOf, rowsResult, timestampCell } from '../use-case.ts';
import { whatIsKnown } from './verify-timelines.ts';

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
    await requireSight(core, statement.name, context);
    const { id } = lookupVirtualCluster(core, statement.name);
    const { known, checks } = await whatIsKnown(core, context);
    const damage = known.find(({ virtualClusterId }) => virtualClusterId === id)?.damage ?? [];
    const own = checks.filter(({ virtualClusterId }) => virtualClusterId === id);
    return rowsResult(COLUMNS, [...damage.map(damageRow), ...own.map(checkRow)]);
  },
};

/**
 * Operators look at any virtual cluster; admins of one at their own, if it may look after itself. @throws InputError `insufficient_privilege`
 */
async function requireSight(core: Core, name: string, context: ExecuteContext): Promise<void> {
  const { session } = context;
  const isOwn = core.catalog.find(name)?.id === session.virtualClusterId;
  if (isSystem(session.virtualClusterId) || !isOwn) return requireManager(core, context);
  await requirePrivilege(askerOf(core, context), {
    refusal: 'only users with the admin role are allowed to see the checks of a virtual cluster',
  });
  requireCapability(core, session, 'can_check_consistency');
}

/** What cannot be read any more of what the timeline stores. */
function damageRow({ object, reason, bases }: DamageRecord): readonly Cell[] {
  const needed = bases.length === 0 ? '' : `; bases ${bases.join(', ')} need it`;
  const findings = `${object}: ${reason}${needed}`;
  return COLUMNS.map(({ name }) => (name === 'state' ? 'damaged' : name === 'findings' ? findings : null));
}

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
