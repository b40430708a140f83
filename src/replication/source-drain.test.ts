import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type IncarnationId, isAppError, type JobId, type Lsn } from '../base/index.ts';
import {
  drainAnswer,
  drainWish,
  nextSourceDrain,
  parseSourceDrain,
  printSourceDrain,
  type SourceDrain,
  type SourceDrainEvent,
} from './source-drain.ts';
import type { StreamState } from './stream-state.ts';
import { streamAnswerSchema, streamReportSchema } from './stream-terms.ts';
import { printStreamAnswer } from './stream-record.ts';

type Name = 'never drained' | SourceDrain['kind'];
type EventName =
  | 'asked'
  | 'asked, another attempt'
  | 'out of service'
  | 'cannot'
  | 'given up'
  | 'given up, another attempt'
  | 'FORCE'
  | 'serves';
/** `–`: nothing changes. */
type Outcome = Name | '–';

const [FIRST, SECOND] = ['4a4109b7-7cf1-49dc-9cd9-32a5ae1b8f7c', '5b4109b7-7cf1-49dc-9cd9-32a5ae1b8f7c'];
const origin = { streamId: 77n as JobId, drainId: FIRST, incarnation: FIRST as IncarnationId };
const other = { ...origin, drainId: SECOND };
const lsn = 0x16_b374d848n as Lsn;

const STATES: Record<Name, SourceDrain | undefined> = {
  'never drained': undefined,
  draining: { kind: 'draining', ...origin },
  drained: { kind: 'drained', ...origin, lsn },
  lifting: { kind: 'lifting', ...origin, reason: 'because' },
  lifted: { kind: 'lifted', ...origin, reason: 'because' },
};

const EVENTS: Record<EventName, SourceDrainEvent> = {
  asked: { kind: 'asked', ...origin },
  'asked, another attempt': { kind: 'asked', ...other },
  'out of service': { kind: 'stopped', lsn },
  cannot: { kind: 'refused', reason: 'because' },
  'given up': { kind: 'given_up', drainId: FIRST },
  'given up, another attempt': { kind: 'given_up', drainId: SECOND },
  FORCE: { kind: 'forced' },
  serves: { kind: 'served' },
};

const none: Record<EventName, Outcome> = {
  asked: '–',
  'asked, another attempt': '–',
  'out of service': '–',
  cannot: '–',
  'given up': '–',
  'given up, another attempt': '–',
  FORCE: '–',
  serves: '–',
};

const EXPECTED: Record<Name, Record<EventName, Outcome>> = {
  'never drained': { ...none, asked: 'draining', 'asked, another attempt': 'draining' },
  draining: {
    ...none,
    'out of service': 'drained',
    cannot: 'lifted',
    'given up': 'lifting',
    FORCE: 'lifting',
  },
  drained: { ...none, 'given up': 'lifting', FORCE: 'lifting' },
  lifting: { ...none, serves: 'lifted' },
  lifted: { ...none, 'asked, another attempt': 'draining' },
};

const names = Object.keys(STATES) as Name[];
const eventNames = Object.keys(EVENTS) as EventName[];

describe('the states of a source that is drained', () => {
  it('follow the table', () => {
    for (const name of names) {
      for (const event of eventNames) {
        const before = STATES[name];
        const next = nextSourceDrain(before, EVENTS[event]);
        const outcome = next === before ? '–' : (next?.kind ?? 'never drained');
        assert.equal(outcome, EXPECTED[name][event], `${name} × ${event}`);
      }
    }
  });

  it('are described as they are', () => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/replication-states.md'), 'utf8');
    assert.ok(page.includes(`| | ${eventNames.join(' | ')} |`));
    for (const name of names) {
      const cells = eventNames.map((event) => EXPECTED[name][event]);
      assert.ok(
        page.includes(`| ${name} | ${cells.join(' | ')} |`),
        `the page differs in the row of ${name}`,
      );
    }
  });

  it('say the same when asked twice', () => {
    for (const name of names) {
      for (const event of eventNames) {
        const once = nextSourceDrain(STATES[name], EVENTS[event]);
        assert.deepEqual(nextSourceDrain(once, EVENTS[event]), once, `${name} × ${event}`);
      }
    }
  });

  it('begin anew in another life of the data', () => {
    const asked = { kind: 'asked', ...origin, incarnation: SECOND as IncarnationId } as const;
    for (const name of names) assert.equal(nextSourceDrain(STATES[name], asked)?.kind, 'draining');
  });

  it('are read as they were written', () => {
    for (const drain of Object.values(STATES)) {
      if (drain !== undefined) assert.deepEqual(parseSourceDrain(printSourceDrain(drain)), drain);
    }
    for (const text of ['', '{"kind":"drained"}', '{"kind":"unknown"}']) {
      assert.throws(
        () => parseSourceDrain(text),
        (error) => isAppError(error, 'data_corrupt'),
      );
    }
  });

  it('are told to the consumer that asked, and to no other', () => {
    const wish = { id: FIRST, isWanted: true };
    for (const drain of Object.values(STATES)) {
      const answer = drainAnswer(drain, { streamId: origin.streamId, wish });
      const text = printStreamAnswer({ incarnation: origin.incarnation, lsn, drain: answer });
      assert.deepEqual(streamAnswerSchema.parse(JSON.parse(text)).drain, answer);
      const stranger = drainAnswer(drain, { streamId: 78n as JobId, wish: { id: SECOND, isWanted: true } });
      assert.deepEqual([stranger?.kind, stranger?.id], ['lifted', SECOND]);
      assert.equal(drainAnswer(drain, { streamId: 78n as JobId, wish: null }), null);
    }
  });

  it('are asked for by reports of a release that knows nothing of them, too', () => {
    const report = streamReportSchema.parse({ replicatedTime: null, replicatedLsn: null });
    assert.equal(report.drain, undefined);
  });
});

/**
 * A consumer and its producer with a network between them that loses, repeats and delays reports and answers as it likes. Each attempt that is cut
 * must be one after whose end the source has written nothing.
 */
describe('a planned failover over a network that loses and delays', () => {
  it('never cuts behind what the source writes, and undoes what was given up', () => {
    const step = fc.constantFrom(
      'ask',
      'give up',
      'send',
      'deliver first',
      'deliver last',
      'lose',
      'source works',
      'force',
      'answer',
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        let attempt = 0;
        let drain: SourceDrain | undefined;
        let end = 0n;
        let state: StreamState = { kind: 'replicating' };
        let answer: ReturnType<typeof drainAnswer> = null;
        const reports: NonNullable<ReturnType<typeof drainWish>>[] = [];
        const answers: ReturnType<typeof drainAnswer>[] = [];
        const heed = (wish: NonNullable<ReturnType<typeof drainWish>>) => {
          drain = nextSourceDrain(
            drain,
            wish.isWanted
              ? { kind: 'asked', ...origin, drainId: wish.id }
              : { kind: 'given_up', drainId: wish.id },
          );
          answers.push(drainAnswer(drain, { streamId: origin.streamId, wish }));
        };
        let isForced = false;
        for (const each of steps) {
          switch (each) {
            case 'ask':
              attempt += 1;
              if (state.kind === 'replicating') {
                state = { kind: 'draining', drainId: FIRST.slice(0, -3) + String(100 + attempt) };
              }
              break;
            case 'give up':
              state = { kind: 'replicating' };
              break;
            case 'send': {
              const wish = drainWish(state, answer);
              if (wish !== null) reports.push(wish);
              break;
            }
            case 'deliver first':
            case 'deliver last': {
              const wish = each === 'deliver first' ? reports.shift() : reports.pop();
              if (wish !== undefined) heed(wish);
              break;
            }
            case 'lose':
              reports.pop();
              answers.pop();
              break;
            case 'source works':
              if (drain?.kind === 'draining')
                drain = nextSourceDrain(drain, { kind: 'stopped', lsn: end as Lsn });
              else if (drain?.kind === 'lifting') drain = nextSourceDrain(drain, { kind: 'served' });
              else if (drain?.kind !== 'drained') end += 1n;
              break;
            case 'force':
              drain = nextSourceDrain(drain, { kind: 'forced' });
              isForced = true;
              break;
            case 'answer': {
              answer = answers.shift() ?? answer;
              if (answer?.kind !== 'drained' || state.kind !== 'draining' || answer.id !== state.drainId)
                break;
              // The cut: unless somebody has forced the source to serve, nothing is or will be written behind it.
              if (!isForced) {
                assert.equal(drain?.kind, 'drained');
                assert.equal(answer.lsn, end);
              }
              for (const late of reports) heed(late);
              if (!isForced) assert.equal(drain?.kind, 'drained');
              return;
            }
          }
        }
        // Whatever happened, a consumer that wants nothing and is answered gets a source that serves.
        state = { kind: 'replicating' };
        for (const late of reports) heed(late);
        for (let round = 0; round < 4; round += 1) {
          heed(
            drainWish(state, drainAnswer(drain, { streamId: origin.streamId, wish: null })) ?? {
              id: SECOND,
              isWanted: false,
            },
          );
          if (drain?.kind === 'lifting') drain = nextSourceDrain(drain, { kind: 'served' });
        }
        assert.ok(drain === undefined || drain.kind === 'lifted', drain?.kind);
      }),
      { numRuns: 2000 },
    );
  });
});
