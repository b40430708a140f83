/** Reads what Postgres writes to its log: lines into entries. */
import type { Severity } from '../base/index.ts';

/** `log_line_prefix`: time in seconds since 1970, process, SQLSTATE. */
export const LOG_LINE_PREFIX = '@%n %p %e ';

/** What one entry may hold, in characters; the rest is cut. */
const ENTRY_LENGTH_MAX = 8 * 1024;

export interface PostgresLogEntry {
  readonly severity: Severity;
  /** The process and its SQLSTATE; empty for what does not come from the server's own log. */
  readonly source: string;
  /** Its own words, which may quote data. */
  readonly message: string;
}

/** `@1763683200.123 4711 42P01 ERROR:  relation ...`; lines that follow an entry begin with a tab. */
const PREFIXED = /^@\d+\.\d{3} (\d+) ([0-9A-Z]{5}) ([A-Z0-9]+): {2}(.*)$/;

/** What a server says in addition to the entry before. */
const ADDITIONS = ['DETAIL', 'HINT', 'QUERY', 'CONTEXT', 'LOCATION', 'STATEMENT', 'BACKTRACE'];

interface OpenEntry {
  readonly pid: string;
  readonly severity: Severity;
  readonly source: string;
  message: string;
}

/** Joins lines into entries. An entry is complete when the next one begins, or when `flush` says that none came. */
export class LogLines {
  #rest = '';
  #open: OpenEntry | null = null;

  /** Takes the next piece of the log, cut anywhere, and gives the entries it completes. */
  push(text: string): PostgresLogEntry[] {
    const lines = (this.#rest + text).split('\n');
    this.#rest = (lines.pop() ?? '').slice(0, ENTRY_LENGTH_MAX);
    return lines.flatMap((line) => this.#line(line));
  }

  /** Gives the entry that was kept back for lines that might follow. */
  flush(): PostgresLogEntry[] {
    const open = this.#open;
    this.#open = null;
    if (open === null) return [];
    const { severity, source, message } = open;
    return [{ severity, source, message }];
  }

  #line(line: string): PostgresLogEntry[] {
    if (line.startsWith('\t') && this.#open !== null) {
      this.#append(` ${line.slice(1)}`);
      return [];
    }
    const match = PREFIXED.exec(line);
    if (match === null) {
      if (line.trim() === '') return [];
      // Not from the server's own log: the loader, the C library, a shell.
      return [...this.flush(), { severity: 'warning', source: '', message: line.slice(0, ENTRY_LENGTH_MAX) }];
    }
    const [, pid = '', sqlstate = '', label = '', message = ''] = match;
    if (this.#open?.pid === pid && ADDITIONS.includes(label)) {
      this.#append(`; ${label.toLowerCase()}: ${message}`);
      return [];
    }
    const entries = this.flush();
    const code = sqlstate === '00000' ? '' : ` (${sqlstate})`;
    this.#open = { pid, severity: severityOf(label), source: `postgres[${pid}]${code}`, message };
    return entries;
  }

  #append(text: string): void {
    if (this.#open !== null && this.#open.message.length < ENTRY_LENGTH_MAX) {
      this.#open.message = (this.#open.message + text).slice(0, ENTRY_LENGTH_MAX);
    }
  }
}

/** A session's errors are its user's affair; the server's own troubles are ours. */
function severityOf(label: string): Severity {
  switch (label) {
    case 'WARNING':
    case 'ERROR':
    case 'FATAL':
      return 'warning';
    case 'PANIC':
      return 'error';
    default:
      return 'info';
  }
}

/** The last lines of a log as an error shows them: prefixes removed. */
export function readableTail(text: string, options: { linesMax: number }): string {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .slice(-options.linesMax)
    .map((line) => line.replace(/^@\d+\.\d{3} \d+ [0-9A-Z]{5} /, ''))
    .join('\n');
}

/** Whether a piece of a log says that there was no room left, by its SQLSTATE. */
export function namesDiskFull(text: string): boolean {
  return /^@\d+\.\d{3} \d+ 53100 /m.test(text);
}
