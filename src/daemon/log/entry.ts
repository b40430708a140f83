import {
  AppError,
  type LogScope,
  sensitive,
  type Severity,
  type Timestamp,
  timestampToMs,
  withoutMarks,
} from '../../base/index.ts';

/** Longest message that is written whole, in characters; the rest is cut and its length named. */
export const MESSAGE_LENGTH_MAX = 64 * 1024;

const LETTERS: Record<Severity, string> = { info: 'I', warning: 'W', error: 'E', fatal: 'F' };

/** One entry of the log, before it is text. */
export interface LogEntry {
  readonly severity: Severity;
  readonly at: Timestamp;
  /** The process that writes; in this place other systems print a thread. */
  readonly processId: number;
  /** `folder/file.ts:line` of the code that speaks. */
  readonly source: string;
  readonly scope: LogScope;
  readonly nodeId: number;
  readonly counter: number;
  /** Sensitive parts are marked. */
  readonly message: string;
}

/** How entries are written to files. */
export type LogFormat = 'text' | 'json';

/**
 * Prints an entry as `I230815 19:31:07.290757 922 instance/supervisor.ts:54 ⋮ [T1,system,n1] 148  message` and a line
 * break. Every further line of the message repeats the prefix, with `+` in place of the last space: whatever a message
 * holds, it cannot pose as another entry.
 */
export function formatEntry(entry: LogEntry): string {
  const { virtualClusterId, virtualClusterName } = entry.scope;
  const prefix =
    `${LETTERS[entry.severity]}${formatLogTime(entry.at)} ${entry.processId} ${entry.source} ⋮ ` +
    `[T${virtualClusterId},${virtualClusterName},n${entry.nodeId}] ${entry.counter} `;
  const lines = cut(entry.message).split(/\r?\n/);
  while (lines.length > 1 && lines.at(-1) === '') lines.pop();
  return lines.map((line, index) => `${prefix}${index === 0 ? ' ' : '+'}${escapeControls(line)}\n`).join('');
}

/** An entry as one line of JSON, for those who collect logs by machine. */
export function formatEntryAsJson(
  entry: LogEntry,
  { isRedactable }: { readonly isRedactable: boolean },
): string {
  const { scope, message } = entry;
  const line = {
    timestamp: `${new Date(timestampToMs(entry.at)).toISOString().slice(0, 19)}.${microsecondsOf(entry.at)}Z`,
    severity: entry.severity.toUpperCase(),
    channel: (scope.channel ?? 'ops').toUpperCase(),
    virtual_cluster_id: scope.virtualClusterId,
    virtual_cluster_name: scope.virtualClusterName,
    node_id: entry.nodeId,
    process_id: entry.processId,
    source: entry.source,
    entry_counter: entry.counter,
    redactable: isRedactable ? 1 : 0,
    message: cut(isRedactable ? message : withoutMarks(message)),
  };
  return `${JSON.stringify(line)}\n`;
}

/** Prints `230815 19:31:07.290757`, in UTC. */
export function formatLogTime(at: Timestamp): string {
  const iso = new Date(timestampToMs(at)).toISOString();
  return `${iso.slice(2, 10).replaceAll('-', '')} ${iso.slice(11, 19)}.${microsecondsOf(at)}`;
}

function microsecondsOf(at: Timestamp): string {
  return (at % 1_000_000n).toString().padStart(6, '0');
}

/**
 * What went wrong, in words an operator can use: facts of life by message and hint, bugs by their stack. Words that are not ours may
 * quote data of users and are marked.
 */
export function describeCause(cause: unknown): string {
  const parts: string[] = [];
  let current: unknown = cause;
  for (let depth = 0; current !== undefined && depth < 8; depth += 1) {
    parts.push(describeOne(current));
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join('\ncaused by: ');
}

function describeOne(thrown: unknown): string {
  if (thrown instanceof AppError) {
    const hint = thrown.hint === undefined ? '' : ` (hint: ${thrown.hint})`;
    const detail = thrown.detail === undefined ? '' : ` (detail: ${sensitive(thrown.detail)})`;
    return `${thrown.message} [${thrown.code}]${detail}${hint}`;
  }
  if (!(thrown instanceof Error)) return sensitive(String(thrown));
  const { name, message, stack } = thrown;
  const frames = stack === undefined ? [] : stack.split('\n').filter((line) => /^\s+at /.test(line));
  return [`${name}: ${sensitive(message)}`, ...frames].join('\n');
}

function cut(message: string): string {
  if (message.length <= MESSAGE_LENGTH_MAX) return message;
  const cutLength = message.length - MESSAGE_LENGTH_MAX;
  return `${message.slice(0, MESSAGE_LENGTH_MAX)} (${cutLength} characters more)`;
}

/** Terminals obey control characters; a log is read in terminals. */
function escapeControls(line: string): string {
  return line.replace(
    // The range is the point: every control character but the tabulator.
    // oxlint-disable-next-line no-control-regex
    /[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}
