import { ERRORS, type Logger } from '../base/index.ts';

/**
 * An error that nobody handled is a bug, and what the process believes can no longer be trusted: it is logged and the process
 * ends. Instances are not its children in any way that matters; they keep running and the next daemon adopts them.
 */
export function crashOnUnhandled(logger: Logger): Disposable {
  const onThrown = (error: unknown) => {
    logger.log(
      'fatal',
      'the daemon met an error that nobody handled and ends; instances keep running',
      error,
    );
    process.exit(ERRORS.internal.exit);
  };
  process.on('uncaughtException', onThrown);
  process.on('unhandledRejection', onThrown);
  return {
    [Symbol.dispose]() {
      process.off('uncaughtException', onThrown);
      process.off('unhandledRejection', onThrown);
    },
  };
}

/** Has the runtime leave a report beside the log when it runs out of memory or dies otherwise. It holds no environment. */
export function reportFatalErrorsTo(directory: string): void {
  const report = process.report as typeof process.report & { excludeEnv: boolean };
  report.reportOnFatalError = true;
  report.directory = directory;
  report.excludeEnv = true;
}
