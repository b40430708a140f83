/** The bases that a collection holds. */
import { CorruptError, isAppError } from '../../base/index.ts';
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

/** Told of a base whose manifest is damaged. What else there is does not need it: log leads on from the one before. */
export type OnDamagedBase = (subdirectory: string, error: CorruptError) => void;

/** Complete bases, oldest first. One that went meanwhile is none, and one that is damaged, when that is told. @throws as `readHeldBase` */
export async function listHeldBases(
  blobs: BlobStore,
  options: {
    readonly key: ClusterKey;
    readonly signal: AbortSignal;
    readonly known?: readonly HeldBase[];
    readonly onDamagedBase?: OnDamagedBase;
  },
): Promise<readonly HeldBase[]> {
  const { signal, known = [], onDamagedBase } = options;
  const bases: HeldBase[] = [];
  for await (const subdirectory of completed(blobs, { order: 'ascending', signal })) {
    const remembered = known.find((base) => base.subdirectory === subdirectory);
    try {
      bases.push(remembered ?? (await readHeldBase(blobs, { ...options, subdirectory })));
    } catch (error) {
      if (isAppError(error, 'backup_not_found')) continue;
      if (onDamagedBase === undefined || !(error instanceof CorruptError)) throw error;
      onDamagedBase(subdirectory, error);
    }
  }
  return bases;
}
