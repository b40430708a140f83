/**
 * Counts of rows and index entries as they can be told from one page alone, without transactions' fates. A page tells
 * itself what kind of relation it belongs to, by the size and content of its special space.
 */
import { PAGE_BYTES, PAGE_HEADER_BYTES } from './page.ts';

export interface EntryCounts {
  /** Heap tuples that no transaction seems to have deleted. */
  heapTuples: number;
  /** Entries on leaf pages of B-tree, hash and GiST indexes; other kinds have none that could be compared with rows. */
  indexEntries: number;
}

const AT = { lower: 12, special: 16 } as const;
const LINE_POINTER_BYTES = 4;
/** `LP_NORMAL`. */
const LINE_NORMAL = 1;

/** Bytes inside a heap tuple's header. */
const TUPLE = { xmax: 4, infomask: 20 } as const;
const HEAP_XMIN_COMMITTED = 0x0100;
const HEAP_XMIN_INVALID = 0x0200;
const HEAP_XMAX_INVALID = 0x0800;
const HEAP_XMAX_IS_MULTI = 0x1000;
const HEAP_XMAX_EXCL_LOCK = 0x0040;
const HEAP_XMAX_LOCK_ONLY = 0x0080;
const HEAP_LOCK_MASK = 0x00d0;

/** Special space of 16 bytes: B-tree, hash and GiST all have it, told apart by its last two bytes. */
const INDEX_SPECIAL_BYTES = 16;
const HASH_PAGE_ID = 0xff80;
const GIST_PAGE_ID = 0xff81;
/** Last two bytes of a B-tree page are a vacuum cycle, never larger. */
const BTREE_CYCLE_MAX = 0xff7f;
const BTREE_LEAF = 0x01;
const BTREE_DELETED_OR_META_OR_HALF_DEAD = 0x04 | 0x08 | 0x10;
const GIST_LEAF = 0x01;
const GIST_DELETED = 0x02;
const HASH_BUCKET_OR_OVERFLOW = 0x03;

/** `INDEX_ALT_TID_MASK`, `BT_IS_POSTING`, `BT_OFFSET_MASK`: one entry stands for several rows. */
const INDEX_ALT_TID = 0x2000;
const BTREE_IS_POSTING = 0x2000;
const BTREE_COUNT_MASK = 0x0fff;

/** Adds what the page at byte `at` holds. Never throws: a malformed page adds nothing that does not exist. */
export function countPageEntries(view: DataView, at: number, counts: EntryCounts): void {
  const special = view.getUint16(at + AT.special, true);
  const lower = Math.min(view.getUint16(at + AT.lower, true), PAGE_BYTES);
  if (special === PAGE_BYTES) counts.heapTuples += countHeapTuples(view, at, lower);
  else if (special === PAGE_BYTES - INDEX_SPECIAL_BYTES) {
    counts.indexEntries += countIndexEntries({ view, at, lower, special: at + special });
  }
}

function countHeapTuples(view: DataView, at: number, lower: number): number {
  let live = 0;
  for (let line = PAGE_HEADER_BYTES; line < lower; line += LINE_POINTER_BYTES) {
    const pointer = view.getUint32(at + line, true);
    const offset = pointer & 0x7fff;
    if (((pointer >>> 15) & 3) !== LINE_NORMAL || offset > PAGE_BYTES - PAGE_HEADER_BYTES) continue;
    const infomask = view.getUint16(at + offset + TUPLE.infomask, true);
    if ((infomask & (HEAP_XMIN_COMMITTED | HEAP_XMIN_INVALID)) === HEAP_XMIN_INVALID) continue;
    if (isUndeleted(infomask) || view.getUint32(at + offset + TUPLE.xmax, true) === 0) live++;
  }
  return live;
}

function isUndeleted(infomask: number): boolean {
  return (
    (infomask & (HEAP_XMAX_INVALID | HEAP_XMAX_LOCK_ONLY)) !== 0 ||
    (infomask & (HEAP_XMAX_IS_MULTI | HEAP_LOCK_MASK)) === HEAP_XMAX_EXCL_LOCK
  );
}

function countIndexEntries(page: { view: DataView; at: number; lower: number; special: number }): number {
  const { view, lower, special } = page;
  const lines = Math.max(0, Math.floor((lower - PAGE_HEADER_BYTES) / LINE_POINTER_BYTES));
  const kind = view.getUint16(special + 14, true);
  const flags = view.getUint16(special + 12, true);
  if (kind === GIST_PAGE_ID) return (flags & (GIST_LEAF | GIST_DELETED)) === GIST_LEAF ? countLines(page) : 0;
  if (kind === HASH_PAGE_ID) return (flags & HASH_BUCKET_OR_OVERFLOW) !== 0 ? lines : 0;
  if (kind > BTREE_CYCLE_MAX) return 0;
  if ((flags & (BTREE_LEAF | BTREE_DELETED_OR_META_OR_HALF_DEAD)) !== BTREE_LEAF) return 0;
  return countBtreeEntries(page);
}

function countLines({ view, at, lower }: { view: DataView; at: number; lower: number }): number {
  let normal = 0;
  for (let line = PAGE_HEADER_BYTES; line < lower; line += LINE_POINTER_BYTES) {
    if (((view.getUint32(at + line, true) >>> 15) & 3) === LINE_NORMAL) normal++;
  }
  return normal;
}

/** Entries not marked dead, without the high key that every leaf but the last begins with. */
function countBtreeEntries(page: { view: DataView; at: number; lower: number; special: number }): number {
  const { view, at, lower, special } = page;
  const isLast = view.getUint32(special + 4, true) === 0;
  const first = PAGE_HEADER_BYTES + (isLast ? 0 : LINE_POINTER_BYTES);
  let entries = 0;
  for (let line = first; line < lower; line += LINE_POINTER_BYTES) {
    const pointer = view.getUint32(at + line, true);
    const offset = pointer & 0x7fff;
    if (((pointer >>> 15) & 3) !== LINE_NORMAL || offset > PAGE_BYTES - 8) continue;
    const info = view.getUint16(at + offset + 6, true);
    const tid = view.getUint16(at + offset + 4, true);
    const isPosting = (info & INDEX_ALT_TID) !== 0 && (tid & BTREE_IS_POSTING) !== 0;
    entries += isPosting ? tid & BTREE_COUNT_MASK : 1;
  }
  return entries;
}
