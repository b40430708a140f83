import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryLogger, NEVER } from '../../../test/harness/instance-store.ts';
import { ManualClock } from '../../../test/harness/manual-clock.ts';
import { AppError, type VirtualClusterId } from '../../base/index.ts';
import type { TimelineVerifyRecord } from '../../catalog/index.ts';
import type { CheckObjectsRequest, ClusterKey, DamagedObject, ObjectsCheck } from '../../timeline/index.ts';
import { TimelineVerifier, type VerifiedTimeline } from './verifier.ts';

const MAIN = 3 as VirtualClusterId;
const HOUR_MS = 3_600_000;
const PACK: DamagedObject = { object: 'bases/a/data/1.pack', reason: 'flipped', bases: ['a'], log: null };

/** A verifier over a store of which only what it answers is made up. */
function rig(options: { known?: readonly TimelineVerifyRecord[]; isRoomy?: boolean } = {}) {
  const clock = new ManualClock();
  const logger = new MemoryLogger();
  const asked: CheckObjectsRequest[] = [];
  const written: TimelineVerifyRecord[] = [];
  const begun: VirtualClusterId[] = [];
  const answer: { next: ObjectsCheck | Error } = {
    next: { objects: 1, bytes: 10, bytesAll: 100, last: 'x', damage: [] },
  };
  const timeline: { -readonly [Key in keyof VerifiedTimeline]: VerifiedTimeline[Key] } = {
    virtualClusterId: MAIN,
    name: 'main',
    created: clock.now(),
    store: { virtualClusterId: MAIN, directory: '/nowhere' },
    verifyIntervalUs: 200n * 3_600_000_000n,
    checkIntervalUs: 0n,
  };
  const verifier = new TimelineVerifier({
    worker: {
      checkObjects(request) {
        asked.push(request);
        return answer.next instanceof Error ? Promise.reject(answer.next) : Promise.resolve(answer.next);
      },
    },
    key: { id: 'not used' } as unknown as ClusterKey, // Handed on, and looked at by nobody here.
    clock,
    logger,
    verified: () => [timeline],
    write: (record) => Promise.resolve(void written.push(record)),
    beginCheck: (id) => Promise.resolve(void begun.push(id)),
    hasRoom: () => Promise.resolve(options.isRoomy ?? true),
    load: () => Promise.resolve({ known: options.known ?? [], lastChecks: new Map() }),
  });
  const round = async (ms: number) => {
    clock.advance(ms);
    await verifier.round({ signal: NEVER });
  };
  return { verifier, round, asked, written, begun, answer, timeline, logger };
}

function linesOf({ entries }: MemoryLogger): readonly string[] {
  return entries.map(({ message }) => message);
}

describe('the verifier of timelines', () => {
  it('goes on behind what it read last, and keeps its place', async () => {
    const { round, asked, written } = rig();
    await round(0);
    assert.equal(asked.length, 0, 'nothing is due with the daemon');
    await round(HOUR_MS);
    await round(20 * HOUR_MS);
    assert.deepEqual(
      asked.map(({ after }) => after),
      [null, 'x'],
    );
    assert.deepEqual(
      written.map(({ after, readBytes }) => [after, readBytes]),
      [
        ['x', 10],
        ['x', 20],
      ],
    );
  });

  it('tells of damage once, reads it again each time, and forgets what is well again', async () => {
    const { verifier, round, asked, answer, logger } = rig();
    await round(0);
    answer.next = { objects: 1, bytes: 1, bytesAll: 100, last: 'x', damage: [PACK] };
    for (let pass = 1; pass <= 3; pass++) await round(4 * HOUR_MS);
    const told = () => linesOf(logger).filter((line) => line.includes(PACK.object));
    assert.equal(told().length, 1);
    assert.match(told()[0] ?? '', /flipped; bases a need it/);
    assert.deepEqual(asked.at(-1)?.again, [PACK.object]);
    assert.deepEqual(
      verifier.damage(MAIN).map(({ object }) => object),
      [PACK.object],
    );
    answer.next = { ...answer.next, damage: [] };
    await round(4 * HOUR_MS);
    assert.deepEqual(verifier.damage(MAIN), []);
    assert.equal(linesOf(logger).filter((line) => line.includes('damaged any more')).length, 1);
  });

  it('knows what the daemon before it knew', async () => {
    const now = new ManualClock().now();
    const known: TimelineVerifyRecord = {
      virtualClusterId: MAIN,
      roundStarted: now,
      lastPass: now,
      after: 'm',
      isRoundOver: false,
      readBytes: 0,
      allBytes: 1000,
      damage: [PACK].map((damage) => ({ ...damage, log: null })),
    };
    const { verifier, round, asked } = rig({ known: [known] });
    await round(0);
    assert.equal(verifier.damage(MAIN).length, 1);
    await round(4 * HOUR_MS);
    assert.deepEqual([asked[0]?.after, asked[0]?.again], ['m', [PACK.object]]);
  });

  it('reads nothing when it is switched off, and complains once while it cannot', async () => {
    const { round, asked, answer, timeline, logger } = rig();
    timeline.verifyIntervalUs = 0n;
    await round(0);
    await round(1000 * HOUR_MS);
    assert.equal(asked.length, 0);
    timeline.verifyIntervalUs = 3_600_000_000n;
    answer.next = new AppError('worker_lost', 'gone');
    await round(0);
    for (let failure = 1; failure <= 3; failure++) await round(HOUR_MS);
    assert.equal(asked.length, 3);
    assert.equal(linesOf(logger).filter((line) => line.includes('could not be verified')).length, 1);
  });

  it('has a restore tried out when one is due and there is room, not before', async () => {
    const { round, begun, timeline } = rig();
    timeline.checkIntervalUs = 24n * 3_600_000_000n;
    await round(23 * HOUR_MS);
    assert.equal(begun.length, 0);
    await round(HOUR_MS);
    await round(HOUR_MS);
    assert.deepEqual(begun, [MAIN]);
    await round(24 * HOUR_MS);
    assert.equal(begun.length, 2);
    const cramped = rig({ isRoomy: false });
    cramped.timeline.checkIntervalUs = 1n;
    await cramped.round(HOUR_MS);
    assert.equal(cramped.begun.length, 0);
  });
});
