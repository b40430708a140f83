import { fileURLToPath } from 'node:url';
import { getCallSites } from 'node:util';
import {
  SYSTEM_VIRTUAL_CLUSTER_ID,
  SYSTEM_VIRTUAL_CLUSTER_NAME,
  type Clock,
  type Logger,
  type LogScope,
  type Severity,
  withoutMarks,
} from '../../base/index.ts';
import { describeCause, formatEntry, formatEntryAsJson, type LogEntry, type LogFormat } from './entry.ts';

/** Where the text of entries goes. */
export interface LogSink {
  write(text: string): void;
  /** Entries the sink had to drop since it was last asked. */
  takeLostCount(): number;
}

/** Entries kept until the first file is attached: what is said before the store is open is not lost. */
const PENDING_MAX = 1000;
const SOURCE_ROOT = fileURLToPath(new URL('../../', import.meta.url));
const RANK: Record<Severity, number> = { info: 0, warning: 1, error: 2, fatal: 3 };

/** Files of a node's log: of audit entries, and of all others. */
export interface LogFiles {
  readonly main: LogSink;
  readonly audit: LogSink;
}

/** The node's log: one counter, several sinks, every entry tagged with a virtual cluster. */
export class NodeLog {
  readonly #options: NodeLogOptions;
  #stderr: NodeLogOptions['stderr'];
  readonly #pending: LogEntry[] = [];
  #files: LogFiles | undefined;
  #counter = 0;

  constructor(options: NodeLogOptions) {
    this.#options = options;
    this.#stderr = options.stderr;
  }

  /** A logger for what concerns no virtual cluster in particular: it speaks as the system one. */
  get logger(): Logger {
    return new ScopedLogger(
      (severity, message, cause, scope) => this.#write(severity, message, cause, scope),
      {
        virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID,
        virtualClusterName: SYSTEM_VIRTUAL_CLUSTER_NAME,
      },
    );
  }

  /** From now on entries go to these files; those of before are written first. */
  attachFiles(files: LogFiles): void {
    this.#files = files;
    for (const entry of this.#pending.splice(0)) this.#writeTo(files, entry);
  }

  /** What follows is told to the operator in other words. */
  leaveStderr(): void {
    this.#stderr = undefined;
  }

  #write(severity: Severity, message: string, cause: unknown, scope: LogScope): void {
    const file = this.#files?.[scope.channel === 'audit' ? 'audit' : 'main'];
    const lost = file?.takeLostCount() ?? 0;
    if (lost > 0) this.#emit('warning', `${lost} log entries before this one could not be written`, scope);
    const text = cause === undefined ? message : `${message}: ${describeCause(cause)}`;
    this.#emit(severity, text, scope);
  }

  #emit(severity: Severity, message: string, scope: LogScope): void {
    const { clock, nodeId, fileFrom = 'info' } = this.#options;
    this.#counter += 1;
    const entry: LogEntry = {
      severity,
      at: clock.now(),
      processId: process.pid,
      source: callerSource(),
      scope,
      nodeId,
      counter: this.#counter,
      message,
    };
    if (scope.channel === 'audit' || RANK[severity] >= RANK[fileFrom]) {
      if (this.#files !== undefined) this.#writeTo(this.#files, entry);
      else if (this.#pending.length < PENDING_MAX) this.#pending.push(entry);
    }
    if (this.#stderr !== undefined && RANK[severity] >= RANK[this.#stderr.from]) {
      this.#stderr.write(withoutMarks(formatEntry(entry)));
    }
  }

  #writeTo(files: LogFiles, entry: LogEntry): void {
    const { format = 'text', isRedactable = true } = this.#options;
    const sink = entry.scope.channel === 'audit' ? files.audit : files.main;
    if (format === 'json') sink.write(formatEntryAsJson(entry, { isRedactable }));
    else sink.write(isRedactable ? formatEntry(entry) : withoutMarks(formatEntry(entry)));
  }
}

export interface NodeLogOptions {
  readonly clock: Clock;
  readonly nodeId: number;
  /** Entries of this severity and above also go here, without marks. */
  readonly stderr: { readonly from: Severity; write(text: string): void } | undefined;
  /** Entries below this severity do not go to files, those of the audit excepted; `info` when undefined. */
  readonly fileFrom?: Severity;
  readonly format?: LogFormat;
  /** Whether sensitive parts stay marked in files; true when undefined. */
  readonly isRedactable?: boolean;
}

type Write = (severity: Severity, message: string, cause: unknown, scope: LogScope) => void;

class ScopedLogger implements Logger {
  readonly #write: Write;
  readonly #scope: LogScope;

  constructor(write: Write, scope: LogScope) {
    this.#write = write;
    this.#scope = scope;
  }

  log(severity: Severity, message: string, cause?: unknown): void {
    this.#write(severity, message, cause, this.#scope);
  }

  info(message: string): void {
    this.log('info', message);
  }

  warning(message: string, cause?: unknown): void {
    this.log('warning', message, cause);
  }

  error(message: string, cause?: unknown): void {
    this.log('error', message, cause);
  }

  for(scope: LogScope): Logger {
    return new ScopedLogger(this.#write, scope);
  }
}

/** `folder/file.ts:line` of the nearest caller outside this file. */
function callerSource(): string {
  for (const site of getCallSites(10)) {
    const path = site.scriptName.startsWith('file:') ? fileURLToPath(site.scriptName) : site.scriptName;
    if (path === '' || path === import.meta.filename) continue;
    const name = path.startsWith(SOURCE_ROOT) ? path.slice(SOURCE_ROOT.length) : path;
    return `${name}:${site.lineNumber}`;
  }
  return 'unknown:0';
}
