/** How streams fare, for whoever watches; known while the daemon runs. */
import type { Lsn, VirtualClusterId } from '../base/index.ts';

export interface StreamFigures {
  /** Of images, whether or not they came to an end. */
  readonly scannedBytes: number;
  /** Of the image that is on its way. */
  readonly scanBytesLeft: number;
  /** Log that the source has and the follower has not replayed. */
  readonly behindBytes: number;
  /** How many times the replicated time went on. */
  readonly resolvedCount: number;
  /** How many times the work was begun again after trouble. */
  readonly restartCount: number;
  /** Of the way back to a failover time that has passed, what is left: 0 to 1; 0 also when none is under way. */
  readonly wayBackLeft: number;
}

const NOTHING: StreamFigures = {
  scannedBytes: 0,
  scanBytesLeft: 0,
  behindBytes: 0,
  resolvedCount: 0,
  restartCount: 0,
  wayBackLeft: 0,
};

export class StreamMeter {
  readonly #figures = new Map<VirtualClusterId, StreamFigures>();
  /** What the attempt under way has told so far. */
  readonly #attempts = new Map<VirtualClusterId, number>();

  get(id: VirtualClusterId): StreamFigures {
    return this.#figures.get(id) ?? NOTHING;
  }

  /** Another attempt at an image: what it receives is counted from nothing. */
  noteScanBegun(id: VirtualClusterId): void {
    this.#attempts.delete(id);
  }

  /** `receivedBytes` grows within an attempt. */
  noteScan(id: VirtualClusterId, scan: { receivedBytes: number; totalBytes: number }): void {
    const { receivedBytes, totalBytes } = scan;
    const before = this.#attempts.get(id) ?? 0;
    this.#attempts.set(id, receivedBytes);
    this.#change(id, {
      scannedBytes: this.get(id).scannedBytes + receivedBytes - before,
      scanBytesLeft: Math.max(0, totalBytes - receivedBytes),
    });
  }

  noteScanEnded(id: VirtualClusterId): void {
    this.#attempts.delete(id);
    this.#change(id, { scanBytesLeft: 0 });
  }

  /** As the source says now. */
  noteEnd(
    id: VirtualClusterId,
    { sourceLsn, replayedLsn }: { sourceLsn: Lsn; replayedLsn: Lsn | null },
  ): void {
    if (replayedLsn === null) return;
    this.#change(id, { behindBytes: sourceLsn > replayedLsn ? Number(sourceLsn - replayedLsn) : 0 });
  }

  noteResolved(id: VirtualClusterId): void {
    this.#change(id, { resolvedCount: this.get(id).resolvedCount + 1 });
  }

  noteRestart(id: VirtualClusterId): void {
    this.#change(id, { restartCount: this.get(id).restartCount + 1 });
  }

  /** `fraction` is done. */
  noteWayBack(id: VirtualClusterId, fraction: number): void {
    this.#change(id, { wayBackLeft: Math.min(1, Math.max(0, 1 - fraction)) });
  }

  forget(id: VirtualClusterId): void {
    this.#figures.delete(id);
    this.#attempts.delete(id);
  }

  #change(id: VirtualClusterId, change: Partial<StreamFigures>): void {
    this.#figures.set(id, { ...this.get(id), ...change });
  }
}
