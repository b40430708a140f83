import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { BareEngine } from '../../../test/harness/bare-engine.ts';
import { PAGE_BYTES } from '../../pg/index.ts';
import { createRestCell } from '../worker/limiter.ts';
import { checkDirectory } from './check-directory.ts';

const { signal } = new AbortController();
const tools = { restCell: createRestCell(), onProgress: () => undefined, signal };

async function flipByte(path: string, position: number): Promise<void> {
  await using file = await open(path, 'r+');
  const byte = new Uint8Array(1);
  await file.read(byte, 0, 1, position);
  await file.write(new Uint8Array([(byte[0] ?? 0) ^ 1]), 0, 1, position);
}

test('pages with a wrong checksum are found and named, all of them, and no others', async () => {
  await using engine = await BareEngine.open();
  const { dataDirectory } = engine;
  const sound = checkDirectory({ dataDirectory }, tools);
  assert.deepEqual(sound.findings, []);
  assert.ok(sound.files > 500 && sound.pages > 1000, JSON.stringify(sound));
  const path = 'base/5/1255';
  for (const block of [3, 4, 70]) await flipByte(join(dataDirectory, path), block * PAGE_BYTES + 5000);
  const { findings, pages } = checkDirectory({ dataDirectory }, tools);
  assert.deepEqual(
    findings,
    [3, 4, 70].map((block) => `checksum mismatch in block ${block} of ${path}`),
  );
  assert.equal(pages, sound.pages);
});
