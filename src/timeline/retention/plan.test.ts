import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { IncarnationId, Lsn, Timestamp } from '../../base/index.ts';
import type { IncarnationRecord, Pin } from '../store-contract.ts';
import { isOnTheWay, stretchesTo } from '../store/lineage.ts';
import { type HeldBase, type HeldLog, type Holdings, planRetention, type RetentionRule } from './plan.ts';

const SEGMENT = 1000n;
const SECOND = 1_000_000n;
const UNLIMITED = 1n << 60n;

const id = (number: number) => `0190c2a4-0000-7000-8000-${String(number).padStart(12, '0')}` as IncarnationId;
const lsn = (value: number | bigint) => BigInt(value) as Lsn;
const at = (seconds: number | bigint) => (BigInt(seconds) * SECOND) as Timestamp;

/** Position and second are the same number: easy to think of. */
function base(
  of: { incarnation: number; timelineId?: number; start: number },
  objects: readonly string[] = [],
): HeldBase {
  const { incarnation, timelineId = incarnation, start } = of;
  const subdirectory = `base-${incarnation}-${start}`;
  return {
    subdirectory,
    incarnation: id(incarnation),
    timelineId,
    startLsn: lsn(start),
    stopLsn: lsn(start + 5),
    endTime: at(start + 5),
    objects: [`${subdirectory}/data/1-0.pack`, ...objects],
  };
}

function log(of: { incarnation: number; from: number; end: number; writtenAt?: number }): HeldLog {
  const first = BigInt(of.from) / SEGMENT;
  const count = Number(BigInt(of.end) / SEGMENT - first) + 1;
  return {
    incarnation: id(of.incarnation),
    segments: Array.from({ length: count }, (_, index) => {
      const beginLsn = lsn((first + BigInt(index)) * SEGMENT);
      return {
        name: `segment-${beginLsn}`,
        timelineId: of.incarnation,
        beginLsn,
        endLsn: lsn(beginLsn + SEGMENT),
        bytes: 100,
        isClosed: index < count - 1,
      };
    }),
    timeIndexes: [],
    writtenAt: at(of.writtenAt ?? of.end),
  };
}

function record(number: number, parent: { number: number; fork: number } | null): IncarnationRecord {
  return {
    incarnation: id(number),
    parentIncarnation: parent === null ? null : id(parent.number),
    forkLsn: parent === null ? null : lsn(parent.fork),
    systemIdentifier: 1n,
    engineMajor: 18,
    timelines: [{ timelineId: number, beginLsn: lsn(parent?.fork ?? 0) }],
  };
}

function holdings(of: Partial<Holdings>): Holdings {
  const bases = of.bases ?? [];
  const paths = new Set(bases.flatMap(({ objects }) => objects));
  const objects = [...paths].map((path) => ({ path, bytes: 10, writtenAt: at(0) }));
  return { objects, logs: [], incarnations: [], pins: [], ...of, bases };
}

const rule = (of: Partial<RetentionRule> = {}): RetentionRule => ({
  now: at(10_000),
  windowUs: 4000n * SECOND,
  current: id(1),
  bytesMax: UNLIMITED,
  ...of,
});

const names = (given: Holdings, by: RetentionRule, kind: string) =>
  planRetention(given, by)
    .removals.filter((removal) => removal.kind === kind)
    .map(({ name }) => name);

describe('retention', () => {
  const line = holdings({
    bases: [1000, 3000, 5500, 7000, 9000].map((start) => base({ incarnation: 1, start })),
    logs: [log({ incarnation: 1, from: 0, end: 9999 })],
    incarnations: [record(1, null)],
  });

  it('keeps the newest base before the window, all later ones, and the log since', () => {
    assert.deepEqual(names(line, rule(), 'base'), ['base-1-1000', 'base-1-3000']);
    assert.deepEqual(names(line, rule(), 'object'), [
      'base-1-1000/data/1-0.pack',
      'base-1-3000/data/1-0.pack',
    ]);
    assert.deepEqual(
      names(line, rule(), 'segment'),
      [0, 1000, 2000, 3000, 4000].map((begin) => `segment-${begin}`),
    );
  });

  it('keeps older bases while what would take their place is known to be damaged', () => {
    const damaged = ['base-1-5500'];
    assert.deepEqual(names(line, rule({ damaged }), 'base'), ['base-1-1000']);
    assert.deepEqual(
      names(line, rule({ damaged }), 'segment'),
      [0, 1000, 2000].map((begin) => `segment-${begin}`),
    );
    // Want of room is no reason either: of the newest nothing could be restored.
    const tight = rule({ damaged: ['base-1-9000'], bytesMax: 0n });
    assert.deepEqual(names(line, tight, 'base'), ['base-1-1000', 'base-1-3000', 'base-1-5500']);
    const pin = { id: 'p', owner: 'job 1', incarnation: id(1), fromLsn: lsn(5600), throughLsn: lsn(5600) };
    const pins = [{ ...pin, expiresAt: at(20_000) }];
    const later = rule({ damaged, now: at(40_000) });
    assert.ok(
      !names({ ...line, pins: [{ ...pin, expiresAt: at(50_000) }] }, later, 'base').includes('base-1-3000'),
    );
    assert.ok(names({ ...line, pins }, later, 'base').includes('base-1-3000'), 'the claim has ended');
  });

  it('keeps older bases when what would take their place lacks the log that it begins with', () => {
    const bases = [3000, 4500].map((start) => base({ incarnation: 1, start }));
    const whole = { bases, incarnations: [record(1, null)] };
    const [before, after] = [
      log({ incarnation: 1, from: 3000, end: 3999 }),
      log({ incarnation: 1, from: 5000, end: 9999 }),
    ];
    const segments = [
      ...before.segments.map((segment) => ({ ...segment, isClosed: true })),
      ...after.segments,
    ];
    const holed = holdings({ ...whole, logs: [{ ...after, segments }] });
    assert.deepEqual(names(holed, rule(), 'base'), []);
    const complete = holdings({ ...whole, logs: [log({ incarnation: 1, from: 3000, end: 9999 })] });
    assert.deepEqual(names(complete, rule(), 'base'), ['base-1-3000']);
    // A vault that is out of room has not got that far: it can go on when the older one and its log are gone.
    for (const end of [3999, 4499]) {
      const stopped = holdings({ ...whole, logs: [log({ incarnation: 1, from: 3000, end })] });
      assert.deepEqual(names(stopped, rule({ bytesMax: 0n }), 'base'), ['base-1-3000']);
    }
  });

  it('says why', () => {
    const { removals, kept, freedBytes } = planRetention(line, rule());
    assert.match(removals[0]?.reason ?? '', /^of 1970-01-01 00:16:45\+00, not needed for any moment since/);
    assert.match(removals.find(({ kind }) => kind === 'segment')?.reason ?? '', /^before 0\/157C/);
    assert.equal(removals.find(({ kind }) => kind === 'object')?.reason, 'no base that stays uses it');
    for (const { kind, name, reason } of removals) assert.notEqual(reason, '', `${kind} ${name}`);
    assert.deepEqual(kept[0], { subdirectory: 'base-1-5500', reason: 'the window' });
    assert.equal(freedBytes, 2 * 10 + 5 * 100);
  });

  it('keeps all bases while none is older than the window, and no log from before the first', () => {
    const { removals } = planRetention(line, rule({ windowUs: 20_000n * SECOND }));
    assert.deepEqual(
      removals.map(({ name }) => name),
      ['segment-0'],
    );
  });

  it('keeps packs of removed bases that others still use', () => {
    const shared = 'base-1-1000/data/1-1.pack';
    const bases = [
      base({ incarnation: 1, start: 1000 }, [shared]),
      base({ incarnation: 1, start: 5500 }, [shared]),
    ];
    const logs = [log({ incarnation: 1, from: 0, end: 9999 })];
    const given = holdings({ bases, logs, incarnations: [record(1, null)] });
    assert.deepEqual(names(given, rule(), 'base'), ['base-1-1000']);
    assert.deepEqual(names(given, rule(), 'object'), ['base-1-1000/data/1-0.pack']);
  });

  it('removes what attempts left that came to nothing, once nobody writes there any more', () => {
    const folder = '2020/01/01-000000.00';
    const leave = (seconds: number) => [
      { path: `${folder}/data/1-0.pack`, bytes: 7, writtenAt: at(1) },
      { path: `${folder}/data/1-1.pack`, bytes: 7, writtenAt: at(seconds) },
    ];
    const removed = (seconds: number) =>
      names({ ...line, objects: [...line.objects, ...leave(seconds)] }, rule(), 'object').filter((path) =>
        path.startsWith(folder),
      );
    assert.equal(removed(6400).length, 2);
    assert.equal(removed(6401).length, 0);
  });

  it('keeps what is pinned until the claim ends', () => {
    const pin: Pin = {
      id: 'p',
      owner: 'job 7',
      incarnation: id(1),
      fromLsn: lsn(4000),
      throughLsn: null,
      expiresAt: at(10_001),
    };
    const pinned = { ...line, pins: [pin] };
    assert.deepEqual(names(pinned, rule(), 'base'), ['base-1-1000']);
    assert.deepEqual(
      names(pinned, rule(), 'segment'),
      [0, 1000, 2000].map((begin) => `segment-${begin}`),
    );
    const { kept } = planRetention(pinned, rule());
    assert.deepEqual(kept[0], { subdirectory: 'base-1-3000', reason: 'pinned by job 7' });
    assert.deepEqual(names(pinned, rule({ now: at(10_001) }), 'base'), ['base-1-1000', 'base-1-3000']);
  });

  it('takes a base that is consistent only after the pinned position for too late', () => {
    const pin = { id: 'p', owner: 'job 7', incarnation: id(1), throughLsn: lsn(3100), expiresAt: at(99_999) };
    const with_ = (from: number) => ({ ...line, pins: [{ ...pin, fromLsn: lsn(from) }] });
    assert.deepEqual(names(with_(3004), rule(), 'base'), ['base-1-3000']);
    assert.deepEqual(names(with_(3005), rule(), 'base'), ['base-1-1000']);
  });

  it('follows the lineage over a fork, and keeps what was left behind for the window', () => {
    const given = holdings({
      bases: [
        base({ incarnation: 1, start: 1000 }),
        base({ incarnation: 1, start: 3000 }),
        base({ incarnation: 1, start: 6000 }),
        base({ incarnation: 2, start: 4500 }),
      ],
      logs: [
        log({ incarnation: 1, from: 0, end: 6500, writtenAt: 7000 }),
        log({ incarnation: 2, from: 4000, end: 9999 }),
      ],
      incarnations: [record(1, null), record(2, { number: 1, fork: 4000 })],
    });
    const soon = rule({ current: id(2) });
    assert.deepEqual(names(given, soon, 'base'), ['base-1-1000']);
    assert.deepEqual(names(given, soon, 'log_folder'), []);
    // Nothing leads into the parent any more once its own end and the base on it are older than the window.
    const later = rule({ current: id(2), now: at(12_000) });
    assert.deepEqual(names(given, later, 'base').toSorted(), ['base-1-1000', 'base-1-3000', 'base-1-6000']);
    assert.deepEqual(names(given, later, 'log_folder'), [id(1)]);
    assert.deepEqual(
      planRetention(given, later).kept.map(({ subdirectory }) => subdirectory),
      ['base-2-4500'],
    );
  });

  it('never touches the log of the incarnation that is served, whatever is unknown', () => {
    const given = holdings({ logs: [log({ incarnation: 1, from: 0, end: 5000 })] });
    assert.deepEqual(planRetention(given, rule()).removals, []);
    const unknown = holdings({ ...line, incarnations: [] });
    assert.ok(!names(unknown, rule(), 'base').includes('base-1-9000'));
  });

  it('makes the window shorter when there is too little room, and keeps the newest base even then', () => {
    const full = planRetention(line, rule());
    assert.equal(full.keptBytes, 3 * 10 + 5 * 100);
    const tight = planRetention(line, rule({ bytesMax: 400n }));
    assert.ok(tight.keptBytes <= 400 && tight.horizon > full.horizon);
    assert.deepEqual(
      tight.kept.map(({ subdirectory }) => subdirectory),
      ['base-1-7000', 'base-1-9000'],
    );
    const none = planRetention(line, rule({ bytesMax: 0n }));
    assert.deepEqual(
      none.kept.map(({ subdirectory }) => subdirectory),
      ['base-1-9000'],
    );
    assert.ok(!none.removals.some(({ name }) => name === 'segment-9000'));
  });
});

describe('retention of any store', () => {
  const incarnations = fc.integer({ min: 1, max: 4 });
  const arbitrary = fc.record({
    forks: fc.array(fc.record({ parent: fc.nat(3), fork: fc.integer({ min: 100, max: 9000 }) }), {
      maxLength: 3,
    }),
    bases: fc.array(fc.record({ incarnation: incarnations, start: fc.integer({ min: 0, max: 9000 }) }), {
      maxLength: 12,
    }),
    pins: fc.array(
      fc.record({
        incarnation: incarnations,
        from: fc.integer({ min: 0, max: 9000 }),
        expires: fc.nat(20_000),
      }),
      { maxLength: 3 },
    ),
    windowSeconds: fc.integer({ min: 0, max: 12_000 }),
    current: incarnations,
    shared: fc.array(fc.tuple(fc.nat(11), fc.nat(11)), { maxLength: 6 }),
  });

  function storeOf(given: typeof arbitrary extends fc.Arbitrary<infer T> ? T : never) {
    const records = [record(1, null)];
    for (const [index, { parent, fork }] of given.forks.entries()) {
      const number = (parent % (index + 1)) + 1;
      const begin = Number(records[number - 1]?.timelines[0]?.beginLsn ?? 0n);
      records.push(record(index + 2, { number, fork: Math.max(fork, begin + 1) }));
    }
    const exists = (number: number) => ((number - 1) % records.length) + 1;
    const seen = new Map<string, HeldBase>();
    for (const { incarnation, start } of given.bases) {
      const number = exists(incarnation);
      const begin = Number(records[number - 1]?.timelines[0]?.beginLsn ?? 0n);
      const made = base({ incarnation: number, start: begin + start });
      seen.set(made.subdirectory, made);
    }
    const bases = [...seen.values()].map((each, index, all) => {
      const others = given.shared
        .filter(([to]) => to === index)
        .map(([, from]) => all[from]?.objects[0] ?? each.objects[0]);
      return { ...each, objects: [...each.objects, ...others.filter((path) => path !== undefined)] };
    });
    const store = holdings({
      bases,
      incarnations: records,
      logs: records.map(({ timelines }, index) =>
        log({
          incarnation: index + 1,
          from: Number(timelines[0]?.beginLsn),
          end: Number(timelines[0]?.beginLsn) + 18_000,
        }),
      ),
      pins: given.pins.map(({ incarnation, from, expires }, index) => ({
        id: `pin-${index}`,
        owner: `job ${index}`,
        incarnation: id(exists(incarnation)),
        fromLsn: lsn(from),
        throughLsn: null,
        expiresAt: at(expires),
      })),
    });
    const by = rule({ windowUs: BigInt(given.windowSeconds) * SECOND, current: id(exists(given.current)) });
    return { store, by };
  }

  /** The newest base from which a position can be reached, with all the log on the way. */
  function reachable(store: Holdings, point: { incarnation: IncarnationId; lsn: Lsn }): HeldBase | undefined {
    if (!store.incarnations.some(({ incarnation }) => incarnation === point.incarnation)) return undefined;
    const stretches = stretchesTo({ ...point, timelineId: 99 }, store.incarnations);
    return stretches
      .flatMap((stretch, index) => {
        const rest = stretches.slice(index);
        const hasLog = (from: Lsn) =>
          rest.every(({ incarnation, beginLsn, endLsn }) => {
            const held = store.logs.find((each) => each.incarnation === incarnation)?.segments ?? [];
            const begin = beginLsn > from ? beginLsn : from;
            return (
              begin >= endLsn || held.some((segment) => segment.beginLsn <= begin && begin < segment.endLsn)
            );
          });
        return store.bases
          .filter((each) => isOnTheWay(each, [stretch]) && hasLog(each.startLsn))
          .toSorted((left, right) => (left.stopLsn < right.stopLsn ? -1 : 1));
      })
      .at(-1);
  }

  function apply(store: Holdings, by: RetentionRule): Holdings {
    const { removals } = planRetention(store, by);
    const gone = (kind: string, name: string, incarnation: IncarnationId | null = null) =>
      removals.some((each) => each.kind === kind && each.name === name && each.incarnation === incarnation);
    return {
      ...store,
      bases: store.bases.filter(({ subdirectory }) => !gone('base', subdirectory)),
      objects: store.objects.filter(({ path }) => !gone('object', path)),
      logs: store.logs
        .filter(({ incarnation }) => !gone('log_folder', incarnation, incarnation))
        .map((each) => ({
          ...each,
          segments: each.segments.filter(({ name }) => !gone('segment', name, each.incarnation)),
        })),
      incarnations: store.incarnations.filter(
        ({ incarnation }) => !gone('log_folder', incarnation, incarnation),
      ),
    };
  }

  it('loses no moment of the window and nothing that is pinned, and ends', () => {
    fc.assert(
      fc.property(arbitrary, (given) => {
        const { store, by } = storeOf(given);
        const after = apply(store, by);
        const held = new Set(after.objects.map(({ path }) => path));
        for (const { objects } of after.bases) for (const path of objects) assert.ok(held.has(path), path);
        const present = { incarnation: by.current, lsn: lsn(27_000) };
        const horizon = by.now - by.windowUs;
        for (const { startLsn } of store.bases) {
          for (const offset of [5n, 6n, 500n]) {
            const point = { incarnation: by.current, lsn: lsn(startLsn + offset) };
            const before = reachable(store, point);
            const isInWindow = before !== undefined && point.lsn * SECOND >= horizon;
            if (isInWindow && point.lsn <= present.lsn)
              assert.ok(reachable(after, point), `position ${point.lsn}`);
          }
        }
        assert.equal(reachable(after, present)?.subdirectory, reachable(store, present)?.subdirectory);
        for (const pin of store.pins) {
          if (pin.expiresAt <= by.now) continue;
          const point = { incarnation: pin.incarnation, lsn: pin.fromLsn };
          assert.equal(reachable(after, point)?.subdirectory, reachable(store, point)?.subdirectory, pin.id);
        }
        assert.deepEqual(planRetention(after, by).removals, []);
      }),
      { numRuns: 1000 },
    );
  });
});
