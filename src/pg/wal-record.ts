/** One record of the write-ahead log, decoded as far as it is asked. `access/xlogrecord.h` has the layout. */
import { CorruptError, formatLsn, type Lsn } from '../base/index.ts';
import { FORK_MAX } from './wal-engine.ts';
import { PAGE_BYTES } from './page.ts';

/** `SizeOfXLogRecord`. */
export const WAL_RECORD_HEADER_BYTES = 24;
/** `XLR_MAX_BLOCK_ID`. */
const BLOCK_ID_MAX = 32;

const AT = { totalBytes: 0, xid: 4, prevLow: 8, prevHigh: 12, info: 16, rmid: 17, crc: 20 } as const;

/** Pieces that are no block references, by the number that stands where a block's would. */
const PIECE = { toplevelXid: 252, origin: 253, longData: 254, shortData: 255 } as const;
const PIECE_BYTES = { toplevelXid: 5, origin: 3, longData: 5, shortData: 2, block: 4, image: 5 } as const;
const FLAG = { fork: 0x0f, hasImage: 0x10, hasData: 0x20, willInit: 0x40, sameRelation: 0x80 } as const;
/** `BKPIMAGE_*`. */
const IMAGE = { hasHole: 0x01, apply: 0x02, compressed: 0x1c } as const;
const LOCATOR_BYTES = 12;

/** A relation's storage: `RelFileLocator`. */
export interface RelationLocator {
  readonly tablespaceOid: number;
  /** 0 for relations shared by all databases. */
  readonly databaseOid: number;
  readonly filenode: number;
}

/** A page that a record changes or stands for. */
export interface WalBlockReference extends RelationLocator {
  readonly blockId: number;
  /** One of `FORK`. */
  readonly fork: number;
  readonly blockNo: number;
  /** A full image of the page follows. */
  readonly hasImage: boolean;
  /** Replay puts the image in the page's place, rather than only checking against it. */
  readonly appliesImage: boolean;
  /** Replay makes the page anew, so its former content does not matter. */
  readonly willInit: boolean;
  /** Bytes of the image as it is stored, perhaps compressed and without its hole. */
  readonly imageBytes: number;
  readonly dataBytes: number;
}

/** Valid only while the callback runs that got it: the reader shows every record in the same object. */
export interface WalRecord {
  /** Where the record begins. */
  readonly lsn: Lsn;
  /** Where the next one may begin: aligned to 8 bytes; the segment's end after a switch of segments. */
  readonly endLsn: Lsn;
  /** Where the record before it begins, as the record says. */
  readonly prevLsn: Lsn;
  /** Timeline of the page that the record's last byte is on. */
  readonly timelineId: number;
  /** Major version of the engine that wrote it. */
  readonly engineMajor: number;
  /** 0 when it belongs to no transaction. */
  readonly xid: number;
  /** One of `RMGR`, or an extension's number. */
  readonly rmid: number;
  readonly info: number;
  /** Header, references, images and data: `xl_tot_len`. */
  readonly totalBytes: number;
  /** @throws CorruptError when the record does not hold together */
  readonly blocks: readonly WalBlockReference[];
  /** What the resource manager wrote beside the pages. @throws CorruptError like `blocks` */
  readonly mainData: Uint8Array;
  /** The same for reading numbers. */
  readonly mainView: DataView;
}

/** The writable side of `WalBlockReference`. */
type BlockSlot = { -readonly [Key in keyof WalBlockReference]: WalBlockReference[Key] };

/** What the reader moves from record to record. */
export class RecordView implements WalRecord {
  readonly engineMajor: number;
  timelineId = 0;
  xid = 0;
  rmid = 0;
  info = 0;
  totalBytes = 0;
  #bytes: Uint8Array = new Uint8Array();
  #view: DataView = new DataView(new ArrayBuffer(0));
  #at = 0;
  #lsnHigh = 0;
  #lsnLow = 0;
  #endPageHigh = 0;
  #endPageLow = 0;
  #endInPage = 0;
  readonly #slots: BlockSlot[] = [];
  readonly #blocks: BlockSlot[] = [];
  #mainAt = -1;
  #mainBytes = 0;

  constructor(engineMajor: number) {
    this.engineMajor = engineMajor;
  }

  /** Shows the record whose header is at byte `at`; its header must have been checked. */
  show(bytes: Uint8Array, view: DataView, at: number): void {
    this.#bytes = bytes;
    this.#view = view;
    this.#at = at;
    this.#mainAt = -1;
    this.totalBytes = view.getUint32(at + AT.totalBytes, true);
    this.xid = view.getUint32(at + AT.xid, true);
    this.info = view.getUint8(at + AT.info);
    this.rmid = view.getUint8(at + AT.rmid);
  }

  /** Positions in two halves: big integers cost more than the rest of a short record. */
  place(begin: { high: number; low: number }, page: { high: number; low: number }, endInPage: number): void {
    this.#lsnHigh = begin.high;
    this.#lsnLow = begin.low;
    this.#endPageHigh = page.high;
    this.#endPageLow = page.low;
    this.#endInPage = endInPage;
  }

  get lsn(): Lsn {
    return lsnOf(this.#lsnHigh, this.#lsnLow);
  }

  get endLsn(): Lsn {
    return (lsnOf(this.#endPageHigh, this.#endPageLow) + BigInt(this.#endInPage)) as Lsn;
  }

  get prevLsn(): Lsn {
    const { prevHigh, prevLow } = AT;
    return lsnOf(
      this.#view.getUint32(this.#at + prevHigh, true),
      this.#view.getUint32(this.#at + prevLow, true),
    );
  }

  get blocks(): readonly WalBlockReference[] {
    if (this.#mainAt === -1) this.#decode();
    return this.#blocks;
  }

  get mainData(): Uint8Array {
    if (this.#mainAt === -1) this.#decode();
    return this.#bytes.subarray(this.#mainAt, this.#mainAt + this.#mainBytes);
  }

  get mainView(): DataView {
    const { buffer, byteOffset, length } = this.mainData;
    return new DataView(buffer, byteOffset, length);
  }

  /** `DecodeXLogRecord`: headers of all pieces first, then images and data in the same order, the main data last. */
  #decode(): void {
    const end = this.#at + this.totalBytes;
    let at = this.#at + WAL_RECORD_HEADER_BYTES;
    let dataBytes = 0;
    this.#blocks.length = 0;
    this.#mainBytes = 0;
    while (end - at > dataBytes) {
      const piece = this.#view.getUint8(at);
      if (piece <= BLOCK_ID_MAX) {
        at = this.#decodeBlock(at, end);
        const block = this.#blocks.at(-1);
        dataBytes += (block?.imageBytes ?? 0) + (block?.dataBytes ?? 0);
        continue;
      }
      const pieceEnd = at + otherPieceBytes(piece);
      if (pieceEnd === at || pieceEnd > end) throw this.#corrupt(`a piece of unknown kind ${piece}`);
      if (piece === PIECE.shortData) this.#mainBytes = this.#view.getUint8(at + 1);
      if (piece === PIECE.longData) this.#mainBytes = this.#view.getUint32(at + 1, true);
      at = pieceEnd;
      if (piece !== PIECE.shortData && piece !== PIECE.longData) continue;
      dataBytes += this.#mainBytes;
      break;
    }
    if (end - at !== dataBytes) throw this.#corrupt('lengths that do not add up');
    this.#mainAt = end - this.#mainBytes;
  }

  #decodeBlock(begin: number, end: number): number {
    const view = this.#view;
    const previous = this.#blocks.at(-1);
    const slot = this.#slotOf(this.#blocks.length);
    slot.blockId = view.getUint8(begin);
    if (previous !== undefined && previous.blockId >= slot.blockId)
      throw this.#corrupt('block references out of order');
    let at = this.#within(begin + PIECE_BYTES.block, end);
    const flags = view.getUint8(begin + 1);
    slot.fork = flags & FLAG.fork;
    slot.willInit = (flags & FLAG.willInit) !== 0;
    slot.hasImage = (flags & FLAG.hasImage) !== 0;
    slot.dataBytes = view.getUint16(begin + 2, true);
    if (slot.fork > FORK_MAX) throw this.#corrupt(`a page of fork ${slot.fork}`);
    if (((flags & FLAG.hasData) !== 0) !== slot.dataBytes > 0)
      throw this.#corrupt('block data that is announced wrongly');
    slot.imageBytes = 0;
    slot.appliesImage = false;
    if (slot.hasImage) at = this.#decodeImage(slot, at, end);
    if ((flags & FLAG.sameRelation) === 0) {
      const locatorEnd = this.#within(at + LOCATOR_BYTES, end);
      slot.tablespaceOid = view.getUint32(at, true);
      slot.databaseOid = view.getUint32(at + 4, true);
      slot.filenode = view.getUint32(at + 8, true);
      at = locatorEnd;
    } else if (previous === undefined) {
      throw this.#corrupt('a block reference without a relation');
    } else {
      slot.tablespaceOid = previous.tablespaceOid;
      slot.databaseOid = previous.databaseOid;
      slot.filenode = previous.filenode;
    }
    const pieceEnd = this.#within(at + 4, end);
    slot.blockNo = view.getUint32(at, true);
    this.#blocks.push(slot);
    return pieceEnd;
  }

  #decodeImage(slot: BlockSlot, begin: number, end: number): number {
    const headerEnd = this.#within(begin + PIECE_BYTES.image, end);
    slot.imageBytes = this.#view.getUint16(begin, true);
    const holeOffset = this.#view.getUint16(begin + 2, true);
    const info = this.#view.getUint8(begin + 4);
    slot.appliesImage = (info & IMAGE.apply) !== 0;
    const hasHole = (info & IMAGE.hasHole) !== 0;
    const isCompressed = (info & IMAGE.compressed) !== 0;
    if (isCompressed && hasHole) {
      const withHoleEnd = this.#within(headerEnd + 2, end);
      const holeBytes = this.#view.getUint16(headerEnd, true);
      const isImpossible = holeOffset === 0 || holeBytes === 0 || holeOffset + holeBytes > PAGE_BYTES;
      if (isImpossible || slot.imageBytes >= PAGE_BYTES) {
        throw this.#corrupt('a page image with an impossible hole');
      }
      return withHoleEnd;
    }
    const isPlainWhole = !isCompressed && !hasHole;
    const isImpossible =
      slot.imageBytes > PAGE_BYTES ||
      (hasHole && (holeOffset === 0 || slot.imageBytes === PAGE_BYTES)) ||
      (!hasHole && holeOffset !== 0) ||
      (isPlainWhole && slot.imageBytes !== PAGE_BYTES) ||
      (isCompressed && slot.imageBytes === PAGE_BYTES);
    if (isImpossible) throw this.#corrupt('a page image of impossible length');
    return headerEnd;
  }

  #slotOf(index: number): BlockSlot {
    const slot = this.#slots[index];
    if (slot !== undefined) return slot;
    const made: BlockSlot = {
      blockId: 0,
      fork: 0,
      blockNo: 0,
      hasImage: false,
      appliesImage: false,
      willInit: false,
      imageBytes: 0,
      dataBytes: 0,
      tablespaceOid: 0,
      databaseOid: 0,
      filenode: 0,
    };
    this.#slots.push(made);
    return made;
  }

  #within(at: number, end: number): number {
    if (at > end) throw this.#corrupt('a piece that is cut off');
    return at;
  }

  #corrupt(what: string): CorruptError {
    return new CorruptError(`the log record at ${formatLsn(this.lsn)} has ${what}`);
  }
}

function otherPieceBytes(piece: number): number {
  switch (piece) {
    case PIECE.shortData:
      return PIECE_BYTES.shortData;
    case PIECE.longData:
      return PIECE_BYTES.longData;
    case PIECE.origin:
      return PIECE_BYTES.origin;
    case PIECE.toplevelXid:
      return PIECE_BYTES.toplevelXid;
    default:
      return 0;
  }
}

function lsnOf(high: number, low: number): Lsn {
  return ((BigInt(high) << 32n) | BigInt(low)) as Lsn;
}
