/** ALTER RANGE default CONFIGURE ZONE: how far back the virtual cluster can be taken. */
import { InputError } from '../base/index.ts';
import type { Statement } from '../sql/index.ts';
import { changeClusterSetting } from './set-cluster-setting.ts';
import type { UseCase } from './use-case.ts';
import { notAvailable } from './values.ts';

type ConfigureZone = Extract<Statement, { kind: 'configure_zone' }>;

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

/** @throws InputError `feature_not_supported` for other ranges and variables, `parameter_invalid` for one that comes twice */
function ttlOf({ range, variables }: ConfigureZone) {
  if (range !== 'default')
    throw notAvailable(`a zone of range "${range}"`, 'configure that of RANGE default');
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
