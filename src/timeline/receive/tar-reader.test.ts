import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../../base/index.ts';
import { TarReader } from './tar-reader.ts';

interface Entry {
  readonly path: string;
  /** Null for a folder. */
  readonly content: Buffer | null;
}

function header(path: string, { bytes, type }: { bytes: number; type: string }): Buffer {
  const block = Buffer.alloc(512);
  block.write(path, 0);
  block.write(bytes.toString(8).padStart(11, '0'), 124);
  block.write(type, 156);
  block.write('ustar\0', 257);
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

function tarOf(entries: readonly Entry[]): Buffer {
  const blocks = entries.flatMap(({ path, content }) => {
    if (content === null) return [header(`${path}/`, { bytes: 0, type: '5' })];
    const padding = Buffer.alloc((512 - (content.length % 512)) % 512);
    return [header(path, { bytes: content.length, type: '0' }), content, padding];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

function read(tar: Buffer, pieces: readonly number[]): { entries: Entry[]; isWhole: boolean } {
  const entries: Entry[] = [];
  let path = '';
  let content: Buffer[] = [];
  const reader = new TarReader((event) => {
    if (event.kind === 'folder') entries.push({ path: event.path, content: null });
    if (event.kind === 'file') [path, content] = [event.path, []];
    if (event.kind === 'content') content.push(Buffer.from(event.bytes));
    if (event.kind === 'file_end') entries.push({ path, content: Buffer.concat(content) });
  });
  let at = 0;
  for (const piece of pieces) {
    reader.push(tar.subarray(at, at + piece));
    at += piece;
  }
  reader.push(tar.subarray(at));
  return { entries, isWhole: reader.isWhole };
}

const entry: fc.Arbitrary<Entry> = fc.record(
  {
    path: fc
      .stringMatching(/^[a-z0-9_]{1,20}(\/[a-z0-9_.]{1,20}){0,2}$/)
      .filter((path) => !path.includes('..')),
    content: fc.option(fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes))),
  },
  { noNullPrototype: true },
);

describe('the reader of archives', () => {
  it('gives what was put in, however it is cut', () => {
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 5 }),
        fc.array(fc.integer({ min: 1, max: 700 }), { maxLength: 30 }),
        (entries, pieces) => {
          assert.deepEqual(read(tarOf(entries), pieces), { entries, isWhole: true });
        },
      ),
    );
  });

  it('knows that a file is not whole', () => {
    const tar = tarOf([{ path: 'a', content: Buffer.alloc(700, 1) }]);
    assert.equal(read(tar.subarray(0, 900), []).isWhole, false);
  });

  it('takes nothing that leads elsewhere, links, or is damaged', () => {
    const refused = (tar: Buffer) =>
      assert.throws(
        () => read(tar, []),
        (error) => isAppError(error, 'protocol_violation'),
      );
    for (const path of ['/etc/passwd', '../up', 'a/../../up', '']) {
      refused(tarOf([{ path, content: Buffer.from('x') }]));
    }
    refused(header('link', { bytes: 0, type: '2' }));
    const damaged = tarOf([{ path: 'a', content: Buffer.from('x') }]);
    damaged.writeUInt8(0x62, 0);
    refused(damaged);
  });
});
