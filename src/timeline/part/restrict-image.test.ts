import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { required } from '../../base/index.ts';
import { checkManifest } from '../format/check-manifest.ts';
import { fixtureManifest } from '../format/fixtures.ts';
import type { Manifest, ManifestRelation } from '../format/manifest.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';
import type { PublishedPart } from '../store-contract.ts';
import { holdsAllOf, objectsOf, restrictImage } from './restrict-image.ts';

const SHOP = 16_400;
const OTHER = 16_401;

function relation(oid: number, name: string, rows: number): ManifestRelation {
  return [oid, oid, 0, 0, 'r', 'p', 'public', name, 1, rows];
}

/** A page for each table, a frame for each page, in packs of two frames; and what is no relation. */
function imageOf(tables: readonly number[]): Manifest {
  const base = fixtureManifest();
  const ofPages = tables.flatMap((oid) => [`base/${SHOP}/${oid}`, `base/${OTHER}/${oid}`]);
  const paths = [
    ...ofPages,
    `base/${SHOP}/PG_VERSION`,
    `base/${OTHER}/PG_VERSION`,
    'global/pg_control',
  ].toSorted();
  const count = paths.length;
  const isPages = (path: string) => /\/\d+$/.test(path);
  const pack = required(base.packs[0], 'pack of the fixture');
  return {
    ...base,
    databases: [
      { oid: SHOP, name: 'shop', relations: tables.map((oid) => relation(oid, `t${oid}`, 10)) },
      { oid: OTHER, name: 'other', relations: tables.map((oid) => relation(oid, `t${oid}`, 1000)) },
    ],
    packs: Array.from({ length: Math.ceil(count / 2) }, (_, number) => ({
      ...pack,
      path: `${pack.path}-${number}`,
      bytes: 1_000_000,
    })),
    files: {
      paths,
      lengths: BigUint64Array.from(paths, () => 8192n),
      kinds: Uint8Array.from(paths, (path) => (isPages(path) ? 1 : 0)),
      modes: new Uint16Array(count),
      firstRuns: Uint32Array.from(paths.keys()),
      runCounts: new Uint32Array(count).fill(1),
    },
    runs: {
      starts: new Uint32Array(count),
      counts: Uint32Array.from(paths, (path) => (isPages(path) ? 1 : 8192)),
      frames: Uint32Array.from(paths, (_, row) => count - 1 - row),
      indexes: new Uint16Array(count),
    },
    frames: {
      packs: Uint32Array.from(paths, (_, row) => Math.floor(row / 2)),
      offsets: Uint32Array.from(paths, (_, row) => 100 + 1000 * row),
      lengths: new Uint32Array(count).fill(500),
      crcs: Uint32Array.from(paths.keys()),
      tags: Uint8Array.from({ length: count * FRAME_TAG_BYTES }, (_, at) => Math.floor(at / FRAME_TAG_BYTES)),
    },
  };
}

/** Where the only frame of a file lies, and its checksums. */
function placeOf({ files, runs, frames, packs }: Manifest, path: string): unknown {
  const frame = runs.frames[files.firstRuns[files.paths.indexOf(path)] ?? -1] ?? -1;
  return [
    packs[frames.packs[frame] ?? -1]?.path,
    frames.offsets[frame],
    frames.crcs[frame],
    frames.tags[frame * FRAME_TAG_BYTES],
  ];
}

const part = (oids: readonly number[]): PublishedPart => ({
  selection: {
    kind: 'tables',
    database: 'shop',
    patterns: oids.map((oid) => ({ schema: 'public', name: `t${oid}` })),
  },
  files: { databases: [], added: [{ databaseOid: SHOP, what: oids }] },
  objects: [],
});

describe('an image with only a part in it', () => {
  it('has the files of the part as they were, and what is no relation, and is whole', () => {
    const all = Array.from({ length: 12 }, (_, index) => 16_500 + index);
    fc.assert(
      fc.property(fc.subarray(all, { minLength: 1 }), (wanted) => {
        const image = imageOf(all);
        const cut = restrictImage(image, part(wanted));
        checkManifest(cut, 'restricted image');
        const expected = image.files.paths.filter(
          (path) => !/\/\d+$/.test(path) || wanted.some((oid) => path === `base/${SHOP}/${oid}`),
        );
        assert.deepEqual(cut.files.paths, expected);
        for (const path of expected) assert.deepEqual(placeOf(cut, path), placeOf(image, path), path);
        assert.equal(cut.frames.packs.length, expected.length);
        assert.ok(
          cut.packs.every((pack, row) => cut.frames.packs.includes(row) && image.packs.includes(pack)),
        );
        assert.deepEqual(
          cut.databases.map(({ name, relations }) => [name, relations.length]),
          [['shop', wanted.length]],
        );
        assert.equal(cut.header.totals.rows, BigInt(10 * wanted.length));
        assert.equal(cut.header.totals.bytes, BigInt(8192 * expected.length));
        assert.ok(holdsAllOf(image, cut));
        assert.equal(holdsAllOf(cut, image), false);
      }),
    );
  });

  it('lists what there is at the moment, with the rows that were counted under these names', () => {
    const table = {
      database: 'shop',
      schema: 'public',
      kind: 'table',
      sizeBytes: 8192n,
      rows: null,
    } as const;
    const image: Manifest = { ...imageOf([16_500]), objects: [{ ...table, name: 't16500', rows: 10n }] };
    const objects = [
      { ...table, name: 't16500' },
      { ...table, name: 'younger' },
    ];
    assert.deepEqual(
      objectsOf({ ...part([16_500]), objects }, image).map(({ name, rows }) => [name, rows]),
      [
        ['t16500', 10n],
        ['younger', null],
      ],
    );
  });
});
