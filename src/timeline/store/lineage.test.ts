import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type IncarnationId, isAppError, type Lsn } from '../../base/index.ts';
import type { BaseSummary, IncarnationRecord } from '../store-contract.ts';
import {
  historyFileName,
  isOnTheWay,
  newestHeldBaseFor,
  newestSoundBaseFor,
  stretchesTo,
  timelineHistory,
} from './lineage.ts';

const id = (name: string) => name as IncarnationId;
const lsn = (value: number) => BigInt(value) as Lsn;

function record(
  name: string,
  options: { parent?: string; timelines: readonly (readonly [timelineId: number, beginLsn: number])[] },
): IncarnationRecord {
  const timelines = options.timelines.map(([timelineId, beginLsn]) => ({
    timelineId,
    beginLsn: lsn(beginLsn),
  }));
  return {
    incarnation: id(name),
    parentIncarnation: options.parent === undefined ? null : id(options.parent),
    forkLsn: options.parent === undefined ? null : (timelines[0]?.beginLsn ?? null),
    systemIdentifier: 1n,
    engineMajor: 18,
    timelines,
  };
}

/** A mother with two children that left her at different positions, both for a timeline called 2, and a grandchild. */
const FAMILY = [
  record('grandchild', { parent: 'early', timelines: [[3, 150]] }),
  record('mother', { timelines: [[1, 0]] }),
  record('early', { parent: 'mother', timelines: [[2, 100]] }),
  record('late', { parent: 'mother', timelines: [[2, 200]] }),
];

function way(name: string, at: number, timelineId: number): string[] {
  const point = { incarnation: id(name), lsn: lsn(at), timelineId };
  return stretchesTo(point, FAMILY).map(
    (stretch) => `${stretch.incarnation} ${stretch.timelineId} ${stretch.beginLsn}-${stretch.endLsn}`,
  );
}

describe('the way to a point', () => {
  it('leads through every ancestor, each up to where it was left', () => {
    assert.deepEqual(way('mother', 500, 1), ['mother 1 0-500']);
    assert.deepEqual(way('early', 120, 2), ['mother 1 0-100', 'early 2 100-120']);
    assert.deepEqual(way('late', 220, 2), ['mother 1 0-200', 'late 2 200-220']);
    assert.deepEqual(way('grandchild', 170, 3), [
      'mother 1 0-100',
      'early 2 100-150',
      'grandchild 3 150-170',
    ]);
  });

  it('is the parent’s where a child has written nothing yet, and before it left', () => {
    assert.deepEqual(way('early', 100, 2), ['mother 1 0-100']);
    assert.deepEqual(way('grandchild', 120, 3), ['mother 1 0-100', 'early 2 100-120']);
    assert.deepEqual(way('grandchild', 60, 3), ['mother 1 0-60']);
  });

  it('follows one incarnation over promotions, and no further than the timeline of the point', () => {
    const records = [
      record('twice', {
        timelines: [
          [4, 0],
          [5, 50],
          [7, 90],
        ],
      }),
    ];
    const to = (at: number, timelineId: number) =>
      stretchesTo({ incarnation: id('twice'), lsn: lsn(at), timelineId }, records).map(
        (stretch) => `${stretch.timelineId} ${stretch.beginLsn}-${stretch.endLsn}`,
      );
    assert.deepEqual(to(100, 7), ['4 0-50', '5 50-90', '7 90-100']);
    assert.deepEqual(to(95, 5), ['4 0-50', '5 50-95']);
  });

  it('is refused when nobody knows the incarnation, or its ancestors lead in a circle', () => {
    const point = { incarnation: id('stranger'), lsn: lsn(1), timelineId: 1 };
    assert.throws(
      () => stretchesTo(point, FAMILY),
      (error) => isAppError(error, 'object_not_found'),
    );
    const circle = [
      record('a', { parent: 'b', timelines: [[1, 10]] }),
      record('b', { parent: 'a', timelines: [[1, 10]] }),
    ];
    assert.throws(
      () => stretchesTo({ incarnation: id('a'), lsn: lsn(20), timelineId: 1 }, circle),
      (error) => isAppError(error, 'data_corrupt'),
    );
  });

  it('takes a base of its own and never a sibling’s of the same timeline and position', () => {
    const stretches = stretchesTo({ incarnation: id('early'), lsn: lsn(300), timelineId: 2 }, FAMILY);
    const base = (name: string, timelineId: number, startLsn: number, stopLsn: number) =>
      isOnTheWay(
        { incarnation: id(name), timelineId, startLsn: lsn(startLsn), stopLsn: lsn(stopLsn) },
        stretches,
      );
    assert.equal(base('early', 2, 210, 220), true);
    assert.equal(base('late', 2, 210, 220), false);
    assert.equal(base('mother', 1, 50, 100), true);
    assert.equal(base('mother', 1, 50, 101), false, 'consistent only after the child had left');
    assert.equal(base('early', 2, 290, 301), false, 'consistent only after the point');
  });

  it('begins at the newest base that is sound, and at a damaged one only when it is the only one', () => {
    const base = (subdirectory: string, stopLsn: number) =>
      // Only what is looked at.
      ({
        subdirectory,
        incarnation: id('mother'),
        timelineId: 1,
        startLsn: lsn(stopLsn - 5),
        stopLsn: lsn(stopLsn),
      }) as unknown as BaseSummary;
    const point = { incarnation: id('mother'), lsn: lsn(90), timelineId: 1 };
    const choose = (avoid: readonly string[] | undefined) =>
      newestSoundBaseFor(point, {
        bases: [base('a', 20), base('b', 40), base('c', 99)],
        incarnations: FAMILY,
        avoid,
      })?.subdirectory;
    assert.equal(choose(undefined), 'b');
    assert.equal(choose(['b']), 'a');
    assert.equal(choose(['a', 'b']), 'b');
  });

  it('begins at the newest base that all log follows, however late one without it was complete', () => {
    const base = (subdirectory: string, startLsn: number, stopLsn: number) =>
      // Only what is looked at.
      ({
        subdirectory,
        incarnation: id('mother'),
        timelineId: 1,
        startLsn: lsn(startLsn),
        stopLsn: lsn(stopLsn),
      }) as unknown as BaseSummary;
    const point = { incarnation: id('mother'), lsn: lsn(90), timelineId: 1 };
    const choose = (heldLsn: number, avoid?: readonly string[]) =>
      newestHeldBaseFor(point, {
        bases: [base('short', 50, 60), base('long', 40, 70)],
        incarnations: FAMILY,
        avoid,
        heldLsn: lsn(heldLsn),
      })?.subdirectory;
    assert.equal(choose(40), 'long');
    assert.equal(choose(50), 'short');
    assert.equal(choose(50, ['short']), 'short', 'better damaged than without its log');
    assert.equal(choose(51), 'long', 'what is missing is told by who needs it');
  });

  it('is told to Postgres as a history file', () => {
    const point = { incarnation: id('grandchild'), lsn: lsn(0x1_0000_0000), timelineId: 3 };
    const history = timelineHistory(stretchesTo(point, FAMILY));
    assert.deepEqual(history?.timelineId, 3);
    assert.deepEqual(
      history?.text.split('\n').map((line) => line.split('\t').slice(0, 2).join(' ')),
      ['1 0/64', '2 0/96', ''],
    );
    assert.equal(historyFileName(0x1f), '0000001F.history');
    // Replay may begin on a later timeline, and Postgres wants a file all the same.
    const ownOnly = stretchesTo(point, FAMILY).slice(-1);
    assert.deepEqual(timelineHistory(ownOnly), {
      timelineId: 3,
      text: '# Replay begins on this timeline.\n',
    });
    assert.equal(
      timelineHistory(stretchesTo({ ...point, incarnation: id('mother'), timelineId: 1 }, FAMILY)),
      null,
    );
  });
});
