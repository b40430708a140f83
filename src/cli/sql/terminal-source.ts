import { createInterface, type Interface } from 'node:readline';
import type { ReadStream } from 'node:tty';
import { HISTORY_ENTRIES_MAX } from './history.ts';
import type { Input, LineSource } from './line-source.ts';

/**
 * Lines typed at a terminal, with editing and history. Between two lines the terminal is in its ordinary mode: Ctrl-C
 * then reaches the process as a signal, and what is typed ahead waits in the terminal.
 */
export class TerminalSource implements LineSource, Disposable {
  readonly isTerminal = true;
  readonly #terminal: ReadStream;
  readonly #interface: Interface;
  /** Newest first. */
  readonly #history: string[];
  /** Readline's own array, known from its first event on. */
  #shown: string[] | undefined;
  #waiting: ((input: Input) => void) | undefined;
  readonly #typedAhead: Input[] = [];

  constructor(options: { terminal: ReadStream; output: NodeJS.WritableStream; history: readonly string[] }) {
    this.#terminal = options.terminal;
    this.#history = [...options.history].toReversed();
    this.#interface = createInterface({
      input: options.terminal,
      output: options.output,
      terminal: true,
      history: [...this.#history],
      historySize: HISTORY_ENTRIES_MAX,
      removeHistoryDuplicates: true,
    });
    // Readline adds every line by itself; the shell remembers whole statements, and no secrets.
    this.#interface.on('history', (history: string[]) => {
      this.#shown = history;
      this.#restoreHistory();
    });
    this.#interface.on('line', (text) => this.#give({ kind: 'line', text, bytes: Buffer.from(text) }));
    this.#interface.on('SIGINT', () => {
      options.output.write('^C');
      clearTypedLine(this.#interface);
      this.#give({ kind: 'interrupted' });
    });
    this.#interface.on('close', () => this.#give({ kind: 'end' }));
    this.#interface.pause();
    this.#terminal.setRawMode(false);
  }

  async next(prompt: string): Promise<Input> {
    const ahead = this.#typedAhead.shift();
    if (ahead !== undefined) return ahead;
    const { promise, resolve } = Promise.withResolvers<Input>();
    this.#waiting = resolve;
    this.#terminal.setRawMode(true);
    this.#interface.setPrompt(prompt);
    this.#interface.prompt();
    const input = await promise;
    if (input.kind !== 'end') {
      this.#interface.pause();
      this.#terminal.setRawMode(false);
    }
    return input;
  }

  /** Adds what the arrow keys bring back. */
  remember(entries: readonly string[]): void {
    for (const entry of entries) {
      if (this.#history[0] !== entry) this.#history.unshift(entry);
    }
    this.#history.splice(HISTORY_ENTRIES_MAX);
    this.#restoreHistory();
  }

  [Symbol.dispose](): void {
    this.#interface.close();
  }

  #restoreHistory(): void {
    this.#shown?.splice(0, this.#shown.length, ...this.#history);
  }

  #give(input: Input): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#typedAhead.push(input);
    else waiting(input);
  }
}

/** What stays in readline's buffer would stand behind the next line, and run with it. The method is what Node's own shell uses. */
function clearTypedLine(readline: Interface): void {
  (readline as Interface & { clearLine(): void }).clearLine();
}
