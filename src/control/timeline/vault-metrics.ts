/** Figures of the vault, by virtual cluster. */
import { timestampToMs } from '../../base/index.ts';
import type { VaultStatus } from '../../timeline/index.ts';
import type { Core } from '../core.ts';
import type { MetricFamily } from '../status.ts';
import { asleepOf } from '../virtual-clusters/suspender.ts';

interface Received {
  readonly name: string;
  readonly status: VaultStatus;
}

/** None on a node that keeps no timelines. */
export function vaultFamilies(core: Core): readonly MetricFamily[] {
  const statuses = core.options.timeline?.vault.statuses() ?? [];
  const received = statuses.flatMap((status): Received[] => {
    const name = core.catalog.get(status.virtualClusterId)?.name;
    return name === undefined ? [] : [{ name, status }];
  });
  const nowMs = timestampToMs(core.options.clock.now());
  const family = (
    name: string,
    type: MetricFamily['type'],
    help: string,
    value: (status: VaultStatus) => number | undefined,
    zeroes: readonly { readonly name: string }[] = [],
  ): MetricFamily => ({
    name: `timeline_vault_${name}`,
    help,
    type,
    samples: [
      ...received.flatMap(({ name: tenant, status }) => {
        const figure = value(status);
        return figure === undefined ? [] : [{ labels: { tenant }, value: figure }];
      }),
      ...zeroes.map(({ name: tenant }) => ({ labels: { tenant }, value: 0 })),
    ],
  });
  const isIn = (kind: VaultStatus['state']['kind']) => (status: VaultStatus) =>
    Number(status.state.kind === kind);
  return [
    family('received_bytes', 'counter', 'Bytes of log received since the daemon started', (status) =>
      Number(status.receivedBytes),
    ),
    family('stored_bytes', 'gauge', 'Bytes on disk that the log of the timeline takes', (status) =>
      Number(status.storedBytes),
    ),
    family(
      'restorable_through_age_seconds',
      'gauge',
      'How long ago the newest moment was that the log in the vault reaches',
      ({ restorableThrough }) =>
        restorableThrough === null
          ? undefined
          : Math.max(0, (nowMs - timestampToMs(restorableThrough)) / 1000),
      // Of one that is suspended nothing has happened since.
      core.catalog.list().filter((record) => asleepOf(record) !== undefined),
    ),
    family('receiving', 'gauge', '1 while the log is received', ({ state }) =>
      Number(state.kind === 'receiving' || state.kind === 'gap'),
    ),
    family('gaps', 'gauge', '1 while log is missing in what is kept', isIn('gap')),
    family('out_of_room', 'gauge', '1 while reception is stopped for lack of room', isIn('out_of_room')),
    family(
      'clock_steps_count',
      'counter',
      'Times that the clock was set back',
      (status) => status.clockStepsBack,
    ),
  ];
}
