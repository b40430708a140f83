import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { CancelledError, required } from '../../base/index.ts';
import { firstBlockOf, PAGE_BYTES, PageBuffer, parseRelationPath } from '../../pg/index.ts';
import type { BackupProgress } from '../contract.ts';
import { type DataFile, listDataFiles } from '../data-directory/list-files.ts';
import { FRAME_PAGES_MAX } from '../format/frame.ts';
import { rest, type RestCell } from '../worker/limiter.ts';
import type { CheckDirectoryRequest, DirectoryCheck } from './contract.ts';

/** More tell nobody more. */
const FINDINGS_MAX = 20;

export interface CheckTools {
  readonly restCell: RestCell;
  readonly onProgress: (progress: BackupProgress) => void;
  readonly signal: AbortSignal;
}

/** Reads all relations of a data directory that nobody changes, and checks the checksum of every page. */
export function checkDirectory(
  { dataDirectory }: CheckDirectoryRequest,
  { restCell, onProgress, signal }: CheckTools,
): DirectoryCheck {
  const files = listDataFiles(dataDirectory).filter(({ kind }) => kind === 'pages');
  const bytesAll = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const buffer = new PageBuffer({ pagesMax: FRAME_PAGES_MAX });
  const findings: string[] = [];
  let pages = 0;
  for (const file of files) {
    if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
    const begunMs = performance.now();
    pages += checkFile(join(dataDirectory, file.path), { file, buffer, findings });
    rest(restCell, { workedMs: performance.now() - begunMs });
    onProgress({ fraction: bytesAll === 0 ? 1 : (pages * PAGE_BYTES) / bytesAll, phase: 'checking pages' });
  }
  return { files: files.length, pages, findings };
}

/** @returns the number of its pages */
function checkFile(
  path: string,
  { file, buffer, findings }: { file: DataFile; buffer: PageBuffer; findings: string[] },
): number {
  const firstBlock = firstBlockOf(required(parseRelationPath(file.path), `relation of ${file.path}`));
  const fd = openSync(path, 'r');
  try {
    let page = 0;
    for (;;) {
      const bytes = readSync(fd, buffer.bytes, 0, buffer.bytes.length, page * PAGE_BYTES);
      const count = Math.trunc(bytes / PAGE_BYTES);
      if (count === 0) return page;
      const place = { count, firstBlock: firstBlock + page };
      for (let bad = buffer.firstBadPage(place); bad !== -1; ) {
        if (findings.length < FINDINGS_MAX) {
          findings.push(`checksum mismatch in block ${firstBlock + page + bad} of ${file.path}`);
        }
        bad = bad + 1 < count ? buffer.firstBadPage({ ...place, from: bad + 1 }) : -1;
      }
      page += count;
    }
  } finally {
    closeSync(fd);
  }
}
