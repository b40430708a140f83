/** What the statements of one virtual cluster's clients come to, as their backends answer them. */
import type { Clock } from '../base/index.ts';

/** Upper bounds of the buckets that latencies are counted in, in milliseconds; what took longer is in one more. */
export const LATENCY_BOUNDS_MS = [0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000, 10_000] as const;

export interface LatencyFigures {
  /** By bucket, each without those below it. */
  readonly counts: number[];
  sumMs: number;
}

/** They only rise. Plain data: they travel between processes. */
export interface StatementFigures {
  selects: number;
  inserts: number;
  updates: number;
  deletes: number;
  /** BEGIN and START TRANSACTION. */
  begins: number;
  /** Of all kinds, completed or failed. */
  statements: number;
  failures: number;
  /** Transactions in which a statement failed, of those that were begun by a statement. */
  aborts: number;
  /** From a query that is sent on to the end of its answer; that of a pipeline from one Sync to the next. */
  readonly service: LatencyFigures;
  /** From the first query of a transaction to the end of the answer to its last. */
  readonly transactions: LatencyFigures;
}

export function zeroFigures(): StatementFigures {
  const noLatency = (): LatencyFigures => ({
    counts: Array.from({ length: LATENCY_BOUNDS_MS.length + 1 }, () => 0),
    sumMs: 0,
  });
  return {
    selects: 0,
    inserts: 0,
    updates: 0,
    deletes: 0,
    begins: 0,
    statements: 0,
    failures: 0,
    aborts: 0,
    service: noLatency(),
    transactions: noLatency(),
  };
}

type Kind = 'selects' | 'inserts' | 'updates' | 'deletes' | 'begins';

/** How the tags of CommandComplete begin; as many bytes tell them from all others. */
const TAG_BYTES = 3;
const KINDS: ReadonlyMap<number, Kind> = new Map(
  (
    [
      ['SEL', 'selects'],
      ['INS', 'inserts'],
      ['UPD', 'updates'],
      ['DEL', 'deletes'],
      ['BEG', 'begins'],
      ['STA', 'begins'],
    ] as const
  ).map(([tag, kind]) => [Buffer.from(tag).readUIntBE(0, TAG_BYTES), kind]),
);
/** What must be there of a CommandComplete: its header, and what tells the tag. */
export const COMPLETION_BYTES = 5 + TAG_BYTES;

const IDLE = 'I'.charCodeAt(0);
const FAILED = 'E'.charCodeAt(0);
const IN_TRANSACTION = 'T'.charCodeAt(0);

/** Counts what one session does into the figures of its virtual cluster. Called for every message: nothing is allocated. */
export class StatementMeter {
  readonly #figures: StatementFigures;
  readonly #clock: Clock;
  /** When what is unanswered was sent, and when the open transaction began; 0 for nothing. */
  #askedAtMs = 0;
  #begunAtMs = 0;

  constructor(figures: StatementFigures, { clock }: { readonly clock: Clock }) {
    this.#figures = figures;
    this.#clock = clock;
  }

  /** Something has gone to the backend that it answers by ReadyForQuery. */
  asked(): void {
    if (this.#askedAtMs !== 0) return;
    this.#askedAtMs = this.#clock.monotonicMs();
    if (this.#begunAtMs === 0) this.#begunAtMs = this.#askedAtMs;
  }

  /** A CommandComplete in `[at, end)`; `COMPLETION_BYTES` of it are there, if it has as many. */
  completed(bytes: Buffer, { at, end }: { at: number; end: number }): void {
    this.#figures.statements += 1;
    if (end - at < COMPLETION_BYTES) return;
    const kind = KINDS.get(bytes.readUIntBE(at + COMPLETION_BYTES - TAG_BYTES, TAG_BYTES));
    if (kind !== undefined) this.#figures[kind] += 1;
  }

  failed(): void {
    this.#figures.statements += 1;
    this.#figures.failures += 1;
  }

  /** ReadyForQuery, with the status before it and in it. `owesMore` when others are still to come. */
  ready(options: { before: number; status: number; owesMore: boolean }): void {
    const { before, status, owesMore } = options;
    if (before === IN_TRANSACTION && status === FAILED) this.#figures.aborts += 1;
    if (this.#askedAtMs === 0) return;
    const nowMs = this.#clock.monotonicMs();
    note(this.#figures.service, nowMs - this.#askedAtMs);
    this.#askedAtMs = owesMore ? nowMs : 0;
    if (status !== IDLE) return;
    note(this.#figures.transactions, nowMs - this.#begunAtMs);
    this.#begunAtMs = this.#askedAtMs;
  }

  /** What was asked was ours, or is lost with its backend. */
  forget(): void {
    this.#askedAtMs = 0;
    this.#begunAtMs = 0;
  }
}

function note(figures: LatencyFigures, ms: number): void {
  let bucket = 0;
  while (bucket < LATENCY_BOUNDS_MS.length && ms > (LATENCY_BOUNDS_MS[bucket] as number)) bucket += 1;
  figures.counts[bucket] = (figures.counts[bucket] ?? 0) + 1;
  figures.sumMs += ms;
}

/** Those of several processes together. */
export function sumFigures(all: readonly StatementFigures[]): StatementFigures {
  const sum = zeroFigures();
  for (const figures of all) {
    for (const name of [
      'selects',
      'inserts',
      'updates',
      'deletes',
      'begins',
      'statements',
      'failures',
      'aborts',
    ] as const) {
      sum[name] += figures[name];
    }
    for (const name of ['service', 'transactions'] as const) {
      sum[name].sumMs += figures[name].sumMs;
      for (const [bucket, count] of figures[name].counts.entries()) {
        sum[name].counts[bucket] = (sum[name].counts[bucket] ?? 0) + count;
      }
    }
  }
  return sum;
}
