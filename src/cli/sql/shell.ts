import { createReadStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { AppError, errnoOf, InputError, toError } from '../../base/index.ts';
import { createFormatter, type FormatName, type ResultCell, type ResultColumn } from './format/index.ts';
import { formatError, formatNotice } from './error-text.ts';
import { historyEntries } from './history.ts';
import { copyData, streamLines, type LineSource } from './line-source.ts';
import { Output } from './output.ts';
import { SqlSession, type SessionOptions } from './session.ts';
import { StatementSplitter, type Pending, type SplitStatement } from './splitter.ts';
import type { ResultReceiver } from './statement-run.ts';
import { formatPlace, type ConnectionTarget } from './target.ts';

/** How deep files may include files. */
const INCLUDE_DEPTH_MAX = 16;

/** What the user can switch while the shell runs. */
export interface ShellSettings {
  format: FormatName;
  isTimed: boolean;
  /** Somebody watches: errors do not end the shell. */
  readonly isInteractive: boolean;
}

/** Runs a backslash command. */
export type MetaRunner = (shell: Shell, line: string) => Promise<'continue' | 'quit'>;

export interface ShellOptions {
  readonly settings: ShellSettings;
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly askPassword: () => Promise<string>;
  readonly runMeta: MetaRunner;
  /** Keeps what was typed, for the arrow keys and the next time. */
  readonly remember: (entries: readonly string[]) => void;
  readonly monotonicMs: () => number;
}

/** How a batch of input ended. */
export type Outcome = 'done' | 'failed' | 'quit';

/** The SQL shell: one session, its settings, and how statements and their results are shown. */
export class Shell implements AsyncDisposable {
  readonly settings: ShellSettings;
  readonly output: Output;
  readonly #options: ShellOptions;
  #session: SqlSession;
  /** Set by `\restrict`: until `\unrestrict` with the same key, no other backslash command works. */
  restrictKey: string | undefined;
  #includeDepth = 0;

  private constructor(session: SqlSession, options: ShellOptions) {
    this.#session = session;
    this.#options = options;
    this.settings = options.settings;
    this.output = new Output(options.stdout);
  }

  static async open(target: ConnectionTarget, options: ShellOptions): Promise<Shell> {
    return new Shell(await SqlSession.connect(target, sessionOptions(options)), options);
  }

  get session(): SqlSession {
    return this.#session;
  }

  /** Takes a new session in place of the current one, which is kept when the new one cannot be had. */
  async reconnect(target: ConnectionTarget): Promise<void> {
    const next = await SqlSession.connect(target, sessionOptions(this.#options));
    await this.#session[Symbol.asyncDispose]();
    this.#session = next;
  }

  /** A statement is under way. */
  get isRunning(): boolean {
    return this.#session.isRunning;
  }

  /** Text beside the results: errors, notices, what happened. */
  say(text: string): void {
    this.output.flush();
    this.#options.stderr.write(text);
  }

  prompt(pending: Pending): string {
    if (pending !== 'nothing') return `${PROMPT_MARKS[pending].padStart(2)} `;
    const { target, virtualCluster, transaction } = this.#session;
    const cluster = virtualCluster === undefined ? '' : `${virtualCluster}/`;
    const mark = { idle: '', open: ' OPEN', failed: ' ERROR' }[transaction];
    const database = target.database.replace(/^cluster:[^/]*\//, '');
    return `${target.user}@${formatPlace(target)}/${cluster}${database}${mark}> `;
  }

  /** Reads statements and backslash commands until the input ends, or, where nobody watches, until one fails. */
  async runLines(source: LineSource): Promise<Outcome> {
    const splitter = new StatementSplitter();
    const { isInteractive } = this.settings;
    for (;;) {
      const input = await source.next(this.prompt(splitter.pending));
      if (input.kind === 'interrupted') {
        splitter.reset();
        continue;
      }
      if (input.kind === 'end') break;
      const line = input.text;
      if (/^\s*\\/.test(line) && !splitter.pending.endsWith('quote')) {
        if (source.isTerminal)
          this.#options.remember(historyEntries({ text: line.trim(), hasFixedBreaks: false }));
        const outcome = await this.runMetaLine(line.trim());
        if (outcome !== 'done' && (outcome === 'quit' || !isInteractive)) return outcome;
        continue;
      }
      if (isInteractive && splitter.pending === 'nothing' && /^\s*(?:quit|exit)\s*;?\s*$/i.test(line))
        return 'quit';
      for (const statement of splitter.push(`${line}\n`)) {
        const isDone = await this.execute(statement, source);
        if (!isDone && !isInteractive) return 'failed';
      }
    }
    const rest = splitter.finish();
    if (rest === undefined || source.isTerminal) return 'done';
    return (await this.execute(rest, source)) ? 'done' : 'failed';
  }

  /**
   * Runs the lines of a file.
   * @throws InputError `usage` when files include each other without end
   * @throws AppError `io` when the file cannot be read
   */
  async runFile(path: string): Promise<Outcome> {
    if (this.#includeDepth >= INCLUDE_DEPTH_MAX) {
      throw new InputError('usage', `more than ${INCLUDE_DEPTH_MAX} files include each other`);
    }
    this.#includeDepth += 1;
    try {
      await using lines = streamLines(readScript(path));
      return await this.runLines(lines);
    } finally {
      this.#includeDepth -= 1;
    }
  }

  /** Runs one statement and shows what comes of it. False when it failed; the error has been shown. */
  async execute(statement: SplitStatement, source: LineSource): Promise<boolean> {
    if (source.isTerminal) this.#options.remember(historyEntries(statement));
    if (this.#session.isLost && !(await this.#regainSession())) return false;
    const beganMs = this.#options.monotonicMs();
    try {
      await this.#session.run(statement.text, this.#receiver(source));
    } catch (error) {
      this.say(formatError(error, statement.text));
      if (this.#session.isLost && this.settings.isInteractive) await this.#regainSession();
      return false;
    }
    if (this.settings.isTimed) this.output.write(formatElapsed(this.#options.monotonicMs() - beganMs));
    this.output.flush();
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.output.close();
    await this.#session[Symbol.asyncDispose]();
  }

  #receiver(source: LineSource): ResultReceiver {
    const formatter = createFormatter(this.settings.format);
    const { output } = this;
    return {
      columns: (columns: readonly ResultColumn[]) => output.write(formatter.begin(columns)),
      row: (cells: readonly ResultCell[]) => output.write(formatter.row(cells)),
      complete: (tag) => output.write(formatter.end({ tag })),
      copyOut: (chunk) => output.writeBytes(chunk),
      copyIn: () => {
        if (this.settings.isInteractive)
          this.say('Enter data, a row a line. End with \\. on a line of its own.\n');
        return copyData(source, '>> ');
      },
      whenReady: () => output.whenReady(),
    };
  }

  /** Carries out a backslash command; what goes wrong is shown. */
  async runMetaLine(line: string): Promise<Outcome> {
    try {
      const next = await this.#options.runMeta(this, line);
      this.output.flush();
      return next === 'quit' ? 'quit' : 'done';
    } catch (error) {
      this.say(formatError(error));
      return 'failed';
    }
  }

  async #regainSession(): Promise<boolean> {
    this.say('The connection was lost. Connecting again: ');
    try {
      await this.reconnect(this.#session.target);
      this.say('done. Session settings and an open transaction are gone.\n');
      return true;
    } catch (error) {
      this.say(`failed.\n${formatError(error)}`);
      return false;
    }
  }
}

/** The bytes of a file. What fails here is its reading: errors of whoever takes the bytes do not pass through. */
async function* readScript(path: string): AsyncGenerator<Uint8Array, undefined> {
  try {
    yield* createReadStream(path);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    throw new AppError('io', `cannot read ${path}: ${toError(error).message}`, { cause: error });
  }
  return undefined;
}

function sessionOptions(options: ShellOptions): SessionOptions {
  return {
    askPassword: options.askPassword,
    onNotice: (notice) => options.stderr.write(formatNotice(notice)),
    onNotification: ({ channel, payload, processId }) => {
      const text = payload === undefined || payload === '' ? '' : ` with payload ${JSON.stringify(payload)}`;
      options.stderr.write(`Notification ${JSON.stringify(channel)}${text} from process ${processId}.\n`);
    },
  };
}

const PROMPT_MARKS: Readonly<Record<Exclude<Pending, 'nothing'>, string>> = {
  statement: '->',
  parenthesis: '(>',
  single_quote: "'>",
  double_quote: '">',
  dollar_quote: '$>',
  comment: '*>',
};

/** `Time: 5ms`, or seconds from one second on. */
export function formatElapsed(ms: number): string {
  return ms < 1000
    ? `\nTime: ${ms < 10 ? ms.toFixed(1) : Math.round(ms)}ms\n\n`
    : `\nTime: ${(ms / 1000).toFixed(2)}s\n\n`;
}
