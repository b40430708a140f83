/** The system identifier that the first page of every WAL segment repeats. */
import { assert, CorruptError } from '../base/index.ts';
import { walDialectOf } from './wal-engine.ts';
import { WAL_LONG_HEADER_BYTES } from './wal-segment.ts';

/** The engine whose log is expected unless the caller says otherwise. */
const ENGINE_MAJOR_DEFAULT = 18;
/** `XLP_LONG_HEADER` in `xlp_info`: set on the first page of a segment, and only there. */
const LONG_HEADER_FLAG = 0x0002;

const AT = { magic: 0, info: 2, systemIdentifier: 24 } as const;

/**
 * A copy of a segment's long page header that names another system. Page headers carry no checksum.
 * @throws CorruptError when it is no such header
 */
export function withWalSystemIdentifier(
  header: Uint8Array,
  systemIdentifier: bigint,
  { engineMajor = ENGINE_MAJOR_DEFAULT }: { readonly engineMajor?: number } = {},
): Uint8Array {
  assert(header.length === WAL_LONG_HEADER_BYTES, 'a long page header has 40 bytes');
  const patched = Uint8Array.from(header);
  const view = new DataView(patched.buffer);
  const isLong = (view.getUint16(AT.info, true) & LONG_HEADER_FLAG) !== 0;
  if (view.getUint16(AT.magic, true) !== walDialectOf(engineMajor).pageMagic || !isLong) {
    throw new CorruptError(`a WAL segment does not begin with the header of PostgreSQL ${engineMajor}`);
  }
  view.setBigUint64(AT.systemIdentifier, systemIdentifier, true);
  return patched;
}
