/** URIs of keys at a service for keys: `aws-kms:///key?REGION=...`. They hold secrets, so no message repeats more of them than names. */
import { createHash } from 'node:crypto';
import { InputError } from '../base/index.ts';
import {
  type AssumedRole,
  type AzureCredentials,
  type GsCredentials,
  invalidUri,
  parseAwsKeys,
  parseAwsRoles,
  parseAzureCloud,
  parseAzureTokenCredentials,
  parseEndpoint,
  parseGoogleCredentials,
  parseGoogleRoles,
  parseParameters,
  requireParameter,
  type S3Keys,
  type StorageScheme,
} from '../blob/index.ts';

/** A key of AWS KMS. Holds secrets. */
export interface AwsKmsLocation {
  readonly kind: 'aws';
  /** Its id, ARN, or an alias. */
  readonly key: string;
  readonly region: string;
  /** Null: the node's own. */
  readonly keys: S3Keys | null;
  readonly roles: readonly AssumedRole[];
  /** Null: Amazon's. */
  readonly endpoint: string | null;
}

/** A key of Google Cloud KMS. Holds secrets. */
export interface GcpKmsLocation {
  readonly kind: 'gcp';
  /** `projects/P/locations/L/keyRings/R/cryptoKeys/K` */
  readonly key: string;
  readonly credentials: GsCredentials | null;
  readonly roles: readonly string[];
  readonly endpoint: string | null;
}

/** A version of an RSA key of Azure Key Vault. Holds secrets. */
export interface AzureKmsLocation {
  readonly kind: 'azure';
  readonly key: string;
  readonly version: string;
  readonly vaultName: string;
  readonly vaultUrl: string;
  readonly hasOwnEndpoint: boolean;
  readonly credentials: Exclude<AzureCredentials, { kind: 'account_key' }>;
}

export type KmsLocation = AwsKmsLocation | GcpKmsLocation | AzureKmsLocation;

const KMS = 'KMS';
const AWS: StorageScheme = {
  name: 'AWS',
  of: KMS,
  parameters: [
    'AUTH',
    'REGION',
    'AWS_ACCESS_KEY_ID',
    'AWS_SECRET_ACCESS_KEY',
    'AWS_SESSION_TOKEN',
    'AWS_ENDPOINT',
    'ASSUME_ROLE',
  ],
};
const GCP: StorageScheme = {
  name: 'GCP',
  of: KMS,
  parameters: ['AUTH', 'CREDENTIALS', 'ASSUME_ROLE', 'GS_ENDPOINT'],
};
const AZURE: StorageScheme = {
  name: 'Azure',
  of: KMS,
  parameters: [
    'AUTH',
    'AZURE_VAULT_NAME',
    'AZURE_CLIENT_ID',
    'AZURE_CLIENT_SECRET',
    'AZURE_TENANT_ID',
    'AZURE_ENVIRONMENT',
    'AZURE_ENDPOINT',
  ],
};
const SCHEMES: Readonly<Record<string, StorageScheme>> = {
  aws: AWS,
  'aws-kms': AWS,
  gs: GCP,
  'gcp-kms': GCP,
  'azure-kms': AZURE,
};
export const KMS_SCHEMES = ['aws-kms', 'gcp-kms', 'azure-kms'] as const;

const URI_LENGTH_MAX = 8192;
const AWS_KEY = /^[A-Za-z0-9:/_-]{1,2048}$/;
const GCP_KEY = /^projects\/[^/]+\/locations\/[^/]+\/keyRings\/[^/]+\/cryptoKeys\/[^/]+$/;
const AZURE_KEY = /^([0-9A-Za-z-]{1,127})\/([0-9A-Za-z]{1,64})$/;

/** Whether a URI is one of a key, by its scheme; `gs://bucket` is storage, `gs:///projects/...` a key. */
export function isKmsUri(uri: string): boolean {
  const match = /^([a-z][a-z0-9+.-]*):\/\/(\/?)/i.exec(uri);
  const scheme = match?.[1]?.toLowerCase() ?? '';
  return Object.hasOwn(SCHEMES, scheme) && (scheme !== 'gs' || match?.[2] === '/');
}

/** @throws InputError `parameter_invalid` */
export function parseKmsUri(text: string): KmsLocation {
  const match = /^([a-z][a-z0-9+.-]*):\/\/\/([^?#]*)(?:\?([^#]*))?$/is.exec(text);
  const scheme = SCHEMES[match?.[1]?.toLowerCase() ?? ''];
  const key = decoded(match?.[2] ?? '');
  if (match === null || scheme === undefined || key === undefined || text.length > URI_LENGTH_MAX) {
    throw new InputError('parameter_invalid', 'not the URI of a KMS key', {
      hint: `write ${KMS_SCHEMES.map((name) => `${name}:///key?...`).join(', ')} or external://name`,
    });
  }
  const uri = { parameters: parseParameters(match[3] ?? '', scheme) };
  if (scheme === AWS) return awsLocation(uri, key);
  return scheme === GCP ? gcpLocation(uri, key) : azureLocation(uri, key);
}

type Uri = { readonly parameters: ReadonlyMap<string, string> };

function awsLocation(uri: Uri, key: string): AwsKmsLocation {
  if (!AWS_KEY.test(key)) {
    throw invalidUri(AWS, 'it names no key', 'write aws-kms:///KEY with its id, its ARN or alias/NAME');
  }
  const region = uri.parameters.get('REGION') ?? '';
  if (!/^[a-z0-9-]{1,64}$/.test(region)) {
    throw invalidUri(AWS, 'REGION is missing', 'name the region of the key: REGION=us-east-1');
  }
  return {
    kind: 'aws',
    key,
    region,
    keys: parseAwsKeys(uri, AWS),
    roles: parseAwsRoles(uri, AWS),
    endpoint: parseEndpoint(uri, AWS, 'AWS_ENDPOINT'),
  };
}

function gcpLocation(uri: Uri, key: string): GcpKmsLocation {
  if (!GCP_KEY.test(key)) {
    throw invalidUri(
      GCP,
      'it names no key',
      'write gcp-kms:///projects/P/locations/L/keyRings/R/cryptoKeys/K',
    );
  }
  return {
    kind: 'gcp',
    key,
    credentials: parseGoogleCredentials(uri, GCP),
    roles: parseGoogleRoles(uri, GCP),
    endpoint: parseEndpoint(uri, GCP, 'GS_ENDPOINT'),
  };
}

function azureLocation(uri: Uri, path: string): AzureKmsLocation {
  const [, key, version] = AZURE_KEY.exec(path) ?? [];
  if (key === undefined || version === undefined) {
    throw invalidUri(AZURE, 'it names no key', 'write azure-kms:///KEY/VERSION');
  }
  const vaultName = requireParameter(uri, AZURE, 'AZURE_VAULT_NAME');
  if (!/^[A-Za-z0-9-]{1,127}$/.test(vaultName)) {
    throw invalidUri(
      AZURE,
      'AZURE_VAULT_NAME is no name of a vault',
      'write its name alone, not its address',
    );
  }
  const cloud = parseAzureCloud(uri, AZURE);
  const endpoint = parseEndpoint(uri, AZURE, 'AZURE_ENDPOINT');
  return {
    kind: 'azure',
    key,
    version,
    vaultName,
    vaultUrl: endpoint ?? `https://${vaultName}.${cloud.vaultDomain}`,
    hasOwnEndpoint: endpoint !== null,
    credentials: parseAzureTokenCredentials(uri, AZURE, cloud),
  };
}

/** The key without anything that opens it, for messages. */
export function kmsDisplayUri(location: KmsLocation): string {
  switch (location.kind) {
    case 'aws':
      return `aws-kms:///${location.key}?REGION=${location.region}`;
    case 'gcp':
      return `gcp-kms:///${location.key}`;
    case 'azure':
      return `azure-kms:///${location.key}/${location.version}?AZURE_VAULT_NAME=${location.vaultName}`;
  }
}

/** Equal for two URIs when they name a key alike, whatever the credentials; it is kept with backups, and does not tell the name. */
export function kmsKeyId(location: KmsLocation): string {
  return createHash('sha256')
    .update(`atoll 1 kms key\0${kmsDisplayUri(location)}`)
    .digest('hex');
}

/** True when it is reached with the node's own rights, or at an address the user chose: both need a privilege. */
export function usesImplicitKmsRights(location: KmsLocation): boolean {
  const hasOwnAddress = location.kind === 'azure' ? location.hasOwnEndpoint : location.endpoint !== null;
  return hasOwnAddress || usesNodeKmsCredentials(location);
}

/** True when the rights come from the node itself, which `--external-io-disable-implicit-credentials` forbids. */
export function usesNodeKmsCredentials(location: KmsLocation): boolean {
  switch (location.kind) {
    case 'aws':
      return location.keys === null;
    case 'gcp':
      return location.credentials === null;
    case 'azure':
      return location.credentials.kind === 'implicit';
  }
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
