export type Severity = 'info' | 'warning' | 'error' | 'fatal';

/** The virtual cluster an entry belongs to; printed as `[T3,main,n1]`. */
export interface LogScope {
  readonly virtualClusterId: number;
  readonly virtualClusterName: string;
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
