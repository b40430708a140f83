import { join } from 'node:path';
import { errnoOf, InputError, isAppError } from '../base/index.ts';
import { systemClock } from './clock.ts';
import { checkConfig, type DaemonConfig, type LogConfig } from './config.ts';
import { crashOnUnhandled, reportFatalErrorsTo } from './crash.ts';
import { LogFile } from './log/log-file.ts';
import { type LogFiles, NodeLog } from './log/node-logger.ts';
import { Node, NODE_ID, type NodeEnvironment } from './node.ts';
import type { NodeReport } from './node-report.ts';
import { systemRng } from './rng.ts';
import { listenForStop, whenAborted } from './signals.ts';

/** What the caller is told while the daemon comes up. */
export interface DaemonHooks {
  /** The store is ours; no other daemon runs on it. */
  onStoreOpened(): void;
  /** Clients are served, or the node waits to be initialised. */
  onReady(report: NodeReport): void;
}

/**
 * Runs a node until a signal stops it, and resolves when everything has been stopped in order.
 * @throws AppError when it cannot come up; then nothing is left running that did not run before
 */
export async function runDaemon(config: DaemonConfig, hooks: DaemonHooks): Promise<void> {
  checkConfig(config);
  process.title = 'atoll';
  let onHangUp = (): void => undefined; // While the node comes up, what it reads is new anyway.
  using stop = listenForStop(config.certificates === undefined ? {} : { onHangUp: () => onHangUp() });
  const clock = systemClock();
  const { stderrFrom, fileFrom, format, isRedactable } = config.log;
  const stderr =
    stderrFrom === undefined
      ? undefined
      : { from: stderrFrom, write: (text: string) => process.stderr.write(text) };
  const log = new NodeLog({ clock, nodeId: NODE_ID, stderr, fileFrom, format, isRedactable });
  using _crash = crashOnUnhandled(log.logger);
  const environment: NodeEnvironment = { config, clock, rng: systemRng(), logger: log.logger, stop };
  try {
    await using node = await Node.open(environment, (host) => {
      const directory = config.log.directory ?? join(host.storeDirectory, 'logs');
      log.attachFiles(openLogFiles(directory, config.log));
      reportFatalErrorsTo(directory);
      hooks.onStoreOpened();
    });
    onHangUp = () => node.reloadCertificates();
    await node.start();
    hooks.onReady(node.report());
    await whenAborted(stop.orderly);
    log.logger.info('stopping');
  } catch (error) {
    if (stop.orderly.aborted && isAppError(error, 'cancelled')) return; // Stopped while it came up.
    log.leaveStderr(); // The caller tells the operator.
    log.logger.log('fatal', 'the node cannot run', error);
    throw error;
  }
  log.logger.info('stopped');
}

/** @throws InputError `usage` when the folder cannot be written to */
function openLogFiles(directory: string, { fileBytesMax, groupBytesMax }: LogConfig): LogFiles {
  const bytesMax = fileBytesMax;
  const filesKeptMax = Math.floor(groupBytesMax / fileBytesMax) - 1;
  try {
    return {
      main: LogFile.open({ directory, name: 'atoll', bytesMax, filesKeptMax }),
      audit: LogFile.open({ directory, name: 'atoll-audit', bytesMax, filesKeptMax }),
    };
  } catch (error) {
    throw new InputError(
      'usage',
      `the log cannot be written to ${directory}: ${errnoOf(error) ?? 'unknown'}`,
      {
        cause: error,
        hint: 'give --log-dir a folder that this user may write to',
      },
    );
  }
}
