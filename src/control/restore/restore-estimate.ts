/** How long a restore may take. */
import type { BackupSummary } from '../../timeline/index.ts';

/** Rates of a machine with two CPUs and an SSD, in bytes for a second: what was measured, rounded down. */
const WRITE_BYTES_PER_SECOND = 150_000_000n;
const REPLAY_BYTES_PER_SECOND = 40_000_000n;
/** Starting, recovering and stopping an empty server. */
const FIXED_MS = 2_000n;

export interface RestoreEstimate {
  readonly bytesToWrite: bigint;
  /** Log that recovery replays; its files are written, too. */
  readonly bytesToReplay: bigint;
  /** Milliseconds; an estimate that knows nothing of this machine's disk or of its load. */
  readonly durationMs: bigint;
}

/** Of a backup's end; an earlier moment of its revision history takes less log. */
export function estimateRestore({ bytes, replayBytes }: BackupSummary): RestoreEstimate {
  const bytesToWrite = bytes + replayBytes;
  const writingMs = (bytesToWrite * 1000n) / WRITE_BYTES_PER_SECOND;
  const replayingMs = (replayBytes * 1000n) / REPLAY_BYTES_PER_SECOND;
  return { bytesToWrite, bytesToReplay: replayBytes, durationMs: FIXED_MS + writingMs + replayingMs };
}
