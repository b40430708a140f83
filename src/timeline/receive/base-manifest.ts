/** Manifests of BASE_BACKUP: the one that the source sends, and the one by which it is told what has arrived already. */
import { createHash } from 'node:crypto';
import { CorruptError, formatLsn } from '../../base/index.ts';
import type { ArrivedFile, ImageStart } from './receive-progress.ts';

export interface ManifestFile {
  readonly path: string;
  readonly size: number;
  readonly checksum: string;
}

/** @throws CorruptError */
export function readManifest(text: string): readonly ManifestFile[] {
  let manifest: { Files?: unknown };
  try {
    manifest = JSON.parse(text) as { Files?: unknown };
  } catch (error) {
    throw new CorruptError('the manifest of the source is no JSON', { cause: error });
  }
  if (!Array.isArray(manifest.Files)) throw new CorruptError('the manifest of the source lists no files');
  return manifest.Files.map((file: Record<string, unknown>) => {
    const { Path: path, Size: size, Checksum: checksum } = file;
    if (typeof path !== 'string' || typeof size !== 'number' || typeof checksum !== 'string') {
      throw new CorruptError('the manifest of the source has an entry that cannot be read');
    }
    return { path, size, checksum };
  });
}

/** Of an image that holds these files as of `start` or later, as `backend/backup/basebackup_incremental.c` wants to have it. */
export function printManifest(options: {
  readonly systemIdentifier: bigint;
  readonly start: ImageStart;
  readonly files: Iterable<Pick<ArrivedFile, 'path' | 'bytes'>>;
}): string {
  const { systemIdentifier, start, files } = options;
  const lsn = formatLsn(start.startLsn);
  const listed = Array.from(files, ({ path, bytes }) => JSON.stringify({ Path: path, Size: bytes }));
  // Its own checksum stands in the last of several lines, and covers those before.
  const covered = [
    '{ "PostgreSQL-Backup-Manifest-Version": 2,',
    `"System-Identifier": ${systemIdentifier},`,
    '"Files": [',
    listed.join(',\n'),
    '],',
    `"WAL-Ranges": [{ "Timeline": ${start.timelineId}, "Start-LSN": "${lsn}", "End-LSN": "${lsn}" }],`,
    '',
  ].join('\n');
  const checksum = createHash('sha256').update(covered).digest('hex');
  return `${covered}"Manifest-Checksum": "${checksum}"}\n`;
}
