/** ALTER JOB id OWNER TO role. */
import { InputError } from '../../base/index.ts';
import type { RoleReference, Statement } from '../../sql/index.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { findJob } from './job-visibility.ts';
import { type Asker, holdsPrivilege } from '../privileges/privileges.ts';
import { requireRoles } from '../privileges/role-lookup.ts';
import { type UseCase, askerOf, done } from '../use-case.ts';
import { jobIdValue } from '../values.ts';

type AlterJobOwner = Extract<Statement, { kind: 'alter_job_owner' }>;

export const alterJobOwner: UseCase<AlterJobOwner> = {
  columns: () => undefined,
  refusedInTransaction: 'ALTER JOB',
  async run(core, statement, context) {
    const { session } = context;
    const asker = askerOf(core, context);
    const { job, keeper } = await findJob(core, jobIdValue(statement.jobId), context);
    const owner = await requireOwner(asker, statement.owner);
    await requireMayGive(asker, { from: job.user, to: owner });
    await core.runner.changeOwner({ virtualClusterId: keeper, jobId: job.id }, owner, {
      signal: core.signal,
    });
    logged(core, context, `job ${job.id}: given to ${owner} by ${session.user}`);
    return done('ALTER JOB');
  },
};

/** @throws InputError `object_not_found` */
async function requireOwner(asker: Asker, role: RoleReference): Promise<string> {
  if (role.kind === 'public') {
    throw new InputError('object_not_found', 'role "public" does not exist', {
      hint: 'it stands for all roles',
    });
  }
  await requireRoles(asker, [role]);
  return role.kind === 'role' ? role.name : asker.user;
}

/**
 * Admins give any job to anybody; an owner gives the own ones to roles the owner is a member of, as with tables.
 * @throws InputError `insufficient_privilege`
 */
async function requireMayGive(asker: Asker, { from, to }: { from: string; to: string }): Promise<void> {
  if (await holdsPrivilege(asker, [])) return;
  if (from !== asker.user) {
    throw new InputError('insufficient_privilege', 'only admins and the owner of a job can give it away');
  }
  if (await isMember(asker, to)) return;
  throw new InputError('insufficient_privilege', `must be member of role "${to}"`, {
    hint: 'only admins give jobs to roles they are no member of',
  });
}

async function isMember(asker: Asker, role: string): Promise<boolean> {
  const rows = await asker.instance.withSystemClient(
    (client) =>
      client.query(
        `select from pg_catalog.pg_roles u, pg_catalog.pg_roles m
          where u.rolname = $1 and m.rolname = $2 and pg_catalog.pg_has_role(u.oid, m.oid, 'MEMBER')`,
        [asker.user, role],
      ),
    asker,
  );
  return rows.length > 0;
}

function logged(core: Core, { session }: ExecuteContext, message: string): void {
  loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(message);
}
