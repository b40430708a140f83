/** Which files of an image a part needs, by what is known of it. No I/O. */
import { parseRelationPath } from '../../pg/index.ts';
import type { Manifest, ManifestDatabase, ManifestRelation } from '../format/manifest.ts';
import type { DatabaseCoverage, ImagePart, RelationPattern } from './contract.ts';

/** `FirstNormalObjectId`: relations below come with every database. */
const FIRST_NORMAL_OID = 16_384;
/** Large objects lie in a catalog; no table needs them. */
const LARGE_OBJECT_OIDS = [2613, 2683];

export interface FileSelection {
  /** By rows of the manifest's files. */
  readonly isKept: (row: number) => boolean;
  /** Of the files that are kept. */
  readonly bytes: bigint;
  /** Rows of the manifest's packs that hold something of them. */
  readonly packs: readonly number[];
  readonly databases: readonly DatabaseCoverage[];
}

/** What is kept of a database: all of its relations' files, or those of these numbers. */
interface Kept {
  readonly hasCatalogs: boolean;
  readonly filenodes: 'everything' | Pick<ReadonlySet<number>, 'has'>;
}

const NOTHING: Kept = { hasCatalogs: false, filenodes: new Set() };
/** Of a database that nobody but ourselves works in: what is in it was there from the first day. */
const FROM_THE_FIRST_DAY: Kept = {
  hasCatalogs: true,
  filenodes: { has: (filenode) => filenode < FIRST_NORMAL_OID },
};
/** `Template1DbOid` and `Template0DbOid`. */
const TEMPLATE_OIDS = [1, 4];

export function selectFiles(manifest: Manifest, part: ImagePart): FileSelection {
  const { files } = manifest;
  const kept = new Map<number, Kept>();
  const keptIn = (oid: number) => {
    const known = kept.get(oid) ?? keptOf(oid, manifest, part);
    kept.set(oid, known);
    return known;
  };
  const isKept = new Uint8Array(files.paths.length);
  const found = new Map<number, { kept: Set<number>; leftOut: Set<number> }>();
  let bytes = 0n;
  for (const [row, path] of files.paths.entries()) {
    const relation = parseRelationPath(path);
    const isShared = relation === null || relation.databaseOid === 0;
    const wanted = isShared || has(keptIn(relation.databaseOid), relation.filenode);
    if (wanted) {
      isKept[row] = 1;
      bytes += files.lengths[row] ?? 0n;
    }
    if (isShared) continue;
    const sets = found.get(relation.databaseOid) ?? { kept: new Set(), leftOut: new Set() };
    found.set(relation.databaseOid, sets);
    (wanted ? sets.kept : sets.leftOut).add(relation.filenode);
  }
  return {
    isKept: (row) => isKept[row] === 1,
    bytes,
    packs: packsOf(manifest, (row) => isKept[row] === 1),
    databases: Array.from(found, ([databaseOid, sets]) => ({
      databaseOid,
      hasCatalogs: keptIn(databaseOid).hasCatalogs,
      kept: Uint32Array.from(sets.kept).sort(),
      leftOut: Uint32Array.from(sets.leftOut).sort(),
    })),
  };
}

function has({ filenodes }: Kept, filenode: number): boolean {
  return filenodes === 'everything' || filenodes.has(filenode);
}

function keptOf(oid: number, manifest: Manifest, part: ImagePart): Kept {
  const database = manifest.databases.find((each) => each.oid === oid);
  const named = part.databases.filter(({ name }) => name === database?.name);
  const added = part.added.filter(({ databaseOid }) => databaseOid === oid).map(({ what }) => what);
  const isWhole = named.some(({ relations }) => relations === 'everything') || added.includes('everything');
  if (isWhole) return { hasCatalogs: true, filenodes: 'everything' };
  const hasCatalogs = named.length > 0 || added.includes('catalogs');
  const listed = added.flatMap((what) => (typeof what === 'string' ? [] : what));
  if (database === undefined && added.length === 0) return isOwn(oid) ? FROM_THE_FIRST_DAY : NOTHING;
  if (!hasCatalogs) return { hasCatalogs, filenodes: new Set(listed) };
  // Nobody could look into the database when the image was made: its catalogs are anywhere in it.
  if (database === undefined || database.relations.length === 0) {
    return { hasCatalogs, filenodes: 'everything' };
  }
  const patterns = named.flatMap(({ relations }) => (relations === 'everything' ? [] : relations));
  return { hasCatalogs, filenodes: new Set([...listed, ...guess(database, patterns)]) };
}

/** The map has no word of our own database, which every server logs in to. */
function isOwn(oid: number): boolean {
  return oid < FIRST_NORMAL_OID && !TEMPLATE_OIDS.includes(oid);
}

/**
 * Files of the catalogs, and of the relations that these patterns name today, with their toast and indexes. Sequences come all: they are a
 * page each, and whoever describes a table looks at them all.
 */
function guess({ relations }: ManifestDatabase, patterns: readonly RelationPattern[]): readonly number[] {
  const matches = (relation: ManifestRelation) => patterns.some((pattern) => isNamed(relation, pattern));
  const oids = new Set<number>();
  for (const relation of relations) {
    const [oid, , toast, , kind] = relation;
    const isSequence = kind === 'S' && patterns.length > 0;
    if (!isSequence && !matches(relation)) continue;
    oids.add(oid);
    if (toast !== 0) oids.add(toast);
  }
  return relations.flatMap(([oid, filenode, , owner]) => {
    const isCatalog = oid < FIRST_NORMAL_OID && !LARGE_OBJECT_OIDS.includes(oid);
    return filenode !== 0 && (isCatalog || oids.has(oid) || oids.has(owner)) ? [filenode] : [];
  });
}

function isNamed([oid, , , , , , schema, name]: ManifestRelation, pattern: RelationPattern): boolean {
  if (oid < FIRST_NORMAL_OID || (pattern.schema !== null && pattern.schema !== schema)) return false;
  return pattern.name === null || pattern.name === name;
}

function packsOf({ files, runs, frames }: Manifest, isKept: (row: number) => boolean): readonly number[] {
  const packs = new Set<number>();
  for (let row = 0; row < files.paths.length; row++) {
    if (!isKept(row)) continue;
    const first = files.firstRuns[row] ?? 0;
    for (let run = first; run < first + (files.runCounts[row] ?? 0); run++) {
      packs.add(frames.packs[runs.frames[run] ?? 0] ?? 0);
    }
  }
  return [...packs].sort((left, right) => left - right);
}
