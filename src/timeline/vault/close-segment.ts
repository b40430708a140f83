import { readSync } from 'node:fs';
import { type FileHandle, open, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, errnoOf, type IncarnationId, type Rng } from '../../base/index.ts';
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

/** A segment that was received to its end and is durable. Can be sent to a thread. */
export interface FullSegment {
  readonly directory: string;
  readonly segment: LogSegment;
  readonly systemIdentifier: bigint;
  readonly incarnation: IncarnationId;
}

/** What a thread that closes segments keeps from one to the next. */
export interface ClosingTools {
  readonly rng: Rng;
  readonly raw: Uint8Array;
  readonly frame: Uint8Array;
}

export function closingTools({ rng }: { readonly rng: Rng }): ClosingTools {
  return { rng, raw: new Uint8Array(FRAME_BYTES_MAX), frame: new Uint8Array(FRAME_STORED_BYTES_MAX) };
}

/**
 * Puts a log object in the place of an open segment that is full, and tells how many bytes on disk that saved. May run again after it was cut
 * off anywhere. @throws AppError `io`, `disk_full`; CorruptError when what stands in its place already is damaged
 */
export async function closeSegment(full: FullSegment, tools: ClosingTools): Promise<number> {
  const { directory, segment } = full;
  const openPath = join(directory, openSegmentName(segment));
  const closedPath = join(directory, closedSegmentName(segment));
  faultPoint('vault.before_closing');
  try {
    await using file = await open(openPath, 'r');
    await write(file, full, tools);
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

async function write(file: FileHandle, full: FullSegment, tools: ClosingTools): Promise<void> {
  const { directory, segment, systemIdentifier, incarnation } = full;
  const store = openCollection({ displayUri: directory, directory }, tools);
  // One that was begun is ended: it takes moments, and leaves nothing behind.
  const { signal } = new AbortController();
  await using upload = await store.beginUpload(parseBlobKey(closedSegmentName(segment)), { signal });
  const endLsn = walSegmentStart({ ...segment, segmentNo: segment.segmentNo + 1n });
  const header: WalObjectHeader = { ...segment, endLsn, systemIdentifier, incarnation };
  await upload.append(encodeWalObjectHeader(header));
  for (let offset = 0; offset < segment.segmentBytes; offset += FRAME_BYTES_MAX) {
    const raw = tools.raw.subarray(0, Math.min(FRAME_BYTES_MAX, segment.segmentBytes - offset));
    for (let at = 0; at < raw.length; ) {
      const bytesRead = readSync(file.fd, raw, at, raw.length - at, offset + at);
      if (bytesRead === 0) throw new AppError('io', `the open segment ${directory} became shorter`);
      at += bytesRead;
    }
    await upload.append(tools.frame.subarray(0, encodeBytesFrame(raw, { into: tools.frame, at: 0 })));
  }
  await upload.commit();
}
