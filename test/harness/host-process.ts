/** A process that opens a store and serves virtual cluster 3, to be killed: `node host-process.ts STORE serve|create`. */
import type { VirtualClusterId, VirtualClusterName } from '../../src/base/index.ts';
import { DEFAULT_INSTANCE_SETTINGS } from '../../src/instance/index.ts';
import { MemoryLogger, NEVER, openTestHost } from './instance-store.ts';

const [directory = '', task] = process.argv.slice(2);
const host = await openTestHost(directory, new MemoryLogger());
process.stdout.write('open\n');
for (let id = 3; ; id++) {
  const options = {
    virtualClusterId: id as VirtualClusterId,
    name: `vc${id}` as VirtualClusterName,
    settings: DEFAULT_INSTANCE_SETTINGS,
    signal: NEVER,
  };
  const instance = host.get(options.virtualClusterId) ?? (await host.create(options));
  if (task === 'create') continue;
  await instance.start({ signal: NEVER });
  process.stdout.write('serving\n');
  break;
}
// Kept alive until it is killed.
setInterval(() => undefined, 1000);
