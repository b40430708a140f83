import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CorruptError, isAppError, type Lsn, parseLsn } from '../base/index.ts';
import {
  formatTimelineHistoryName,
  leadsThrough,
  parseTimelineHistory,
  parseTimelineHistoryName,
  printTimelineHistory,
  rootTimelineHistory,
  timelineAt,
  timelineSpans,
  type TimelineHistory,
} from './timeline-history.ts';

const TEXT = '1\t0/3000000\tno recovery target specified\n\n2\t0/50000A8\tbefore LSN 0/50000A8\n';
const history = parseTimelineHistory({ text: TEXT, timelineId: 5 });
const at = (text: string) => parseLsn(text);

/** Ascending timelines, each left at or after where it was begun. */
const histories: fc.Arbitrary<TimelineHistory> = fc
  .tuple(
    fc.array(
      fc.tuple(
        fc.integer({ min: 1, max: 1000 }),
        fc.bigInt({ min: 0n, max: 1n << 59n }),
        fc.stringMatching(/^[ -~]*$/),
      ),
      { maxLength: 8 },
    ),
    fc.integer({ min: 1, max: 1000 }),
  )
  .map(([steps, lastStep]) => {
    let [timelineId, lsn] = [0, 0n];
    const spans = steps.map(([step, distance, reason]) => {
      timelineId += step;
      const beginLsn = lsn as Lsn;
      lsn += distance;
      return { timelineId, beginLsn, endLsn: lsn as Lsn, reason };
    });
    return [...spans, { timelineId: timelineId + lastStep, beginLsn: lsn as Lsn, endLsn: null, reason: '' }];
  });

describe('a timeline history', () => {
  it('is read as Postgres writes it, and printed the same', () => {
    assert.deepEqual(history, [
      { timelineId: 1, beginLsn: 0n, endLsn: at('0/3000000'), reason: 'no recovery target specified' },
      {
        timelineId: 2,
        beginLsn: at('0/3000000'),
        endLsn: at('0/50000A8'),
        reason: 'before LSN 0/50000A8',
      },
      { timelineId: 5, beginLsn: at('0/50000A8'), endLsn: null, reason: '' },
    ]);
    assert.equal(printTimelineHistory(history), TEXT);
    assert.equal(printTimelineHistory(rootTimelineHistory(1)), '');
  });

  it('survives printing and reading', () => {
    fc.assert(
      fc.property(histories, (any) => {
        const timelineId = any.at(-1)?.timelineId ?? 1;
        assert.deepEqual(parseTimelineHistory({ text: printTimelineHistory(any), timelineId }), any);
      }),
    );
  });

  it('may hold comments', () => {
    const text = `# by hand\n  \n1 0/3000000\n`;
    assert.equal(parseTimelineHistory({ text, timelineId: 2 })[0]?.endLsn, at('0/3000000'));
  });

  it('is refused when it cannot be', () => {
    const bad = [
      'x\t0/1\tr',
      '1\tnowhere\tr',
      '1',
      '0\t0/1\tr',
      '5\t0/1\tr',
      '2\t0/2\tr\n1\t0/3\tr',
      '1\t0/3\tr\n2\t0/2\tr',
      '1\t0/3\tr\n1\t0/4\tr',
      '99999999999\t0/1\tr',
    ];
    for (const text of bad) {
      assert.throws(() => parseTimelineHistory({ text, timelineId: 5 }), CorruptError, text);
    }
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseTimelineHistory({ text, timelineId: 7 });
        } catch (error) {
          assert.ok(isAppError(error, 'data_corrupt'));
        }
      }),
    );
  });

  it('tells whose a position is', () => {
    const of = (lsn: string) => timelineAt({ history, lsn: at(lsn) }).timelineId;
    assert.deepEqual(
      ['0/0', '0/2FFFFFF', '0/3000000', '0/50000A7', '0/50000A8', '9/0'].map(of),
      [1, 1, 2, 2, 5, 5],
    );
  });

  it('tells whether it goes on from a position', () => {
    const leads = (timelineId: number, lsn: string) => leadsThrough(history, { timelineId, lsn: at(lsn) });
    assert.ok(leads(1, '0/3000000'));
    assert.ok(!leads(1, '0/3000001'));
    assert.ok(leads(2, '0/3000000'));
    assert.ok(!leads(2, '0/2FFFFFF'));
    assert.ok(!leads(3, '0/3000000'));
    assert.ok(leads(5, '9/0'));
  });

  it('divides a stretch of the log without gap or overlap', () => {
    const lsns = fc.bigInt({ min: 0n, max: (1n << 63n) - 1n });
    fc.assert(
      fc.property(histories, lsns, lsns, (any, one, other) => {
        const [fromLsn, toLsn] = (one < other ? [one, other] : [other, one]) as [Lsn, Lsn];
        const spans = timelineSpans({ history: any, fromLsn, toLsn });
        let position = fromLsn;
        for (const span of spans) {
          assert.equal(span.fromLsn, position);
          assert.equal(timelineAt({ history: any, lsn: position }).timelineId, span.timelineId);
          position = span.toLsn;
        }
        assert.equal(position, toLsn);
      }),
    );
  });

  it('has a name', () => {
    assert.equal(formatTimelineHistoryName(0xab), '000000AB.history');
    assert.equal(parseTimelineHistoryName('000000AB.history'), 0xab);
    assert.throws(() => parseTimelineHistoryName('000000ab.history'));
  });
});
