/** Turns segments that are full into log objects, one at a time for the whole process: they wait on disk, not in memory. */
import { type FileHandle, open, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, type Clock, errnoOf, type IncarnationId, type Rng } from '../../base/index.ts';
import { parseBlobKey } from '../../blob/index.ts';
import { walSegmentStart } from '../../pg/index.ts';
import { openCollection } from '../collection/open.ts';
import { encodeBytesFrame, FRAME_BYTES_MAX, FRAME_STORED_BYTES_MAX } from '../format/frame.ts';
import { encodeWalObjectHeader, type WalObjectHeader } from '../format/wal-object.ts';
import { closedSegmentName, openSegmentName } from '../store/layout.ts';
import type { LogSegment } from '../store/read-log.ts';
import { readClosedHeader } from '../store/wal-folder.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { syncFolder } from './files.ts';

/** How long after a failure it is tried again. */
const RETRY_MS = 2000;

export interface FullSegment {
  readonly directory: string;
  readonly segment: LogSegment;
  readonly systemIdentifier: bigint;
  readonly incarnation: IncarnationId;
  /** Tells how many bytes on disk it saved. */
  readonly onClosed: (savedBytes: number) => void;
  /** Told of every failure; it is tried again. */
  readonly onFailed: (error: unknown) => void;
}

export class SegmentCloser {
  readonly #clock: Clock;
  readonly #rng: Rng;
  readonly #signal: AbortSignal;
  readonly #waiting: FullSegment[] = [];
  readonly #frame = new Uint8Array(FRAME_STORED_BYTES_MAX);
  readonly #raw = new Uint8Array(FRAME_BYTES_MAX);
  #running: Promise<void> | null = null;

  constructor(options: { readonly clock: Clock; readonly rng: Rng; readonly signal: AbortSignal }) {
    this.#clock = options.clock;
    this.#rng = options.rng;
    this.#signal = options.signal;
  }

  add(full: FullSegment): void {
    this.#waiting.push(full);
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
  }

  /** What is left undone is done by the next process. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    for (;;) {
      const full = this.#waiting[0];
      if (full === undefined || this.#signal.aborted) return;
      try {
        full.onClosed(await this.#close(full));
        this.#waiting.shift();
      } catch (error) {
        if (this.#signal.aborted) return;
        full.onFailed(error);
        // The others go first: one that cannot be closed must not hold them up.
        this.#waiting.push(...this.#waiting.splice(0, 1));
        await this.#clock.sleep(RETRY_MS, { signal: this.#signal }).catch(() => undefined);
      }
    }
  }

  async #close(full: FullSegment): Promise<number> {
    const { directory, segment } = full;
    const openPath = join(directory, openSegmentName(segment));
    const closedPath = join(directory, closedSegmentName(segment));
    faultPoint('vault.before_closing');
    try {
      await using file = await open(openPath, 'r');
      await this.#write(file, full);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return 0; // Collected while it waited.
      const isThere = error instanceof AppError && error.code === 'blob_exists';
      if (!isThere) throw error;
      await readClosedHeader(closedPath);
    }
    faultPoint('vault.after_closing');
    const { size } = await stat(closedPath);
    await unlink(openPath);
    await syncFolder(dirname(openPath));
    faultPoint('vault.after_removing_open_segment');
    return segment.segmentBytes - size;
  }

  async #write(file: FileHandle, full: FullSegment): Promise<void> {
    const { directory, segment, systemIdentifier, incarnation } = full;
    const store = openCollection({ displayUri: directory, directory }, { rng: this.#rng });
    const key = parseBlobKey(closedSegmentName(segment));
    await using upload = await store.beginUpload(key, { signal: this.#signal });
    const endLsn = walSegmentStart({ ...segment, segmentNo: segment.segmentNo + 1n });
    const header: WalObjectHeader = { ...segment, endLsn, systemIdentifier, incarnation };
    await upload.append(encodeWalObjectHeader(header));
    for (let offset = 0; offset < segment.segmentBytes; offset += FRAME_BYTES_MAX) {
      const raw = this.#raw.subarray(0, Math.min(FRAME_BYTES_MAX, segment.segmentBytes - offset));
      for (let at = 0; at < raw.length; ) {
        const { bytesRead } = await file.read(raw, at, raw.length - at, offset + at);
        if (bytesRead === 0) throw new AppError('io', `the open segment ${full.directory} became shorter`);
        at += bytesRead;
      }
      await upload.append(this.#frame.subarray(0, encodeBytesFrame(raw, { into: this.#frame, at: 0 })));
    }
    await upload.commit();
  }
}
