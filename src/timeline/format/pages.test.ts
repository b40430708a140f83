/** The golden files, read by what the pages of the formats say alone: places and lengths come from their tables, nothing from our codecs. */
import assert from 'node:assert/strict';
import { createHmac, hkdfSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { crc32, zstdDecompressSync } from 'node:zlib';
import { required } from '../../base/index.ts';
import { crc32c } from '../../pg/index.ts';
import { FIXTURE_BYTES, FIXTURE_PACK_ID, FIXTURE_WAL, fixtureManifest } from './fixtures.ts';

const ROOT = join(import.meta.dirname, '../../..');
const golden = (name: string) => readFileSync(join(import.meta.dirname, '..', 'golden', name));
const page = (name: string) => readFileSync(join(ROOT, 'docs/formats', name), 'utf8');
/** Cluster key of the golden files. */
const KEY = Buffer.alloc(32, 7);

interface Row {
  readonly name: string;
  readonly at: number;
  readonly bytes: number;
}

/** Rows of every table of a page that has this head, in order. */
function tablesOf(text: string, head: string): string[][][] {
  const tables: string[][][] = [];
  const lines = text.split('\n');
  for (const [number, line] of lines.entries()) {
    if (line !== head) continue;
    const end = lines.findIndex((each, index) => index > number && !each.startsWith('|'));
    const rows = lines.slice(number + 2, end === -1 ? undefined : end);
    tables.push(
      rows.map((row) =>
        row
          .split('|')
          .slice(1, -1)
          .map((cell) => cell.trim()),
      ),
    );
  }
  return tables;
}

/** Layouts that a page gives: fields follow each other without a gap. What has no length of its own, a payload, is left out. */
function layoutsOf(name: string): readonly (readonly Row[])[] {
  return tablesOf(page(name), '| Offset | Bytes | Field |').map((rows) => {
    let expected = 0;
    return rows.flatMap(([at = '', bytes = '', field = '']) => {
      assert.equal(Number(at), expected, `${name}: ${field}`);
      if (!/^\d+$/.test(bytes)) return [];
      expected += Number(bytes);
      return [{ name: field, at: Number(at), bytes: Number(bytes) }];
    });
  });
}

const lengthOf = (layout: readonly Row[]) => layout.reduce((sum, { bytes }) => sum + bytes, 0);

/** A piece of a golden file, field by field; a field is asked for by the beginning of what the page says of it. */
class Fields {
  readonly #bytes: Buffer;
  readonly #layout: readonly Row[];

  constructor(bytes: Buffer, layout: readonly Row[] | undefined) {
    this.#bytes = bytes;
    this.#layout = required(layout, 'table of the page');
    for (const { name, at, bytes: length } of this.#layout) {
      if (name === '0')
        assert.ok(
          bytes.subarray(at, at + length).every((byte) => byte === 0),
          'reserved',
        );
    }
  }

  bytes(field: string): Buffer {
    const row = required(
      this.#layout.find(({ name }) => name.replaceAll('`', '').startsWith(field)),
      `field ${field}`,
    );
    return this.#bytes.subarray(row.at, row.at + row.bytes);
  }

  number(field: string): bigint {
    const digits = Buffer.from(this.bytes(field)).reverse().toString('hex');
    return BigInt(`0x${digits}`);
  }

  /** What the page gives as fixed text stands there. */
  requireText(text: string): void {
    assert.equal(this.bytes(text).toString('latin1'), text);
  }

  requireNumbers(expected: Readonly<Record<string, number | bigint>>): void {
    for (const [field, value] of Object.entries(expected))
      assert.equal(this.number(field), BigInt(value), field);
  }
}

const uuidOf = (bytes: Buffer) =>
  bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');

/** The frame that begins there: its length and what it holds. */
function readFrame(bytes: Buffer, at: number): { length: number; fields: Fields; content: Buffer } {
  const [layout] = layoutsOf('frame-and-pack.md');
  const head = lengthOf(required(layout, 'table of frames'));
  const fields = new Fields(bytes.subarray(at, at + head), layout);
  fields.requireText('AFRM');
  const length = head + Number(fields.number('stored length'));
  const stored = bytes.subarray(at + head, at + length);
  assert.equal(fields.number('CRC-32'), BigInt(crc32(stored, crc32(bytes.subarray(at, at + 28)))));
  const content = fields.number('codec') === 1n ? zstdDecompressSync(stored) : stored;
  assert.equal(BigInt(content.length), fields.number('raw length'));
  return { length, fields, content };
}

describe('the pages of the formats say what is in the golden files', () => {
  it('of packs and frames', () => {
    const bytes = golden('pack-1.bin');
    const [frame, header, index, footer] = layoutsOf('frame-and-pack.md');
    assert.deepEqual(
      [frame, header, index, footer].map((each) => lengthOf(each ?? [])),
      [32, 32, 12, 48],
    );
    const beginning = new Fields(bytes.subarray(0, 32), header);
    beginning.requireText('ATOLPACK');
    beginning.requireNumbers({ version: 1 });
    assert.deepEqual(beginning.bytes('id'), Buffer.from(FIXTURE_PACK_ID));
    const end = new Fields(bytes.subarray(-48), footer);
    end.requireText('ATOLPEND');
    assert.deepEqual(end.bytes('id'), Buffer.from(FIXTURE_PACK_ID));
    const indexAt = Number(end.number('offset of the index'));
    const indexBytes = bytes.subarray(indexAt, -48);
    end.requireNumbers({
      'number of frames': indexBytes.length / 12,
      'CRC-32 of the index': crc32(indexBytes),
      'CRC-32 of bytes 0 to 43': crc32(bytes.subarray(-48, -4)),
    });
    const frames: ReturnType<typeof readFrame>[] = [];
    for (let at = 32; at < indexAt; at += required(frames.at(-1), 'frame').length) {
      const read = readFrame(bytes, at);
      new Fields(indexBytes.subarray(12 * frames.length), index).requireNumbers({
        'offset of the frame': at,
        'length of the frame': read.length,
        'its CRC-32': read.fields.number('CRC-32'),
      });
      frames.push(read);
    }
    const [pages, ...others] = frames;
    assert.ok(pages !== undefined);
    pages.fields.requireNumbers({ kind: 1, pages: 3, 'presence: bit': 0b101 });
    assert.deepEqual([pages.content.length, pages.content[0], pages.content[8192]], [2 * 8192, 1, 3]);
    assert.deepEqual(
      others.map(({ content }) => content),
      FIXTURE_BYTES,
    );
    for (const { fields } of others) fields.requireNumbers({ kind: 2, pages: 0, 'presence: bit': 0 });
  });

  it('of log objects', () => {
    const bytes = golden('wal-1.bin');
    const [layout] = layoutsOf('wal.md');
    const header = new Fields(bytes.subarray(0, 80), layout);
    header.requireText('ATOLWALS');
    const begin = 5n * 1024n * 1024n;
    header.requireNumbers({
      version: 1,
      "PostgreSQL's timeline id": 2,
      'segment number': 5,
      'size of a segment': 1024 * 1024,
      'number of frames': 1,
      'position of the first byte': begin,
      'position after the last byte': begin + 5000n,
      'system identifier': 7_400_000_000_000_000_123n,
      'CRC-32': crc32(bytes.subarray(0, 76)),
    });
    assert.equal(uuidOf(header.bytes('incarnation')), '0190c2a4-0000-7000-8000-000000000001');
    const { length, content, fields } = readFrame(bytes, lengthOf(required(layout, 'table')));
    fields.requireNumbers({ kind: 2 });
    assert.deepEqual([80 + length, content], [bytes.length, Buffer.from(FIXTURE_WAL)]);
  });

  it('of the time index', () => {
    const bytes = golden('time-index-1.bin');
    const [header, entry] = layoutsOf('vault.md');
    assert.deepEqual(
      [header, entry].map((each) => lengthOf(each ?? [])),
      [64, 40],
    );
    const head = new Fields(bytes.subarray(0, 64), header);
    head.requireText('ATOLTIDX');
    head.requireNumbers({
      version: 1,
      'bytes of an entry': 40,
      'system identifier': 7_710_575_709_987_891_340n,
      'position that the file is named after': 0x200_07f0,
      'CRC-32C': crc32c(bytes.subarray(0, 60)),
    });
    assert.equal(uuidOf(head.bytes('incarnation')), '0b1c2d3e-4f50-4162-8374-95a6b7c8d9e0');
    const noon = BigInt(Date.parse('2026-11-21T10:07:00Z')) * 1000n;
    const read = Array.from({ length: (bytes.length - 64) / 40 }, (_, number) => {
      const place = bytes.subarray(64 + 40 * number, 64 + 40 * (number + 1));
      const fields = new Fields(place, entry);
      fields.requireNumbers({ 'CRC-32C': crc32c(place.subarray(0, 36)) });
      const [position, maximum, own, timeline, kind] = [
        fields.number('position'),
        fields.number('running maximum') - noon,
        fields.number('own time') - noon,
        fields.number('timeline id'),
        fields.number('kind'),
      ];
      return [kind, timeline, position, maximum, own];
    });
    // Kinds as the page numbers them: 1 commit, 2 idle, 3 clock step, 4 segment end.
    assert.deepEqual(read, [
      [1n, 1n, 0x200_07f0n, 45_000_001n, 45_000_001n],
      [1n, 1n, 0x210_0028n, 45_100_001n, 45_099_998n],
      [4n, 1n, 0x2ff_ff80n, 45_150_000n, 45_150_000n],
      [3n, 1n, 0x300_1000n, 45_150_000n, 40_000_000n],
      [2n, 2n, 0x300_2000n, 59_500_000n, 59_500_000n],
    ]);
  });

  it('of manifests', () => {
    const bytes = golden('manifest-1.bin');
    const [header, list, trailer] = layoutsOf('manifest.md');
    assert.deepEqual(
      [header, list, trailer].map((each) => lengthOf(each ?? [])),
      [40, 32, 36],
    );
    const head = new Fields(bytes.subarray(0, 40), header);
    head.requireText('ATOLMANI');
    const sections = Number(head.number('number of sections'));
    head.requireNumbers({
      version: 1,
      'length of the whole object': bytes.length,
      'CRC-32': crc32(bytes.subarray(0, 36)),
    });
    const derive = (info: string, length: number) => Buffer.from(hkdfSync('sha256', KEY, '', info, length));
    assert.deepEqual(head.bytes('id of the cluster key'), derive('atoll 1 key id', 8));
    const end = new Fields(bytes.subarray(-36), trailer);
    const mac = createHmac('sha256', derive('atoll 1 manifest mac', 32))
      .update(bytes.subarray(0, -36))
      .digest();
    assert.deepEqual(end.bytes('HMAC-SHA-256'), mac);
    end.requireNumbers({ 'CRC-32 over': crc32(bytes.subarray(0, -4)) });

    const raw = new Map<number, Buffer>();
    let expected = 40 + 32 * sections;
    for (let number = 0; number < sections; number++) {
      const entry = new Fields(bytes.subarray(40 + 32 * number, 72 + 32 * number), list);
      entry.requireNumbers({ 'offset in the object': expected });
      const stored = bytes.subarray(expected, expected + Number(entry.number('stored length')));
      expected += stored.length;
      const content = zstdDecompressSync(stored);
      entry.requireNumbers({ 'raw length': content.length });
      raw.set(Number(entry.number('section number')), content);
    }
    assert.equal(expected, bytes.length - 36);
    const names = tablesOf(page('manifest.md'), '| Number | Name | Content |')[0] ?? [];
    const section = (name: string) => {
      const number = Number(
        required(
          names.find((row) => row[1] === name),
          `section ${name}`,
        )[0],
      );
      return required(raw.get(number), `section ${name}`);
    };
    assert.deepEqual([...raw.keys()], [1, 2, 3, 4, 5, 6, 7, 8]);
    const manifest = fixtureManifest();
    const json = (name: string) => JSON.parse(section(name).toString('utf8')) as unknown;
    const fields = json('header') as Record<string, unknown>;
    assert.deepEqual(
      [
        fields['startLsn'],
        fields['targetLsn'],
        fields['endTime'],
        fields['subdirectory'],
        fields['backupLabel'],
      ],
      [
        String(0x500028),
        String(0x500200),
        '1767323046123456',
        '2026/01/02-030405.06',
        manifest.header.backupLabel,
      ],
    );
    const named = /Header fields: (.*?)\n\n/s.exec(page('manifest.md'))?.[1] ?? '';
    for (const name of Object.keys(fields))
      assert.ok(named.includes(`\`${name}\``), `the page has no field ${name}`);
    assert.deepEqual(json('packs'), manifest.packs);
    assert.deepEqual(
      (json('wal') as { segmentNo: string }[]).map(({ segmentNo }) => segmentNo),
      ['5'],
    );
    assert.deepEqual(
      (json('databases') as { name: string }[]).map(({ name }) => name),
      ['defaultdb'],
    );
    assert.equal((json('objects') as unknown[]).length, 2);

    const tables = tablesOf(page('manifest.md'), '| Column | Bytes | Meaning |');
    const columnsOf = (which: number, content: Buffer) => {
      const rows = content.readUInt32LE(0);
      let at = 4;
      const columns = (tables[which] ?? []).map(([name = '', width = '']) => {
        const values = Array.from({ length: rows }, (_, row) => {
          const place = content.subarray(at + row * Number(width), at + (row + 1) * Number(width));
          return BigInt(`0x${Buffer.from(place).reverse().toString('hex')}`);
        });
        at += rows * Number(width);
        return [name, values] as const;
      });
      return { columns: Object.fromEntries(columns), rest: content.subarray(at) };
    };
    const numbers = (column: ArrayLike<number | bigint>) => Array.from(column, BigInt);
    const { files, runs, frames } = manifest;
    const ofFiles = columnsOf(0, section('files'));
    assert.deepEqual(ofFiles.columns, {
      length: numbers(files.lengths),
      kind: numbers(files.kinds),
      mode: numbers(files.modes),
      'first run': numbers(files.firstRuns),
      runs: numbers(files.runCounts),
    });
    const paths = files.paths.join('\n');
    assert.deepEqual([ofFiles.rest.readUInt32LE(0), ofFiles.rest.toString('utf8', 4)], [paths.length, paths]);
    assert.deepEqual(columnsOf(1, section('runs')), {
      columns: {
        start: numbers(runs.starts),
        count: numbers(runs.counts),
        frame: numbers(runs.frames),
        index: numbers(runs.indexes),
      },
      rest: Buffer.alloc(0),
    });
    const ofFrames = columnsOf(2, section('frames'));
    const { tag, ...others } = ofFrames.columns;
    assert.deepEqual(others, {
      pack: numbers(frames.packs),
      offset: numbers(frames.offsets),
      length: numbers(frames.lengths),
      'CRC-32': numbers(frames.crcs),
    });
    assert.equal(tag?.[0], BigInt(`0x${Buffer.from(frames.tags.subarray(0, 16)).reverse().toString('hex')}`));
  });
});
