/**
 * The data-page checksum of PostgreSQL as WebAssembly, assembled here because JavaScript has no 128-bit integers: the
 * algorithm is 32 interleaved FNV-1a-like sums, which is eight vectors of four.
 */

/** `checksumBaseOffsets` of PostgreSQL's checksum_impl.h: where each of the 32 sums begins. */
export const CHECKSUM_BASES: readonly number[] = [
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
];
/** `FNV_PRIME`. */
export const CHECKSUM_PRIME = 16777619;
const PAGE_BYTES = 8192;
const VECTORS = 8;
const VECTOR_BYTES = 16;
const ROW_BYTES = VECTORS * VECTOR_BYTES;
/** The first vector of a page without its bytes 8 and 9, where the checksum itself is stored. */
const FIRST_VECTOR_MASK = [0xffff_ffff, 0xffff_ffff, 0xffff_0000, 0xffff_ffff];

/** Locals of the function: its three parameters, then its own. */
const LOCAL = { page: 0, count: 1, out: 2, row: 3, rowEnd: 4, sums: 5, mixed: 13, prime: 14 } as const;
const TYPE = { i32: 0x7f, v128: 0x7b } as const;
const VOID_BLOCK = 0x40;

const OP = {
  block: [0x02, VOID_BLOCK],
  loop: [0x03, VOID_BLOCK],
  end: [0x0b],
  i32Store: [0x36, 2, 0],
  i32Eqz: [0x45],
  i32LtU: [0x49],
  i32Add: [0x6a],
  i32Sub: [0x6b],
  i32Xor: [0x73],
  v128Load: [0xfd, 0x00, 4],
  i32x4ExtractLane: [0xfd, 0x1b],
  v128And: [0xfd, 0x4e],
  v128Xor: [0xfd, 0x51],
  i32x4ShrU: [0xfd, 0xad, 0x01],
  i32x4Mul: [0xfd, 0xb5, 0x01],
} as const;

/** Instructions, nested as they are composed. */
type Code = readonly (number | Code)[];

/**
 * A module that exports `memory` (of `memoryPages` times 64 KiB) and `checksums(page, count, out)`: for `count` pages
 * from address `page` on it stores at `out` one 32-bit sum each, to which the block number is still to be added.
 */
export function checksumModule({ memoryPages }: { readonly memoryPages: number }): Uint8Array<ArrayBuffer> {
  const localTypes = [2, [2, TYPE.i32], [10, TYPE.v128]];
  const body = bytesOf([localTypes, checksumsCode()]);
  return Uint8Array.from(
    bytesOf([
      [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
      section(1, [1, 0x60, 3, TYPE.i32, TYPE.i32, TYPE.i32, 0]),
      section(3, [1, 0]),
      section(5, [1, 0x01, unsigned(memoryPages), unsigned(memoryPages)]),
      section(7, [2, name('memory'), 0x02, 0, name('checksums'), 0x00, 0]),
      section(10, [1, unsigned(body.length), body]),
    ]),
  );
}

function checksumsCode(): Code {
  const rest = Array.from({ length: VECTORS - 1 }, (_, index) => absorb(index + 1));
  const bases = (index: number) => vector(CHECKSUM_BASES.slice(index * 4, index * 4 + 4));
  return [
    [vector([CHECKSUM_PRIME, CHECKSUM_PRIME, CHECKSUM_PRIME, CHECKSUM_PRIME]), set(LOCAL.prime)],
    [OP.block, OP.loop],
    [get(LOCAL.count), OP.i32Eqz, branchIf(1)],
    eachSum((index) => [bases(index), set(LOCAL.sums + index)]),
    [get(LOCAL.page), constant(PAGE_BYTES), OP.i32Add, set(LOCAL.rowEnd)],
    [get(LOCAL.page), set(LOCAL.row)],
    [absorb(0, FIRST_VECTOR_MASK), rest, advance(LOCAL.row, ROW_BYTES)],
    OP.loop,
    [absorb(0), rest, advance(LOCAL.row, ROW_BYTES)],
    [get(LOCAL.row), get(LOCAL.rowEnd), OP.i32LtU, branchIf(0)],
    OP.end,
    // Two rounds of zeroes, so that the last bytes are mixed as well as the first.
    eachSum((index) => [get(LOCAL.sums + index), mix(index), get(LOCAL.sums + index), mix(index)]),
    [get(LOCAL.out), folded(), OP.i32Store],
    [advance(LOCAL.page, PAGE_BYTES), advance(LOCAL.out, 4)],
    [get(LOCAL.count), constant(1), OP.i32Sub, set(LOCAL.count), branch(0)],
    [OP.end, OP.end, OP.end],
  ];
}

/** Takes the vector of this index from the current row into its sums. */
function absorb(index: number, mask?: readonly number[]): Code {
  return [
    [get(LOCAL.row), OP.v128Load, unsigned(index * VECTOR_BYTES)],
    mask === undefined ? [] : [vector(mask), OP.v128And],
    [get(LOCAL.sums + index), OP.v128Xor],
    mix(index),
  ];
}

/** `CHECKSUM_COMP` once value and sum were combined: sum = value * prime ^ value >> 17. */
function mix(index: number): Code {
  return [
    [tee(LOCAL.mixed), get(LOCAL.prime), OP.i32x4Mul],
    [get(LOCAL.mixed), constant(17), OP.i32x4ShrU, OP.v128Xor, set(LOCAL.sums + index)],
  ];
}

/** All 32 sums combined by exclusive or, left on the stack. */
function folded(): Code {
  const combined = eachSum((index) => [get(LOCAL.sums + index), index === 0 ? [] : OP.v128Xor]);
  const lanes = [0, 1, 2, 3].map((lane) => [
    [get(LOCAL.mixed), OP.i32x4ExtractLane, lane],
    lane === 0 ? [] : OP.i32Xor,
  ]);
  return [combined, set(LOCAL.mixed), lanes];
}

function eachSum(code: (index: number) => Code): Code {
  return Array.from({ length: VECTORS }, (_, index) => code(index));
}

const get = (local: number): Code => [0x20, local];
const set = (local: number): Code => [0x21, local];
const tee = (local: number): Code => [0x22, local];
const branch = (depth: number): Code => [0x0c, depth];
const branchIf = (depth: number): Code => [0x0d, depth];
const constant = (value: number): Code => [0x41, signed(value)];
const advance = (local: number, by: number): Code => [get(local), constant(by), OP.i32Add, set(local)];

function vector(lanes: readonly number[]): Code {
  return [0xfd, 0x0c, lanes.map((lane) => [0, 8, 16, 24].map((shift) => (lane >>> shift) & 0xff))];
}

function section(id: number, content: Code): Code {
  const bytes = bytesOf(content);
  return [id, unsigned(bytes.length), bytes];
}

function name(text: string): Code {
  return [text.length, [...Buffer.from(text, 'latin1')]];
}

/** LEB128. */
function unsigned(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, unsigned(value >>> 7)];
}

/** LEB128 of a number that is not negative: its last byte must leave the sign bit clear. */
function signed(value: number): Code {
  return value < 0x40 ? [value] : [(value & 0x7f) | 0x80, signed(value >>> 7)];
}

function bytesOf(code: Code): number[] {
  return code.flatMap((part) => (typeof part === 'number' ? part : bytesOf(part)));
}
