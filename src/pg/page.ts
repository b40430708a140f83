import { assert, type Lsn } from '../base/index.ts';
import { checksumModule } from './page-checksum-code.ts';

/** `BLCKSZ` of every build we run. */
export const PAGE_BYTES = 8192;
/** `SizeOfPageHeaderData`: where line pointers begin. */
export const PAGE_HEADER_BYTES = 24;

const WASM_PAGE_BYTES = 65536;
const AT = { checksum: 8, upper: 14 } as const;

/** The part of the standard that we use; Node.js' types leave it to browsers' ones. */
declare const WebAssembly: {
  Module: new (code: Uint8Array) => object;
  Instance: new (module: object) => { readonly exports: unknown };
};

interface ChecksumExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly checksums: (page: number, count: number, out: number) => void;
}

/**
 * Room for up to `pagesMax` data pages whose checksums can be computed where they lie. Fill `bytes` from its beginning.
 * One per thread, made once: it holds memory of its own.
 */
export class PageBuffer {
  readonly pagesMax: number;
  /** The pages, one after the other. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same bytes, for reading fields. */
  readonly view: DataView<ArrayBuffer>;
  readonly #words: BigUint64Array<ArrayBuffer>;
  readonly #sums: Uint32Array<ArrayBuffer>;
  readonly #exports: ChecksumExports;

  constructor({ pagesMax }: { readonly pagesMax: number }) {
    const pageArea = pagesMax * PAGE_BYTES;
    const memoryPages = Math.ceil((pageArea + pagesMax * 4) / WASM_PAGE_BYTES);
    const instance = new WebAssembly.Instance(new WebAssembly.Module(checksumModule({ memoryPages })));
    this.#exports = instance.exports as ChecksumExports; // Our own module: the shape is ours.
    const memory = this.#exports.memory.buffer;
    this.pagesMax = pagesMax;
    this.bytes = new Uint8Array(memory, 0, pageArea);
    this.view = new DataView(memory, 0, pageArea);
    this.#words = new BigUint64Array(memory, 0, pageArea / 8);
    this.#sums = new Uint32Array(memory, pageArea, pagesMax);
  }

  /**
   * Number of the first of the first `count` pages, from page `from` on, whose checksum is wrong, or -1. `firstBlock` is
   * the block number of page 0 of the buffer in its fork. A page that was never initialised (`pd_upper` 0) has no
   * checksum and is never wrong.
   */
  firstBadPage(range: {
    readonly count: number;
    readonly firstBlock: number;
    readonly from?: number;
  }): number {
    const { count, firstBlock, from = 0 } = range;
    assert(from <= count && count <= this.pagesMax, 'pages out of the buffer');
    this.#exports.checksums(from * PAGE_BYTES, count - from, this.#sums.byteOffset + from * 4);
    for (let page = from; page < count; page++) {
      const at = page * PAGE_BYTES;
      if (this.view.getUint16(at + AT.upper, true) === 0) continue;
      const computed = (((this.#sums[page] ?? 0) ^ (firstBlock + page)) >>> 0) % 65535;
      if (this.view.getUint16(at + AT.checksum, true) !== computed + 1) return page;
    }
    return -1;
  }

  /** True when the page holds nothing but zeroes. */
  isZero(page: number): boolean {
    const end = ((page + 1) * PAGE_BYTES) / 8;
    for (let at = (page * PAGE_BYTES) / 8; at < end; at++) {
      if (this.#words[at] !== 0n) return false;
    }
    return true;
  }

  /** Position of the last change of the page that was logged. */
  lsn(page: number): Lsn {
    const at = page * PAGE_BYTES;
    const high = BigInt(this.view.getUint32(at, true));
    return ((high << 32n) | BigInt(this.view.getUint32(at + 4, true))) as Lsn;
  }
}
