import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '../../../test/harness/manual-clock.ts';
import { MemoryLogger, NEVER } from '../../../test/harness/instance-store.ts';
import {
  AppError,
  type IncarnationId,
  type Lsn,
  type Timestamp,
  type VirtualClusterId,
} from '../../base/index.ts';
import { clusterKeyOf } from '../../keys/index.ts';
import {
  type BaseSummary,
  type CaptureBaseRequest,
  NO_INTAKE,
  type RetentionRequest,
  type VaultState,
  type VaultStatus,
} from '../../timeline/index.ts';
import { CaptureTurns } from './capture-turns.ts';
import {
  KEEPER_CALL_MS,
  KEEPER_ROUND_MS,
  type KeptTimeline,
  ROUNDS_PER_COLLECTION,
  TimelineKeeper,
} from './keeper.ts';
import { type CaptureDecision, decideCapture, WAL_BYTES_WORTH_A_BASE } from './policy.ts';

const INCARNATION = '0190c2a4-0000-7000-8000-000000000001' as IncarnationId;
const MIB = 1n << 20n;
const HOUR_US = 3_600_000_000n;
const POLICY = { walBytes: 512n * MIB, intervalUs: HOUR_US };

const lsn = (bytes: bigint) => bytes as Lsn;

function base(of: {
  startLsn: bigint;
  targetLsn?: bigint;
  endTime?: bigint;
  storedBytes?: bigint;
  bytes?: bigint;
  onto?: string;
  subdirectory?: string;
}): BaseSummary {
  return {
    subdirectory: of.subdirectory ?? `2026/01/01-00000${of.startLsn % 10n}.00`,
    baseSubdirectory: of.onto ?? null,
    startTime: null,
    captureStartTime: 0n as Timestamp,
    endTime: (of.endTime ?? 0n) as Timestamp,
    startLsn: lsn(of.startLsn),
    stopLsn: lsn(of.startLsn + 1n),
    targetLsn: lsn(of.targetLsn ?? of.startLsn),
    timelineId: 1,
    rows: 0n,
    indexEntries: 0n,
    bytes: of.bytes ?? 1024n * MIB,
    storedBytes: of.storedBytes ?? 100n * MIB,
    virtualClusterName: 'main',
    virtualClusterId: 3 as VirtualClusterId,
    incarnation: INCARNATION,
    systemIdentifier: 1n,
    engineMajor: 18,
    release: '26.2',
    objects: [],
    uncounted: [],
  } as unknown as BaseSummary; // Contracts grow; what the keeper looks at is above.
}

describe('a base is due', () => {
  const decide = (given: {
    lineage: readonly BaseSummary[];
    durable: bigint;
    now?: bigint;
    state?: VaultState;
    timelineId?: number;
  }): CaptureDecision =>
    decideCapture({
      lineage: given.lineage,
      present: { incarnation: INCARNATION, timelineId: given.timelineId ?? 1 },
      durableLsn: lsn(given.durable),
      now: (given.now ?? 0n) as Timestamp,
      vaultState: given.state ?? { kind: 'receiving' },
      policy: POLICY,
    });
  const one = base({ startLsn: 0n });

  it('when there is none, and then everything is read', () => {
    assert.equal(decide({ lineage: [], durable: 1n }).kind, 'full');
  });

  it('at once when the data has a new life, on top of what led to it', () => {
    const due = decide({ lineage: [one], durable: 1n, timelineId: 2 });
    assert.deepEqual([due.kind, due.kind === 'incremental' && due.onto], ['incremental', one.subdirectory]);
  });

  it('by how much log would have to be replayed', () => {
    assert.equal(decide({ lineage: [one], durable: POLICY.walBytes - 1n }).kind, 'none');
    const due = decide({ lineage: [one], durable: POLICY.walBytes });
    assert.deepEqual([due.kind, due.kind === 'incremental' && due.onto], ['incremental', one.subdirectory]);
  });

  it('by age, though never when there is next to nothing to put into it', () => {
    const aged = (durable: bigint, now: bigint) => decide({ lineage: [one], durable, now }).kind;
    assert.equal(aged(WAL_BYTES_WORTH_A_BASE, HOUR_US - 1n), 'none');
    assert.equal(aged(WAL_BYTES_WORTH_A_BASE, HOUR_US), 'incremental');
    assert.equal(aged(WAL_BYTES_WORTH_A_BASE - 1n, 1000n * HOUR_US), 'none');
  });

  it('never because of the segment that Postgres began anew for the last one', () => {
    const targetLsn = 512n * MIB;
    const lineage = [base({ startLsn: 0n, targetLsn })];
    const now = 1000n * HOUR_US;
    assert.equal(decide({ lineage, durable: targetLsn + WAL_BYTES_WORTH_A_BASE - 1n, now }).kind, 'none');
    assert.equal(decide({ lineage, durable: targetLsn + WAL_BYTES_WORTH_A_BASE, now }).kind, 'incremental');
  });

  it('after a gap in the log, until one begins behind it', () => {
    const state = { kind: 'gap', fromLsn: lsn(5n), toLsn: lsn(9n) } as const;
    assert.equal(decide({ lineage: [one], durable: 10n, state }).kind, 'incremental');
    assert.equal(decide({ lineage: [one, base({ startLsn: 9n })], durable: 10n, state }).kind, 'none');
  });

  it('full when most of the data changed, or most of what is stored is superseded', () => {
    const small = base({ startLsn: 0n, bytes: 100n * MIB });
    assert.equal(decide({ lineage: [small], durable: POLICY.walBytes }).kind, 'full');
    const chain = (stored: bigint) => [
      one,
      base({ startLsn: 1n, onto: one.subdirectory, storedBytes: stored }),
      base({ startLsn: 2n, onto: one.subdirectory, storedBytes: 50n * MIB }),
    ];
    assert.equal(decide({ lineage: chain(50n * MIB), durable: 2n * POLICY.walBytes }).kind, 'incremental');
    assert.equal(decide({ lineage: chain(51n * MIB), durable: 2n * POLICY.walBytes }).kind, 'full');
  });
});

/** A keeper whose captures appear at once, or fail as long as they are told to. */
class KeeperRig {
  readonly clock = new ManualClock();
  readonly logger = new MemoryLogger();
  readonly requests: CaptureBaseRequest[] = [];
  readonly collections: RetentionRequest[] = [];
  readonly bases = new Map<VirtualClusterId, BaseSummary[]>();
  readonly turns = new CaptureTurns();
  readonly keeper: TimelineKeeper;
  kept: KeptTimeline[] = [];
  durable = 100n;
  freeBytes = 1000n * MIB;
  failure: Error | null = null;
  collectionFailure: Error | null = null;
  onCapture: () => void = () => undefined;
  working = 0;
  workingMax = 0;
  state: VaultState = { kind: 'receiving' };

  constructor(ids: readonly number[] = [3]) {
    this.kept = ids.map((id) => this.timeline(id as VirtualClusterId));
    this.keeper = new TimelineKeeper({
      worker: { captureBase: (request) => this.#capture(request) },
      reader: {
        bases: ({ virtualClusterId }) => Promise.resolve(this.bases.get(virtualClusterId) ?? []),
        incarnations: () =>
          Promise.resolve([
            {
              incarnation: INCARNATION,
              parentIncarnation: null,
              forkLsn: null,
              systemIdentifier: 1n,
              engineMajor: 18,
              timelines: [{ timelineId: 1, beginLsn: lsn(0n) }],
            },
          ]),
      },
      retention: {
        collect: (request) => {
          this.collections.push(request);
          if (this.collectionFailure !== null) return Promise.reject(this.collectionFailure);
          return Promise.resolve({
            removals: [],
            kept: [],
            keptBytes: 0,
            freedBytes: 0,
            horizon: 0n as Timestamp,
          });
        },
      },
      vault: { status: (id) => this.#status(id) },
      turns: this.turns,
      clusterId: 'cluster',
      key: clusterKeyOf(new Uint8Array(32)),
      release: '26.2',
      clock: this.clock,
      logger: this.logger,
      kept: () => this.kept,
      disk: () => Promise.resolve({ freeBytes: this.freeBytes, freeBytesMin: 100n * MIB }),
    });
  }

  timeline(virtualClusterId: VirtualClusterId): KeptTimeline {
    return {
      virtualClusterId,
      name: `vc${virtualClusterId}`,
      store: { virtualClusterId, directory: `/nowhere/${virtualClusterId}` },
      source: {
        dataDirectory: '/nowhere',
        socketDirectory: '/nowhere',
        virtualClusterId,
        virtualClusterName: 'main',
        incarnation: INCARNATION,
        systemIdentifier: 1n,
        engineMajor: 18,
      },
      policy: POLICY,
      windowUs: 4n * HOUR_US,
      bytesMax: 1000n * MIB,
      packBytesMax: 1024,
    };
  }

  round(collects = false): Promise<void> {
    return this.keeper.round({ collects, signal: NEVER });
  }

  #status(virtualClusterId: VirtualClusterId): VaultStatus {
    return {
      virtualClusterId,
      incarnation: INCARNATION,
      timelineId: 1,
      state: this.state,
      durableLsn: lsn(this.durable),
      oldestLsn: lsn(0n),
      restorableThrough: null,
      storedBytes: 0n,
      receivedBytes: 0n,
      clockStepsBack: 0,
      intake: NO_INTAKE,
    };
  }

  async #capture(request: CaptureBaseRequest) {
    this.requests.push(request);
    this.working++;
    this.workingMax = Math.max(this.workingMax, this.working);
    await Promise.resolve();
    this.working--;
    this.onCapture();
    if (this.failure !== null) throw this.failure;
    const { virtualClusterId } = request.store;
    const made = base({
      startLsn: this.durable,
      endTime: this.clock.now(),
      subdirectory: request.subdirectory,
      ...(request.onto === null ? {} : { onto: request.onto }),
    });
    this.bases.set(virtualClusterId, [...(this.bases.get(virtualClusterId) ?? []), made]);
    return { base: made, pagesRead: 1, fullReason: null };
  }
}

describe('the timeline keeper', () => {
  it('captures a first base of each virtual cluster, one after the other, and nothing more while they are idle', async () => {
    const rig = new KeeperRig([3, 4, 5]);
    await rig.round();
    assert.deepEqual(
      rig.requests.map(({ store, onto }) => [store.virtualClusterId, onto]),
      [
        [3, null],
        [4, null],
        [5, null],
      ],
    );
    assert.equal(rig.workingMax, 1);
    for (let hour = 0; hour < 48; hour++) {
      rig.clock.advance(3_600_000);
      rig.durable += 200_000n;
      await rig.round(true);
    }
    assert.equal(rig.requests.length, 3);
  });

  it('captures on top of the newest base when enough was written, into a later folder even if the clock steps back', async () => {
    const rig = new KeeperRig();
    await rig.round();
    rig.durable += POLICY.walBytes;
    await rig.round();
    const [first, second] = rig.requests;
    assert.equal(second?.onto, first?.subdirectory);
    assert.ok(first !== undefined && second !== undefined && second.subdirectory > first.subdirectory);
    assert.equal(rig.collections.length, 2, 'it looks for what is superseded after each');
  });

  it('neither captures nor removes where another captures, and looks again afterwards', async () => {
    const rig = new KeeperRig([3, 4]);
    const other = Promise.withResolvers<void>();
    const capture = rig.turns.run(3 as VirtualClusterId, () => other.promise, { signal: NEVER });
    await rig.round(true);
    assert.deepEqual(
      [rig.requests, rig.collections].map((asked) => asked.map(({ store }) => store.virtualClusterId)),
      [[4], [4]],
    );
    other.resolve();
    await capture;
    await rig.round(true);
    assert.deepEqual(
      rig.requests.map(({ store }) => store.virtualClusterId),
      [4, 3],
    );
  });

  it('waits while the vault does not receive', async () => {
    const rig = new KeeperRig();
    rig.state = { kind: 'waiting', reason: 'not there' };
    await rig.round();
    assert.equal(rig.requests.length, 0);
  });

  it('backs off after failures, without holding up others, and then reads everything', async () => {
    const rig = new KeeperRig([3, 4]);
    await rig.round();
    rig.durable += POLICY.walBytes;
    rig.failure = new AppError('io', 'the disk is broken');
    await rig.round();
    assert.equal(rig.requests.length, 4);
    assert.ok(rig.logger.has('the timeline could not be kept, tried again in 30 s: the disk is broken'));
    await rig.round();
    assert.equal(rig.requests.length, 4, 'not before its time');
    rig.clock.advance(30_000);
    await rig.round();
    rig.clock.advance(30_000);
    await rig.round();
    assert.equal(rig.requests.length, 6, 'the second time it takes twice as long');
    rig.failure = null;
    rig.clock.advance(30_000);
    await rig.round();
    assert.deepEqual(
      rig.requests.slice(-2).map(({ onto }) => onto),
      [null, null],
    );
    rig.durable += POLICY.walBytes;
    await rig.round();
    assert.ok(rig.requests.slice(-2).every(({ onto }) => onto !== null));
  });

  it('goes on capturing on top of bases when it is the collection that fails', async () => {
    const rig = new KeeperRig();
    await rig.round();
    rig.collectionFailure = new AppError('data_corrupt', 'a pin is damaged');
    for (let turn = 0; turn < 2; turn++) {
      rig.durable += POLICY.walBytes;
      rig.clock.advance(3_600_000);
      await rig.round();
    }
    assert.deepEqual(
      rig.requests.map(({ onto }) => onto !== null),
      [false, true, true],
    );
    assert.ok(rig.logger.has('a pin is damaged'));
  });

  it('makes no error of what fails because a service is being stopped', async () => {
    const rig = new KeeperRig();
    rig.failure = new AppError('connection_failure', 'the session was lost');
    rig.onCapture = () => (rig.kept = []);
    await rig.round();
    assert.deepEqual(
      rig.logger.entries.map(({ severity, message }) => [severity, message]),
      [['info', 'the timeline was left alone: the session was lost']],
    );
  });

  it('gives way when room on the disk gets short: first the window, then captures', async () => {
    const rig = new KeeperRig();
    await rig.round();
    assert.equal(rig.collections.at(-1)?.bytesMax, 1000n * MIB);
    rig.durable += POLICY.walBytes;
    rig.freeBytes = 150n * MIB;
    await rig.round();
    assert.deepEqual([rig.requests.length, rig.collections.at(-1)?.bytesMax], [2, 0n]);
    rig.durable += POLICY.walBytes;
    rig.freeBytes = 50n * MIB;
    await rig.round();
    assert.deepEqual([rig.requests.length, rig.collections.at(-1)?.bytesMax], [2, 0n]);
    rig.freeBytes = 1000n * MIB;
    await rig.round();
    assert.equal(rig.requests.length, 3);
  });

  it('captures, and shortens the window, when the log has used up its room: less of it is needed then', async () => {
    const rig = new KeeperRig();
    await rig.round();
    rig.durable += WAL_BYTES_WORTH_A_BASE;
    rig.state = { kind: 'out_of_room', reason: 'timeline.log.size_max' };
    await rig.round();
    assert.equal(rig.requests.length, 2);
    assert.deepEqual(
      rig.collections.map(({ bytesMax }) => bytesMax),
      [1000n * MIB, 0n, 0n],
    );
    await rig.round();
    assert.equal(rig.requests.length, 2);
  });

  it('looks soon at those it is called for, at all others when the round comes, and ends when it is told to', async () => {
    const rig = new KeeperRig([3, 4]);
    const captured = () => rig.requests.map(({ store }) => store.virtualClusterId);
    const stop = new AbortController();
    const running = rig.keeper.run({ signal: stop.signal });
    const settle = () => rig.clock.whenAsleep();
    await settle();
    rig.keeper.call(4 as VirtualClusterId);
    await settle();
    rig.clock.advance(KEEPER_CALL_MS - 1);
    await settle();
    assert.deepEqual(captured(), []);
    rig.clock.advance(1);
    await settle();
    assert.deepEqual(captured(), [4]);
    rig.clock.advance(KEEPER_ROUND_MS - KEEPER_CALL_MS - 1);
    // What is called for right before a round is left to it.
    rig.keeper.call(4 as VirtualClusterId);
    await settle();
    assert.deepEqual(captured(), [4]);
    rig.clock.advance(1);
    await settle();
    assert.deepEqual(captured(), [4, 3]);
    stop.abort();
    await running;
  });

  it('looks for what nobody needs from time to time, and ends when it is told to', async () => {
    const rig = new KeeperRig();
    const stop = new AbortController();
    const running = rig.keeper.run({ signal: stop.signal });
    const settle = () => rig.clock.whenAsleep();
    for (let round = 0; round < 2 * ROUNDS_PER_COLLECTION; round++) {
      await settle();
      rig.clock.advance(KEEPER_ROUND_MS);
    }
    await settle();
    assert.equal(rig.collections.length, 1 + 2);
    stop.abort();
    await running;
  });
});
