import { AppError } from '../../base/index.ts';

/**
 * All of an answer's body, chunk by chunk as it came. A service that sends more than it was asked for, as one does that does not
 * know ranges, is not listened to: memory is bounded by what was asked for.
 * @throws AppError `blob_unavailable` for a body that is too long
 */
export async function collectBody(
  body: AsyncIterable<unknown> | undefined,
  { name, bytesMax }: { readonly name: string; readonly bytesMax: number },
): Promise<readonly Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  // Bodies of both libraries are streams of Node.
  for await (const chunk of (body ?? []) as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > bytesMax) {
      throw new AppError('blob_unavailable', `a read of ${name} gave more than was asked for`);
    }
    chunks.push(chunk);
  }
  return chunks;
}
