import { z } from 'zod';
import {
  invalidUri,
  parseAuth,
  parseEndpoint,
  parseStorageUri,
  requireParameter,
  type StorageScheme,
  type StorageUri,
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

const keyFileSchema = z.looseObject({
  type: z.literal('service_account'),
  client_email: z.string().min(1),
  private_key: z.string().min(1),
});

/** @throws InputError `parameter_invalid` */
export function parseGsUri(text: string): GsLocation {
  const uri = parseStorageUri(text, GS);
  return {
    kind: 'gs',
    bucket: uri.host,
    folder: uri.path,
    credentials: parseCredentials(uri),
    roles: parseRoles(uri),
    endpoint: parseEndpoint(uri, GS, 'GS_ENDPOINT'),
  };
}

function parseCredentials(uri: StorageUri): GsCredentials | null {
  if (parseAuth(uri, GS) === 'implicit') return null;
  const text = requireParameter(uri, GS, 'CREDENTIALS');
  const parsed = keyFileSchema.safeParse(parsedJson(Buffer.from(text, 'base64').toString('utf8')));
  if (parsed.success) {
    return { clientEmail: parsed.data.client_email, privateKey: parsed.data.private_key };
  }
  throw invalidUri(
    GS,
    'CREDENTIALS is no key of a service account',
    'give its JSON key file, base64-encoded, then URL-encoded',
  );
}

function parseRoles(uri: StorageUri): readonly string[] {
  const text = uri.parameters.get('ASSUME_ROLE') ?? '';
  const roles = text === '' ? [] : text.split(',');
  if (roles.every((role) => /^[\w.+-]+@[\w.-]+$/.test(role))) return roles;
  throw invalidUri(
    GS,
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
