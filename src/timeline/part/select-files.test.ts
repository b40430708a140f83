import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fixtureManifest } from '../format/fixtures.ts';
import type { Manifest, ManifestRelation } from '../format/manifest.ts';
import type { DatabasePart, ImagePart } from './contract.ts';
import { selectFiles } from './select-files.ts';

const OF_TABLE = 16_500;
const RELATIONS: readonly ManifestRelation[] = [
  [1259, 1259, 0, 0, 'r', 'p', 'pg_catalog', 'pg_class', 1, 1],
  // Rewritten since the database was made.
  [1249, 20_000, 0, 0, 'r', 'p', 'pg_catalog', 'pg_attribute', 1, 1],
  [2613, 2613, 0, 0, 'r', 'p', 'pg_catalog', 'pg_largeobject', 9, 1],
  [OF_TABLE, 16_501, 16_600, 0, 'r', 'p', 'public', 'orders', 9, 9],
  [16_510, 16_511, 0, OF_TABLE, 'i', 'p', 'public', 'orders_pkey', 9, 9],
  [16_600, 16_601, 0, OF_TABLE, 't', 'p', 'pg_toast', 'pg_toast_16500', 9, 9],
  [16_610, 16_611, 0, 16_600, 'i', 'p', 'pg_toast', 'pg_toast_16500_index', 9, 9],
  [16_700, 16_701, 0, 0, 'S', 'p', 'public', 'orders_id_seq', 1, 1],
  [16_800, 16_801, 0, 0, 'r', 'p', 'public', 'events', 99, 9],
  [16_810, 16_811, 0, 16_800, 'i', 'p', 'public', 'events_pkey', 99, 9],
  [16_900, 16_901, 0, 0, 'r', 'p', 'other', 'orders', 99, 9],
  [17_000, 0, 0, 0, 'v', 'p', 'public', 'seen', 0, 0],
];

/** One page for each relation, and what is no relation. */
function manifestOf(databases: Manifest['databases']): Manifest {
  const base = fixtureManifest();
  const files = databases
    .flatMap(({ oid, relations }) => [
      `base/${oid}/PG_VERSION`,
      ...relations.filter(([, filenode]) => filenode !== 0).map(([, filenode]) => `base/${oid}/${filenode}`),
      `base/${oid}/16801.1`,
      `base/${oid}/16801_vm`,
      `base/${oid}/16501_fsm`,
    ])
    .concat('global/1260', 'global/pg_control', 'pg_xact/0000')
    .toSorted();
  const count = files.length;
  return {
    ...base,
    databases,
    packs: Array.from({ length: count }, () => base.packs[0]).flatMap((pack) =>
      pack === undefined ? [] : [pack],
    ),
    files: {
      paths: files,
      lengths: new BigUint64Array(count).fill(8192n),
      kinds: new Uint8Array(count),
      modes: new Uint16Array(count),
      firstRuns: Uint32Array.from({ length: count }, (_, row) => row),
      runCounts: new Uint32Array(count).fill(1),
    },
    runs: {
      starts: new Uint32Array(count),
      counts: new Uint32Array(count).fill(1),
      // The frames lie the other way round than the files.
      frames: Uint32Array.from({ length: count }, (_, row) => count - 1 - row),
      indexes: new Uint16Array(count),
    },
    frames: {
      packs: Uint32Array.from({ length: count }, (_, frame) => frame),
      offsets: new Uint32Array(count).fill(32),
      lengths: new Uint32Array(count).fill(100),
      crcs: new Uint32Array(count),
      tags: new Uint8Array(count * 16),
    },
  };
}

const MANIFEST = manifestOf([
  { oid: 5, name: 'a', relations: [...RELATIONS] },
  { oid: 6, name: 'b', relations: [...RELATIONS] },
  { oid: 7, name: 'closed', relations: [] },
]);

function keptPaths(part: Partial<ImagePart>): readonly string[] {
  const { isKept } = selectFiles(MANIFEST, { databases: [], added: [], ...part });
  return MANIFEST.files.paths.filter((_, row) => isKept(row));
}

const tables = (name: string, ...patterns: (readonly [string | null, string | null])[]): DatabasePart => ({
  name,
  relations: patterns.map(([schema, table]) => ({ schema, name: table })),
});
const SHARED = [
  'base/5/PG_VERSION',
  'base/6/PG_VERSION',
  'base/7/PG_VERSION',
  'global/1260',
  'global/pg_control',
  'pg_xact/0000',
];
const CATALOGS = ['base/5/1259', 'base/5/20000'];
const ORDERS = [
  'base/5/16501',
  'base/5/16501_fsm',
  'base/5/16511',
  'base/5/16601',
  'base/5/16611',
  'base/5/16701',
];

describe('the files of a part', () => {
  it('are what belongs to no database, and what is no relation, in any case', () => {
    assert.deepEqual(keptPaths({}), SHARED);
  });

  it('are the catalogs wherever they lie, without large objects', () => {
    assert.deepEqual(keptPaths({ databases: [tables('a')] }), [...SHARED, ...CATALOGS].toSorted());
    assert.deepEqual(
      keptPaths({ added: [{ databaseOid: 5, what: 'catalogs' }] }),
      [...SHARED, ...CATALOGS].toSorted(),
    );
  });

  it('are a table with its toast and its indexes, and all sequences', () => {
    assert.deepEqual(
      keptPaths({ databases: [tables('a', ['public', 'orders'])] }),
      [...SHARED, ...CATALOGS, ...ORDERS].toSorted(),
    );
  });

  it('are all segments and forks', () => {
    const kept = keptPaths({ databases: [tables('a', ['public', 'events'])] });
    for (const path of ['16801', '16801.1', '16801_vm', '16811'])
      assert.ok(kept.includes(`base/5/${path}`), path);
    const added = keptPaths({ added: [{ databaseOid: 6, what: [16_801] }] });
    assert.deepEqual(
      added.filter((path) => !SHARED.includes(path)),
      ['base/6/16801', 'base/6/16801.1', 'base/6/16801_vm'],
    );
  });

  it('are those of a schema, of everything but catalogs, or of a whole database', () => {
    const schema = keptPaths({ databases: [tables('a', ['other', null])] });
    assert.ok(schema.includes('base/5/16901') && !schema.includes('base/5/16501'));
    const all = keptPaths({ databases: [tables('a', [null, null])] });
    assert.ok(all.includes('base/5/16901') && all.includes('base/5/16501') && !all.includes('base/5/2613'));
    const whole = keptPaths({ databases: [{ name: 'a', relations: 'everything' }] });
    assert.deepEqual(
      whole,
      MANIFEST.files.paths.filter((path) => path.startsWith('base/5/') || SHARED.includes(path)),
    );
  });

  it('are all of a database into which nobody could look', () => {
    const kept = keptPaths({ databases: [tables('closed', ['public', 'x'])] });
    assert.deepEqual(
      kept.filter((path) => path.startsWith('base/7/')),
      MANIFEST.files.paths.filter((path) => path.startsWith('base/7/')),
    );
  });

  it('are the catalogs of the database that the map has no word of, and that servers are asked in', () => {
    const manifest = manifestOf([
      { oid: 1, name: 'template1', relations: [] },
      { oid: 13_625, name: 'system', relations: [] },
      { oid: 20_000, name: 'dropped', relations: [] },
    ]);
    const paths = ['base/1/1259', 'base/13625/1259', 'base/13625/16500', 'base/20000/1259'];
    const files = { ...manifest.files, paths, runCounts: new Uint32Array(paths.length) };
    const { isKept } = selectFiles({ ...manifest, databases: [], files }, { databases: [], added: [] });
    assert.deepEqual(
      paths.filter((_, row) => isKept(row)),
      ['base/13625/1259'],
    );
  });

  it('are counted: bytes, packs, and what was left out of each database', () => {
    const selection = selectFiles(MANIFEST, { databases: [tables('a')], added: [] });
    const kept = keptPaths({ databases: [tables('a')] });
    assert.equal(selection.bytes, BigInt(kept.length) * 8192n);
    const last = MANIFEST.files.paths.length - 1;
    assert.deepEqual(
      selection.packs,
      kept.map((path) => last - MANIFEST.files.paths.indexOf(path)).toSorted((left, right) => left - right),
    );
    const [first, second] = selection.databases;
    assert.ok(first?.databaseOid === 5 && first.hasCatalogs && second?.hasCatalogs === false);
    assert.deepEqual([...first.kept], [1259, 20_000]);
    assert.ok(first.leftOut.includes(16_801) && first.leftOut.includes(2613));
    assert.deepEqual([...second.kept], []);
  });
});
