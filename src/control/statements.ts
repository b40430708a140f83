/** Every statement of ours and the use case behind it: forgetting one does not compile. */
import { assert } from '../base/index.ts';
import { type Statement, bindPlaceholders } from '../sql/index.ts';
import { alterVirtualCluster } from './alter-virtual-cluster.ts';
import { backup } from './backup.ts';
import type { Column, ExecuteContext, SessionIdentity, StatementResult } from './contract.ts';
import { controlJob } from './control-job.ts';
import type { Core } from './core.ts';
import { createVirtualCluster } from './create-virtual-cluster.ts';
import { dropVirtualCluster } from './drop-virtual-cluster.ts';
import { restore } from './restore.ts';
import { resetClusterSetting, setClusterSetting } from './set-cluster-setting.ts';
import { showBackup, showBackups } from './show-backups.ts';
import { showClusterSetting, showClusterSettings } from './show-cluster-settings.ts';
import { showJob, showJobs } from './show-jobs.ts';
import { showVirtualClusterName, showVirtualClusters } from './show-virtual-clusters.ts';
import { type UseCase, requireNoTransaction } from './use-case.ts';

type UseCases = { readonly [Kind in Statement['kind']]: UseCase<Extract<Statement, { kind: Kind }>> };

const USE_CASES: UseCases = {
  create_virtual_cluster: createVirtualCluster,
  alter_virtual_cluster: alterVirtualCluster,
  drop_virtual_cluster: dropVirtualCluster,
  show_virtual_clusters: showVirtualClusters,
  show_virtual_cluster_name: showVirtualClusterName,
  set_cluster_setting: setClusterSetting,
  reset_cluster_setting: resetClusterSetting,
  show_cluster_setting: showClusterSetting,
  show_cluster_settings: showClusterSettings,
  backup,
  restore,
  show_backups: showBackups,
  show_backup: showBackup,
  show_jobs: showJobs,
  show_job: showJob,
  control_job: controlJob,
};

export function describeStatement(
  statement: Statement,
  session: SessionIdentity,
): readonly Column[] | undefined {
  return useCaseOf(statement).columns(statement, session);
}

/** @throws AppError */
export async function executeStatement(
  core: Core,
  statement: Statement,
  context: ExecuteContext,
): Promise<StatementResult> {
  const bound = bindPlaceholders(statement, context.parameters);
  const useCase = useCaseOf(bound);
  requireNoTransaction(context.transaction, useCase.refusedInTransaction);
  return useCase.run(core, bound, context);
}

/** The table pairs each kind with its own use case, which the type of a look-up by a union cannot say. */
function useCaseOf(statement: Statement): UseCase<Statement> {
  const useCase = USE_CASES[statement.kind];
  assert(useCase !== undefined, `no use case for ${statement.kind}`);
  return useCase as UseCase<Statement>;
}
