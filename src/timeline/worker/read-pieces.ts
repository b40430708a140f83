/** Objects of a folder read as those of a network are; see `BlobStoreInPieces`. Nothing but tests asks for it. */
import { assert } from '../../base/index.ts';
import { type BlobStore, BlobStoreInPieces } from '../../blob/index.ts';

/** Length of the pieces in bytes. */
export const READ_PIECES_VARIABLE = 'ATOLL_TEST_READ_PIECES';

export function perhapsInPieces(store: BlobStore): BlobStore {
  const value = process.env[READ_PIECES_VARIABLE];
  if (value === undefined) return store;
  const pieceBytes = Number(value);
  assert(Number.isInteger(pieceBytes) && pieceBytes > 0, `${READ_PIECES_VARIABLE} is a number of bytes`);
  return new BlobStoreInPieces(store, { pieceBytes });
}
