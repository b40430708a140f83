/** Where a storage URI leads: to a folder of this node, directly or by the name of an external connection. */
import { InputError } from '../base/index.ts';
import { resolveNodelocalUri } from '../blob/index.ts';
import { type SystemDatabase, readConnection } from '../catalog/index.ts';
import type { CollectionLocation } from '../timeline/index.ts';
import type { ControlOptions } from './core.ts';
import { parseConnectionUri } from './connection-uri.ts';
import { notAvailable } from './values.ts';

export interface ConnectionReference {
  readonly name: string;
  /** What follows the name, beginning with a slash, or empty. */
  readonly path: string;
}

/** Reads `external://name/path`; undefined for other URIs. @throws InputError `parameter_invalid` */
export function parseExternalUri(uri: string): ConnectionReference | undefined {
  if (!/^external:/i.test(uri)) return undefined;
  const match = /^external:\/\/([^/?#]+)(\/[^?#]*)?$/i.exec(uri);
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

/**
 * @throws InputError `object_not_found` for an external connection that is not there, `parameter_invalid`,
 * `feature_not_supported`
 */
export async function resolveStorage(
  options: Pick<ControlOptions, 'externalDirectory' | 'nodeId'>,
  location: { database: SystemDatabase; uri: string; signal: AbortSignal },
): Promise<CollectionLocation> {
  const { database, uri, signal } = location;
  const reference = parseExternalUri(uri);
  if (reference === undefined) return resolveNodelocal(options, uri);
  const { name, path } = reference;
  const connection = await database.withSystemClient((client) => readConnection(client, name), { signal });
  if (connection === undefined) {
    throw new InputError('object_not_found', `external connection with name "${name}" does not exist`, {
      hint: 'SHOW EXTERNAL CONNECTIONS lists those there are',
    });
  }
  const { driver } = parseConnectionUri(connection.uri);
  if (driver !== 'nodelocal') {
    throw notAvailable(
      `storage in external connection "${name}", which leads to ${driver}://,`,
      'available: nodelocal://',
    );
  }
  const { directory } = await resolveNodelocal(options, withPath(connection.uri, path));
  return { displayUri: `external://${encodeURIComponent(name)}${path.replace(/\/+$/, '')}`, directory };
}

async function resolveNodelocal(
  { externalDirectory, nodeId }: Pick<ControlOptions, 'externalDirectory' | 'nodeId'>,
  uri: string,
): Promise<CollectionLocation> {
  if (externalDirectory !== null) return resolveNodelocalUri({ uri, externalDirectory, nodeId });
  const hint = 'start the node with another --external-io-dir';
  throw new InputError('feature_not_supported', 'nodelocal:// is disabled on this node', { hint });
}
