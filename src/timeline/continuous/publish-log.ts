/** Sends the log of a timeline on to its collection, a piece at a time. */
import {
  AppError,
  formatLsn,
  isAppError,
  type IncarnationId,
  type Lsn,
  lsnDistanceBytes,
  required,
  type Timestamp,
} from '../../base/index.ts';
import { readBlob } from '../../blob/index.ts';
import { walSegmentNoOf } from '../../pg/index.ts';
import { putPin } from '../retention/pins.ts';
import { walDirectory } from '../store/layout.ts';
import { isOnTheWay, type LogStretch } from '../store/lineage.ts';
import { openLog } from '../store/read-log.ts';
import { listWalFolder } from '../store/wal-folder.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { HeldBase } from './held-bases.ts';
import { linesFrom } from './held-log.ts';
import { pieceKey, type PieceName } from './layout.ts';
import { decodePiece, encodePiece, PIECE_BYTES_MAX, PIECE_RAW_BYTES_MAX } from './piece.ts';
import type { Present, Session, SessionTools } from './session.ts';

/** While nothing happens a piece says so, no more often. */
export const IDLE_PIECE_US = 60_000_000n;
/** Beyond that a collection that cannot be reached has no claim on what this node keeps. */
export const PATIENCE_US = 24n * 3_600_000_000n;
/** A claim on the same place is renewed no more often. */
const PIN_AGAIN_US = 60_000_000n;
export const LOG_PIN = 'continuous-log';
export const PIN_OWNER = 'continuous backup';

/** How far publishing has come. */
export interface LogProgress {
  readonly incarnation: IncarnationId;
  readonly lsn: Lsn;
  readonly sentBytes: number;
  readonly backlogBytes: bigint;
}

/**
 * Sends all that is durable and not in the collection yet. Null when there is no base yet that it could go on from.
 * @throws AppError `data_corrupt` for damage of the vault; as the collection's storage does
 */
export async function publishLog(
  session: Session,
  { present, local, tools }: { present: Present; local: readonly HeldBase[]; tools: SessionTools },
): Promise<LogProgress | null> {
  const lines = await linesToSend(session, { present, local });
  const last = lines?.at(-1);
  if (lines === null || last === undefined) return null;
  let sentBytes = 0;
  for (const line of lines) sentBytes += await sendLine(session, { line, present, tools });
  sentBytes += await sendIdleness(session, { line: last, present, tools });
  const lsn = session.held.reach(last);
  await pin(session, { incarnation: last.incarnation, lsn, tools });
  return {
    incarnation: last.incarnation,
    lsn,
    sentBytes,
    backlogBytes: lsnDistanceBytes({ from: lsn, to: last.endLsn }),
  };
}

/**
 * From the newest base of the collection on when the vault still has what follows, else from the newest of this node on: what is between was
 * collected, and that base makes the time after it restorable.
 */
async function linesToSend(
  session: Session,
  { present, local }: { present: Present; local: readonly HeldBase[] },
): Promise<readonly LogStretch[] | null> {
  const { stretches } = present;
  const there = session.bases.findLast((base) => isOnTheWay(base, stretches));
  const here = local.findLast((base) => isOnTheWay(base, stretches));
  for (const base of [there, here]) {
    if (base === undefined) continue;
    const lines = linesFrom(base, { stretches, segmentBytes: base.segmentBytes });
    if (await canGoOn(session, { lines, segmentBytes: base.segmentBytes })) return lines;
  }
  return null;
}

async function canGoOn(
  { held, target }: Session,
  { lines, segmentBytes }: { lines: readonly LogStretch[]; segmentBytes: number },
): Promise<boolean> {
  const next = lines.find((line) => held.reach(line) < line.endLsn);
  if (next === undefined) return true;
  const segmentNo = walSegmentNoOf({ lsn: held.reach(next), segmentBytes });
  const { segments } = await listWalFolder(walDirectory(target.store, next.incarnation));
  return segments.some(
    (segment) => segment.timelineId === next.timelineId && segment.segmentNo === segmentNo,
  );
}

async function sendLine(
  session: Session,
  { line, present, tools }: { line: LogStretch; present: Present; tools: SessionTools },
): Promise<number> {
  const { held } = session;
  const { vault } = present;
  let sent = 0;
  for (let at = held.reach(line); at < line.endLsn; ) {
    await pin(session, { incarnation: line.incarnation, lsn: at, tools });
    const release = await tools.places.acquire(tools);
    try {
      const bytes = await readPiece(session, { line, from: at, present, tools });
      const endLsn = (at + BigInt(bytes.length)) as Lsn;
      const isAll = line.incarnation === vault.incarnation && endLsn === vault.durableLsn;
      const through = isAll ? vault.restorableThrough : null;
      await send(session, { line, beginLsn: at, endLsn, through, bytes, present, tools });
      at = endLsn;
      sent += bytes.length;
    } finally {
      release();
    }
  }
  return sent;
}

async function readPiece(
  { target }: Session,
  { line, from, present, tools }: { line: LogStretch; from: Lsn; present: Present; tools: SessionTools },
): Promise<Uint8Array> {
  const { incarnation, timelineId, endLsn } = line;
  const length = Math.min(PIECE_RAW_BYTES_MAX, Number(endLsn - from));
  const throughLsn = (from + BigInt(length)) as Lsn;
  const record = recordOf(incarnation, present);
  const into = new Uint8Array(length);
  const log = openLog(target.store, { record, timelineId, fromLsn: from, throughLsn, signal: tools.signal });
  let filled = 0;
  for await (const { bytes } of log) {
    into.set(bytes, filled);
    filled += bytes.length;
  }
  if (filled > 0) return into.subarray(0, filled);
  throw new AppError('cannot_connect_now', `the log from ${formatLsn(from)} on is not in the vault`, {
    hint: 'SHOW TIMELINE tells what is; publishing goes on from the next base',
  });
}

/** Time passes also when nothing happens, and what did not happen has to be known there, too. */
async function sendIdleness(
  session: Session,
  { line, present, tools }: { line: LogStretch; present: Present; tools: SessionTools },
): Promise<number> {
  const { held } = session;
  const { vault } = present;
  const at = held.reach(line);
  const through = vault.restorableThrough;
  const isAll = line.incarnation === vault.incarnation && at === vault.durableLsn;
  const known = held.timeAt({ ...line, lsn: at });
  if (!isAll || through === null || (known !== null && through <= known)) return 0;
  // The first time soon, so that the end of a time of work is covered; then seldom.
  if (session.isIdleSaid && known !== null && through - known < IDLE_PIECE_US) return 0;
  await send(session, { line, beginLsn: at, endLsn: at, through, bytes: new Uint8Array(0), present, tools });
  return 0;
}

async function send(
  session: Session,
  piece: {
    line: LogStretch;
    beginLsn: Lsn;
    endLsn: Lsn;
    through: Timestamp | null;
    bytes: Uint8Array;
    present: Present;
    tools: SessionTools;
  },
): Promise<void> {
  const { target, blobs, held } = session;
  const { line, beginLsn, endLsn, through, bytes, present, tools } = piece;
  const { incarnation, timelineId } = line;
  const name: PieceName = { incarnation, timelineId, beginLsn, endLsn, through };
  const object = encodePiece({ name, record: recordOf(incarnation, present), bytes }, target);
  faultPoint('continuous.before_piece');
  try {
    await blobs.put(pieceKey(name), object, tools);
  } catch (error) {
    // By a process that was cut off: what is there counts once it was read.
    if (!isAppError(error, 'blob_exists')) throw error;
    const found = await readBlob(blobs, pieceKey(name), { ...tools, bytesMax: PIECE_BYTES_MAX });
    decodePiece(found, { name, key: target.key });
  }
  held.add(name);
  session.isIdleSaid = bytes.length === 0;
  faultPoint('continuous.after_piece');
}

/** What is not there yet is kept here, for as long as the collection deserves patience. */
async function pin(
  session: Session,
  { incarnation, lsn, tools }: { incarnation: IncarnationId; lsn: Lsn; tools: SessionTools },
): Promise<void> {
  const now = tools.clock.now();
  const { pinned } = session;
  if (pinned?.lsn === lsn && pinned.incarnation === incarnation && now - pinned.at < PIN_AGAIN_US) return;
  const expiresAt = (now + PATIENCE_US) as Timestamp;
  session.pinned = { incarnation, lsn, at: now };
  await putPin(
    session.target.store,
    { id: LOG_PIN, owner: PIN_OWNER, incarnation, fromLsn: lsn, throughLsn: null, expiresAt },
    tools,
  );
}

function recordOf(incarnation: IncarnationId, { incarnations }: Present) {
  return required(
    incarnations.find((record) => record.incarnation === incarnation),
    `record of incarnation ${incarnation}`,
  );
}
