/** The bases that a collection holds. */
import { isAppError } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { completed, openManifest } from '../collection/completed.ts';
import { baseSummaryOf } from '../collection/summary.ts';
import { readManifestOutline } from '../format/manifest-file.ts';
import type { BaseSummary } from '../store-contract.ts';

/** What a manifest says without its tables. */
export interface HeldBase extends BaseSummary {
  readonly segmentBytes: number;
  /** Paths of the packs and log objects that it needs, wherever they lie. */
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
}

/** @throws AppError `backup_not_found`, `backup_untrusted`, `format_unsupported`; CorruptError */
export async function readHeldBase(
  blobs: BlobStore,
  options: { readonly subdirectory: string; readonly key: ClusterKey; readonly signal: AbortSignal },
): Promise<HeldBase> {
  const { chunks, name } = await openManifest(blobs, options);
  const outline = await readManifestOutline(chunks, { key: options.key, name });
  return {
    ...baseSummaryOf(outline),
    segmentBytes: outline.header.engine.walSegmentBytes,
    files: [...outline.packs, ...outline.wal].map(({ path, bytes }) => ({ path, bytes })),
  };
}

/** Complete bases, oldest first. One that went meanwhile is none. @throws as `readHeldBase` */
export async function listHeldBases(
  blobs: BlobStore,
  options: {
    readonly key: ClusterKey;
    readonly signal: AbortSignal;
    readonly known?: readonly HeldBase[];
    readonly isDamagePassedOver?: boolean;
  },
): Promise<readonly HeldBase[]> {
  const { signal, known = [], isDamagePassedOver = false } = options;
  const bases: HeldBase[] = [];
  for await (const subdirectory of completed(blobs, { order: 'ascending', signal })) {
    const remembered = known.find((base) => base.subdirectory === subdirectory);
    try {
      bases.push(remembered ?? (await readHeldBase(blobs, { ...options, subdirectory })));
    } catch (error) {
      const isPassedOver = isDamagePassedOver && isAppError(error, 'data_corrupt');
      if (!isPassedOver && !isAppError(error, 'backup_not_found')) throw error;
    }
  }
  return bases;
}
