/** CRC-32C (Castagnoli), the checksum of pg_control and of WAL records, taken eight bytes at a step. */

/** The reflected polynomial 0x1EDC6F41. */
const POLYNOMIAL = 0x82f6_3b78;
const LANES = 8;

/** `TABLES[lane * 256 + byte]`: what `byte` adds to the checksum when `lane` more bytes follow it. */
const TABLES = makeTables();

function makeTables(): Uint32Array {
  const tables = new Uint32Array(LANES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ POLYNOMIAL;
    tables[byte] = value >>> 0;
  }
  for (let index = 256; index < tables.length; index++) {
    const previous = tables[index - 256] ?? 0;
    tables[index] = (previous >>> 8) ^ (tables[previous & 0xff] ?? 0);
  }
  return tables;
}

/**
 * The checksum of `bytes` as an unsigned number. Given the checksum of what came before, it is that of the whole:
 * `crc32c(b, crc32c(a))` is the checksum of `a` followed by `b`.
 */
export function crc32c(bytes: Uint8Array, before = 0): number {
  return crc32cOfRange(bytes, { begin: 0, end: bytes.length, before });
}

/** Like `crc32c` of the bytes from `begin` to `end`, without making an array of them. */
export function crc32cOfRange(
  bytes: Uint8Array,
  range: { readonly begin: number; readonly end: number; readonly before: number },
): number {
  const { begin, end } = range;
  let crc = ~range.before;
  let at = begin;
  for (const wordsEnd = end - ((end - begin) % LANES); at < wordsEnd; at += LANES) {
    crc =
      entry(7, (crc & 0xff) ^ byteAt(bytes, at)) ^
      entry(6, ((crc >>> 8) & 0xff) ^ byteAt(bytes, at + 1)) ^
      entry(5, ((crc >>> 16) & 0xff) ^ byteAt(bytes, at + 2)) ^
      entry(4, (crc >>> 24) ^ byteAt(bytes, at + 3)) ^
      entry(3, byteAt(bytes, at + 4)) ^
      entry(2, byteAt(bytes, at + 5)) ^
      entry(1, byteAt(bytes, at + 6)) ^
      entry(0, byteAt(bytes, at + 7));
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ entry(0, (crc & 0xff) ^ byteAt(bytes, at));
  return ~crc >>> 0;
}

/** Both indexes are in range by construction; a check in the innermost loop would halve its speed. */
function entry(lane: number, byte: number): number {
  return TABLES[lane * 256 + byte] as number;
}

function byteAt(bytes: Uint8Array, at: number): number {
  return bytes[at] as number;
}
