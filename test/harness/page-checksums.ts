import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { PAGE_BYTES, PageBuffer } from '../../src/pg/index.ts';

const PAGES_MAX = 64;
/** `base/5/16384`, a fork of it, or a further gigabyte of it. */
const RELATION_FILE = /^(?:base\/\d+|global)\/\d+(?:_[a-z]+)?(?:\.(?<segment>\d+))?$/;
const SEGMENT_PAGES = 131_072;

/** Pages of a data directory, whose server is stopped, with wrong checksums: one line for each file that has any. */
export async function damagedPages(dataDirectory: string): Promise<string[]> {
  const buffer = new PageBuffer({ pagesMax: PAGES_MAX });
  const findings: string[] = [];
  const files = await readdir(dataDirectory, { recursive: true });
  for (const name of files) {
    const match = RELATION_FILE.exec(name);
    if (match === null) continue;
    await using file = await open(join(dataDirectory, name));
    const firstOfFile = Number(match.groups?.['segment'] ?? 0) * SEGMENT_PAGES;
    for (let block = 0; ; block += PAGES_MAX) {
      const { bytesRead } = await file.read(buffer.bytes, 0, PAGES_MAX * PAGE_BYTES, block * PAGE_BYTES);
      const count = Math.floor(bytesRead / PAGE_BYTES);
      if (count === 0) break;
      const bad = buffer.firstBadPage({ count, firstBlock: firstOfFile + block });
      if (bad >= 0) {
        findings.push(`${name}: block ${block + bad}`);
        break;
      }
    }
  }
  return findings;
}
