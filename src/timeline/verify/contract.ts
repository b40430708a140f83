/** Proving that what the timeline store holds can be read, and restored. */
import type { BackupProgress } from '../contract.ts';

/** A data directory that no server works in. */
export interface CheckDirectoryRequest {
  readonly dataDirectory: string;
}

export interface DirectoryCheck {
  readonly files: number;
  readonly pages: number;
  /** Pages whose checksum is wrong, a sentence each; not more than a few. */
  readonly findings: readonly string[];
}

/** Bulk work that reads and compares, and changes nothing; in a process of its own each time. */
export interface VerifyWorker {
  /** Checks the checksums of all pages of all relations. */
  checkDirectory(
    request: CheckDirectoryRequest,
    options: { onProgress: (progress: BackupProgress) => void; signal: AbortSignal },
  ): Promise<DirectoryCheck>;
}
