import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Lsn } from '../../base/index.ts';
import { FORK, type RelationLocator } from '../../pg/index.ts';
import { ChangedSetBuilder, relationInDirectory } from './changed-set.ts';
import { partsOfSpan, planChanges } from './plan.ts';

/** What is done to a set. */
type Step =
  | {
      readonly kind: 'mark' | 'limit';
      readonly relation: RelationLocator;
      readonly fork: number;
      readonly blockNo: number;
    }
  | { readonly kind: 'whole'; readonly relation: RelationLocator };

const relations = fc
  .tuple(fc.constantFrom(0, 5, 16_400), fc.constantFrom(1259, 16_384, 0xffff_ffff))
  .map(([databaseOid, filenode]) => relationInDirectory({ databaseOid, filenode }));
/** Around the borders of words and chunks, and at the very end. */
const blockNos = fc.oneof(
  fc.nat(200),
  fc.nat(200).map((distance) => 65_436 + distance),
  fc.nat(200).map((distance) => 3 * 65_536 - 100 + distance),
  fc.constant(0xffff_fffe),
);
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.record({
      kind: fc.constant<'mark'>('mark'),
      relation: relations,
      fork: fc.constantFrom(FORK.main, FORK.init),
      blockNo: blockNos,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant<'limit'>('limit'),
      relation: relations,
      fork: fc.constantFrom(FORK.main, FORK.init),
      blockNo: blockNos,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant<'whole'>('whole'), relation: relations }) },
);

function apply(set: ChangedSetBuilder, step: Step): void {
  if (step.kind === 'mark') set.markBlock(step.relation, step.fork, step.blockNo);
  else if (step.kind === 'limit') set.lowerLimit(step.relation, step.fork, step.blockNo);
  else set.markWholeDatabase(step.relation);
}

function built(of: readonly Step[]): ChangedSetBuilder {
  const set = new ChangedSetBuilder();
  for (const step of of) apply(set, step);
  return set;
}

const isSame = (a: RelationLocator, b: RelationLocator) =>
  a.databaseOid === b.databaseOid && a.filenode === b.filenode;

/** Whether any of the steps makes the page changed, as the words say it. */
function isChangedBy(of: readonly Step[], relation: RelationLocator, fork: number, blockNo: number): boolean {
  return of.some((step) => {
    if (step.kind === 'whole') return step.relation.databaseOid === relation.databaseOid;
    if (!isSame(step.relation, relation) || step.fork !== fork) return false;
    return step.kind === 'mark' ? step.blockNo === blockNo : blockNo >= step.blockNo;
  });
}

const manySteps = fc.array(steps, { maxLength: 60 });

describe('a changed set', () => {
  it('knows what was marked, limited or whole, and nothing else', () => {
    fc.assert(
      fc.property(
        manySteps,
        relations,
        fc.constantFrom(FORK.main, FORK.init),
        blockNos,
        (of, relation, fork, blockNo) => {
          const changes = built(of).changes(relation, fork);
          assert.equal(changes?.isChanged(blockNo) ?? false, isChangedBy(of, relation, fork, blockNo));
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('lists changed pages of a range in order', () => {
    fc.assert(
      fc.property(manySteps, relations, blockNos, fc.nat(300), (of, relation, beginBlock, count) => {
        const endBlock = Math.min(beginBlock + count, 0xffff_ffff);
        const listed = built(of).changes(relation, FORK.main)?.changedBlocks({ beginBlock, endBlock }) ?? [];
        const expected = Array.from({ length: endBlock - beginBlock }, (_, index) => beginBlock + index);
        assert.deepEqual(
          [...listed],
          expected.filter((blockNo) => isChangedBy(of, relation, FORK.main, blockNo)),
        );
      }),
      { numRuns: 500 },
    );
  });

  it('is the same in any order and in any parts', () => {
    fc.assert(
      fc.property(manySteps, manySteps, (some, others) => {
        const whole = built([...some, ...others]).toText();
        assert.equal(built([...others, ...some]).toText(), whole);
        const merged = built(some);
        const part = built(others);
        const partText = part.toText();
        merged.merge(part);
        assert.equal(merged.toText(), whole);
        merged.markBlock({ tablespaceOid: 1663, databaseOid: 5, filenode: 1259 }, FORK.main, 77);
        assert.equal(part.toText(), partText, 'what was merged is left alone');
      }),
      { numRuns: 500 },
    );
  });

  it('takes every free-space map and visibility map for changed', () => {
    const set = new ChangedSetBuilder();
    const relation = relationInDirectory({ databaseOid: 5, filenode: 16_384 });
    for (const fork of [FORK.fsm, FORK.vm]) {
      const changes = set.changes(relation, fork);
      assert.equal(changes?.limitBlock, 0);
      assert.deepEqual([...(changes?.changedBlocks({ beginBlock: 2, endBlock: 5 }) ?? [])], [2, 3, 4]);
    }
    assert.equal(set.changes(relation, FORK.main), null);
  });

  it('prints one line for each fork', () => {
    const set = new ChangedSetBuilder();
    const relation = relationInDirectory({ databaseOid: 5, filenode: 16_384 });
    for (const blockNo of [2, 7, 0, 1, 9]) set.markBlock(relation, FORK.main, blockNo);
    set.lowerLimit(relation, FORK.main, 9);
    set.lowerLimit(relation, FORK.init, 0);
    set.markWholeDatabase({ tablespaceOid: 1663, databaseOid: 16_500 });
    assert.equal(
      set.toText(),
      '1663/16500 whole\n1663/5/16384 init limit 0\n1663/5/16384 main limit 9 blocks 0-2 7',
    );
  });
});

describe('the plan for a stretch of the log', () => {
  const span = { timelineId: 2, fromLsn: 100n as Lsn, toLsn: 200n as Lsn };
  const lsn = fc.integer({ min: 80, max: 220 });
  const summary = fc
    .tuple(fc.constantFrom(1, 2), lsn, fc.integer({ min: 1, max: 60 }))
    .map(([timelineId, start, length]) => ({
      timelineId,
      startLsn: BigInt(start) as Lsn,
      endLsn: BigInt(start + length) as Lsn,
    }));

  it('covers every position once by summaries, else by a hole', () => {
    fc.assert(
      fc.property(fc.array(summary, { maxLength: 12 }), (available) => {
        const { summaries, holes } = planChanges(available, span);
        for (let position = 100n; position < 200n; position++) {
          const isIn = ({ startLsn, endLsn }: { startLsn: Lsn; endLsn: Lsn }) =>
            startLsn <= position && position < endLsn;
          const couldBe = available.some((one) => one.timelineId === 2 && isIn(one));
          assert.equal(summaries.some(isIn), couldBe);
          const inHoles = holes.filter(({ fromLsn, toLsn }) => fromLsn <= position && position < toLsn);
          assert.equal(inHoles.length, couldBe ? 0 : 1);
        }
        assert.ok(summaries.every((one) => one.timelineId === 2 && available.some((other) => other === one)));
        assert.equal(new Set(summaries).size, summaries.length);
      }),
      { numRuns: 500 },
    );
  });
});

describe('parts of a stretch of the log', () => {
  const segmentBytes = 1024 * 1024;

  it('are the stretch, cut where segments begin', () => {
    const positions = fc.bigInt(0n, 40n * BigInt(segmentBytes));
    fc.assert(
      fc.property(positions, positions, fc.integer({ min: 1, max: 9 }), (one, other, partsMax) => {
        fc.pre(one !== other);
        const [fromLsn, toLsn] = (one < other ? [one, other] : [other, one]) as [Lsn, Lsn];
        const parts = [...partsOfSpan({ timelineId: 7, fromLsn, toLsn }, { parts: partsMax, segmentBytes })];
        assert.ok(parts.length >= 1 && parts.length <= partsMax);
        assert.deepEqual(
          parts.map((part) => part.fromLsn),
          [fromLsn, ...parts.slice(0, -1).map((part) => part.toLsn)],
        );
        assert.equal(parts.at(-1)?.toLsn, toLsn);
        for (const { fromLsn: begin, toLsn: end, timelineId } of parts) {
          assert.ok(begin < end);
          assert.equal(timelineId, 7);
          if (begin !== fromLsn) assert.equal(begin % BigInt(segmentBytes), 0n);
        }
      }),
    );
  });
});
