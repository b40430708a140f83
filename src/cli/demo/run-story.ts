import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AppError,
  formatTimestamp,
  parseTimestamp,
  type Timestamp,
  timestampFromMs,
} from '../../base/index.ts';
import { formatError, formatNotice } from '../sql/error-text.ts';
import { NULL_TEXT, TableFormatter } from '../sql/format/index.ts';
import { SqlSession, type SmallResult } from '../sql/session.ts';
import { DEFAULT_TARGET, type ConnectionTarget } from '../sql/target.ts';
import type { Site, StoryStatement, StoryStep } from './story.ts';

export interface StoryOptions {
  readonly steps: readonly StoryStep[];
  readonly addresses: Readonly<Record<Site, { readonly host: string; readonly port: number }>>;
  readonly stdout: Writable;
  readonly monotonicMs: () => number;
  /** Time of day, by the same clock as the nodes'. */
  readonly nowMs: () => number;
  /** Aborts between two statements. */
  readonly signal: AbortSignal;
}

const POLL_MS = 100;
/** Far more than a small ledger takes on a slow machine. */
const AWAIT_MS_MAX = 120_000;

/** Tells the story: prints every statement, its result and how long it took. @throws AppError when it ends otherwise */
export async function runStory(options: StoryOptions): Promise<void> {
  const { steps, stdout } = options;
  const teller = new Teller(options);
  try {
    for (const [index, step] of steps.entries()) {
      stdout.write(`\n${index + 2}. ${step.title}\n\n`);
      for (const statement of step.statements) await teller.tell(statement);
    }
  } finally {
    await teller.close();
  }
}

class Teller {
  readonly #options: StoryOptions;
  #original: SmallResult | undefined;
  /** Everything up to here has been replicated. */
  #replicatedTime: Timestamp | undefined;
  #session: { readonly key: string; readonly session: SqlSession } | undefined;

  constructor(options: StoryOptions) {
    this.#options = options;
  }

  async tell(statement: StoryStatement): Promise<void> {
    const { stdout, monotonicMs, signal } = this.#options;
    signal.throwIfAborted();
    this.#showStatement(statement);
    const session = await this.#sessionFor(statement);
    const beganMs = monotonicMs();
    let result: SmallResult;
    try {
      result = await this.#resultOf(statement, session);
    } catch (error) {
      if (signal.aborted) throw error;
      stdout.write(indent(formatError(error, statement.sql)));
      throw new AppError('internal', 'the demonstration did not end as it should', { cause: error });
    }
    const elapsed = `${((monotonicMs() - beganMs) / 1000).toFixed(2)} s\n`;
    if (result.columns.length > 0) stdout.write(indent(formatResult(result)));
    stdout.write(indent(elapsed));
    this.#judge(statement, result);
  }

  async close(): Promise<void> {
    await this.#session?.session[Symbol.asyncDispose]();
    this.#session = undefined;
  }

  #showStatement({ site, cluster, sql, awaits }: StoryStatement): void {
    const prompt = `   ${site}/${cluster}> `;
    const [first = '', ...rest] = sql.split('\n');
    const lines = [`${prompt}${first}`, ...rest.map((line) => `${' '.repeat(prompt.length)}${line}`)];
    this.#options.stdout.write(
      `${lines.join('\n')};${awaits === undefined ? '' : `  -- until "${awaits}"`}\n`,
    );
  }

  async #resultOf(statement: StoryStatement, session: SqlSession): Promise<SmallResult> {
    const { monotonicMs, nowMs, signal } = this.#options;
    const { sql, awaits } = statement;
    if (awaits === undefined) return await session.query(sql);
    const [deadlineMs, began] = [monotonicMs() + AWAIT_MS_MAX, timestampFromMs(nowMs())];
    for (;;) {
      const result = await session.query(sql);
      const isThere = textOf(result, 'status') === awaits;
      const time = awaits === 'ready' ? undefined : textOf(result, 'replicated_time');
      if (isThere && awaits === 'ready') return result;
      if (isThere && typeof time === 'string' && parseTimestamp(time) > began) {
        this.#replicatedTime = began;
        return result;
      }
      if (monotonicMs() > deadlineMs) {
        const status = textOf(result, 'status') ?? 'unknown';
        throw new AppError('connection_failure', `not "${awaits}" in time, but "${status}"`);
      }
      await sleep(POLL_MS, undefined, { signal });
    }
  }

  /** @throws AppError `data_corrupt` when a copy differs from its original, or a failover has left out what was replicated */
  #judge({ content }: StoryStatement, result: SmallResult): void {
    const { stdout } = this.#options;
    const failoverTime = textOf(result, 'failover_time');
    if (failoverTime !== undefined) {
      const time = (BigInt(failoverTime.split('.')[0] ?? '') / 1000n) as Timestamp; // Written in nanoseconds.
      if (this.#replicatedTime === undefined || time < this.#replicatedTime) {
        throw new AppError('data_corrupt', 'the failover went back behind what had been replicated');
      }
      stdout.write(indent(`That is ${formatTimestamp(time)}: later than the last transfer.\n`));
    }
    if (content === 'original') this.#original = result;
    if (content === 'copy') {
      if (this.#original === undefined || !isSame(this.#original, result)) {
        throw new AppError('data_corrupt', 'the content differs from what it is a copy of');
      }
      stdout.write(indent('Every row is there: counts and hashes are equal.\n'));
    }
  }

  async #sessionFor({ site, cluster, database }: StoryStatement): Promise<SqlSession> {
    const key = `${site}/${cluster}/${database}`;
    if (this.#session?.key === key && !this.#session.session.isLost) return this.#session.session;
    await this.close();
    const { addresses, stdout } = this.#options;
    const { host, port } = addresses[site];
    const target: ConnectionTarget = {
      ...DEFAULT_TARGET,
      host,
      port,
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

/** What stands in a column of the first row. */
function textOf(result: SmallResult, column: string): string | undefined {
  const cell = result.rows[0]?.[result.columns.findIndex(({ name }) => name === column)];
  return typeof cell === 'string' ? cell : undefined;
}

function isSame(left: SmallResult, right: SmallResult): boolean {
  return JSON.stringify(left) === JSON.stringify(right);
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
