import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { joinCopyFiles } from './copy-files.ts';

const HEADER = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)]);
const TRAILER = Buffer.from([0xff, 0xff]);

async function* piecesOf(bytes: Buffer, lengths: readonly number[]): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (const length of lengths) {
    yield bytes.subarray(at, at + length);
    at += length;
  }
  yield bytes.subarray(at);
}

async function join(files: readonly Buffer[], lengths: readonly number[] = []): Promise<Buffer> {
  const all = (async function* () {
    for (const file of files) yield piecesOf(file, lengths);
  })();
  return Buffer.concat(await Array.fromAsync(joinCopyFiles(all, { format: 'binary', name: 't' })));
}

describe('COPY files', () => {
  test('become one, however they are cut', async () => {
    const rows = fc.array(fc.uint8Array({ maxLength: 30 }), { maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(rows, fc.array(fc.nat({ max: 25 }), { maxLength: 5 }), async (bodies, lengths) => {
        const files = bodies.map((body) => Buffer.concat([HEADER, body, TRAILER]));
        assert.deepEqual(await join(files, lengths), Buffer.concat([HEADER, ...bodies, TRAILER]));
      }),
    );
  });

  test('that are not whole are refused', async () => {
    const whole = Buffer.concat([HEADER, Buffer.from([1, 2, 3]), TRAILER]);
    for (const broken of [
      whole.subarray(0, 10),
      whole.subarray(0, -1),
      Buffer.concat([Buffer.from('x'), whole]),
    ]) {
      await assert.rejects(join([whole, broken]), { code: 'data_corrupt' });
    }
  });
});
