/** The history that the next run of a schedule builds upon, kept from being collected by a pin in the timeline store. */
import { isAppError } from '../../base/index.ts';
import type { ScheduleId } from '../../catalog/index.ts';
import type { HistoryKeeper } from '../../jobs/index.ts';
import { putPin, removePin } from '../../timeline/index.ts';
import { type Core, loggerOf } from '../core.ts';
import { resolveTarget, storeOfTimeline } from '../timeline/timeline-point.ts';
import { requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

/** @param coreOf the core, which is put together after what uses this */
export function scheduleHistory(coreOf: () => Core): HistoryKeeper {
  return {
    protect: async ({ virtualClusterId, scheduleId, since, expiresAt, signal }) => {
      const core = coreOf();
      const record = requireRecord(core, virtualClusterId);
      try {
        const target = { kind: 'time', time: since } as const;
        const point = await resolveTarget(core, { record, target, signal });
        await putPin(
          storeOfTimeline(core, record),
          {
            id: pinIdOf(scheduleId),
            owner: `schedule ${scheduleId}`,
            incarnation: point.incarnation,
            fromLsn: point.lsn,
            throughLsn: null,
            expiresAt,
          },
          core.options,
        );
        return true;
      } catch (error) {
        if (!isAppError(error)) throw error;
        // Before the first base there is nothing to hold. Otherwise what was held before is held on.
        const isTooEarly = isAppError(error, 'time_outside_window');
        const message = `schedule ${scheduleId} could not pin its history`;
        loggerOf(core, record).log(isTooEarly ? 'info' : 'warning', message, error);
        return false;
      }
    },
    release: async ({ virtualClusterId, scheduleId }) => {
      const core = coreOf();
      await removePin(storeOfTimeline(core, requireRecord(core, virtualClusterId)), pinIdOf(scheduleId));
    },
  };
}

function pinIdOf(scheduleId: ScheduleId): string {
  return `schedule-${scheduleId}`;
}
