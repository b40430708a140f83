/** ALTER RANGE default CONFIGURE ZONE, and SHOW ZONE CONFIGURATION FOR RANGE default: how far back the virtual cluster can be taken. */
import { InputError } from '../../base/index.ts';
import type { Statement } from '../../sql/index.ts';
import { changeClusterSetting } from '../settings/set-cluster-setting.ts';
import { showClusterSetting } from '../settings/show-cluster-settings.ts';
import { type UseCase, columnsOf, rowsResult } from '../use-case.ts';
import { notAvailable } from '../values.ts';

type ConfigureZone = Extract<Statement, { kind: 'configure_zone' }>;
type ShowZoneConfiguration = Extract<Statement, { kind: 'show_zone_configuration' }>;

/** The one variable that acts on a whole virtual cluster; it is kept as the setting of that name. */
const TTL = 'gc.ttlseconds';
const TAG = 'CONFIGURE ZONE 1';

export const configureZone: UseCase<ConfigureZone> = {
  columns: () => undefined,
  refusedInTransaction: 'CONFIGURE ZONE',
  async run(core, statement, context) {
    const value = ttlOf(statement);
    return changeClusterSetting(core, { name: TTL, value, context, tag: TAG });
  },
};

const COLUMNS = columnsOf({ target: 'text', raw_config_sql: 'text' });

/** For whoever may see the setting that it is. */
export const showZoneConfiguration: UseCase<ShowZoneConfiguration> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, { range }, context) {
    requireDefault(range);
    const setting = { kind: 'show_cluster_setting', name: TTL, forVirtualCluster: undefined } as const;
    const shown = await showClusterSetting.run(core, setting, context);
    const seconds = shown.kind === 'rows' ? shown.rows[0]?.[0] : undefined;
    const text = `ALTER RANGE default CONFIGURE ZONE USING\n\t${TTL} = ${seconds ?? ''}`;
    return rowsResult(COLUMNS, [['RANGE default', text]]);
  },
};

/** @throws InputError `feature_not_supported` */
function requireDefault(range: string): void {
  if (range === 'default') return;
  throw notAvailable(`a zone of range "${range}"`, 'configure that of RANGE default');
}

/** @throws InputError `feature_not_supported` for other ranges and variables, `parameter_invalid` for one that comes twice */
function ttlOf({ range, variables }: ConfigureZone) {
  requireDefault(range);
  if (variables === 'discard') return 'default';
  const other = variables.find(({ name }) => name !== TTL);
  if (other !== undefined) {
    throw notAvailable(`the zone variable "${other.name}"`, `what acts on a virtual cluster is ${TTL}`);
  }
  const [first, second] = variables;
  if (first === undefined || second !== undefined) {
    throw new InputError('parameter_invalid', `the zone variable "${TTL}" is given twice`);
  }
  return first.value;
}
