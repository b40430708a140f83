/** Figures of what was verified of timelines, by virtual cluster. */
import type { Timestamp } from '../../base/index.ts';
import type { Core } from '../core.ts';
import { inTime } from '../in-time.ts';
import type { MetricFamily } from '../status.ts';
import { whatIsKnown } from './verify-timelines.ts';

interface Verified {
  readonly tenant: string;
  readonly damaged: number;
  readonly failures: number;
  readonly isFailed: boolean | undefined;
  readonly lastSuccess: Timestamp | undefined;
}

/** None on a node that keeps no timelines, and while the system virtual cluster does not answer. */
export async function verifyFamilies(
  core: Core,
  options: { signal: AbortSignal },
): Promise<readonly MetricFamily[]> {
  if (core.options.timeline === undefined) return [];
  const verified = (await inTime(core, options, (wait) => readVerified(core, wait))) ?? [];
  const now = core.options.clock.now();
  const family = (name: string, help: string, value: (of: Verified) => number | undefined): MetricFamily => ({
    name,
    help,
    type: 'gauge',
    samples: verified.flatMap((of) => {
      const figure = value(of);
      return figure === undefined ? [] : [{ labels: { tenant: of.tenant }, value: figure }];
    }),
  });
  return [
    family(
      'timeline_verify_damaged_objects',
      'Stored packs, manifests and log segments of the timeline that are known to be damaged',
      ({ damaged }) => damaged,
    ),
    family('timeline_check_failed', '1 when the newest restore that was tried out failed', ({ isFailed }) =>
      isFailed === undefined ? undefined : Number(isFailed),
    ),
    family(
      'timeline_check_failures_kept',
      'Restores that were tried out and failed, among those that SHOW TIMELINE CHECKS lists',
      ({ failures }) => failures,
    ),
    family(
      'timeline_check_last_success_age_seconds',
      'How long ago a restore was tried out that succeeded',
      ({ lastSuccess }) =>
        lastSuccess === undefined ? undefined : Math.max(0, Number(now - lastSuccess) / 1_000_000),
    ),
  ];
}

async function readVerified(core: Core, wait: { signal: AbortSignal }): Promise<readonly Verified[]> {
  const { known, checks } = await whatIsKnown(core, wait);
  return core.catalog.list().map(({ id, name: tenant }) => {
    const own = checks.filter(({ virtualClusterId }) => virtualClusterId === id);
    return {
      tenant,
      damaged: known.find(({ virtualClusterId }) => virtualClusterId === id)?.damage.length ?? 0,
      failures: own.filter(({ state }) => state === 'failed').length,
      isFailed: own[0] === undefined ? undefined : own[0].state === 'failed',
      lastSuccess: own.find(({ state }) => state === 'succeeded')?.finished,
    };
  });
}
