import { CorruptError } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';

/** @throws CorruptError when the object of this path is not there, or has another length */
export async function requireObject(
  store: BlobStore,
  { path, bytes }: { readonly path: string; readonly bytes: number },
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const size = await store.size(parseBlobKey(path), { signal });
  if (size === null) throw new CorruptError(`${path} is missing`);
  if (size !== bytes) throw new CorruptError(`${path} is damaged: it has ${size} bytes instead of ${bytes}`);
}
