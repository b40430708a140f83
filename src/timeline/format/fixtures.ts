/** Small objects of every format, for tests: the golden files hold exactly these. */
import type { IncarnationId, Lsn, Timestamp, VirtualClusterId } from '../../base/index.ts';
import { clusterKeyOf } from '../../keys/index.ts';
import type { Manifest } from './manifest.ts';
import type { WalObjectHeader } from './wal-object.ts';

export const FIXTURE_KEY = clusterKeyOf(new Uint8Array(32).fill(7));
export const FIXTURE_PACK_ID = Uint8Array.from({ length: 16 }, (_, index) => index + 1);
/** Content of the frames of bytes in the fixture's pack. */
export const FIXTURE_BYTES = [Buffer.from('18\n'), Buffer.from('no two '.repeat(1000))];

export const FIXTURE_WAL_HEADER: WalObjectHeader = {
  timelineId: 2,
  segmentNo: 5n,
  segmentBytes: 1024 * 1024,
  endLsn: (5n * 1024n * 1024n + 5000n) as Lsn,
  systemIdentifier: 7_400_000_000_000_000_123n,
  incarnation: '0190c2a4-0000-7000-8000-000000000001' as IncarnationId,
};

/** The log in the fixture's object. */
export const FIXTURE_WAL = Uint8Array.from({ length: 5000 }, (_, index) => (index * index) % 256);

const LABEL = `START WAL LOCATION: 0/500028 (file 000000020000000000000005)
CHECKPOINT LOCATION: 0/500080
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-01-02 03:04:05 UTC
LABEL: fixture
START TIMELINE: 2
`;

/** A manifest with one page file in two runs, two plain files and an empty one. */
export function fixtureManifest(): Manifest {
  const subdirectory = '2026/01/02-030405.06';
  return {
    header: {
      release: '26.2',
      jobId: '42',
      attempt: 1,
      subdirectory,
      baseSubdirectory: null,
      clusterId: '0190c2a4-0000-7000-8000-0000000000aa',
      virtualClusterId: 3 as VirtualClusterId,
      virtualClusterName: 'main',
      incarnation: FIXTURE_WAL_HEADER.incarnation,
      parentIncarnation: null,
      systemIdentifier: FIXTURE_WAL_HEADER.systemIdentifier,
      engine: {
        major: 18,
        versionNumber: 180004,
        catalogVersion: 202506291,
        architecture: 'x64',
        endianness: 'little',
        blockBytes: 8192,
        walBlockBytes: 8192,
        walSegmentBytes: FIXTURE_WAL_HEADER.segmentBytes,
      },
      collations: [{ database: 'defaultdb', provider: 'builtin', locale: 'C.UTF-8', version: '1' }],
      timelineId: FIXTURE_WAL_HEADER.timelineId,
      startLsn: 0x500028n as Lsn,
      stopLsn: 0x500100n as Lsn,
      targetLsn: 0x500200n as Lsn,
      walEndLsn: FIXTURE_WAL_HEADER.endLsn,
      captureStartTime: 1_767_323_045_000_000n as Timestamp,
      startTime: null,
      endTime: 1_767_323_046_123_456n as Timestamp,
      backupLabel: LABEL,
      totals: { rows: 10n, indexEntries: 20n, bytes: 81_920n, storedBytes: 4096n },
    },
    objects: [
      { database: null, schema: null, name: 'defaultdb', kind: 'database', sizeBytes: null, rows: null },
      {
        database: 'defaultdb',
        schema: 'public',
        name: 'naïve "t"',
        kind: 'table',
        sizeBytes: 8192n,
        rows: 10n,
      },
    ],
    databases: [
      { oid: 5, name: 'defaultdb', relations: [[16384, 16384, 0, 0, 'r', 'p', 'public', 't', 70, 10]] },
    ],
    packs: [
      { path: `${subdirectory}/data/1-0.pack`, id: '0102030405060708090a0b0c0d0e0f10', bytes: 100_000 },
    ],
    wal: [
      {
        path: `${subdirectory}/wal/1-000000020000000000000005.wal`,
        bytes: 5112,
        sha256: 'ab'.repeat(32),
        timelineId: FIXTURE_WAL_HEADER.timelineId,
        segmentNo: FIXTURE_WAL_HEADER.segmentNo,
        endLsn: FIXTURE_WAL_HEADER.endLsn,
      },
    ],
    files: {
      paths: ['PG_VERSION', 'base/5/16384', 'base/5/16384_vm', 'global/pg_control'],
      lengths: BigUint64Array.of(3n, 70n * 8192n, 0n, 8192n),
      kinds: Uint8Array.of(0, 1, 1, 0),
      modes: Uint16Array.of(0o600, 0o600, 0o600, 0o600),
      firstRuns: Uint32Array.of(0, 1, 3, 3),
      runCounts: Uint32Array.of(1, 2, 0, 1),
    },
    runs: {
      starts: Uint32Array.of(0, 0, 64, 0),
      counts: Uint32Array.of(3, 64, 6, 8192),
      frames: Uint32Array.of(0, 1, 2, 3),
      indexes: Uint16Array.of(0, 0, 0, 0),
    },
    frames: {
      packs: Uint32Array.of(0, 0, 0, 0),
      offsets: Uint32Array.of(32, 67, 1000, 2000),
      lengths: Uint32Array.of(35, 900, 1000, 90),
      crcs: Uint32Array.of(1, 2, 3, 0xffff_ffff),
      tags: Uint8Array.from({ length: 64 }, (_, index) => index),
    },
  };
}
