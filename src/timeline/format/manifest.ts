/** What a base manifest says. How it is written as bytes is in manifest-file.ts; both are in docs/formats/manifest.md. */
import { z } from 'zod';
import {
  type IncarnationId,
  type Lsn,
  parseIncarnationId,
  type Timestamp,
  type VirtualClusterId,
} from '../../base/index.ts';
import type { FileTable, FrameSources, FrameTable, RunTable } from './manifest-tables.ts';

/** A 64-bit number as decimal text, since JSON has none. */
const decimal = z
  .string()
  .regex(/^-?\d{1,20}$/)
  .transform((text) => BigInt(text));
const lsn = decimal.transform((value) => value as Lsn);
const timestamp = decimal.transform((value) => value as Timestamp);
const incarnation = z.string().transform((text): IncarnationId => parseIncarnationId(text));
const count = z.int().nonnegative();

const collationSchema = z.strictObject({
  /** Null for what is not a database's own default. */
  database: z.string().nullable(),
  provider: z.string(),
  locale: z.string().nullable(),
  version: z.string().nullable(),
});

const patternSchema = z.strictObject({ schema: z.string().nullable(), name: z.string().nullable() });

const selectionSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('databases'), names: z.array(z.string()) }),
  z.strictObject({ kind: z.literal('tables'), database: z.string(), patterns: z.array(patternSchema) }),
]);

export const headerSchema = z.strictObject({
  release: z.string(),
  jobId: z.string(),
  attempt: count,
  /** Path of this backup in its collection. */
  subdirectory: z.string(),
  /** Null for a full backup, else the path of the backup whose frames it builds on. */
  baseSubdirectory: z.string().nullable(),
  clusterId: z.string(),
  virtualClusterId: z
    .int()
    .positive()
    .transform((value) => value as VirtualClusterId),
  virtualClusterName: z.string(),
  incarnation,
  parentIncarnation: incarnation.nullable(),
  systemIdentifier: decimal,
  engine: z.strictObject({
    major: z.int().positive(),
    /** `server_version_num`. */
    versionNumber: z.int().positive(),
    catalogVersion: z.int().positive(),
    /** As Node.js names it: `x64`, `arm64`. */
    architecture: z.string(),
    endianness: z.literal('little'),
    blockBytes: z.int().positive(),
    walBlockBytes: z.int().positive(),
    walSegmentBytes: z.int().positive(),
  }),
  collations: z.array(collationSchema),
  timelineId: z.int().positive(),
  /** Replay begins at `startLsn`, and must get at least to `stopLsn` for the copy to be consistent. */
  startLsn: lsn,
  stopLsn: lsn,
  /** Recovery ends before the first record at or after this position. */
  targetLsn: lsn,
  /** End of the log that the backup holds: beyond a record that begins at `targetLsn` or later. */
  walEndLsn: lsn,
  captureStartTime: timestamp,
  /** Where the changes begin that an incremental backup holds; null for a full one. */
  startTime: timestamp.nullable(),
  endTime: timestamp,
  backupLabel: z.string(),
  /**
   * Given where the log of the backup ends at its target: no record follows, so that Postgres must not be told to wait for one. Recovery
   * must then get at least to here.
   */
  logEndLsn: lsn.optional(),
  /** What was asked for, of a logical backup; missing in one of a whole virtual cluster. */
  selection: selectionSchema.optional(),
  totals: z.strictObject({ rows: decimal, indexEntries: decimal, bytes: decimal, storedBytes: decimal }),
});

export const objectsSchema = z.array(
  z.strictObject({
    database: z.string().nullable(),
    schema: z.string().nullable(),
    name: z.string(),
    kind: z.enum(['database', 'schema', 'table', 'type']),
    sizeBytes: decimal.nullable(),
    rows: decimal.nullable(),
    /** Its number in the catalog of its database, or among the databases. */
    oid: z.int().positive().optional(),
    /** What makes it, without foreign keys that lead out of the backup. In logical backups. */
    definition: z.string().optional(),
    /** Whose it was, and what of it others were granted, as statements. In logical backups. */
    owner: z.string().optional(),
    privileges: z.string().optional(),
    /** Of a database that has any, the primary one first. */
    regions: z.array(z.string()).readonly().optional(),
  }),
);

/** One relation, kept short because there can be very many: the order of fields is part of the format. */
const relationSchema = z.tuple([
  z.int().positive(), // oid
  count, // filenode; 0 when it has no file
  count, // oid of its toast table, or 0
  count, // oid of the table that an index or toast table belongs to, or 0
  z.string().length(1), // relkind
  z.string().length(1), // relpersistence
  z.string(), // schema
  z.string(), // name
  count, // pages of the main fork when it was captured
  count, // live heap tuples, or index entries, when it was captured
]);

export const databasesSchema = z.array(
  z.strictObject({ oid: z.int().positive(), name: z.string(), relations: z.array(relationSchema) }),
);

export const packsSchema = z.array(
  z.strictObject({
    /** Path in the collection: the packs of an incremental backup's base lie in another backup's folder. */
    path: z.string(),
    id: z.string().regex(/^[0-9a-f]{32}$/),
    bytes: z.int().positive(),
  }),
);

export const walSchema = z.array(
  z.strictObject({
    path: z.string(),
    bytes: z.int().positive(),
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    timelineId: z.int().positive(),
    segmentNo: decimal,
    /** The object holds the segment from its beginning to here. */
    endLsn: lsn,
  }),
);

/** The moments that a backup with revision history can be restored to. */
export const historySchema = z.strictObject({
  /** Every moment from here to the backup's `endTime`; `beginLsn` is its position. */
  beginTime: timestamp,
  beginLsn: lsn,
  /** Log from the segment of `beginLsn` up to where `wal` begins; empty when that holds all of it. */
  wal: walSchema,
});

export type ManifestHeader = z.output<typeof headerSchema>;
export type ManifestObject = z.output<typeof objectsSchema>[number];
export type ManifestDatabase = z.output<typeof databasesSchema>[number];
export type ManifestRelation = z.output<typeof relationSchema>;
export type ManifestPack = z.output<typeof packsSchema>[number];
export type ManifestWal = z.output<typeof walSchema>[number];
const namedSchema = z.strictObject({
  type: z.string(),
  schema: z.string().nullable(),
  name: z.string().nullable(),
  identity: z.string(),
  returns: z.string().nullable(),
});

/** A logical copy of one database, or of some of it; its rows are files of bytes below `copy/<row of this list>/`. */
const copySchema = z.strictObject({
  database: z.strictObject({
    name: z.string(),
    hasPublicSchema: z.boolean(),
    connectionLimit: count.optional(),
    encoding: z.string(),
    provider: z.string(),
    collate: z.string(),
    ctype: z.string(),
    locale: z.string().nullable(),
    icuRules: z.string().nullable(),
    settings: z.array(z.string()),
    comment: z.string().nullable(),
  }),
  isWholeDatabase: z.boolean(),
  entries: z.array(
    z.strictObject({
      id: count,
      type: z.string(),
      sql: z.string(),
      object: namedSchema.nullable(),
      home: count,
      needs: z.array(count),
      external: z.array(namedSchema),
      fingerprint: z.string().nullable(),
    }),
  ),
  tables: z.array(
    z.strictObject({
      entry: count,
      oid: count,
      databaseOid: count,
      filenode: count,
      isLogged: z.boolean(),
      /** No open transaction had written to it: what changed since `startLsn`, the log after it tells. */
      isSettled: z.boolean(),
      schema: z.string(),
      name: z.string(),
      columns: z.array(z.string()),
      format: z.enum(['binary', 'text']),
      pages: count,
      bytes: count,
      indexes: count,
      /** Its rows are kept out of backups: it has no ranges. */
      isExcluded: z.boolean().optional(),
      shape: z.string(),
      /** First page and number of rows of each range; a COPY file each. */
      ranges: z.array(z.tuple([count, count])),
    }),
  ),
  sequences: z.array(
    z.strictObject({
      entry: count,
      schema: z.string(),
      name: z.string(),
      lastValue: z.string().regex(/^-?\d{1,20}$/),
      isCalled: z.boolean(),
    }),
  ),
  populated: z.array(count),
  largeObjects: z.array(count),
  /** Entries of the tables that are marked so. */
  excluded: z.array(count).optional(),
});

export const copiesSchema = z.array(copySchema);

export type ManifestCopy = z.output<typeof copySchema>;
export type ManifestSelection = z.output<typeof selectionSchema>;
export type ManifestHistory = z.output<typeof historySchema>;

/** The complete image of a data directory, and the log that makes it consistent. */
export interface Manifest {
  readonly header: ManifestHeader;
  /** Rows of SHOW BACKUP. */
  readonly objects: readonly ManifestObject[];
  /** Which relation each file belonged to when it was captured. */
  readonly databases: readonly ManifestDatabase[];
  readonly packs: readonly ManifestPack[];
  readonly wal: readonly ManifestWal[];
  readonly files: FileTable;
  readonly runs: RunTable;
  readonly frames: FrameTable;
  /** Where frames were copied from; missing when none was. */
  readonly sources?: FrameSources;
  /** Missing without revision history. */
  readonly history?: ManifestHistory;
  /** What a logical backup holds: one for each database. Missing in one of a whole virtual cluster. */
  readonly copies?: readonly ManifestCopy[];
}
