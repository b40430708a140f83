import { type IncarnationId, parseIncarnationId } from '../../base/index.ts';
import type { Core } from '../core.ts';

/** Names a life of a data directory: a random UUID (version 4). */
export function newIncarnation(core: Core): IncarnationId {
  const bytes = Buffer.from(core.options.rng.bytes(16));
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString('hex');
  const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)];
  return parseIncarnationId(parts.join('-'));
}
