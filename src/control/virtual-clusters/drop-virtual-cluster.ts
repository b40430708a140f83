/** DROP VIRTUAL CLUSTER [IF EXISTS] name [IMMEDIATE] */
import { InputError, type Timestamp } from '../../base/index.ts';
import { type VirtualClusterRecord, serviceModeOf } from '../../catalog/index.ts';
import type { Statement } from '../../sql/index.ts';
import type { ExecuteContext } from '../contract.ts';
import { removeUserfiles } from '../files.ts';
import { type Core, loggerOf } from '../core.ts';
import { isSystem } from '../privileges/privileges.ts';
import { removeTimelineStore } from '../../timeline/index.ts';
import { dropReader, findReader } from '../replication/reader.ts';
import { endStream } from '../replication/replication.ts';
import { storeOfTimeline, windowUs } from '../timeline/timeline-point.ts';
import { type UseCase, done } from '../use-case.ts';
import {
  lookupVirtualCluster,
  requireManager,
  requireNoRestore,
  withReader,
  withVirtualCluster,
} from './virtual-cluster-lookup.ts';

type DropVirtualCluster = Extract<Statement, { kind: 'drop_virtual_cluster' }>;

const TAG = 'DROP VIRTUAL CLUSTER';

export const dropVirtualCluster: UseCase<DropVirtualCluster> = {
  columns: () => undefined,
  refusedInTransaction: TAG,
  async run(core, statement, context) {
    await requireManager(core, context);
    const { name } = statement;
    if (statement.ifExists && core.catalog.find(name) === undefined) {
      context.onNotice({
        severity: 'NOTICE',
        sqlstate: '00000',
        message: `virtual cluster "${name}" does not exist, skipping`,
      });
      return done(TAG);
    }
    if (lookupVirtualCluster(core, name).readerOf !== null) {
      await dropReaderAlone(core, name, context);
      return done(TAG);
    }
    await withVirtualCluster(core, name, async (record) => {
      if (isSystem(record.id)) {
        throw new InputError('object_state', 'the system virtual cluster cannot be dropped');
      }
      requireOutOfService(record);
      await requireNoRestore(core, record);
      const reader = findReader(core, record.id);
      if (reader !== undefined) {
        await dropReader(core, record.id);
        context.onNotice({
          severity: 'NOTICE',
          sqlstate: '00000',
          message: `the reader "${reader.name}" of virtual cluster "${name}" is dropped with it`,
        });
      }
      await endStream(core, record);
      await (statement.immediate ? removeNow(core, record) : drop(core, record));
      loggerOf(core, record).info(
        `virtual cluster dropped${statement.immediate ? ' and removed' : ''} by ${context.session.user}`,
      );
    });
    return done(TAG);
  },
};

/** It holds nothing that could be kept for a while. @throws InputError `object_in_use`, `object_not_found` */
async function dropReaderAlone(core: Core, name: string, context: ExecuteContext): Promise<void> {
  await withReader(core, name, async (reader) => {
    requireOutOfService(reader);
    loggerOf(core, reader).info(`virtual cluster dropped by ${context.session.user}`);
    if (reader.readerOf !== null) await dropReader(core, reader.readerOf);
  });
}

/** @throws InputError `object_in_use` */
function requireOutOfService({ name, state }: VirtualClusterRecord): void {
  if (serviceModeOf(state) === 'none') return;
  throw new InputError('object_in_use', `virtual cluster "${name}" is in service`, {
    hint: `stop it first: ALTER VIRTUAL CLUSTER ${name} STOP SERVICE`,
  });
}

async function drop(core: Core, record: VirtualClusterRecord): Promise<void> {
  const at = core.options.clock.now();
  const removeAfter = (at + windowUs(core, record.id)) as Timestamp;
  const event = { kind: 'dropped', at, removeAfter } as const;
  await core.catalog.apply({ id: record.id, event, signal: core.signal });
}

/** Deletes the directory of a virtual cluster that is out of service, its timeline, and then its record. May run twice. */
export async function removeNow(core: Core, record: VirtualClusterRecord): Promise<void> {
  const { id } = record;
  const { signal } = core;
  await core.catalog.apply({ id, event: { kind: 'removal_begun' }, signal });
  await core.options.timeline?.vault.unfollow(id);
  await core.options.instanceHost.remove({ virtualClusterId: id, signal });
  await removeTimelineStore(storeOfTimeline(core, record));
  await removeUserfiles(core, id);
  await core.catalog.forget({ id, signal });
}
