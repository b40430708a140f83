/** What the URI of an external connection may be. Its text holds secrets, so no message repeats more than its scheme. */
import { InputError } from '../../base/index.ts';
import { parseServiceUri } from '../../blob/index.ts';
import type { ConnectionType } from '../../catalog/index.ts';
import { isKmsUri, KMS_SCHEMES, parseKmsUri } from '../../kms/index.ts';
import { REDACTED } from '../../sql/index.ts';

/** `service` is storage that is reached over the network, `kms` a key at a service for keys. */
export type ConnectionDriver = 'nodelocal' | 'service' | 'kms' | 'userfile' | 'postgresql';

export interface ConnectionTarget {
  readonly driver: ConnectionDriver;
  readonly type: ConnectionType;
}

const AVAILABLE = `available: nodelocal://, s3://, gs://, azure-blob://, azure-storage://, userfile://, postgresql://, ${KMS_SCHEMES.map((scheme) => `${scheme}:///`).join(', ')}`;
const URI_LENGTH_MAX = 8192;

/** What libpq and Atoll understand behind a server's address. */
const SERVER_PARAMETERS: ReadonlySet<string> = new Set([
  'application_name',
  'channel_binding',
  'connect_timeout',
  'options',
  'sslcert',
  'sslinline',
  'sslkey',
  'sslmode',
  'sslpassword',
  'sslrootcert',
]);

/**
 * Reads the kind of a URI and checks its form. Whether a storage location answers is another question.
 * @throws InputError `parameter_invalid`, `feature_not_supported`
 */
export function parseConnectionUri(uri: string): ConnectionTarget {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(uri)?.[1]?.toLowerCase();
  if (scheme === undefined || uri.length > URI_LENGTH_MAX || /[\s\0]/.test(uri)) {
    throw invalid('it is not a URI', 'write it as scheme://host/path?PARAMETER=value');
  }
  if (isKmsUri(uri)) {
    parseKmsUri(uri);
    return { driver: 'kms', type: 'KMS' };
  }
  if (parseServiceUri(uri) !== undefined) return { driver: 'service', type: 'STORAGE' };
  switch (scheme) {
    case 'nodelocal':
      return { driver: 'nodelocal', type: 'STORAGE' };
    case 'userfile':
      requireUserfile(uri);
      return { driver: 'userfile', type: 'STORAGE' };
    case 'postgres':
    case 'postgresql':
      requireServer(uri);
      return { driver: 'postgresql', type: 'FOREIGNDATA' };
    case 'external':
      throw invalid('it names another external connection', 'give the URI that this one stands for');
    default:
      throw refused(scheme);
  }
}

function refused(scheme: string): InputError {
  return new InputError(
    'parameter_invalid',
    `unknown scheme ${JSON.stringify(scheme)} of an external connection`,
    {
      hint: AVAILABLE,
    },
  );
}

/** `userfile://database.schema.prefix/path`, or `userfile:///path` for the user's own. */
function requireUserfile(uri: string): void {
  const match = /^userfile:\/\/([^/?#]*)(\/[^?#]*)?(\?[^#]*)?$/i.exec(uri);
  const host = match?.[1] ?? '?';
  const names = host === '' ? [] : host.split('.');
  if (match === null || names.includes('') || (names.length !== 0 && names.length !== 3)) {
    throw invalid(
      'it is no userfile URI',
      'write userfile:///path, or userfile://database.schema.prefix/path',
    );
  }
  const parts = (match[2] ?? '').split('/');
  if (parts.includes('..') || parts.includes('.'))
    throw invalid('its path goes up', 'name the folder itself');
  if ((match[3] ?? '') !== '') {
    throw new InputError(
      'parameter_invalid',
      `unknown userfile query parameters: ${namesOf(match[3] ?? '').join(', ')}`,
    );
  }
}

function requireServer(uri: string): void {
  if (!URL.canParse(uri)) throw invalid('it is no server', 'write postgresql://user@host:26257/database');
  const { hostname, searchParams } = new URL(uri);
  if (hostname === '') throw invalid('it names no host', 'write postgresql://user@host:26257/database');
  if ([...searchParams.keys()].some((name) => !SERVER_PARAMETERS.has(name))) {
    const unknown = namesOf(new URL(uri).search).filter((name) => !SERVER_PARAMETERS.has(name));
    throw new InputError('parameter_invalid', `unknown postgresql query parameters: ${unknown.join(', ')}`, {
      hint: `known are ${[...SERVER_PARAMETERS].join(', ')}`,
    });
  }
}

/** Names of parameters, for a message. What is no plain name may be a piece of a secret that should have been escaped. */
function namesOf(query: string): readonly string[] {
  return query
    .slice(1)
    .split('&')
    .map((parameter) => /^([A-Za-z_]{1,40})=/.exec(parameter)?.[1] ?? REDACTED);
}

function invalid(reason: string, hint: string): InputError {
  return new InputError('parameter_invalid', `invalid URI of an external connection: ${reason}`, { hint });
}
