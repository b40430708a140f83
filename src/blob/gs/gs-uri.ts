import { lazySchema } from '../../base/index.ts';
import {
  invalidUri,
  parseAuth,
  parseEndpoint,
  parseStorageUri,
  requireParameter,
  type StorageScheme,
  type UriParameters,
} from '../storage-uri.ts';

const GS: StorageScheme = {
  name: 'GCS',
  parameters: ['AUTH', 'CREDENTIALS', 'ASSUME_ROLE', 'GS_ENDPOINT'],
};

/** Of a key file of a service account: what signing needs. */
export interface GsCredentials {
  readonly clientEmail: string;
  readonly privateKey: string;
}

/** A bucket of Google Cloud Storage. Holds secrets. */
export interface GsLocation {
  readonly kind: 'gs';
  readonly bucket: string;
  readonly folder: string;
  /** Null: the node's own, from its environment or the machine's account. */
  readonly credentials: GsCredentials | null;
  /** Service accounts, each impersonated by the one before, the last being the one that reads and writes. */
  readonly roles: readonly string[];
  /** Null: Google's. */
  readonly endpoint: string | null;
}

const keyFileSchema = lazySchema((z) =>
  z.looseObject({
    type: z.literal('service_account'),
    client_email: z.string().min(1),
    private_key: z.string().min(1),
  }),
);

/** @throws InputError `parameter_invalid` */
export function parseGsUri(text: string): GsLocation {
  const uri = parseStorageUri(text, GS);
  return {
    kind: 'gs',
    bucket: uri.host,
    folder: uri.path,
    credentials: parseGoogleCredentials(uri, GS),
    roles: parseGoogleRoles(uri, GS),
    endpoint: parseEndpoint(uri, GS, 'GS_ENDPOINT'),
  };
}

/** Null: the node's own. @throws InputError `parameter_invalid` */
export function parseGoogleCredentials(uri: UriParameters, scheme: StorageScheme): GsCredentials | null {
  if (parseAuth(uri, scheme) === 'implicit') return null;
  const text = requireParameter(uri, scheme, 'CREDENTIALS');
  const parsed = keyFileSchema().safeParse(parsedJson(Buffer.from(text, 'base64').toString('utf8')));
  if (parsed.success) {
    return { clientEmail: parsed.data.client_email, privateKey: parsed.data.private_key };
  }
  throw invalidUri(
    scheme,
    'CREDENTIALS is no key of a service account',
    'give its JSON key file, base64-encoded, then URL-encoded',
  );
}

/** Service accounts. @throws InputError `parameter_invalid` */
export function parseGoogleRoles(uri: UriParameters, scheme: StorageScheme): readonly string[] {
  const text = uri.parameters.get('ASSUME_ROLE') ?? '';
  const roles = text === '' ? [] : text.split(',');
  if (roles.every((role) => /^[\w.+-]+@[\w.-]+$/.test(role))) return roles;
  throw invalidUri(
    scheme,
    'ASSUME_ROLE is no list of service accounts',
    'write their e-mail addresses, separated by commas',
  );
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
