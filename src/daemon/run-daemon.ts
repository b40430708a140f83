import { join } from 'node:path';
import { ERRORS, errnoOf, InputError, isAppError, type Logger } from '../base/index.ts';
import { type ControlGroupsSpec, type HelperProcess, prepareControlGroups } from '../instance/index.ts';
import { BULK_GROUP_VARIABLE } from '../timeline/index.ts';
import { systemClock } from './clock.ts';
import { boundCompileCache, ownCompileCache } from './compile-cache.ts';
import { checkConfig, type DaemonConfig, type LogConfig } from './config.ts';
import { crashOnUnhandled, reportFatalErrorsTo } from './crash.ts';
import { type DroppedRoot, dropRoot } from './drop-root.ts';
import { LogFile } from './log/log-file.ts';
import { type LogFiles, NodeLog } from './log/node-logger.ts';
import { Node, NODE_ID, type NodeEnvironment } from './node.ts';
import type { NodeReport } from './node-report.ts';
import { systemRng } from './rng.ts';
import { listenForStop, whenAborted } from './signals.ts';

/** What the caller is told while the daemon comes up. */
export interface DaemonHooks {
  /** The store is ours; no other daemon runs on it. */
  onStoreOpened(files: RunFiles | null): Promise<void>;
  /** Clients are served, or the node waits to be initialised. */
  onReady(report: NodeReport, files: RunFiles | null): Promise<void>;
  /** Whether it came up or not. */
  onStopped(files: RunFiles | null): Promise<void>;
}

/** Writes where the operator wants files, which this process may not do itself; null when it may. */
export type RunFiles = Pick<HelperProcess, 'writeRunFile' | 'removePidFile'>;

/**
 * Runs a node until a signal stops it, and resolves when everything has been stopped in order.
 * @throws AppError when it cannot come up; then nothing is left running that did not run before
 */
export async function runDaemon(config: DaemonConfig, hooks: DaemonHooks): Promise<void> {
  checkConfig(config);
  process.title = 'atoll';
  outliveReaders();
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
  let dropped: DroppedRoot | null = null;
  try {
    // Before root's rights are gone: what root has compiled nobody else removes.
    const compileCache = ownCompileCache(process.env);
    if (compileCache !== null) boundCompileCache(compileCache);
    const controlGroups = openControlGroups(config, log.logger);
    const bulkGroup = controlGroups?.bulkGroup ?? null;
    if (bulkGroup === null) delete process.env[BULK_GROUP_VARIABLE];
    else process.env[BULK_GROUP_VARIABLE] = bulkGroup;
    dropped = await dropRoot({ config, controlGroups, clock, logger: log.logger, signal: stop.orderly });
    const files = dropped?.helper ?? null;
    if (files !== null) endWith(files, log.logger);
    const environment: NodeEnvironment = {
      config,
      clock,
      rng: systemRng(),
      logger: log.logger,
      stop,
      dropped,
      controlGroups,
    };
    await using node = await Node.open(environment, async (host) => {
      const directory = config.log.directory ?? join(host.storeDirectory, 'logs');
      log.attachFiles(openLogFiles(directory, config.log));
      reportFatalErrorsTo(directory);
      await hooks.onStoreOpened(files);
    });
    onHangUp = () => void node.reloadCertificates();
    await node.start();
    await hooks.onReady(node.report(), files);
    await whenAborted(stop.orderly);
    log.logger.info('stopping');
  } catch (error) {
    if (stop.orderly.aborted && isAppError(error, 'cancelled')) return; // Stopped while it came up.
    log.leaveStderr(); // The caller tells the operator.
    log.logger.log('fatal', 'the node cannot run', error);
    throw error;
  } finally {
    await hooks.onStopped(dropped?.helper ?? null);
    dropped?.helper.end();
  }
  log.logger.info('stopped');
}

/** Whoever reads what it prints may be gone before it is: the log has it all. */
function outliveReaders(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error) => {
      if (errnoOf(error) !== 'EPIPE') throw error;
    });
  }
}

/** Null where nothing is asked for, or nothing can be had: single processes have their limits all the same. */
function openControlGroups({ controlGroups }: DaemonConfig, logger: Logger): ControlGroupsSpec | null {
  if (controlGroups === undefined) return null;
  try {
    return prepareControlGroups(controlGroups);
  } catch (error) {
    if (!isAppError(error, 'usage')) throw error;
    logger.warning(
      'virtual clusters have no control groups; niceness stands for shares of the processor',
      error,
    );
    return null;
  }
}

/** Without its helper a daemon could neither start nor stop an instance: the next one adopts them. */
function endWith(helper: HelperProcess, logger: Logger): void {
  void helper.ended.then((how) => {
    if (helper.isEnding) return;
    logger.log('fatal', `the helper ended (${how}), and with it the daemon; instances keep running`);
    process.exit(ERRORS.internal.exit);
  });
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
