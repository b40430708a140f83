/** COPY files one after the other, as one. */
import { CorruptError } from '../base/index.ts';

const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');
/** Signature, flags, length of an extension. */
const HEADER_BYTES = SIGNATURE.length + 8;
/** Where the number of columns of a row would stand. */
const TRAILER = Buffer.from([0xff, 0xff]);

/** One file with the rows of all. @throws CorruptError for what is no whole COPY file */
export async function* joinCopyFiles(
  files: AsyncIterable<AsyncIterable<Uint8Array>>,
  { format, name }: { readonly format: 'binary' | 'text'; readonly name: string },
): AsyncGenerator<Uint8Array> {
  if (format === 'text') {
    for await (const file of files) yield* file;
    return;
  }
  yield Buffer.concat([SIGNATURE, Buffer.alloc(HEADER_BYTES - SIGNATURE.length)]);
  for await (const file of files) yield* rowsOf(file, name);
  yield TRAILER;
}

/** What stands between header and trailer. */
async function* rowsOf(file: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
  let isBegun = false;
  // The trailer is known by being last.
  let held = Buffer.alloc(0);
  for await (const piece of file) {
    held = Buffer.concat([held, piece]);
    if (!isBegun) {
      if (held.length < HEADER_BYTES) continue;
      if (!held.subarray(0, SIGNATURE.length).equals(SIGNATURE))
        throw new CorruptError(`rows of ${name} are damaged`);
      held = held.subarray(HEADER_BYTES);
      isBegun = true;
    }
    if (held.length <= TRAILER.length) continue;
    yield held.subarray(0, held.length - TRAILER.length);
    held = Buffer.from(held.subarray(held.length - TRAILER.length));
  }
  if (!isBegun || !held.equals(TRAILER)) throw new CorruptError(`rows of ${name} end too early`);
}
