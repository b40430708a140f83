import { type FileHandle, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { assert } from '../../base/index.ts';
import { openSegmentName } from '../store/layout.ts';
import type { LogSegment } from '../store/read-log.ts';
import { syncFolder } from './files.ts';

/** A segment that is being received. Written in order, without holes. */
export class SegmentFile {
  readonly segment: LogSegment;
  readonly path: string;
  readonly #file: FileHandle;
  #bytes: number;
  #isNameSynced: boolean;

  /** Goes on behind the first `bytes` bytes; those must be there, and others are cut off. */
  static async open(options: {
    readonly directory: string;
    readonly segment: LogSegment;
    readonly bytes: number;
  }): Promise<SegmentFile> {
    const { directory, segment, bytes } = options;
    const path = join(directory, openSegmentName(segment));
    const file = await open(path, bytes === 0 ? 'w' : 'r+', 0o600);
    try {
      const { size } = await file.stat();
      assert(size >= bytes, 'an open segment is as long as was found');
      if (size > bytes) await file.truncate(bytes);
      await file.sync();
      return new SegmentFile({ file, path, segment, bytes });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  private constructor(options: { file: FileHandle; path: string; segment: LogSegment; bytes: number }) {
    this.#file = options.file;
    this.path = options.path;
    this.segment = options.segment;
    this.#bytes = options.bytes;
    this.#isNameSynced = options.bytes > 0;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get room(): number {
    return this.segment.segmentBytes - this.#bytes;
  }

  async append(bytes: Uint8Array): Promise<void> {
    assert(bytes.length <= this.room, 'a segment is not written beyond its end');
    for (let at = 0; at < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, at, bytes.length - at, this.#bytes + at);
      at += bytesWritten;
    }
    this.#bytes += bytes.length;
  }

  async sync(): Promise<void> {
    await this.#file.datasync();
    if (this.#isNameSynced) return;
    await syncFolder(dirname(this.path));
    this.#isNameSynced = true;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
