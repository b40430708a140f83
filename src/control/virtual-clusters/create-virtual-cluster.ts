/** CREATE VIRTUAL CLUSTER [IF NOT EXISTS] name [LIKE other] [FROM VIRTUAL CLUSTER source [AS OF SYSTEM TIME t]] */
import { InputError, parseVirtualClusterName, toError } from '../../base/index.ts';
import {
  DEFAULT_CAPABILITIES,
  type VirtualClusterRecord,
  findSetting,
  migrate,
  writeSetting,
} from '../../catalog/index.ts';
import type { Statement } from '../../sql/index.ts';
import { findBranchStart, makeBranch } from './branch.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { beginStream, checkStreamOptions, makeFollower } from '../replication/begin-stream.ts';
import { unmake } from './unmake.ts';
import { type UseCase, done } from '../use-case.ts';
import { lookupVirtualCluster, requireManager } from './virtual-cluster-lookup.ts';

type CreateVirtualCluster = Extract<Statement, { kind: 'create_virtual_cluster' }>;

const TAG = 'CREATE VIRTUAL CLUSTER';

export const createVirtualCluster: UseCase<CreateVirtualCluster> = {
  columns: () => undefined,
  refusedInTransaction: TAG,
  async run(core, statement, context) {
    await requireManager(core, context);
    const name = parseVirtualClusterName(statement.name);
    const existing = core.catalog.find(name);
    if (existing !== undefined) {
      if (!statement.ifNotExists) {
        throw new InputError('object_exists', `virtual cluster "${name}" already exists`, {
          hint: 'choose another name, or write CREATE VIRTUAL CLUSTER IF NOT EXISTS; SHOW VIRTUAL CLUSTERS lists those there are',
        });
      }
      context.onNotice({
        severity: 'NOTICE',
        sqlstate: '42710',
        message: `virtual cluster "${name}" already exists, skipping`,
      });
      return done(TAG);
    }
    const model = statement.like === undefined ? undefined : lookupVirtualCluster(core, statement.like);
    // What can be refused is refused before anything of the new one is there.
    const start = await findBranchStart(core, statement, context);
    const { replication } = statement;
    if (replication !== undefined) checkStreamOptions(core, { name, options: replication.options });
    const stream = replication && (await beginStream(core, replication, context));
    const add = () =>
      core.catalog.add({
        name,
        capabilities: model?.capabilities ?? DEFAULT_CAPABILITIES,
        ...(model === undefined ? {} : { settingOverrides: model.settingOverrides }),
        signal: core.signal,
      });
    const record =
      replication !== undefined && stream !== undefined
        ? await makeFollower(core, { add, source: replication, stream, context })
        : await add();
    if (start !== undefined) await makeBranch(core, { record, start, context });
    else if (stream === undefined)
      await core.locks.run(record.id, () => makeVirtualCluster(core, { record, model, context }));
    loggerOf(core, record).info(`virtual cluster created by ${context.session.user}`);
    return done(TAG);
  },
};

/** Makes the directory of a recorded virtual cluster; when that fails, nothing of it is left. */
async function makeVirtualCluster(
  core: Core,
  options: {
    record: VirtualClusterRecord;
    model: VirtualClusterRecord | undefined;
    context: ExecuteContext;
  },
): Promise<void> {
  const { record, model, context } = options;
  const { id, name } = record;
  try {
    await core.options.instanceHost.create({
      virtualClusterId: id,
      name,
      settings: core.services.instanceSettings(id),
      signal: core.signal,
    });
    if (model !== undefined) await copySettings(core, { record, model, context });
    await core.catalog.apply({ id, event: { kind: 'directory_made' }, signal: core.signal });
  } catch (error) {
    if (core.signal.aborted) throw error; // The next start finishes it.
    await unmake(core, record).catch((cleanupError: unknown) => {
      throw new AggregateError(
        [toError(error), toError(cleanupError)],
        `virtual cluster "${name}" could not be made, nor what was made of it removed`,
      );
    });
    throw error;
  }
}

/** What admins of the model have set inside it. The release a virtual cluster is on is not a matter of taste. */
async function copySettings(
  core: Core,
  options: { record: VirtualClusterRecord; model: VirtualClusterRecord; context: ExecuteContext },
): Promise<void> {
  const { record, model, context } = options;
  if (!core.settings.isLoaded(model.id)) {
    context.onNotice({
      severity: 'NOTICE',
      sqlstate: '00000',
      message: `settings made inside virtual cluster "${model.name}" are not copied, for its service is stopped`,
      hint: `start the service of "${model.name}" before CREATE VIRTUAL CLUSTER ... LIKE`,
    });
    return;
  }
  const values = [...core.settings.ownValues(model.id)].filter(([name]) => isCopied(name));
  if (values.length === 0) return;
  const instance = core.services.instanceOf(record);
  const now = core.options.clock.now();
  await instance.start({ signal: core.signal });
  await instance.withSystemClient(
    async (client) => {
      await migrate(client, { set: 'virtual_cluster', now });
      for (const [name, value] of values) await writeSetting(client, { name, value, now });
    },
    { signal: core.signal },
  );
  await instance.stop({ mode: 'orderly', signal: core.signal });
}

function isCopied(name: string): boolean {
  return findSetting(name)?.scope === 'application' && name !== 'version';
}
