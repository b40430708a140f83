import {
  invalidUri,
  parseAuth,
  parseEndpoint,
  parseFlag,
  parseStorageUri,
  requireParameter,
  type StorageScheme,
  type StorageUri,
  type UriParameters,
} from '../storage-uri.ts';

const S3: StorageScheme = {
  name: 'S3',
  parameters: [
    'AUTH',
    'AWS_ACCESS_KEY_ID',
    'AWS_SECRET_ACCESS_KEY',
    'AWS_SESSION_TOKEN',
    'ASSUME_ROLE',
    'AWS_ENDPOINT',
    'AWS_REGION',
    'AWS_USE_PATH_STYLE',
    'AWS_SKIP_CHECKSUM',
    'S3_STORAGE_CLASS',
    'AWS_SERVER_ENC_MODE',
    'AWS_SERVER_KMS_ID',
  ],
};

export const S3_STORAGE_CLASSES = [
  'STANDARD',
  'REDUCED_REDUNDANCY',
  'STANDARD_IA',
  'ONEZONE_IA',
  'INTELLIGENT_TIERING',
  'OUTPOSTS',
  'GLACIER_IR',
  'GLACIER',
  'DEEP_ARCHIVE',
] as const;
export type S3StorageClass = (typeof S3_STORAGE_CLASSES)[number];

/** Classes whose objects must be thawed before they can be read, so nothing can build on them. */
export const FROZEN_STORAGE_CLASSES: readonly S3StorageClass[] = ['GLACIER', 'DEEP_ARCHIVE'];

export interface AssumedRole {
  readonly arn: string;
  readonly externalId: string | null;
}

export interface S3Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | null;
}

/** A bucket of S3 or a service that speaks its protocol. Holds secrets. */
export interface S3Location {
  readonly kind: 's3';
  readonly bucket: string;
  readonly folder: string;
  /** Null: the node's own, from its environment or the machine's role. */
  readonly keys: S3Keys | null;
  /** Taken one after the other, the last being the one that reads and writes. */
  readonly roles: readonly AssumedRole[];
  /** Null: Amazon's. */
  readonly endpoint: string | null;
  readonly region: string | null;
  readonly usesPathStyle: boolean;
  readonly skipsChecksum: boolean;
  readonly storageClass: S3StorageClass | null;
  /** How the service itself shall encrypt. */
  readonly serverSideEncryption: {
    readonly mode: 'AES256' | 'aws:kms';
    readonly kmsKeyId: string | null;
  } | null;
}

/** @throws InputError `parameter_invalid` */
export function parseS3Uri(text: string): S3Location {
  const uri = parseStorageUri(text, S3);
  return {
    kind: 's3',
    bucket: uri.host,
    folder: uri.path,
    keys: parseAwsKeys(uri, S3),
    roles: parseAwsRoles(uri, S3),
    endpoint: parseEndpoint(uri, S3, 'AWS_ENDPOINT'),
    region: uri.parameters.get('AWS_REGION') ?? null,
    usesPathStyle: parseFlag(uri, S3, 'AWS_USE_PATH_STYLE'),
    skipsChecksum: parseFlag(uri, S3, 'AWS_SKIP_CHECKSUM'),
    storageClass: parseStorageClass(uri),
    serverSideEncryption: parseServerSideEncryption(uri),
  };
}

/** Null: the node's own. @throws InputError `parameter_invalid` */
export function parseAwsKeys(uri: UriParameters, scheme: StorageScheme): S3Keys | null {
  if (parseAuth(uri, scheme) === 'implicit') return null;
  return {
    accessKeyId: requireParameter(uri, scheme, 'AWS_ACCESS_KEY_ID'),
    secretAccessKey: requireParameter(uri, scheme, 'AWS_SECRET_ACCESS_KEY'),
    sessionToken: uri.parameters.get('AWS_SESSION_TOKEN') ?? null,
  };
}

/** `arn,arn;external_id=ID,...` @throws InputError `parameter_invalid` */
export function parseAwsRoles(uri: UriParameters, scheme: StorageScheme): readonly AssumedRole[] {
  const text = uri.parameters.get('ASSUME_ROLE') ?? '';
  if (text === '') return [];
  return text.split(',').map((role) => {
    const [arn = '', ...rest] = role.split(';');
    const externalId = rest.length === 1 ? /^external_id=(.+)$/.exec(rest[0] ?? '')?.[1] : undefined;
    if (arn === '' || (rest.length > 0 && externalId === undefined)) {
      throw invalidUri(
        scheme,
        'ASSUME_ROLE is no list of roles',
        'write roles separated by commas, each as ARN or ARN;external_id=ID, the whole URL-encoded',
      );
    }
    return { arn, externalId: externalId ?? null };
  });
}

function parseStorageClass(uri: StorageUri): S3StorageClass | null {
  const text = uri.parameters.get('S3_STORAGE_CLASS');
  if (text === undefined) return null;
  const found = S3_STORAGE_CLASSES.find((name) => name === text);
  if (found !== undefined) return found;
  throw invalidUri(S3, 'unknown S3_STORAGE_CLASS', `it is one of ${S3_STORAGE_CLASSES.join(', ')}`);
}

function parseServerSideEncryption(uri: StorageUri): S3Location['serverSideEncryption'] {
  const mode = uri.parameters.get('AWS_SERVER_ENC_MODE');
  const kmsKeyId = uri.parameters.get('AWS_SERVER_KMS_ID') ?? null;
  if (mode === undefined && kmsKeyId === null) return null;
  if (mode === 'AES256' && kmsKeyId === null) return { mode, kmsKeyId };
  if (mode === 'aws:kms' && kmsKeyId !== null) return { mode, kmsKeyId };
  throw invalidUri(
    S3,
    'AWS_SERVER_ENC_MODE and AWS_SERVER_KMS_ID do not fit',
    'AWS_SERVER_ENC_MODE is AES256, or aws:kms with AWS_SERVER_KMS_ID',
  );
}
