/** Where a storage URI leads: to a folder of this node or of a service, directly or by the name of an external connection. */
import { join } from 'node:path';
import { assert, InputError, type VirtualClusterId } from '../../base/index.ts';
import {
  decodeStorageRecord,
  parseServiceUri,
  parseUserfileUri,
  resolveNodelocalUri,
  resolveUserfileUri,
  serviceDisplayUri,
  usesNodeCredentials,
} from '../../blob/index.ts';
import { type SystemDatabase, readConnection } from '../../catalog/index.ts';
import type { CollectionLocation, FolderLocation, Place, ServiceCollection } from '../../timeline/index.ts';
import type { ControlOptions } from '../core.ts';
import { readChainEncryption } from './chain-encryption.ts';
import { parseConnectionUri } from '../connections/connection-uri.ts';
import type { Settings } from '../settings/settings.ts';
import { ratesFor } from './storage-rates.ts';
import { notAvailable } from '../values.ts';

export interface ConnectionReference {
  readonly name: string;
  /** What follows the name, beginning with a slash, or empty. */
  readonly path: string;
}

/** Reads `external://name/path`; undefined for other URIs. @throws InputError `parameter_invalid` */
export function parseExternalUri(uri: string): ConnectionReference | undefined {
  if (!/^external:/i.test(uri)) return undefined;
  const match = /^external:\/\/([^/?#]+)(\/[^?#]*)?(?:\?COCKROACH_LOCALITY=[^&#]*)?$/i.exec(uri);
  const name = match === null ? undefined : decoded(match[1] ?? '');
  if (match === null || name === undefined) {
    throw new InputError('parameter_invalid', 'invalid storage URI: not an external connection', {
      hint: 'write external://name or external://name/path; parameters belong into the connection',
    });
  }
  return { name, path: match[2] ?? '' };
}

/** Undefined for a malformed escape. */
function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** The URI with a path put behind its own, before its parameters. */
export function withPath(uri: string, path: string): string {
  const queryBegin = uri.indexOf('?');
  const base = queryBegin === -1 ? uri : uri.slice(0, queryBegin);
  const query = queryBegin === -1 ? '' : uri.slice(queryBegin);
  return `${base.replace(/\/+$/, '')}${path}${query}`;
}

/** What a node lets its virtual clusters reach. */
export type StorageOptions = Pick<
  ControlOptions,
  | 'externalDirectory'
  | 'userfileDirectory'
  | 'nodeId'
  | 'implicitCredentialsDisabled'
  | 'rateTable'
  | 'cluster'
>;

export interface StorageQuestion {
  readonly database: SystemDatabase;
  readonly uri: string;
  readonly virtualClusterId: VirtualClusterId;
  readonly settings: Pick<Settings, 'integer' | 'text'>;
  readonly signal: AbortSignal;
}

/**
 * The place of one URI.
 * @throws InputError `object_not_found` for an external connection that is not there, `parameter_invalid`,
 * `feature_not_supported`
 */
export async function resolvePlace(options: StorageOptions, question: StorageQuestion): Promise<Place> {
  const { database, uri, signal } = question;
  const reference = parseExternalUri(uri);
  if (reference === undefined) return resolvePlain(options, question);
  const { name, path } = reference;
  const connection = await database.withSystemClient((client) => readConnection(client, name), { signal });
  if (connection === undefined) {
    throw new InputError('object_not_found', `external connection with name "${name}" does not exist`, {
      hint: 'SHOW EXTERNAL CONNECTIONS lists those there are',
    });
  }
  const { driver } = parseConnectionUri(connection.uri);
  if (driver !== 'nodelocal' && driver !== 'service' && driver !== 'userfile') {
    throw notAvailable(
      `storage in external connection "${name}", which leads to ${driver}://,`,
      'available: nodelocal://, userfile://, s3://, gs://, azure-blob://',
    );
  }
  const found = await resolvePlain(options, { ...question, uri: withPath(connection.uri, path) });
  const displayUri = `external://${encodeURIComponent(name)}${path.replace(/\/+$/, '')}`;
  return 'service' in found ? { ...found, displayUri, uri: displayUri } : { ...found, displayUri };
}

/**
 * The collection that a job's record names: one place, or several.
 * @throws CorruptError, and what each place is refused for
 */
export async function resolveStorage(
  options: StorageOptions,
  question: StorageQuestion,
): Promise<CollectionLocation> {
  const record = decodeStorageRecord(question.uri);
  const { locations, home, bulk, incrementals } = record;
  // The place of the manifests first.
  const order = [home, ...locations.keys().filter((index) => index !== home)];
  const uris = order.map((index) => locations[index] ?? '');
  const [first, ...others] = await Promise.all(
    [...uris, ...(incrementals === null ? [] : [incrementals])].map((uri) =>
      resolvePlace(options, { ...question, uri }),
    ),
  );
  assert(first !== undefined, 'a record names at least one place');
  const encryption = readChainEncryption(options, { record, uri: question.uri });
  if (others.length === 0) return { ...first, ...encryption };
  return {
    displayUri: first.displayUri,
    uri: question.uri,
    places: [first, ...others],
    bulk: order.indexOf(bulk),
    incrementals: incrementals === null ? null : others.length,
    ...encryption,
  };
}

/** What a job records to find the location again. It may hold secrets, and is never shown. */
export function recordedUri(location: CollectionLocation): string {
  if (location.encryption !== undefined) return location.encryption.uri;
  return 'uri' in location ? location.uri : location.displayUri;
}

function resolvePlain(options: StorageOptions, question: StorageQuestion): Promise<Place> | Place {
  return (
    resolveService(options, question) ??
    resolveUserfile(options, question) ??
    resolveNodelocal(options, question)
  );
}

function resolveService(options: StorageOptions, question: StorageQuestion): ServiceCollection | undefined {
  const { uri, virtualClusterId, settings } = question;
  const service = parseServiceUri(uri);
  if (service === undefined) return undefined;
  if (options.implicitCredentialsDisabled && usesNodeCredentials(service)) {
    throw new InputError('feature_not_supported', 'implicit credentials are disabled on this node', {
      hint: 'give the credentials in the URI (AUTH=specified), or start the node without --external-io-disable-implicit-credentials',
    });
  }
  const timeoutUs = settings.integer(virtualClusterId, 'cloudstorage.timeout');
  return {
    displayUri: serviceDisplayUri(service),
    uri,
    service,
    timeoutMs: Number(timeoutUs / 1000n),
    azurePartsAtOnce: Number(
      settings.integer(virtualClusterId, 'cloudstorage.azure.concurrent_upload_buffers'),
    ),
    customCa: settings.text(virtualClusterId, 'cloudstorage.http.custom_ca') || null,
    ...ratesFor(options.rateTable, service.kind, question),
  };
}

/** A folder like any other: workers need not know whose it is. */
function resolveUserfile(
  { userfileDirectory, rateTable }: StorageOptions,
  question: StorageQuestion,
): FolderLocation | undefined {
  const { uri, virtualClusterId, settings } = question;
  const found = parseUserfileUri(uri);
  if (found === undefined) return undefined;
  const directory = join(userfileDirectory, String(virtualClusterId));
  const { owner, ...folder } = resolveUserfileUri(found, { directory });
  const bytesMax = Number(settings.integer(virtualClusterId, 'cloudstorage.userfile.total_max'));
  return {
    ...folder,
    userfileOwner: owner,
    ...(bytesMax === 0 ? {} : { quota: { directory, bytesMax } }),
    ...ratesFor(rateTable, 'userfile', question),
  };
}

async function resolveNodelocal(
  { externalDirectory, nodeId, rateTable }: StorageOptions,
  question: StorageQuestion,
): Promise<FolderLocation> {
  if (externalDirectory !== null) {
    const folder = await resolveNodelocalUri({ uri: question.uri, externalDirectory, nodeId });
    return { ...folder, ...ratesFor(rateTable, 'nodelocal', question) };
  }
  const hint = 'start the node with another --external-io-dir';
  throw new InputError('feature_not_supported', 'nodelocal:// is disabled on this node', { hint });
}
