/**
 * What a job records of the locations it works in: the URI, or for several places or an encrypted chain one JSON object. It may hold secrets, and is never
 * shown.
 */
import type { z } from 'zod';
import { CorruptError, lazySchema } from '../base/index.ts';
import { parseServiceUri, serviceDisplayUri } from './service-location.ts';

const recordSchema = lazySchema((z) =>
  z.strictObject({
    locations: z.array(z.string()).min(1),
    /** Of `locations`: where manifests and markers are. */
    home: z.int().nonnegative(),
    /** Of `locations`: where this node puts packs and log. */
    bulk: z.int().nonnegative(),
    /** Where all of the incremental backups is put, when that is another place. */
    incrementals: z.string().nullable(),
    /** Of the encrypted chain that a job works on: its folder, its key as only this cluster can open it, the record a new one gets. */
    encryption: z
      .strictObject({ folder: z.string(), sealedKey: z.string(), info: z.string().nullable() })
      .optional(),
  }),
);

/** Several places that make one collection. */
export type StorageRecord = Readonly<z.infer<ReturnType<typeof recordSchema>>>;

export function encodeStorageRecord(record: StorageRecord): string {
  const { locations, incrementals, encryption } = record;
  const [only = ''] = locations;
  const isPlain = locations.length === 1 && incrementals === null && encryption === undefined;
  return isPlain ? only : JSON.stringify(record);
}

/** @throws CorruptError when it is no URI and not what this program wrote */
export function decodeStorageRecord(text: string): StorageRecord {
  if (!text.startsWith('{')) return { locations: [text], home: 0, bulk: 0, incrementals: null };
  try {
    return recordSchema().parse(JSON.parse(text));
  } catch (error) {
    throw new CorruptError("the job's record of its storage is damaged", { cause: error });
  }
}

/** The place of the manifests as it may be shown. */
export function storageDisplayUri(text: string): string {
  const { locations, home } = decodeStorageRecord(text);
  const uri = locations[home] ?? '';
  const service = parseServiceUri(uri);
  return service === undefined ? withoutParameters(uri) : serviceDisplayUri(service);
}

/** `nodelocal` and `external` have none but a locality. */
function withoutParameters(uri: string): string {
  return uri.split('?', 1)[0] ?? '';
}
