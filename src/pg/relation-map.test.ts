import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../base/index.ts';
import { crc32c } from './crc32c.ts';
import { type MappedRelation, parseRelationMap, RELATION_MAP_BYTES } from './relation-map.ts';

/** As `relmapper.c` writes it. */
function encode(relations: readonly MappedRelation[]): Buffer {
  const bytes = Buffer.alloc(RELATION_MAP_BYTES);
  bytes.writeInt32LE(0x592717, 0);
  bytes.writeInt32LE(relations.length, 4);
  for (const [index, { oid, filenode }] of relations.entries()) {
    bytes.writeUInt32LE(oid, 8 + index * 8);
    bytes.writeUInt32LE(filenode, 12 + index * 8);
  }
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, -4)), RELATION_MAP_BYTES - 4);
  return bytes;
}

const numbers = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const maps = fc.array(
  fc.tuple(numbers, numbers).map(([oid, filenode]) => ({ oid, filenode })),
  { maxLength: 64 },
);

describe('a map of relations', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(maps, (relations) => assert.deepEqual(parseRelationMap(encode(relations), 'm'), relations)),
    );
  });

  it('is refused with any byte changed, or of another length', () => {
    const whole = encode([{ oid: 1259, filenode: 16_500 }]);
    for (const at of whole.keys()) {
      const damaged = Uint8Array.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      assert.throws(
        () => parseRelationMap(damaged, 'm'),
        (error) => isAppError(error, 'data_corrupt'),
      );
    }
    for (const bytes of [whole.subarray(0, -1), Buffer.concat([whole, Buffer.alloc(1)]), new Uint8Array()]) {
      assert.throws(() => parseRelationMap(bytes, 'm'), /it has \d+ bytes/);
    }
  });
});
