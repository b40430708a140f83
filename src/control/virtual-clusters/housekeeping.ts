/** What has to happen from time to time: services as they are recorded, dropped directories removed, old job records deleted. */
import { type Timestamp, isAppError, toError } from '../../base/index.ts';
import { type VirtualClusterRecord, postgresJobStore, serviceModeOf } from '../../catalog/index.ts';
import { type Core, loggerOf } from '../core.ts';
import { isKeptForFollowers } from '../replication/drain.ts';
import { endLongPause } from '../replication/pause-limit.ts';
import { removeNow } from './drop-virtual-cluster.ts';
import { isSystem } from '../privileges/privileges.ts';
import { keepReader } from '../replication/reader.ts';
import { asleepOf } from './suspender.ts';

/** Between two rounds. */
const ROUND_MS = 5000;
/** Old job records are looked for every so many rounds. */
const ROUNDS_PER_JOB_CLEANUP = 120;
/** Job records deleted from one virtual cluster in one go. */
const JOBS_DELETED_MAX = 1000;

/** Runs until the signal aborts. A round that fails is logged and tried again by the next one. */
export async function keepHouse(core: Core): Promise<void> {
  const { clock } = core.options;
  for (let round = 1; !core.signal.aborted; round += 1) {
    try {
      await clock.sleep(ROUND_MS, { signal: core.signal });
      await houseRound(core, { withJobs: round % ROUNDS_PER_JOB_CLEANUP === 1 });
    } catch (error) {
      if (!core.signal.aborted) core.options.logger.error('housekeeping failed, will try again', error);
    }
  }
}

/** One round. Virtual clusters don't hold each other up: what fails with one is logged. */
export async function houseRound(core: Core, options: { withJobs: boolean }): Promise<void> {
  await core.catalog.refresh({ signal: core.signal });
  for (const record of core.catalog.listAll()) {
    try {
      await core.locks.run(record.id, () => keep(core, record.id));
      if (options.withJobs) await deleteOldJobs(core, record);
    } catch (error) {
      if (core.signal.aborted) return;
      const isExpected = isAppError(error);
      loggerOf(core, record).log(isExpected ? 'warning' : 'error', 'housekeeping failed', toError(error));
    }
  }
}

/** The record may have changed while its lock was waited for. */
async function keep(core: Core, id: VirtualClusterRecord['id']): Promise<void> {
  const { signal } = core;
  const record = core.catalog.get(id);
  if (record === undefined || isSystem(id)) return;
  if (record.readerOf !== null) return keepReader(core, record.readerOf);
  const { state } = record;
  if (
    state.kind === 'removing' ||
    (state.kind === 'dropped' && state.removeAfter <= core.options.clock.now())
  ) {
    await removeNow(core, record);
    return loggerOf(core, record).info('removed a dropped virtual cluster');
  }
  const instance = core.options.instanceHost.get(id);
  if (instance === undefined) return;
  const isShared = serviceModeOf(state) === 'shared';
  const isAsleep = asleepOf(record) !== undefined;
  if (isShared && !isAsleep && !core.gates.isOpen(id)) await core.services.open(record, { signal });
  await endLongPause(core, record);
  const isFollower = core.streams.active(id) !== undefined;
  const isKept = isFollower || isKeptForFollowers(core, id);
  if (!isShared && !isKept && instance.state.kind !== 'stopped')
    await core.services.close(record, { signal });
}

async function deleteOldJobs(core: Core, record: VirtualClusterRecord): Promise<void> {
  if (!core.gates.isOpen(record.id) || record.readerOf !== null) return;
  const retentionUs = core.settings.integer(record.id, 'jobs.retention_time');
  const before = (core.options.clock.now() - retentionUs) as Timestamp;
  const store = postgresJobStore(core.services.instanceOf(record));
  const count = await store.deleteFinished({ before, countMax: JOBS_DELETED_MAX, signal: core.signal });
  if (count > 0) loggerOf(core, record).info(`deleted the records of ${count} jobs past jobs.retention_time`);
}
