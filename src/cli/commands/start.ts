import {
  checkConfig,
  runDaemon,
  type DaemonConfig,
  type NodeReport,
  type RunFiles,
} from '../../daemon/index.ts';
import { launchDetached, tellFailed, tellReady } from '../background.ts';
import { defineCommand, type CommandContext } from '../command.ts';
import type { FlagValues } from '../flags/flag.ts';
import { SERVER_FLAGS, SINGLE_NODE_FLAGS, toDaemonConfig } from '../flags/server-flags.ts';
import { refusedBy, removePidFile, writeRunFile } from '../run-files.ts';
import { formatSummary, sqlUrl } from '../summary.ts';

type ServerFlags = FlagValues<typeof SERVER_FLAGS>;

export const startSingleNodeCommand = defineCommand({
  name: 'start-single-node',
  usage: '[flags]',
  description: [
    'Starts a node. On the first start it makes the store, the system virtual cluster and the app virtual cluster "main", which clients reach by default. Later it just starts, and adopts instances that are still running.',
    'Ctrl-C or SIGTERM stops it in order; a second one stops it at once.',
  ],
  examples: [
    'atoll start-single-node --insecure',
    'atoll start-single-node --store /var/lib/atoll --background --pid-file /run/atoll.pid',
  ],
  flags: SINGLE_NODE_FLAGS,
  positionalsMax: 0,
  async run(flags, context) {
    const firstStart = flags.virtualizedEmpty ? 'virtualized_empty' : 'virtualized';
    return await start(toDaemonConfig(flags, { firstStart }), { flags, context, name: 'start-single-node' });
  },
});

export const startCommand = defineCommand({
  name: 'start',
  usage: '[flags]',
  description: [
    'Starts a node. On a new store it waits until "atoll init" says what to make of it. Otherwise as start-single-node.',
  ],
  examples: ['atoll start --store ./a --background && atoll init --store ./a --virtualized'],
  flags: SERVER_FLAGS,
  positionalsMax: 0,
  async run(flags, context) {
    return await start(toDaemonConfig(flags, { firstStart: 'wait' }), { flags, context, name: 'start' });
  },
});

async function start(
  config: DaemonConfig,
  options: { flags: ServerFlags; context: CommandContext; name: string },
): Promise<number> {
  const { flags, context, name } = options;
  checkConfig(config);
  if (flags.background) {
    const argv = context.argv.filter((argument) => !/^--background(?:=|$)/.test(argument));
    context.stdout.write(formatSummary(await launchDetached([name, ...argv])));
    return 0;
  }
  try {
    await runDaemon(config, {
      async onStoreOpened(files) {
        if (flags.pidFile === undefined) return;
        const content = `${process.pid}\n`;
        if (files === null) writeRunFile({ path: flags.pidFile, content, flag: 'pid-file' });
        else await files.writeRunFile('pid', content).catch(refusedBy(flags.pidFile, 'pid-file'));
      },
      onReady: (report, files) => announce(report, { flags, context, files }),
      async onStopped(files) {
        if (flags.pidFile === undefined) return;
        if (files === null) removePidFile(flags.pidFile);
        else await files.removePidFile().catch(() => undefined); // With its helper it goes unremoved.
      },
    });
    return 0;
  } catch (error) {
    await tellFailed(error);
    throw error;
  }
}

async function announce(
  report: NodeReport,
  { flags, context, files }: { flags: ServerFlags; context: CommandContext; files: RunFiles | null },
): Promise<void> {
  if (flags.listeningUrlFile !== undefined) {
    const flag = 'listening-url-file';
    const content = `${sqlUrl(report)}\n`;
    if (files === null) writeRunFile({ path: flags.listeningUrlFile, content, flag });
    else await files.writeRunFile('listening_url', content).catch(refusedBy(flags.listeningUrlFile, flag));
  }
  context.stdout.write(formatSummary(report));
  tellReady(report);
}
