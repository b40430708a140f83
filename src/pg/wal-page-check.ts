/** Is this the header of the page of the log that should come next? `XLogReaderValidatePageHeader`. */
import { WAL_PAGE_BYTES } from './wal-segment.ts';

/** `xlp_info`. */
const FLAG = { continuesRecord: 0x01, long: 0x02, overwritesRecord: 0x08, all: 0x0f } as const;
const AT = {
  magic: 0,
  flags: 2,
  timelineId: 4,
  addressLow: 8,
  addressHigh: 12,
  remainingBytes: 16,
  systemIdentifier: 24,
  segmentBytes: 32,
  pageBytes: 36,
} as const;

export interface ExpectedPage {
  readonly magic: number;
  /** Position, in two halves. */
  readonly high: number;
  readonly low: number;
  /** The first page of a segment has a long header, and no other. */
  readonly isFirstOfSegment: boolean;
  readonly segmentBytes: number;
  readonly systemIdentifier: bigint | undefined;
  readonly timelineIdMin: number;
  readonly timelineIdMax: number;
}

/** What is wrong with a page's header, to be read after "has"; null when it is the one that is expected. */
export function pageProblem(header: DataView, expected: ExpectedPage): string | null {
  const magic = header.getUint16(AT.magic, true);
  if (magic !== expected.magic) return `the magic number ${magic.toString(16)}`;
  const flags = header.getUint16(AT.flags, true);
  const isLong = (flags & FLAG.long) !== 0;
  if ((flags & ~FLAG.all) !== 0 || isLong !== expected.isFirstOfSegment) {
    return `impossible flags ${flags.toString(16)}`;
  }
  const isInPlace =
    header.getUint32(AT.addressLow, true) === expected.low &&
    header.getUint32(AT.addressHigh, true) === expected.high;
  if (!isInPlace) return 'the header of another page';
  const timelineId = pageTimelineId(header);
  if (timelineId < expected.timelineIdMin || timelineId > expected.timelineIdMax) {
    return `a page of timeline ${timelineId}`;
  }
  return isLong ? segmentProblem(header, expected) : null;
}

function segmentProblem(header: DataView, { systemIdentifier, segmentBytes }: ExpectedPage): string | null {
  const found = header.getBigUint64(AT.systemIdentifier, true);
  if (systemIdentifier !== undefined && found !== systemIdentifier) {
    return `the log of system ${found}, not of ${systemIdentifier}`;
  }
  const isOfSize =
    header.getUint32(AT.segmentBytes, true) === segmentBytes &&
    header.getUint32(AT.pageBytes, true) === WAL_PAGE_BYTES;
  return isOfSize ? null : 'a segment or pages of another size';
}

export function pageTimelineId(header: DataView): number {
  return header.getUint32(AT.timelineId, true);
}

/** What the page does with the record that its predecessor left unfinished. */
export function pageContinuation(header: DataView): {
  readonly continues: boolean;
  /** Its end was never written, and never will be. */
  readonly overwrites: boolean;
  /** Of the record that goes on here, headers of pages not counted. */
  readonly remainingBytes: number;
} {
  const flags = header.getUint16(AT.flags, true);
  return {
    continues: (flags & FLAG.continuesRecord) !== 0,
    overwrites: (flags & FLAG.overwritesRecord) !== 0,
    remainingBytes: header.getUint32(AT.remainingBytes, true),
  };
}
