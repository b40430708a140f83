import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FIXTURE_KEY, fixtureManifest } from '../format/fixtures.ts';
import type { Manifest } from '../format/manifest.ts';
import { GAP_BYTES_MAX, planMaterialize } from './plan.ts';
import { FRAME_FIELDS, TARGET_FIELDS } from './tasks.ts';

/** A manifest whose one file takes its pages from frames of several packs, in any order, some of them never. */
function shuffledManifest(options: {
  frames: readonly { pack: number; length: number }[];
  runs: readonly number[];
}): Manifest {
  const base = fixtureManifest();
  const { frames, runs } = options;
  const ends = new Map<number, number>();
  const offsets = frames.map(({ pack, length }) => {
    const offset = ends.get(pack) ?? 32;
    ends.set(pack, offset + length);
    return offset;
  });
  const pack = base.packs[0];
  assert.ok(pack !== undefined);
  return {
    ...base,
    packs: [0, 1, 2].map((number) => ({ ...pack, path: `2025/01/0${number + 1}-000000.00/data/1-0.pack` })),
    files: {
      paths: ['base/5/1', 'global/pg_control'],
      lengths: BigUint64Array.of(BigInt(runs.length) * 8192n, 8192n),
      kinds: Uint8Array.of(1, 0),
      modes: Uint16Array.of(0o600, 0o600),
      firstRuns: Uint32Array.of(0, runs.length),
      runCounts: Uint32Array.of(runs.length, 1),
    },
    runs: {
      starts: Uint32Array.of(...runs.keys(), 0),
      counts: Uint32Array.of(...runs.map(() => 1), 8192),
      frames: Uint32Array.of(...runs, 0),
      indexes: Uint16Array.of(...runs.map((_, index) => index % 64), 0),
    },
    frames: {
      packs: Uint32Array.from(frames, (frame) => frame.pack),
      offsets: Uint32Array.from(offsets),
      lengths: Uint32Array.from(frames, ({ length }) => length),
      crcs: Uint32Array.from(frames.keys()),
      tags: new Uint8Array(frames.length * 16),
    },
  };
}

const ascending = (left: number, right: number) => left - right;

describe('the plan of a materialization', () => {
  it('reads every frame that is needed once, front to back, and fills every page once', () => {
    const frame = fc.record({ pack: fc.nat(2), length: fc.integer({ min: 32, max: 900_000 }) });
    const manifests = fc
      .array(frame, { minLength: 1, maxLength: 40 })
      .chain((frames) =>
        fc.array(fc.nat(frames.length - 1), { maxLength: 60 }).map((runs) => ({ frames, runs })),
      );
    fc.assert(
      fc.property(manifests, ({ frames, runs }) => {
        const manifest = shuffledManifest({ frames, runs });
        const plan = planMaterialize(manifest, { key: FIXTURE_KEY });
        const filled: number[] = [];
        const read: number[] = [];
        let last = '';
        for (const { task, targetsOfFile } of plan.ranges()) {
          const place = `${task.key} ${String(task.offset).padStart(12, '0')}`;
          assert.ok(place > last, 'in order');
          last = place;
          let at = task.offset;
          let target = 0;
          for (let field = 0; field < task.frames.length; field += FRAME_FIELDS) {
            const [offset = 0, length = 0, crc = 0, targets = 0] = task.frames.subarray(field);
            assert.ok(offset >= at && offset - at <= GAP_BYTES_MAX, 'frames of a range are near each other');
            assert.ok(field > 0 || offset === at, 'a range begins with a frame');
            at = offset + length;
            read.push(crc);
            for (const end = target + targets; target < end; target++) {
              const [file = 0, start = 0, count = 0, index = 0] = task.targets.subarray(
                target * TARGET_FIELDS,
              );
              assert.deepEqual(
                [task.files[file]?.path, count, index, runs[start]],
                ['base/5/1', 1, start % 64, crc],
              );
              filled.push(start);
            }
          }
          assert.equal(task.length, at - task.offset);
          assert.deepEqual([...targetsOfFile], [[0, target]]);
        }
        assert.deepEqual(read.toSorted(ascending), [...new Set(runs)].toSorted(ascending));
        assert.deepEqual(filled.toSorted(ascending), [...runs.keys()]);
        const control = Array.from(plan.controlRanges());
        assert.deepEqual(
          control.flatMap(({ task }) => task.files.map(({ path }) => path)),
          ['global/pg_control'],
        );
      }),
    );
  });

  it('leaves out what is not wanted, in the midst of runs too, and counts what is left', () => {
    const wantedPages = fc
      .uniqueArray(fc.nat(9), { maxLength: 10 })
      .map((pages) => pages.toSorted(ascending));
    fc.assert(
      fc.property(wantedPages, (pages) => {
        const manifest = shuffledManifest({ frames: [{ pack: 0, length: 4096 }], runs: [0] });
        // One run of ten pages that begins in the midst of its frame.
        manifest.runs.counts.set([10]);
        manifest.runs.indexes.set([3]);
        const plan = planMaterialize(manifest, {
          key: FIXTURE_KEY,
          isInPlace: true,
          wanted: ({ file, start, count }) =>
            file === 0 ? pages.map((page) => ({ start: start + page, count: 1 })) : [{ start, count }],
        });
        assert.deepEqual([...plan.targetCounts()], [pages.length, 1]);
        const written = Array.from(plan.ranges()).flatMap(({ task }) => {
          assert.ok(task.isInPlace && !task.isCheck);
          const targets = Array.from({ length: task.targets.length / TARGET_FIELDS }, (_, target) =>
            Array.from(task.targets.subarray(target * TARGET_FIELDS, (target + 1) * TARGET_FIELDS)),
          );
          return targets.map(([, start = 0, count, index]) => [start, count, index]);
        });
        assert.deepEqual(
          written,
          pages.map((page) => [page, 1, page + 3]),
        );
      }),
    );
  });
});
