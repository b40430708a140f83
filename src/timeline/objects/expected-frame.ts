import type { KeyObject } from 'node:crypto';
import { AppError, CorruptError } from '../../base/index.ts';
import { macsEqual } from '../../keys/index.ts';
import { checkFrame, frameChecksum } from '../format/frame.ts';
import { frameTag } from '../format/pack.ts';

/** What a manifest says of a frame. */
export interface ExpectedFrame {
  readonly offset: number;
  readonly crc: number;
  readonly tag: Uint8Array;
}

/**
 * Checks that a stored frame is whole and the one that the manifest means.
 * @throws CorruptError naming the pack; AppError `backup_untrusted` when a frame that is sound in itself stands in its place
 */
export function checkExpectedFrame(
  frame: Uint8Array,
  expected: ExpectedFrame,
  { name, tagKey }: { readonly name: string; readonly tagKey: KeyObject },
): void {
  checkFrame(frame, name);
  if (frameChecksum(frame) !== expected.crc) {
    throw new CorruptError(`a frame of ${name} is not the one that was written`);
  }
  if (macsEqual(frameTag({ tagKey, offset: expected.offset, frame }), expected.tag)) return;
  throw new AppError('backup_untrusted', `a frame of ${name} was not written by this cluster`, {
    hint: 'the object was changed after the backup; take the collection from a place that only this cluster writes to',
  });
}
