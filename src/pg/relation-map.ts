/** `pg_filenode.map`: files of the catalogs from which all others are found (`utils/cache/relmapper.c`). */
import { CorruptError } from '../base/index.ts';
import { crc32c } from './crc32c.ts';

const MAGIC = 0x59_27_17;
const MAPPINGS_MAX = 64;
const HEADER_BYTES = 8;
const MAPPING_BYTES = 8;
const CRC_AT = HEADER_BYTES + MAPPINGS_MAX * MAPPING_BYTES;

/** Length of the file. */
export const RELATION_MAP_BYTES = CRC_AT + 4;

export interface MappedRelation {
  readonly oid: number;
  readonly filenode: number;
}

/** @param name of the file, for messages. @throws CorruptError */
export function parseRelationMap(bytes: Uint8Array, name: string): readonly MappedRelation[] {
  const fail = (reason: string) => new CorruptError(`${name} is damaged: ${reason}`);
  if (bytes.length !== RELATION_MAP_BYTES) throw fail(`it has ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getInt32(0, true) !== MAGIC) throw fail('it is no relation map');
  if (crc32c(bytes.subarray(0, CRC_AT)) !== view.getUint32(CRC_AT, true)) throw fail('its checksum is wrong');
  const count = view.getInt32(4, true);
  if (count < 0 || count > MAPPINGS_MAX) throw fail(`it has ${count} relations`);
  return Array.from({ length: count }, (_, index) => {
    const at = HEADER_BYTES + index * MAPPING_BYTES;
    return { oid: view.getUint32(at, true), filenode: view.getUint32(at + 4, true) };
  });
}
