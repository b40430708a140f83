export * from './address.ts';
export * from './clock.ts';
export * from './config.ts';
export * from './rng.ts';
export * from './node-report.ts';
export {
  askForFigures,
  askForReport,
  askToInitialize,
  INITIALIZATIONS,
  type Initialization,
} from './operator-socket.ts';
export { runDaemon, type DaemonHooks, type RunFiles } from './run-daemon.ts';
