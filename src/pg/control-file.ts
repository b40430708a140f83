/**
 * `global/pg_control` of PostgreSQL 17 and 18: what a data directory says of itself (`catalog/pg_control.h`). Byte positions
 * were checked against `pg_control_system()`, `pg_control_checkpoint()`, `pg_control_recovery()` and `pg_control_init()`.
 */
import { AppError, assert, CorruptError, type Lsn } from '../base/index.ts';
import { crc32c } from './crc32c.ts';

/** The file is padded to this length; only its beginning carries meaning. */
export const CONTROL_FILE_BYTES = 8192;
export const MOCK_NONCE_BYTES = 32;

/** Byte positions inside the file. */
const AT = {
  systemIdentifier: 0,
  controlVersion: 8,
  catalogVersion: 12,
  state: 16,
  checkpointLsn: 32,
  redoLsn: 40,
  timelineId: 48,
  previousTimelineId: 52,
  nextXid: 64,
  minRecoveryLsn: 136,
  minRecoveryTimelineId: 144,
  backupStartLsn: 152,
  backupEndLsn: 160,
  backupEndRequired: 168,
  walLevel: 172,
  maxConnections: 180,
  maxWorkerProcesses: 184,
  maxWalSenders: 188,
  maxPreparedTransactions: 192,
  maxLocksPerTransaction: 196,
  blockBytes: 216,
  walSegmentBytes: 228,
  checksumVersion: 252,
} as const;

/** What differs between major versions, by `PG_CONTROL_VERSION`: 18 says whether `char` is signed, in one byte. */
const LAYOUTS = new Map([
  [1700, { engineMajor: 17, mockNonceAt: 256, crcAt: 288 }],
  [1800, { engineMajor: 18, mockNonceAt: 257, crcAt: 292 }],
]);
/** The layout that is expected of a file unless the caller says otherwise. */
const ENGINE_MAJOR_DEFAULT = 18;

/** `DBState`, in the order of the C enumeration. */
const STATES = [
  'starting_up',
  'shut_down',
  'shut_down_in_recovery',
  'shutting_down',
  'in_crash_recovery',
  'in_archive_recovery',
  'in_production',
] as const;

/** `wal_level`, in the order of the C enumeration. */
export const WAL_LEVELS = ['minimal', 'replica', 'logical'] as const;

export type ControlState = (typeof STATES)[number];
export type WalLevel = (typeof WAL_LEVELS)[number];

export interface ControlFile {
  readonly systemIdentifier: bigint;
  /** Major version of the engine whose directory this is. */
  readonly engineMajor: number;
  readonly catalogVersion: number;
  readonly state: ControlState;
  /** Where the newest checkpoint record begins, and where replay from it begins. */
  readonly checkpointLsn: Lsn;
  readonly redoLsn: Lsn;
  readonly timelineId: number;
  readonly previousTimelineId: number;
  /** Epoch in the upper half, transaction id in the lower. */
  readonly nextXid: bigint;
  /** Recovery must get at least here before the directory is consistent; 0 when nothing is required. */
  readonly minRecoveryLsn: Lsn;
  readonly minRecoveryTimelineId: number;
  readonly backupStartLsn: Lsn;
  readonly backupEndLsn: Lsn;
  readonly isBackupEndRequired: boolean;
  readonly walLevel: WalLevel;
  /** A standby needs at least these. */
  readonly maxConnections: number;
  readonly maxWorkerProcesses: number;
  readonly maxWalSenders: number;
  readonly maxPreparedTransactions: number;
  readonly maxLocksPerTransaction: number;
  readonly blockBytes: number;
  readonly walSegmentBytes: number;
  readonly hasDataChecksums: boolean;
}

interface ControlFileOptions {
  /** 17 or 18, which is the default. */
  readonly engineMajor?: number;
}

/**
 * Reads the file and checks its checksum.
 * @throws CorruptError when it is not what Postgres wrote
 * @throws AppError `format_unsupported` for another major version's file
 */
export function parseControlFile(bytes: Uint8Array, options: ControlFileOptions = {}): ControlFile {
  const { view, layout } = checkedFile(bytes, options);
  const lsnAt = (at: number) => view.getBigUint64(at, true) as Lsn;
  const intAt = (at: number) => view.getInt32(at, true);
  return {
    systemIdentifier: view.getBigUint64(AT.systemIdentifier, true),
    engineMajor: layout.engineMajor,
    catalogVersion: view.getUint32(AT.catalogVersion, true),
    state: memberOf(STATES, intAt(AT.state), 'state'),
    checkpointLsn: lsnAt(AT.checkpointLsn),
    redoLsn: lsnAt(AT.redoLsn),
    timelineId: view.getUint32(AT.timelineId, true),
    previousTimelineId: view.getUint32(AT.previousTimelineId, true),
    nextXid: view.getBigUint64(AT.nextXid, true),
    minRecoveryLsn: lsnAt(AT.minRecoveryLsn),
    minRecoveryTimelineId: view.getUint32(AT.minRecoveryTimelineId, true),
    backupStartLsn: lsnAt(AT.backupStartLsn),
    backupEndLsn: lsnAt(AT.backupEndLsn),
    isBackupEndRequired: view.getUint8(AT.backupEndRequired) !== 0,
    walLevel: memberOf(WAL_LEVELS, intAt(AT.walLevel), 'wal_level'),
    maxConnections: intAt(AT.maxConnections),
    maxWorkerProcesses: intAt(AT.maxWorkerProcesses),
    maxWalSenders: intAt(AT.maxWalSenders),
    maxPreparedTransactions: intAt(AT.maxPreparedTransactions),
    maxLocksPerTransaction: intAt(AT.maxLocksPerTransaction),
    blockBytes: view.getUint32(AT.blockBytes, true),
    walSegmentBytes: view.getUint32(AT.walSegmentBytes, true),
    hasDataChecksums: view.getUint32(AT.checksumVersion, true) !== 0,
  };
}

/** What makes two copies of one data directory two different systems. */
export interface ControlFileIdentity {
  readonly systemIdentifier: bigint;
  /** Seeds the salts shown to users who do not exist; 32 random bytes. */
  readonly mockNonce: Uint8Array;
}

/** A copy of the file with another identity and a checksum that fits. @throws like `parseControlFile` */
export function withControlFileIdentity(
  bytes: Uint8Array,
  identity: ControlFileIdentity,
  options: ControlFileOptions = {},
): Uint8Array {
  assert(identity.mockNonce.length === MOCK_NONCE_BYTES, 'a mock nonce has 32 bytes');
  const { layout } = checkedFile(bytes, options);
  const patched = Uint8Array.from(bytes);
  const view = new DataView(patched.buffer);
  view.setBigUint64(AT.systemIdentifier, identity.systemIdentifier, true);
  patched.set(identity.mockNonce, layout.mockNonceAt);
  view.setUint32(layout.crcAt, crc32c(patched.subarray(0, layout.crcAt)), true);
  parseControlFile(patched, options);
  return patched;
}

function checkedFile(bytes: Uint8Array, { engineMajor = ENGINE_MAJOR_DEFAULT }: ControlFileOptions) {
  if (bytes.length !== CONTROL_FILE_BYTES) {
    throw new CorruptError(`pg_control has ${bytes.length} bytes instead of ${CONTROL_FILE_BYTES}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(AT.controlVersion, true);
  const layout = LAYOUTS.get(version);
  if (layout?.engineMajor !== engineMajor) {
    // Positions differ between versions, so the checksum can't be found before the version is known.
    throw new AppError(
      'format_unsupported',
      `pg_control is of version ${version}, not PostgreSQL ${engineMajor}'s`,
      {
        hint: 'the data directory belongs to another major version of PostgreSQL, or its pg_control is damaged',
      },
    );
  }
  if (view.getUint32(layout.crcAt, true) !== crc32c(bytes.subarray(0, layout.crcAt))) {
    throw new CorruptError('checksum mismatch in pg_control');
  }
  return { view, layout };
}

function memberOf<const T extends string>(names: readonly T[], index: number, what: string): T {
  const name = names[index];
  if (name === undefined) throw new CorruptError(`pg_control holds an unknown ${what}: ${index}`);
  return name;
}
