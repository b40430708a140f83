export type Severity = 'info' | 'warning' | 'error' | 'fatal';

/**
 * What an entry is about: `ops` the node and its work, `sessions` who came in and who did not, `postgres` a line of an instance's own,
 * `audit` a change that somebody asked for. The last has files of its own.
 */
export type LogChannel = 'ops' | 'sessions' | 'postgres' | 'audit';

/** The virtual cluster an entry belongs to; printed as `[T3,main,n1]`. */
export interface LogScope {
  readonly virtualClusterId: number;
  readonly virtualClusterName: string;
  /** `ops` when undefined. */
  readonly channel?: LogChannel | undefined;
}

/** Where log entries go. Secrets never reach it: redact before. */
export interface Logger {
  log(severity: Severity, message: string, cause?: unknown): void;
  info(message: string): void;
  warning(message: string, cause?: unknown): void;
  error(message: string, cause?: unknown): void;
  /** The same sink, tagged with another virtual cluster. */
  for(scope: LogScope): Logger;
}

/**
 * Marks what may hold data of users, line by line, so that it can be taken out of a log that is given away: `‹like this›`. Secrets are
 * never logged, marked or not.
 */
export function sensitive(text: string): string {
  return text
    .replaceAll(/[‹›]/g, '?')
    .split('\n')
    .map((line) => (line === '' ? line : `‹${line}›`))
    .join('\n');
}

/** A text of the log without what is marked as sensitive. A mark that was cut off ends with its line. */
export function withoutSensitive(text: string): string {
  return text.replaceAll(/‹[^›\n]*(?:›|$)/gm, '‹×›');
}

/** A text of the log as it would be without marks. */
export function withoutMarks(text: string): string {
  return text.replaceAll(/[‹›]/g, '');
}
