import { InputError } from '../../base/index.ts';
import { askToInitialize, type Initialization } from '../../daemon/index.ts';
import { defineCommand } from '../command.ts';
import { switchFlag } from '../flags/flag.ts';
import { storeFlag } from '../flags/server-flags.ts';
import { formatSummary } from '../summary.ts';

export const initCommand = defineCommand({
  name: 'init',
  usage: '[--virtualized | --virtualized-empty] [--store DIR]',
  description: [
    'Tells a running node what to make of its new store. The node is reached through a socket in the store, so the command runs on the same machine as the same user.',
    'With --virtualized: the system virtual cluster, and an app virtual cluster "main" for workloads. With --virtualized-empty: the system virtual cluster alone, as a standby needs it. With neither: the system virtual cluster alone, and workloads may live in it.',
  ],
  examples: ['atoll init --virtualized', 'atoll init --store /var/lib/atoll --virtualized-empty'],
  flags: {
    store: storeFlag,
    virtualized: switchFlag({
      name: 'virtualized',
      inEnvironment: false,
      help: 'Makes the app virtual cluster "main" and directs clients to it.',
    }),
    virtualizedEmpty: switchFlag({
      name: 'virtualized-empty',
      inEnvironment: false,
      help: 'Makes no app virtual cluster, and keeps workloads out of the system one.',
    }),
  },
  positionalsMax: 0,
  async run(flags, { stdout }) {
    if (flags.virtualized && flags.virtualizedEmpty) {
      throw new InputError('usage', '--virtualized and --virtualized-empty exclude each other');
    }
    const withoutApp: Initialization = flags.virtualizedEmpty ? 'virtualized_empty' : 'plain';
    const initialization = flags.virtualized ? 'virtualized' : withoutApp;
    stdout.write(formatSummary(await askToInitialize({ store: flags.store, initialization })));
    return 0;
  },
});
