/** Collections that a command reads by itself, without a node: folders, and storage services. */
import type { Readable } from 'node:stream';
import { InputError } from '../base/index.ts';
import { parseServiceUri, resolveNodelocalUri, serviceDisplayUri, uriLocality } from '../blob/index.ts';
import type { CollectionLocation, Place } from '../timeline/index.ts';
import { readPath } from './flags/readers.ts';

/** As a node's `cloudstorage.timeout` by default. */
const OPERATION_MS_MAX = 600_000;
/** Reads only: no parts are uploaded. */
const AZURE_PARTS_AT_ONCE = 1;
const SOURCES_MAX = 64;
const STANDARD_INPUT_BYTES_MAX = 1024 * 1024;

export interface CollectionSource {
  /** Folders or URIs: several for one collection in several places, the default first unless it says that it is. */
  readonly locations: readonly string[];
  /** Where the incremental backups are, when they are not in the collection. */
  readonly incrementals: string | null;
  /** Behind `nodelocal://`. */
  readonly externalDirectory: string;
}

/** @throws InputError `parameter_invalid`, `feature_not_supported`, `usage` */
export async function openSource(source: CollectionSource): Promise<CollectionLocation> {
  const { locations, incrementals, externalDirectory } = source;
  const localities = locations.map((uri) => (isUri(uri) ? uriLocality(uri) : null));
  const home = Math.max(0, localities.indexOf('default'));
  const ordered = [home, ...locations.keys().filter((index) => index !== home)].map(
    (index) => locations[index] ?? '',
  );
  const [first, ...others] = await Promise.all(
    [...ordered, ...(incrementals === null ? [] : [incrementals])].map((uri) =>
      openPlace(uri, externalDirectory),
    ),
  );
  if (first === undefined) throw new InputError('usage', 'which collection?');
  if (others.length === 0) return first;
  const { displayUri } = first;
  return {
    displayUri,
    uri: displayUri,
    places: [first, ...others],
    bulk: 0,
    incrementals: incrementals === null ? null : others.length,
  };
}

/**
 * The locations that a command was given, one on each line of standard input where it was given `-`: what stands on the command line, everybody
 * on the machine can read. @throws InputError `usage`
 */
export async function readLocations(
  positionals: readonly string[],
  stdin: Readable,
): Promise<readonly string[]> {
  const [only] = positionals;
  if (only !== '-' || positionals.length > 1) return positionals;
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stdin as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > STANDARD_INPUT_BYTES_MAX) throw new InputError('usage', 'too much on standard input');
    chunks.push(Buffer.from(chunk));
  }
  const lines = Buffer.concat(chunks).toString('utf8').split('\n');
  const locations = lines.map((line) => line.trim()).filter((line) => line !== '');
  if (locations.length === 0) throw new InputError('usage', 'no collection on standard input');
  if (locations.length > SOURCES_MAX) throw new InputError('usage', `more than ${SOURCES_MAX} locations`);
  return locations;
}

async function openPlace(uri: string, externalDirectory: string): Promise<Place> {
  if (!isUri(uri)) {
    const directory = readPath(uri);
    return { displayUri: directory, directory };
  }
  if (/^nodelocal:/i.test(uri)) {
    const nodeId = Number(/^nodelocal:\/\/(\d+)\//i.exec(uri)?.[1] ?? 1);
    return resolveNodelocalUri({ uri, externalDirectory, nodeId });
  }
  const service = parseServiceUri(uri);
  if (service === undefined) {
    const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(uri)?.[1] ?? '';
    throw new InputError('feature_not_supported', `storage over ${scheme} cannot be restored from here`, {
      hint: 'available: folders, nodelocal://, s3://, gs://, azure-blob://; of an external connection give the URI that it stands for',
    });
  }
  return {
    displayUri: serviceDisplayUri(service),
    uri,
    service,
    timeoutMs: OPERATION_MS_MAX,
    azurePartsAtOnce: AZURE_PARTS_AT_ONCE,
  };
}

function isUri(text: string): boolean {
  return /^[a-z][a-z0-9+.-]*:/i.test(text);
}
