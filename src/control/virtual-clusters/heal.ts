/** Brings the records and the directories of a starting daemon together, and says in the log what was done. */
import { SYSTEM_VIRTUAL_CLUSTER_ID, SYSTEM_VIRTUAL_CLUSTER_NAME } from '../../base/index.ts';
import { type JobRecord, NO_CAPABILITIES, postgresJobStore } from '../../catalog/index.ts';
import { removeTimelineStore } from '../../timeline/index.ts';
import { type Core, loggerOf } from '../core.ts';
import { type HealingStep, planHealing } from './healing.ts';
import { storeOfTimeline } from '../timeline/timeline-point.ts';

/** May run twice: every step leaves less to do. */
export async function heal(core: Core): Promise<void> {
  const { instanceHost } = core.options;
  const directories = instanceHost.list().map(({ identity }) => ({
    id: identity.virtualClusterId,
    name: identity.virtualClusterName,
  }));
  const records = core.catalog.listAll();
  const unfinished = await unfinishedJobs(core);
  const inTheMaking = new Set(unfinished.flatMap((job) => job.targetVirtualClusterId ?? []));
  for (const step of planHealing({ records, directories, inTheMaking })) await carryOut(core, step);
}

/** Of the control plane, whose jobs are not taken up yet. */
function unfinishedJobs(core: Core): Promise<readonly JobRecord[]> {
  const system = { id: SYSTEM_VIRTUAL_CLUSTER_ID, name: SYSTEM_VIRTUAL_CLUSTER_NAME };
  return postgresJobStore(core.services.instanceOf(system)).readUnfinished({ signal: core.signal });
}

async function carryOut(core: Core, step: HealingStep): Promise<void> {
  const { catalog, signal, options } = core;
  const { id } = step;
  const name = catalog.get(id)?.name ?? ('name' in step ? step.name : undefined);
  const logger = name === undefined ? options.logger : loggerOf(core, { id, name });
  switch (step.kind) {
    case 'finish_create':
      await catalog.apply({ id, event: { kind: 'directory_made' }, signal });
      return logger.info('finished an interrupted CREATE VIRTUAL CLUSTER');
    case 'forget':
      await catalog.forget({ id, signal });
      return logger.info('forgot a virtual cluster that has no directory');
    case 'finish_removal':
      await options.instanceHost.remove({ virtualClusterId: id, signal });
      await removeTimelineStore(storeOfTimeline(core, { id }));
      await catalog.forget({ id, signal });
      return logger.info('finished an interrupted removal');
    case 'rename_directory':
      await options.instanceHost.rename({ virtualClusterId: id, name: step.name });
      return logger.info('finished an interrupted RENAME');
    case 'adopt':
      await catalog.add({ id, name: step.name, capabilities: NO_CAPABILITIES, signal });
      await catalog.apply({ id, event: { kind: 'directory_made' }, signal });
      return logger.warning(
        'found a virtual cluster that the control plane does not know: listed without service and capabilities',
      );
    case 'report_missing':
      return logger.error('the directory of the virtual cluster is missing: it cannot be served');
  }
}
