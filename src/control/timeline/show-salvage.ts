/** SHOW SALVAGE FOR VIRTUAL CLUSTER x: what failbacks have cut off, as long as it is kept. */
import { formatLsn } from '../../base/index.ts';
import { type Statement, printStatement } from '../../sql/index.ts';
import { type Pin, readPins } from '../../timeline/index.ts';
import type { Cell } from '../contract.ts';
import { SALVAGE_PREFIX } from '../replication/replication-consumer.ts';
import { requireTimeline, storeOfTimeline } from './timeline-point.ts';
import { type UseCase, columnsOf, rowsResult, timestampCell } from '../use-case.ts';
import { lookupVirtualCluster, requireManager } from '../virtual-clusters/virtual-cluster-lookup.ts';

type ShowSalvage = Extract<Statement, { kind: 'show_salvage' }>;

const COLUMNS = columnsOf({
  incarnation: 'text',
  from_lsn: 'text',
  through_lsn: 'text',
  kept_until: 'timestamptz',
  open_with: 'text',
});

export const showSalvage: UseCase<ShowSalvage> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, { name }, context) {
    await requireManager(core, context);
    requireTimeline(core);
    const record = lookupVirtualCluster(core, name);
    const pins = await readPins(storeOfTimeline(core, record));
    const now = core.options.clock.now();
    const kept = pins.filter(({ id, expiresAt }) => id.startsWith(SALVAGE_PREFIX) && expiresAt > now);
    return rowsResult(
      COLUMNS,
      kept.map((pin) => cellsOf(pin, record.name)),
    );
  },
};

function cellsOf({ incarnation, fromLsn, throughLsn, expiresAt }: Pin, name: string): readonly Cell[] {
  const through = throughLsn ?? fromLsn;
  const asOf = { kind: 'string', value: `${incarnation}@${formatLsn(through)}` } as const;
  const open = printStatement({
    kind: 'create_virtual_cluster',
    ifNotExists: false,
    name: `${name}-salvage`,
    like: undefined,
    from: { source: name, asOf },
    replication: undefined,
  });
  return [incarnation, formatLsn(fromLsn), formatLsn(through), timestampCell(expiresAt), open];
}
