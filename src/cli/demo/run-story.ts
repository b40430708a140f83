import type { Writable } from 'node:stream';
import { AppError } from '../../base/index.ts';
import { formatError, formatNotice } from '../sql/error-text.ts';
import { NULL_TEXT, TableFormatter } from '../sql/format/index.ts';
import { SqlSession, type SmallResult } from '../sql/session.ts';
import { DEFAULT_TARGET, type ConnectionTarget } from '../sql/target.ts';
import type { StoryStatement, StoryStep } from './story.ts';

export interface StoryOptions {
  readonly steps: readonly StoryStep[];
  readonly address: { readonly host: string; readonly port: number };
  readonly stdout: Writable;
  readonly monotonicMs: () => number;
  /** Aborts between two statements. */
  readonly signal: AbortSignal;
}

/** Tells the story: prints every statement, its result and how long it took. @throws AppError when it ends otherwise */
export async function runStory(options: StoryOptions): Promise<void> {
  const { steps, stdout } = options;
  const teller = new Teller(options);
  try {
    for (const [index, step] of steps.entries()) {
      stdout.write(`\n${index + 2}. ${step.title}\n\n`);
      for (const statement of step.statements) await teller.tell(statement);
    }
    teller.compare();
  } finally {
    await teller.close();
  }
}

class Teller {
  readonly #options: StoryOptions;
  readonly #remembered = new Map<'before' | 'after', SmallResult>();
  #session: { readonly key: string; readonly session: SqlSession } | undefined;

  constructor(options: StoryOptions) {
    this.#options = options;
  }

  async tell(statement: StoryStatement): Promise<void> {
    const { stdout, monotonicMs, signal } = this.#options;
    signal.throwIfAborted();
    const prompt = `   ${statement.cluster}> `;
    const [first = '', ...rest] = statement.sql.split('\n');
    stdout.write(
      [`${prompt}${first}`, ...rest.map((line) => `${' '.repeat(prompt.length)}${line}`)].join('\n'),
    );
    stdout.write(';\n');
    const session = await this.#sessionFor(statement);
    const beganMs = monotonicMs();
    let result: SmallResult;
    try {
      result = await session.query(statement.sql);
    } catch (error) {
      stdout.write(indent(formatError(error, statement.sql)));
      throw new AppError('internal', 'the demonstration did not end as it should', { cause: error });
    }
    const elapsedMs = monotonicMs() - beganMs;
    if (result.columns.length > 0) stdout.write(indent(formatResult(result)));
    stdout.write(indent(`${(elapsedMs / 1000).toFixed(2)} s\n\n`));
    if (statement.remember !== undefined) this.#remembered.set(statement.remember, result);
  }

  /** @throws AppError `data_corrupt` when what was restored is not what was backed up */
  compare(): void {
    const [before, after] = [this.#remembered.get('before'), this.#remembered.get('after')];
    if (before === undefined || JSON.stringify(before) !== JSON.stringify(after)) {
      throw new AppError('data_corrupt', 'the restored content differs from what was backed up');
    }
    this.#options.stdout.write('   Every row is back: the hashes are equal.\n');
  }

  async close(): Promise<void> {
    await this.#session?.session[Symbol.asyncDispose]();
    this.#session = undefined;
  }

  async #sessionFor({ cluster, database }: StoryStatement): Promise<SqlSession> {
    const key = `${cluster}/${database}`;
    if (this.#session?.key === key && !this.#session.session.isLost) return this.#session.session;
    await this.close();
    const { address, stdout } = this.#options;
    const target: ConnectionTarget = {
      ...DEFAULT_TARGET,
      host: address.host,
      port: address.port,
      database,
      options: `-ccluster=${cluster}`,
      applicationName: 'atoll demo',
    };
    const session = await SqlSession.connect(target, {
      askPassword: async () => '',
      onNotice: (notice) => stdout.write(indent(formatNotice(notice))),
      onNotification: () => undefined,
    });
    this.#session = { key, session };
    return session;
  }
}

function formatResult(result: SmallResult): string {
  const formatter = new TableFormatter({ nullText: NULL_TEXT, hasFooter: false });
  const head = formatter.begin(result.columns);
  const rows = result.rows.map((row) => formatter.row(row)).join('');
  return head + rows + formatter.end({ tag: '' });
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '     ');
}
