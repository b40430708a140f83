import { realpath } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { errnoOf, InputError } from '../base/index.ts';
import { keyPartProblem } from './blob-key.ts';

/** Schemes that storage can be named by. */
const AVAILABLE_SCHEMES = [
  'nodelocal',
  's3',
  'gs',
  'azure-blob',
  'azure-storage',
  'userfile',
  'external',
] as const;
const HTTP_SCHEMES = ['http', 'https', 'file-http', 'file-https'];
/** Schemes that are storage but no folder of the node. */
const OTHER_SCHEMES = ['userfile', 'external'];

export interface NodelocalLocation {
  /** As users write it, in its normal form; it carries no secret. */
  readonly displayUri: string;
  /** Absolute path below the external directory. It need not exist. */
  readonly directory: string;
}

/**
 * Where a storage URI leads: `nodelocal://<node id>/path` or `nodelocal://self/path` is a folder below the node's external
 * directory. The folder need not exist; it never lies outside, also not through a symbolic link.
 * @throws InputError `feature_not_supported` for other schemes, `parameter_invalid` for what is malformed
 */
export async function resolveNodelocalUri(options: {
  readonly uri: string;
  readonly externalDirectory: string;
  readonly nodeId: number;
}): Promise<NodelocalLocation> {
  const match = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$/is.exec(options.uri);
  if (match === null)
    throw invalid('it is not a URI', 'write it as nodelocal://1/path or nodelocal://self/path');
  const [, scheme = '', host = '', path = '', query = '', fragment] = match;
  requireNodelocal(scheme.toLowerCase());
  requireThisNode(host, options.nodeId);
  requireKnownParameters(query);
  if (fragment !== undefined) throw invalid('it has a fragment', 'write a "#" of the path as %23');
  const parts = parsePath(path);
  const directory = join(options.externalDirectory, ...parts);
  await requireInside({ directory, externalDirectory: options.externalDirectory });
  return { displayUri: `nodelocal://${host}/${parts.map(encodeURIComponent).join('/')}`, directory };
}

function requireNodelocal(scheme: string): void {
  if (scheme === 'nodelocal') return;
  const hint = `available: ${AVAILABLE_SCHEMES.map((name) => `${name}://`).join(', ')}`;
  if (HTTP_SCHEMES.includes(scheme)) {
    throw new InputError('feature_not_supported', `storage over ${scheme} cannot hold backups`, { hint });
  }
  if (OTHER_SCHEMES.includes(scheme)) {
    throw new InputError('feature_not_supported', `storage ${scheme}:// is not available`, { hint });
  }
  throw new InputError('parameter_invalid', `unknown storage scheme ${JSON.stringify(scheme)}`, { hint });
}

function requireThisNode(host: string, nodeId: number): void {
  if (host === 'self' || host === String(nodeId)) return;
  if (!/^[1-9][0-9]{0,9}$/.test(host)) {
    throw invalid('its host must be a node id or "self"', 'write it as nodelocal://1/path');
  }
  throw new InputError('parameter_invalid', `node ${host} is not reachable from node ${nodeId}`, {
    hint: `use nodelocal://${nodeId}/ or nodelocal://self/`,
  });
}

function requireKnownParameters(query: string): void {
  for (const parameter of query.split('&').filter((text) => text !== '')) {
    const [name = ''] = parameter.split('=', 1).map(decode);
    if (name !== 'COCKROACH_LOCALITY') {
      throw new InputError('parameter_invalid', `unknown nodelocal query parameters: ${name}`, {
        hint: 'nodelocal takes none but COCKROACH_LOCALITY',
      });
    }
  }
}

function parsePath(path: string): string[] {
  const parts = path.split('/').slice(1);
  if (parts.at(-1) === '') parts.pop();
  return parts.map((part) => {
    const name = decode(part);
    const problem = keyPartProblem(name);
    if (problem !== null)
      throw invalid(`its path is refused: ${problem}`, 'name a folder below the external directory');
    return name;
  });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid('it has a malformed %-escape', 'write a "%" as %25');
  }
}

/** The nearest part that exists must lie, with all links followed, in the external directory. */
async function requireInside(options: { directory: string; externalDirectory: string }): Promise<void> {
  const root = await nearestRealPath(options.externalDirectory);
  const real = await nearestRealPath(options.directory);
  if (real.path === root.path || real.path.startsWith(root.path + sep) || !root.exists) return;
  throw new InputError(
    'parameter_invalid',
    'a symbolic link in the storage path leads out of the external directory',
    {
      hint: 'move the data inside, or start the node with another external directory',
    },
  );
}

async function nearestRealPath(path: string): Promise<{ path: string; exists: boolean }> {
  for (let at = path; ; at = dirname(at)) {
    try {
      return { path: await realpath(at), exists: at === path };
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' && dirname(at) !== at) continue;
      throw invalid(`its path cannot be followed: ${errnoOf(error)}`, 'check the external directory');
    }
  }
}

function invalid(reason: string, hint: string): InputError {
  return new InputError('parameter_invalid', `invalid storage URI: ${reason}`, { hint });
}
