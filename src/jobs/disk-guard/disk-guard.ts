/**
 * Keeps one virtual cluster from filling the disk that all of them share. Windows and captures give way by the keeper of timelines; here
 * slots of tenants are given up, whoever takes the last room becomes read-only, and the ballast is given back. It has no record of its
 * own: who is read-only is recorded with the instance, the ballast is a file.
 */
import { type Clock, type Logger, type VirtualClusterId, isAppError } from '../../base/index.ts';
import { type DiskRoom, type PressureLevel, greatestGrower, isAtLeast, pressureOf } from './pressure.ts';

/** Between two looks at the disk. */
export const DISK_ROUND_MS = 1000;
/** Slots are looked at, and the next one is made read-only, every so many rounds: what was done has to show first. */
const ROUNDS_PER_STEP = 5;

/** An app virtual cluster that serves. */
export interface GuardedCluster {
  readonly virtualClusterId: VirtualClusterId;
  readonly name: string;
  readonly isReadOnly: boolean;
}

export interface DiskGuardOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly room: () => Promise<DiskRoom>;
  /** Never the system virtual cluster. */
  readonly guarded: () => readonly GuardedCluster[];
  /** Bytes that it takes, data and log and what the vault holds of it; undefined when it cannot be asked. */
  readonly usedBytes: (id: VirtualClusterId, wait: { signal: AbortSignal }) => Promise<bigint | undefined>;
  /** Gives up the slots of tenants that keep log; their names. */
  readonly giveUpSlots: (id: VirtualClusterId, wait: { signal: AbortSignal }) => Promise<readonly string[]>;
  readonly setReadOnly: (
    id: VirtualClusterId,
    options: { isReadOnly: boolean; signal: AbortSignal },
  ) => Promise<void>;
  /** The file that is kept to be given back. */
  readonly ballast: {
    readonly bytes: () => Promise<bigint>;
    readonly make: (bytes: bigint, wait: { signal: AbortSignal }) => Promise<void>;
    readonly remove: () => Promise<void>;
  };
  readonly ballastBytes: () => bigint;
}

export class DiskGuard {
  readonly #options: DiskGuardOptions;
  readonly #sizes = new Map<VirtualClusterId, bigint>();
  readonly #slotsGivenUp = new Map<VirtualClusterId, number>();
  #level: PressureLevel = 'none';
  #isMeasured = false;
  #roundsSinceStep = ROUNDS_PER_STEP;

  constructor(options: DiskGuardOptions) {
    this.#options = options;
  }

  get level(): PressureLevel {
    return this.#level;
  }

  /** Slots of tenants that were given up since the daemon started. */
  slotsGivenUp(id: VirtualClusterId): number {
    return this.#slotsGivenUp.get(id) ?? 0;
  }

  /** Runs until the signal aborts. */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { clock, logger } = this.#options;
    let isFailing = false;
    while (!signal.aborted) {
      try {
        await clock.sleep(DISK_ROUND_MS, { signal });
        await this.round({ signal });
        isFailing = false;
      } catch (error) {
        if (!signal.aborted && !isFailing)
          logger.error('looking after the disk failed, will try again', error);
        isFailing = true;
      }
    }
  }

  async round({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const room = await this.#options.room();
    const level = pressureOf(room);
    this.#tell(level, room);
    await this.#keepBallast(level, room, signal);
    if (!isAtLeast(level, 'captures')) await this.#letWrite(signal);
    if (level === 'none') {
      this.#isMeasured = false;
      this.#roundsSinceStep = ROUNDS_PER_STEP;
      return;
    }
    // What grows from here on is what takes the last room.
    if (!this.#isMeasured) await this.#measure(signal);
    this.#roundsSinceStep += 1;
    if (this.#roundsSinceStep < ROUNDS_PER_STEP) return;
    this.#roundsSinceStep = 0;
    await this.#giveUpSlots(signal);
    if (isAtLeast(level, 'read_only')) await this.#stopGreatestGrower(signal);
  }

  #tell(level: PressureLevel, { freeBytes }: DiskRoom): void {
    const before = this.#level;
    this.#level = level;
    if (before === level) return;
    const what = `${freeBytes} bytes are free on the disk of the store`;
    const { logger } = this.#options;
    if (isAtLeast(level, before)) logger.warning(`${what}: ${CONSEQUENCES[level]}`);
    else logger.info(`${what}: ${CONSEQUENCES[level]}`);
  }

  async #keepBallast(level: PressureLevel, room: DiskRoom, signal: AbortSignal): Promise<void> {
    const { ballast, ballastBytes, logger } = this.#options;
    const wanted = ballastBytes();
    const held = await ballast.bytes();
    if (held > 0n && (level === 'ballast' || wanted === 0n)) {
      await ballast.remove();
      if (level === 'ballast') logger.warning(`gave back the ballast of ${held} bytes`);
      return;
    }
    const after = { ...room, freeBytes: room.freeBytes - (wanted - held) };
    if (held < wanted && !isAtLeast(pressureOf(after), 'window')) await ballast.make(wanted, { signal });
  }

  async #letWrite(signal: AbortSignal): Promise<void> {
    for (const cluster of this.#options.guarded()) {
      if (!cluster.isReadOnly) continue;
      await this.#attempt(cluster, async () => {
        await this.#options.setReadOnly(cluster.virtualClusterId, { isReadOnly: false, signal });
        this.#loggerOf(cluster).info('it may write again: there is room on the disk of the store');
      });
    }
  }

  async #measure(signal: AbortSignal): Promise<void> {
    this.#sizes.clear();
    for (const { virtualClusterId: id } of this.#options.guarded()) {
      const bytes = await this.#options.usedBytes(id, { signal });
      if (bytes !== undefined) this.#sizes.set(id, bytes);
    }
    this.#isMeasured = true;
  }

  async #giveUpSlots(signal: AbortSignal): Promise<void> {
    for (const cluster of this.#options.guarded()) {
      const { virtualClusterId: id } = cluster;
      await this.#attempt(cluster, async () => {
        const names = await this.#options.giveUpSlots(id, { signal });
        if (names.length === 0) return;
        this.#slotsGivenUp.set(id, this.slotsGivenUp(id) + names.length);
        this.#loggerOf(cluster).warning(
          `gave up replication slot ${names.map((name) => `"${name}"`).join(', ')}, which kept log that the disk has no room for`,
        );
      });
    }
  }

  async #stopGreatestGrower(signal: AbortSignal): Promise<void> {
    const sizes = new Map<VirtualClusterId, { before: bigint; now: bigint }>();
    for (const { virtualClusterId: id, isReadOnly } of this.#options.guarded()) {
      const now = isReadOnly ? undefined : await this.#options.usedBytes(id, { signal });
      if (now !== undefined) sizes.set(id, { before: this.#sizes.get(id) ?? 0n, now });
    }
    const grown = greatestGrower(sizes);
    const cluster = this.#options.guarded().find(({ virtualClusterId }) => virtualClusterId === grown);
    if (cluster === undefined) return;
    await this.#attempt(cluster, async () => {
      await this.#options.setReadOnly(cluster.virtualClusterId, { isReadOnly: true, signal });
      this.#loggerOf(cluster).error(
        'made read-only: it has grown most while the disk of the store became full',
      );
    });
    // The next one is whoever grows from now on.
    this.#isMeasured = false;
  }

  /** What fails with one holds up no other. */
  async #attempt(cluster: GuardedCluster, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (isAppError(error, 'cancelled')) throw error;
      this.#loggerOf(cluster).error('could not be kept from filling the disk, will try again', error);
    }
  }

  #loggerOf({ virtualClusterId, name }: GuardedCluster): Logger {
    return this.#options.logger.for({ virtualClusterId, virtualClusterName: name });
  }
}

const CONSEQUENCES: Readonly<Record<PressureLevel, string>> = {
  none: 'enough',
  slots: "slots of tenants' that keep log are given up",
  window: 'windows of timelines become shorter',
  captures: 'no base is captured',
  read_only: 'whichever virtual cluster grows becomes read-only',
  ballast: 'the ballast is given back',
};
