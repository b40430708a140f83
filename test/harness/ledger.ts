import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';

const ACCOUNTS = 200;

/** How far every writer had come: writer number to the sequence number of its last acknowledged commit. */
export type Acknowledged = ReadonlyMap<number, number>;

/** Of one transaction, by the clock of the wall. */
interface Times {
  readonly begunMs: number;
  acknowledgedMs: number | null;
}

/**
 * Writers that never stop, each numbering its transactions. What was acknowledged to them is recorded here, outside the
 * database, so that a lost commit or half a transaction cannot hide.
 */
export class Ledger implements AsyncDisposable {
  readonly #connect: () => Promise<pg.Client>;
  readonly #atLeast: Acknowledged;
  readonly #acknowledged = new Map<number, number>();
  /** By writer, then by sequence number. */
  readonly #times = new Map<number, Map<number, Times>>();
  readonly #losses: string[] = [];
  readonly #writers: Promise<void>[] = [];
  #isStopping = false;

  private constructor(connect: () => Promise<pg.Client>, atLeast: Acknowledged) {
    this.#connect = connect;
    this.#atLeast = atLeast;
  }

  /** `atLeast` is what must be there already. */
  static async start(options: {
    connect: () => Promise<pg.Client>;
    writers: number;
    atLeast?: Acknowledged;
  }): Promise<Ledger> {
    const ledger = new Ledger(options.connect, options.atLeast ?? new Map());
    const client = await options.connect();
    await client.query(`
      CREATE TABLE IF NOT EXISTS ledger (writer int, seq int, account int, amount int, PRIMARY KEY (writer, seq));
      CREATE TABLE IF NOT EXISTS account (id int PRIMARY KEY, balance bigint NOT NULL);
      INSERT INTO account SELECT n, 0 FROM generate_series(1, ${ACCOUNTS}) n ON CONFLICT DO NOTHING`);
    await client.end();
    for (let writer = 0; writer < options.writers; writer += 1) {
      ledger.#acknowledged.set(writer, options.atLeast?.get(writer) ?? 0);
      ledger.#times.set(writer, new Map());
      ledger.#writers.push(ledger.#write(writer));
    }
    return ledger;
  }

  /** A copy of what has been acknowledged up to now. */
  acknowledged(): Acknowledged {
    return new Map(this.#acknowledged);
  }

  /** How far every writer was at that moment: what was acknowledged to it by then, and what it had begun. */
  at(moment: number): { readonly acknowledged: Acknowledged; readonly begun: Acknowledged } {
    const newest = (isOf: (times: Times) => boolean) =>
      new Map(
        [...this.#times].map(([writer, times]) => {
          const all = [...times].filter(([, each]) => isOf(each)).map(([seq]) => seq);
          return [writer, Math.max(this.#atLeast.get(writer) ?? 0, ...all)] as const;
        }),
      );
    return {
      acknowledged: newest(({ acknowledgedMs }) => acknowledgedMs !== null && acknowledgedMs < moment),
      begun: newest(({ begunMs }) => begunMs <= moment),
    };
  }

  /** Commits that a writer was told of and did not find when it came back. */
  get losses(): readonly string[] {
    return this.#losses;
  }

  /** All that was acknowledged to anyone. */
  get commits(): number {
    return [...this.#acknowledged.values()].reduce((sum, seq) => sum + seq, 0);
  }

  async #write(writer: number): Promise<void> {
    while (!this.#isStopping) {
      try {
        await this.#writeUntilCutOff(writer);
      } catch {
        await sleep(50); // Cut off; what this writer was told stays recorded.
      }
    }
  }

  async #writeUntilCutOff(writer: number): Promise<void> {
    const client = await this.#connect();
    try {
      const { rows } = await client.query(
        'SELECT coalesce(max(seq), 0) AS seq FROM ledger WHERE writer = $1',
        [writer],
      );
      let seq = Number(rows[0]?.seq);
      const told = this.#acknowledged.get(writer) ?? 0;
      if (seq < told) this.#losses.push(`writer ${writer} was told ${told}, and finds ${seq}`);
      while (!this.#isStopping) {
        seq += 1;
        const times = this.#begin(writer, seq);
        const account = 1 + ((writer * 31 + seq * 7) % ACCOUNTS);
        const amount = (seq % 19) - 9;
        await client.query('BEGIN');
        await client.query('INSERT INTO ledger VALUES ($1, $2, $3, $4)', [writer, seq, account, amount]);
        await client.query('UPDATE account SET balance = balance + $2 WHERE id = $1', [account, amount]);
        await client.query('COMMIT');
        this.#acknowledged.set(writer, seq);
        times.acknowledgedMs = Date.now();
      }
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** What is tried again was begun when it was tried first. */
  #begin(writer: number, seq: number): Times {
    const times = this.#times.get(writer)?.get(seq) ?? { begunMs: Date.now(), acknowledgedMs: null };
    this.#times.get(writer)?.set(seq, times);
    return times;
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#writers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/**
 * Whole transactions only, none missing in the middle, at least what had been acknowledged at `floor`, and nothing that
 * was begun after `ceiling`.
 */
export async function assertLedger(
  client: pg.Client,
  bounds: { floor: Acknowledged; ceiling?: Acknowledged },
): Promise<void> {
  const { rows } = await client.query<{ writer: number; last: number; count: string }>(
    'SELECT writer, max(seq) AS last, count(*) AS count FROM ledger GROUP BY writer',
  );
  const byWriter = new Map(rows.map((row) => [row.writer, row]));
  for (const [writer, seq] of bounds.floor) {
    const row = byWriter.get(writer);
    assert.ok((row?.last ?? 0) >= seq, `writer ${writer} was told ${seq}, the table ends at ${row?.last}`);
    assert.equal(Number(row?.count ?? 0), row?.last ?? 0, `writer ${writer} has a gap`);
    const ceiling = bounds.ceiling?.get(writer);
    // One transaction may have been under way, unacknowledged, when the ceiling was read.
    if (ceiling !== undefined)
      assert.ok((row?.last ?? 0) <= ceiling + 1, `writer ${writer} has rows of the future`);
  }
  const sums = await client.query<{ same: boolean }>(
    `SELECT (SELECT sum(balance) FROM account) IS NOT DISTINCT FROM (SELECT coalesce(sum(amount), 0) FROM ledger) AS same`,
  );
  assert.ok(sums.rows[0]?.same, 'half a transaction: balances and ledger disagree');
}
